"""Verdicts in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from cosytune.comparison.results import MetricVerdict, PairVerdict
from cosytune.evaluation.results import Interval, MetricInfo, Vote

__all__ = ["metric_reason", "pair_words", "verdict_words"]


def _number(value: float) -> str:
    """Three significant digits, no exponent for the sizes that metrics have."""
    return f"{value:.3g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.1e}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _bounds(interval: Interval) -> str:
    return f"{interval.level:.0%} interval {_number(interval.low)} to {_number(interval.high)}"


def metric_reason(verdict: MetricVerdict, info: MetricInfo, vote: Vote, left_out: int) -> str:
    """Why the outcome of one metric is what it is, what could not be compared, and why it votes or does not."""
    parts = [_outcome_words(verdict, info)]
    if verdict.missing_first or verdict.missing_second:
        parts.append(
            f"{_count(left_out, 'sentence')} could not be compared: {verdict.first} has no score for "
            f"{verdict.missing_first} of its clips and {verdict.second} for {verdict.missing_second} of its clips, "
            "and what is missing may be what went wrong"
        )
    parts.append(f"it {'has a' if vote.votes else 'has no'} vote: {vote.reason}")
    return "; ".join(parts)


def _outcome_words(verdict: MetricVerdict, info: MetricInfo) -> str:
    interval = verdict.interval
    if interval is None:
        return f"{_count(verdict.n, 'sentence')} with scores of both, and at least two are needed"
    unit = "" if info.unit in ("none", "yes=1") else f" {info.unit}"
    side = "higher" if interval.estimate > 0 else "lower"
    size = f"{_number(abs(interval.estimate))}{unit} {side} in {verdict.second} ({_bounds(interval)})"
    over = f"over {_count(verdict.n, 'sentence')} and {_count(verdict.seeds, 'run')}"
    if verdict.outcome in ("better", "worse"):
        return f"{size} {over}"
    if verdict.outcome == "not judged":
        return f"{size} {over}, which is neither better nor worse"
    if verdict.p_value == 1.0 and interval.low == interval.high == 0.0:
        return f"both scored the same {over}"
    if interval.low <= 0.0 <= interval.high:
        why = "zero lies inside the interval"
    else:
        why = f"the interval leaves zero out, but not after correction for {_count(verdict.measures, 'measure')}"
    return f"{size} {over}; {why}; {_unseen(verdict)}"


def _unseen(verdict: MetricVerdict) -> str:
    if verdict.smallest_effect is None:
        return "so few sentences could not have shown any effect"
    return f"an effect under {_number(verdict.smallest_effect)} would probably not have been seen"


def _names(metrics: Sequence[MetricVerdict], outcome: str) -> str:
    return ", ".join(metric.metric for metric in metrics if metric.votes and metric.outcome == outcome)


def pair_words(
    first: str,
    second: str,
    metrics: Sequence[MetricVerdict],
    *,
    seeds: int,
    untouched: bool,
    unpaired: Sequence[int],
) -> str:
    """One paragraph: what got better, what worse, where nothing was found, and what may be concluded from it.

    Args:
        first: the first system, or the untouched start.
        second: the system that is said to be better or worse.
        metrics: their verdicts.
        seeds: runs compared.
        untouched: whether the first is the start of the second.
        unpaired: seeds that only one of them has.
    """
    against = f"its untouched start {first}" if untouched else first
    found = [
        f"{second} did {outcome} than {against} on {names}"
        for outcome in ("better", "worse")
        if (names := _names(metrics, outcome))
    ]
    same = _names(metrics, "no difference found")
    if not found:
        found.append(
            f"No difference found between {second} and {against} on {same}" if same else f"{second} against {against}"
        )
    elif same:
        found.append(f"no difference found on {same}")
    if names := _names(metrics, "not judged"):
        found.append(f"not judged for want of scores: {names}")
    if not any(metric.votes for metric in metrics):
        found.append("no metric had a vote, so nothing is decided")
    sentences = ["; ".join(found)]
    if shown := ", ".join(metric.metric for metric in metrics if not metric.votes):
        sentences.append(f"Shown without a vote: {shown}")
    if any(metric.missing_first or metric.missing_second for metric in metrics if metric.votes):
        sentences.append("Some clips have no scores; each metric says how many")
    if unpaired:
        listed = ", ".join(str(seed) for seed in unpaired)
        sentences.append(f"Runs with the seeds {listed} have no partner and were left out")
    sentences.append(_scope(seeds, untouched))
    return ". ".join(sentences) + "."


def _scope(seeds: int, untouched: bool) -> str:
    if seeds > 1:
        return f"This rests on {seeds} runs{' of the tuned system' if untouched else ' of each'}"
    if untouched:
        return "This is one run: nothing is claimed about what another seed would give"
    return "These are two runs: nothing is claimed about starts"


def verdict_words(rivals: Sequence[PairVerdict], gains: Sequence[PairVerdict], winner: str | None) -> tuple[str, ...]:
    """The verdict's paragraphs: who won, then every pair, then every system against its start."""
    opening = []
    if winner is not None:
        one_run = any(pair.seeds == 1 for pair in rivals if winner in (pair.first, pair.second))
        opening.append(f"{winner} did best{' among these runs' if one_run else ''}.")
    elif rivals:
        opening.append("No system did better than all others.")
    return (*opening, *(pair.words for pair in rivals), *(pair.words for pair in gains))
