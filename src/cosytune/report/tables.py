"""Means of scores with their intervals, and the table that a terminal shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from cosytune.evaluation.results import RANGES, Evaluation, Interval, MetricInfo, Vote
from cosytune.evaluation.statistics import hierarchical

__all__ = ["Mean", "Means", "count", "means_of", "number", "p_words", "score_table", "unit_words"]

FEWEST_SENTENCES = 2
"""One sentence has a mean, but no interval."""

LEVEL = 0.95

BOOTSTRAP_SAMPLES = 2000
"""Enough for two digits of an interval's ends; a page has more than a hundred of them."""


@dataclass(frozen=True)
class Mean:
    """A system's mean in one metric.

    Attributes:
        value: mean over runs and sentences.
        interval: for other sentences and, with several runs, other runs; None with fewer than two sentences that all
            runs have.
        n: sentences that all runs have; if there is none, all sentences are in the mean and counted.
        runs: seeds.
        left_out: sentences of this system that lack a score in some run, and so are not in the mean.
    """

    value: float
    interval: Interval | None
    n: int
    runs: int
    left_out: int

    @property
    def constant(self) -> bool:
        """Whether every single score was the same, so that an interval says nothing."""
        return self.interval is not None and self.interval.low == self.interval.high


Means = Mapping[tuple[str, str], Mean]
"""By system and metric; what was not measured is absent."""


def means_of(evaluation: Evaluation) -> Means:
    """The mean of every system in every metric, with the interval of the one statistics of the house.

    An interval ends where the metric's range does (`RANGES`): with few sentences t and resampling reach beyond it, to
    an error rate below zero. What is cut off cannot hold the true mean, so that it is covered as often as before.
    Intervals of differences have no such ends.
    """
    units = {info.name: info.unit for info in evaluation.metrics}
    scores: dict[str, dict[str, dict[str, dict[int, float]]]] = {}
    for score in evaluation.scores:
        by_sentence = scores.setdefault(score.system, {}).setdefault(score.metric, {})
        by_sentence.setdefault(score.sentence, {})[score.seed] = score.value
    found = {}
    for system, metrics in scores.items():
        sentences = {sentence for by_sentence in metrics.values() for sentence in by_sentence}
        for metric, by_sentence in metrics.items():
            found[system, metric] = _mean(by_sentence, len(sentences), units[metric])
    return found


def _mean(by_sentence: Mapping[str, Mapping[int, float]], asked: int, unit: str) -> Mean:
    seeds = sorted({seed for runs in by_sentence.values() for seed in runs})
    whole = [[runs[seed] for seed in seeds] for runs in by_sentence.values() if len(runs) == len(seeds)]
    if not whole:
        every = [value for runs in by_sentence.values() for value in runs.values()]
        return Mean(float(np.mean(every)), None, len(by_sentence), len(seeds), asked - len(by_sentence))
    values = np.array(whole, dtype=np.float64).T
    interval = None
    if values.shape[1] >= FEWEST_SENTENCES:
        interval = _within(hierarchical(values, level=LEVEL, samples=BOOTSTRAP_SAMPLES), unit)
    return Mean(float(values.mean()), interval, values.shape[1], len(seeds), asked - values.shape[1])


def _within(interval: Interval, unit: str) -> Interval:
    """The part of an interval that lies in the unit's range; a mean outside of it, by a judge's slip, stays inside."""
    lowest, highest = RANGES.get(unit, (-math.inf, math.inf))
    low = min(interval.estimate, max(interval.low, lowest))
    high = max(interval.estimate, min(interval.high, highest))
    return replace(interval, low=low, high=high)


def number(value: float) -> str:
    """Three significant digits, trailing zeros kept so that columns line up; no exponent for usual sizes."""
    if value == 0:
        return "0"
    if abs(value) < 1e-4:
        return f"{value:.1e}"
    if abs(value) >= 999.5:
        return f"{value:.0f}"
    return f"{value:#.3g}".rstrip(".")


def p_words(value: float | None) -> str:
    """A p-value as people read it."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def unit_words(info: MetricInfo) -> str:
    """The unit of a metric as a heading says it; empty if there is none."""
    return {"none": "", "yes=1": "share of clips"}.get(info.unit, info.unit)


def count(quantity: int, what: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{quantity} {what}" if quantity == 1 else f"{quantity} {what}s"


def score_table(evaluation: Evaluation) -> str:
    """A plain-text table for the terminal: a row per metric, a column per system, means with n, and who votes."""
    means = means_of(evaluation)
    votes = {vote.metric: vote for vote in evaluation.votes}
    shown = [info for info in evaluation.metrics if any((system, info.name) in means for system in evaluation.systems)]
    if not shown:
        return "nothing was scored\n"
    usual = {system: max(_counts(means, system), key=_counts(means, system).count) for system in evaluation.systems}
    rows = [
        ["metric", "unit", *evaluation.systems, "better", "vote"],
        ["", "", *(usual[system] for system in evaluation.systems), "", ""],
    ]
    for info in shown:
        cells = [_cell(means.get((system, info.name)), usual[system]) for system in evaluation.systems]
        vote = votes.get(info.name)
        rows.append([info.name, unit_words(info), *cells, _direction(info), "yes" if vote and vote.votes else "no"])
    lines = _aligned(rows, right=range(2, 2 + len(evaluation.systems)))
    lines.insert(2, "-" * max(len(line) for line in lines))
    silent = [vote for vote in evaluation.votes if not vote.votes and any(info.name == vote.metric for info in shown)]
    if silent:
        lines += ["", "without a vote:"]
        lines += [f"  {', '.join(names)}: {reason}" for reason, names in _by_reason(silent).items()]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _counts(means: Means, system: str) -> list[str]:
    return [_count(mean) for (name, _), mean in means.items() if name == system] or ["no scores"]


def _count(mean: Mean) -> str:
    return f"n={mean.n}" if mean.runs == 1 else f"n={mean.n} x {mean.runs} runs"


def _cell(mean: Mean | None, usual: str) -> str:
    if mean is None:
        return "-"
    return number(mean.value) if _count(mean) == usual else f"{number(mean.value)} ({_count(mean)})"


def _direction(info: MetricInfo) -> str:
    return {True: "higher", False: "lower", None: "-"}[info.higher_is_better]


def _by_reason(votes: Iterable[Vote]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for vote in votes:
        found.setdefault(vote.reason, []).append(vote.metric)
    return found


def _aligned(rows: list[list[str]], *, right: range) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
