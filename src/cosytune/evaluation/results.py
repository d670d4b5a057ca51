"""The records that an evaluation leaves behind: frozen, without torch, written to and read from plain JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from cosytune.errors import InputError

__all__ = [
    "COUNTED",
    "ERROR_RATE",
    "OPINION",
    "RANGES",
    "SIMILARITY",
    "Damage",
    "Evaluation",
    "Interval",
    "JudgeInfo",
    "MetricInfo",
    "Record",
    "Score",
    "Vote",
]

RecordT = TypeVar("RecordT", bound="Record")

ERROR_RATE = "error rate"
"""Unit of metrics that count recognition errors: 0 is perfect, silence is 1, inserted words can push it above 1."""

SIMILARITY = "cosine"
"""Unit of speaker similarity."""

OPINION = "MOS"
"""Unit of predicted listener opinion, 1 to 5."""

COUNTED = "none"
"""Judge name of metrics that are arithmetic on the wave and need no judge."""


RANGES: Mapping[str, tuple[float, float]] = {
    ERROR_RATE: (0.0, math.inf),
    SIMILARITY: (-1.0, 1.0),
    OPINION: (1.0, 5.0),
    "yes=1": (0.0, 1.0),
    **dict.fromkeys(("s", "1/s", "ratio", "Hz", "semitones"), (0.0, math.inf)),
}
"""Between what a metric of a unit can lie; a unit that is not here has no ends (levels in dBFS)."""


@dataclass(frozen=True)
class Record:
    """Base of all results: to JSON and back, unknown and missing keys refused."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def to_json(self) -> dict[str, Any]:
        """The record as dictionaries, lists, strings and numbers."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), allow_nan=False))
        return plain

    @classmethod
    def from_json(cls: type[RecordT], data: Any) -> RecordT:
        """The record that `to_json` wrote.

        Raises:
            InputError: a key is missing, unknown or of another type.
        """
        try:
            return TypeAdapter(cls).validate_json(json.dumps(data), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(step) for step in first["loc"]) or "the top"
            raise InputError(
                f"this is not a {cls.__name__} as cosytune writes it: {first['msg']} (at {place}); "
                "evaluate again to get a readable one"
            ) from error


@dataclass(frozen=True)
class Score(Record):
    """One number for one spoken sentence; `seed` is the seed of the run that spoke it.

    Raises:
        InputError: the value is not a finite number; what could not be measured has no Score.
    """

    system: str
    sentence: str
    metric: str
    value: float
    seed: int

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise InputError(
                f"{self.metric} of sentence {self.sentence!r} by {self.system!r} is {self.value}, "
                "and a score must be a finite number; leave out what could not be measured"
            )


@dataclass(frozen=True)
class MetricInfo(Record):
    """What a metric is. `higher_is_better` is None for metrics that only describe (speaking rate, pitch)."""

    name: str
    unit: str
    higher_is_better: bool | None
    judge: str
    description: str


@dataclass(frozen=True)
class Vote(Record):
    """Whether a metric counts in a verdict, and why."""

    metric: str
    votes: bool
    reason: str


@dataclass(frozen=True)
class JudgeInfo(Record):
    """Which judge, exactly: `version` names package versions and the text normaliser."""

    name: str
    version: str


@dataclass(frozen=True)
class Damage(Record):
    """What a metric makes of recordings with white noise: the mean when clean, then at each ratio of `snr_db`."""

    metric: str
    clean: float
    snr_db: tuple[float, ...]
    means: tuple[float, ...]
    seen: bool


@dataclass(frozen=True)
class Interval(Record):
    """An estimate with its confidence interval.

    Attributes:
        n: sentences it rests on.
        runs: runs (seeds) it rests on; with 1 it speaks of sentences only: another run could land outside it.
    """

    estimate: float
    low: float
    high: float
    level: float
    n: int
    runs: int = 1


@dataclass(frozen=True)
class Evaluation(Record):
    """Everything that was measured: all scores of all systems, what each metric means and which of them vote.

    Raises:
        InputError: a score names a system or metric that is not listed, or a sentence was scored twice.
    """

    systems: tuple[str, ...]
    scores: tuple[Score, ...]
    metrics: tuple[MetricInfo, ...]
    votes: tuple[Vote, ...]
    judges: tuple[JudgeInfo, ...]

    def __post_init__(self) -> None:
        systems, metrics = set(self.systems), {info.name for info in self.metrics}
        seen: set[tuple[str, str, str, int]] = set()
        for score in self.scores:
            if score.system not in systems or score.metric not in metrics:
                raise InputError(
                    f"a score of system {score.system!r} in {score.metric!r} is given, but the evaluation lists "
                    f"the systems {sorted(systems)} and the metrics {sorted(metrics)}; list what was scored"
                )
            key = (score.system, score.sentence, score.metric, score.seed)
            if key in seen:
                raise InputError(
                    f"sentence {score.sentence!r} of {score.system!r} (seed {score.seed}) has {score.metric!r} twice; "
                    "give every spoken sentence an id of its own"
                )
            seen.add(key)

    def metric(self, name: str) -> MetricInfo:
        """The description of one metric.

        Raises:
            InputError: no such metric was evaluated.
        """
        for info in self.metrics:
            if info.name == name:
                return info
        raise InputError(f"there is no metric {name!r}; evaluated were {', '.join(i.name for i in self.metrics)}")
