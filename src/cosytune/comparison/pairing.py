"""Which score is compared with which: pairs of runs, pairs of sentences, and what has no partner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cosytune.errors import InputError
from cosytune.evaluation.results import Evaluation

__all__ = ["Paired", "Table", "pair_metric", "pair_runs", "table_of"]

Spoken = tuple[str, int]
"""A sentence and the seed of the run that spoke it."""


@dataclass(frozen=True)
class Table:
    """One system's scores, by metric and then by (sentence, seed)."""

    system: str
    scores: Mapping[str, Mapping[Spoken, float]]

    @property
    def sentences(self) -> set[str]:
        """Every sentence that has any score."""
        return {sentence for by_metric in self.scores.values() for sentence, _ in by_metric}

    @property
    def seeds(self) -> set[int]:
        """The seeds of all runs."""
        return {seed for by_metric in self.scores.values() for _, seed in by_metric}


@dataclass(frozen=True)
class Paired:
    """Second minus first in one metric, for the sentences that every run of both has.

    Attributes:
        differences: float64 [R, n].
        missing_first: pairs of sentence and run for which the first system has no score.
        missing_second: the same for the second.
        left_out: sentences that were left out because any of their scores is missing.
    """

    differences: np.ndarray
    missing_first: int
    missing_second: int
    left_out: int


def table_of(evaluation: Evaluation, system: str) -> Table:
    """One system's scores.

    Raises:
        InputError: the system was not evaluated or has no score.
    """
    scores: dict[str, dict[Spoken, float]] = {}
    for score in evaluation.scores:
        if score.system == system:
            scores.setdefault(score.metric, {})[score.sentence, score.seed] = score.value
    if not scores:
        raise InputError(
            f"there are no scores of {system!r}; evaluated were {', '.join(evaluation.systems) or 'no systems'}"
        )
    return Table(system, scores)


def pair_runs(first: Table, second: Table, *, untouched: bool) -> list[tuple[int, int]]:
    """Which seed of the first is compared with which seed of the second.

    Equal seeds belong together. One run of an untouched start (`untouched`: the first is one) serves all runs of the
    second, for no training stands behind it. Single runs of both are compared whatever their seeds.

    Raises:
        InputError: several runs, but no seed in common.
    """
    ours, theirs = first.seeds, second.seeds
    if len(ours) == 1 and (untouched or len(theirs) == 1):
        (only,) = ours
        return [(only, seed) for seed in sorted(theirs)]
    common = sorted(ours & theirs)
    if not common:
        raise InputError(
            f"{first.system!r} ran with the seeds {sorted(ours)} and {second.system!r} with {sorted(theirs)}; "
            "runs can be compared only with the same seeds, so repeat one side with the seeds of the other"
        )
    return [(seed, seed) for seed in common]


def pair_metric(first: Table, second: Table, runs: list[tuple[int, int]], metric: str) -> Paired:
    """Pair the scores of one metric; any sentence that either system was asked to speak counts as asked of both."""
    ours, theirs = first.scores.get(metric, {}), second.scores.get(metric, {})
    missing_first: set[Spoken] = set()
    missing_second: set[Spoken] = set()
    columns = []
    asked = sorted(first.sentences | second.sentences)
    for sentence in asked:
        mine = [(sentence, seed) for seed, _ in runs]
        other = [(sentence, seed) for _, seed in runs]
        missing_first.update(key for key in mine if key not in ours)
        missing_second.update(key for key in other if key not in theirs)
        if all(key in ours for key in mine) and all(key in theirs for key in other):
            columns.append([theirs[there] - ours[here] for here, there in zip(mine, other, strict=True)])
    differences = np.array(columns, dtype=np.float64).T if columns else np.zeros((len(runs), 0))
    return Paired(differences, len(missing_first), len(missing_second), len(asked) - len(columns))
