"""What is known before a run: the preflight's checks and what a plan measured, as plain records (no torch)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = [
    "DataFacts",
    "PartPlan",
    "PreflightCheck",
    "PreflightResult",
    "StartAdvice",
    "TrainingPlan",
    "Trial",
    "minutes_in_words",
]

Outcome = Literal["passed", "failed", "cannot tell"]

_GB = 1e9


@dataclass(frozen=True)
class PreflightCheck:
    """One thing that was tried before a run.

    Attributes:
        name: "update", "reload", "speak", "labels" (shifted ones must be worse) or "alignment" (of mel and tokens).
        part: the network, or empty for the whole model.
        outcome: "cannot tell" where the start has learned too little to show it.
        words: what was found.
        numbers: the measurements behind the words, by name; JSON knows no others than finite ones.
    """

    name: str
    part: str
    outcome: Outcome
    words: str
    numbers: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        finite = {name: value for name, value in self.numbers.items() if math.isfinite(value)}
        object.__setattr__(self, "numbers", finite)

    def in_words(self) -> str:
        """One line."""
        where = f"{self.name} of the {self.part}" if self.part else self.name
        return f"{where}: {self.outcome}: {self.words}"


@dataclass(frozen=True)
class PreflightResult:
    """What the minute before a run found.

    Attributes:
        checks: in the order in which they were made.
        seconds: wall time of all of it.
        spoken_seconds: wall time of speaking one sentence, loading left out; None if nothing was spoken.
        feature_seconds: wall time of analysing a second of audio; None if the features were there.
    """

    checks: tuple[PreflightCheck, ...]
    seconds: float
    spoken_seconds: float | None = None
    feature_seconds: float | None = None

    @property
    def failed(self) -> tuple[PreflightCheck, ...]:
        """The checks that speak against the run."""
        return tuple(check for check in self.checks if check.outcome == "failed")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON value."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PreflightResult:
        """Inverse of `to_json`."""
        return cls(**{**value, "checks": tuple(PreflightCheck(**check) for check in value["checks"])})


@dataclass(frozen=True)
class Trial:
    """Some real updates of one part, the longest batch of the corpus first.

    Attributes:
        fits: whether the longest batch went through as it is.
        words: what happened, and what to do if it does not fit.
        peak_bytes: most memory of the process (on a GPU: of the GPU); None if it did not live to tell.
        longest_clips, longest_seconds: the longest batch, and its longest clip in seconds.
        pieces: how many pieces the longest batch had to be cut into.
        step_seconds: wall time of an update on batches as the corpus gives them; None if none was made.
        validate_seconds: wall time of validating a second of audio.
        save_seconds, checkpoint_bytes: of one checkpoint.
        weights_bytes: of what is kept of a checkpoint that sounds good.
    """

    fits: bool
    words: str
    peak_bytes: int | None = None
    longest_clips: int = 0
    longest_seconds: float = 0.0
    pieces: int = 1
    step_seconds: float | None = None
    validate_seconds: float = 0.0
    save_seconds: float = 0.0
    checkpoint_bytes: int = 0
    weights_bytes: int = 0


@dataclass(frozen=True)
class PartPlan:
    """What training one part would mean.

    Attributes:
        settings: the resolved loop settings.
        reason: why these numbers, in words.
        parameters, trainable: weights in all, and those that move.
        audio_minutes: of speech seen during the run.
        seconds: wall time by what it is spent on; empty where nothing was measured.
        trial: what was tried, if it was.
    """

    part: str
    settings: dict[str, Any]
    reason: str
    parameters: int
    trainable: int
    audio_minutes: float
    seconds: dict[str, float] = field(default_factory=dict)
    trial: Trial | None = None


@dataclass(frozen=True)
class DataFacts:
    """What decides about starts and budgets, of the training side of a corpus.

    Attributes:
        speakers: with training clips.
        languages: of its clips, the most frequent first.
        transcribed: share of the audio that has transcripts.
        instructed: share of the clips that have an instruction.
        sample_rate: Hz; the lowest among the recordings looked at.
        validation_clips, test_clips: held out.
    """

    name: str
    hash: str
    clips: int
    minutes: float
    speakers: tuple[str, ...]
    languages: tuple[str, ...]
    transcribed: float
    instructed: float
    sample_rate: int
    validation_clips: int
    test_clips: int


@dataclass(frozen=True)
class StartAdvice:
    """What a start is, and what speaks for or against it.

    Attributes:
        kind: see `models.identify.Kind`.
        identity: kind and how sure that is, in words.
        refusals: why it cannot be used for this; empty if it can.
        reasons: what speaks for it or against it.
        place: 1 is the recommended one; 0 for a refused one.
    """

    name: str
    path: str
    kind: str
    identity: str
    refusals: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    place: int = 0


@dataclass(frozen=True)
class TrainingPlan:
    """Everything that `cosytune plan` says.

    Attributes:
        goal: "voice", "voices", "language" or "style".
        starts: the recommended one first.
        why: what the recommendation rests on.
        measured: what an earlier comparison says about these starts, or that there is none.
        cautions: what a person should know before running.
        parts: of the recommended start.
        others: parts of the other starts, by name, with sizes and steps but nothing measured.
        memory: bytes that are free, and the most that all processes of the run need together.
        disk: bytes that are free and needed, and what for.
        seconds: wall time of the whole run on this machine as it is now, by what it is spent on.
        preflight: what the minute before a run found.
        command: what to type next.
    """

    goal: str
    data: DataFacts
    starts: tuple[StartAdvice, ...]
    why: str
    measured: str
    cautions: tuple[str, ...]
    strategy: str
    parts: tuple[PartPlan, ...]
    others: dict[str, tuple[PartPlan, ...]]
    memory: dict[str, int | None]
    disk: dict[str, int]
    seconds: dict[str, float]
    preflight: PreflightResult | None
    command: str

    @property
    def problems(self) -> tuple[str, ...]:
        """What would stop the run or spoil it; a machine reads this first."""
        found = [f"{part.part}: {part.trial.words}" for part in self.parts if part.trial and not part.trial.fits]
        needed, free = self.memory.get("needed"), self.memory.get("free")
        if needed is not None and free is not None and needed > free and not found:
            found.append(
                f"the parts together need {needed / _GB:.1f} GB of memory and {free / _GB:.1f} GB are free; "
                "give --workers 1, smaller batch_seconds, or strategy lora"
            )
        if self.disk and self.disk["needed"] > self.disk["free"]:
            found.append(
                f"the run needs {self.disk['needed'] / _GB:.1f} GB of disk and {self.disk['free'] / _GB:.1f} GB are "
                "free; free some, lower keep_best, or give --output on another disk"
            )
        if self.preflight is not None:
            found += [check.in_words() for check in self.preflight.failed]
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON value, the problems with it."""
        return {**asdict(self), "problems": list(self.problems)}


def minutes_in_words(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
