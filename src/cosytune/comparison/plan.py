"""What a comparison is asked to do and what it leaves behind, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cosytune.comparison.results import Verdict
from cosytune.evaluation.results import Evaluation
from cosytune.training.results import StageResult

__all__ = ["COPY", "RECORDINGS", "Arm", "ComparisonPlan", "ComparisonResult", "Sample"]

RECORDINGS = "recordings"
"""System name of the held-out recordings themselves: the first ceiling."""

COPY = "copy-synthesis"
"""System name prefix of recordings sent through a start's tokens, flow and vocoder: the second ceiling."""


@dataclass(frozen=True)
class ComparisonPlan:
    """A comparison of starts on one corpus.

    Attributes:
        starts: model folders by short name.
        corpus: prepared corpus.
        output: folder of the comparison: arms, samples, results and report.
        seeds: training seeds; every start is tuned once with each.
        overrides: settings that replace the defaults of stage `tune`, by part.
        parts: networks to tune.
        sentences: held-out sentences spoken by every system, at most.
        workers: processes that work at a time.
        strategy: how the weights may move; all but "advised" give every start the same numbers.
        listen: validation sentences that every checkpoint speaks, so that each arm keeps the one that sounds best, all
            by the same rule; 0: the last one.
        trackers: names of where curves are drawn beside the run folders (`training.trackers`).
        disk: what all arms together may fill (`training.disk.DiskBudget`); None: as much as there is.
        shard: split weights and optimizer over the processes of a launcher.
    """

    starts: Mapping[str, Path]
    corpus: Path
    output: Path
    seeds: tuple[int, ...] = (0,)
    overrides: Mapping[Any, Mapping[str, Any]] = field(default_factory=dict)
    parts: tuple[Any, ...] = ("lm", "flow")
    sentences: int = 20
    workers: int = 2
    strategy: Any = "full"
    trackers: tuple[Any, ...] = ()
    disk: Any = None
    shard: bool = False
    listen: int = 0


@dataclass(frozen=True)
class Arm:
    """One (start, seed) and the model that came of it."""

    start: str
    seed: int
    model: str
    result: StageResult


@dataclass(frozen=True)
class Sample:
    """One spoken sentence that a report can play."""

    system: str
    sentence: str
    text: str
    seed: int
    path: str


@dataclass(frozen=True)
class ComparisonResult:
    """Everything that a report needs.

    Attributes:
        corpus: name, hash and size of the corpus in words.
        arms: tuned models with their curves' results.
        evaluation: all scores.
        verdict: what they mean.
        samples: waves by system and sentence.
        failures: sentences that a system could not speak, in words.
        environment: versions and machine.
    """

    corpus: str
    corpus_hash: str
    arms: list[Arm]
    evaluation: Evaluation
    verdict: Verdict
    samples: list[Sample]
    failures: list[str]
    environment: dict[str, str]
