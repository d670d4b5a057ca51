"""What a training run leaves behind, as plain records (no torch): read by reports and comparisons."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cosytune.errors import TrainingError

__all__ = [
    "MetricPoint",
    "PartResult",
    "Speed",
    "StageResult",
    "read_metrics",
    "read_record",
    "read_record_as",
    "read_speeds",
]

Record = TypeVar("Record")


@dataclass(frozen=True)
class MetricPoint:
    """One value of one curve.

    Attributes:
        part: which network was trained.
        step: optimizer updates done before the value was taken; 0 is the start itself.
        side: "train" and "rehearsal": means per item over the updates since the last point; "validation": held-out
            clips; "heard": what a listener heard.
        name: what was measured, in the unit the part's README gives. On the training sides also "gradient_norm", the
            largest since the last point and before clipping, and "learning_rate".
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
class Speed:
    """How fast training was over the updates since the last such point; validation, hearing and saving are not counted.

    Attributes:
        step: optimizer updates done.
        audio_seconds_per_second: speech learned from, by the clock; with several processes, of all of them.
        data_wait_share: part of that time in which nothing but data was read and put together.
        step_seconds: of one update.
    """

    step: int
    audio_seconds_per_second: float
    data_wait_share: float
    step_seconds: float


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
        """The record that `dataclasses.asdict` and JSON made a plain value of; null was a number that is none."""
        measured = {name: {key: _number(v) for key, v in value[name].items()} for name in ("start", "end", "baseline")}
        skipped = [(step, list(ids)) for step, ids in value["skipped"]]
        heard = [(step, _number(score)) for step, score in value["heard"]]
        return cls(**{**value, **measured, "skipped": skipped, "heard": heard})

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


def _number(value: float | None) -> float:
    return math.nan if value is None else value


@dataclass(frozen=True)
class StageResult:
    """How a whole stage ended: one entry per trained part; `listener` is who chose checkpoints, empty for nobody."""

    stage: str
    start: str
    start_hash: str
    corpus_hash: str
    seed: int
    parts: list[PartResult]
    listener: str = ""

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


def read_record_as(path: Path, make: Callable[[Any], Record]) -> Record:
    """A record of a run folder, made by `make` of its JSON document.

    Raises:
        TrainingError: it is damaged, or another version of cosytune wrote it.
    """
    value = read_record(path)
    try:
        return make(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TrainingError(
            f"{path} is not what this cosytune writes ({type(error).__name__}: {error}); use the version that wrote "
            "it, or delete the run folder and train again"
        ) from error


def read_metrics(path: Path) -> Iterator[MetricPoint]:
    """The curves of a run, in the order they were written; a last line cut short by a crash is left out.

    Raises:
        TrainingError: a line that is not the last one is damaged.
    """
    return _records(path, MetricPoint, "delete the run folder and train again")


def read_speeds(path: Path) -> Iterator[Speed]:
    """How fast a run was, in the order it was written; steps that were done twice after a crash are there twice.

    Raises:
        TrainingError: a line that is not the last one is damaged.
    """
    return _records(path, Speed, "delete that file, nothing depends on it")


def _records(path: Path, kind: type[Record], advice: str) -> Iterator[Record]:
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            yield kind(**json.loads(line))
        except (json.JSONDecodeError, TypeError) as error:
            if number == len(lines):
                return
            raise TrainingError(f"line {number} of {path} is not a metric ({error}); {advice}") from error
