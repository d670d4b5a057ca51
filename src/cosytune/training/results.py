"""What a training run leaves behind, as plain records (no torch): read by reports and comparisons."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cosytune.errors import TrainingError

__all__ = ["MetricPoint", "PartResult", "StageResult", "read_metrics", "read_record"]


@dataclass(frozen=True)
class MetricPoint:
    """One value of one curve.

    Attributes:
        part: which network was trained.
        step: optimizer updates done before the value was taken; 0 is the start itself.
        side: "train" or "validation".
        name: what was measured ("loss", "accuracy", "gradient_norm", ...), in the unit the part's README gives.
        value: the measurement.
        audio_seconds: seconds of speech that training had seen.
    """

    part: str
    step: int
    side: str
    name: str
    value: float
    audio_seconds: float = 0.0


@dataclass(frozen=True)
class PartResult:
    """How the training of one network ended.

    Attributes:
        part: the network.
        steps: optimizer updates.
        audio_seconds: seconds of speech seen.
        start: validation values of the untouched start (step 0).
        end: validation values at the end.
        baseline: what a trivial predictor reaches on the same validation data, by metric name, in the same unit.
        baseline_name: which trivial predictor that is, in words.
        skipped: (step, clip ids) of updates left out because the loss or its gradient was not finite.
        heard: step and score of every checkpoint that somebody listened to; step 0 is the untouched start.
        chosen_step: step of the weights that were kept: the best heard, or the last.
        stop: why the run ended early, or should have (with `obey_stops` off); empty if nothing spoke for it.
        rollbacks: steps at which the run went back to its last checkpoint, and on at half the rate.
        settings: the resolved loop settings.
        pieces: how many pieces an update's batch was worked through in at the end: more than `accumulate` where memory
            was too small for fewer.
    """

    part: str
    steps: int
    audio_seconds: float
    start: dict[str, float]
    end: dict[str, float]
    baseline: dict[str, float]
    baseline_name: str
    skipped: list[tuple[int, list[str]]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    rollbacks: list[int] = field(default_factory=list)
    heard: list[tuple[int, float]] = field(default_factory=list)
    chosen_step: int | None = None
    stop: str = ""
    pieces: int = 1

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PartResult:
        """The record that `dataclasses.asdict` and JSON made a plain value of."""
        skipped = [(step, list(ids)) for step, ids in value["skipped"]]
        return cls(**{**value, "skipped": skipped, "heard": [(step, score) for step, score in value["heard"]]})

    def in_words(self) -> str:
        """One line: metric, start, end and the trivial baseline it must stay below."""
        pieces = []
        for name, value in self.baseline.items():
            start, end = self.start[name], self.end[name]
            relation = "below" if end < value else "NOT below"
            pieces.append(f"{name} {start:.3f} -> {end:.3f}, {relation} {self.baseline_name} {value:.3f}")
        minutes = self.audio_seconds / 60
        said = f"{self.part}: {'; '.join(pieces)} ({self.steps} steps, {minutes:.1f} min of audio seen)"
        if self.heard and self.chosen_step is not None:
            scores = dict(self.heard)
            said += f"; heard best at step {self.chosen_step}: score {scores[self.chosen_step]:.3f}"
            said += f" (untouched {scores[0]:.3f})" if 0 in scores else ""
        return f"{said}; {self.stop}" if self.stop else said


@dataclass(frozen=True)
class StageResult:
    """How a whole stage ended: one entry per trained part."""

    stage: str
    start: str
    start_hash: str
    corpus_hash: str
    seed: int
    parts: list[PartResult]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON value."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> StageResult:
        """Inverse of `to_json`."""
        return cls(**{**value, "parts": [PartResult.from_json(part) for part in value["parts"]]})


def read_record(path: Path) -> Any:
    """One JSON document of a run folder.

    Raises:
        TrainingError: it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TrainingError(f"{path} is damaged ({error}); delete the run folder and train again") from error


def read_metrics(path: Path) -> Iterator[MetricPoint]:
    """The curves of a run, in the order they were written; a last line cut short by a crash is left out.

    Raises:
        TrainingError: a line that is not the last one is damaged.
    """
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            yield MetricPoint(**json.loads(line))
        except (json.JSONDecodeError, TypeError) as error:
            if number == len(lines):
                return
            raise TrainingError(
                f"line {number} of {path} is not a metric ({error}); delete the run folder and train again"
            ) from error
