"""What a comparison leaves behind: frozen records, without torch, written to and read from plain JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cosytune.evaluation.results import Interval, Record

__all__ = ["MetricVerdict", "Outcome", "PairVerdict", "Verdict"]

Outcome = Literal["better", "worse", "no difference found", "not judged"]
"""How the second system did against the first. `not judged`: no direction is better, or fewer than two pairs."""


@dataclass(frozen=True)
class MetricVerdict(Record):
    """What one metric says about the second system against the first.

    Attributes:
        interval: of the second's score minus the first's; at the verdict's level, not corrected for many measures.
        n: sentences that were compared.
        seeds: runs of the second system (the start it is compared with may have one).
        smallest_effect: what this comparison would have found four times in five, at the corrected level; None if the
            sentences are too few or the scores never differed.
        p_value: not corrected.
        corrected: p-value after Holm's correction within its family; this and the interval decide.
        measures: size of that family.
        missing_first: pairs of sentence and run for which the first has no score; `missing_second` likewise.
        votes: whether it counts in the pair's verdict.
        reason: plain words.
    """

    metric: str
    first: str
    second: str
    outcome: Outcome
    interval: Interval | None
    n: int
    seeds: int
    smallest_effect: float | None
    p_value: float | None
    corrected: float | None
    measures: int
    missing_first: int
    missing_second: int
    votes: bool
    reason: str


@dataclass(frozen=True)
class PairVerdict(Record):
    """The second system against the first in all metrics. `winner` is None unless the voting metrics agree."""

    first: str
    second: str
    seeds: int
    level: float
    metrics: tuple[MetricVerdict, ...]
    winner: str | None
    words: str


@dataclass(frozen=True)
class Verdict(Record):
    """Every candidate against every other, and each against its untouched start."""

    candidates: tuple[PairVerdict, ...]
    against_start: tuple[PairVerdict, ...]
    winner: str | None
    words: tuple[str, ...]
