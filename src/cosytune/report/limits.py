"""How sure a verdict is and what a comparison cannot know, in plain words."""

from __future__ import annotations

from cosytune.comparison.plan import ComparisonResult
from cosytune.comparison.results import MetricVerdict, PairVerdict
from cosytune.evaluation.results import ERROR_RATE, OPINION, SIMILARITY
from cosytune.report.tables import count, number

__all__ = ["certainty", "limits"]


def certainty(result: ComparisonResult) -> list[str]:
    """What the verdict between the starts rests on: runs, sentences, level, correction and the strongest evidence."""
    pairs = result.verdict.candidates or result.verdict.against_start
    voting = [metric for pair in pairs for metric in pair.metrics if metric.votes]
    if not pairs or not voting:
        return ["Nothing that has a vote was compared, so there is no verdict to be sure of."]
    runs, sentences = min(pair.seeds for pair in pairs), max(metric.n for metric in voting)
    level = f"{pairs[0].level:.0%}".replace("%", " %")
    words = [
        f"It rests on {count(runs, 'run')} of each start, {count(sentences, 'held-out sentence')} and "
        f"{level} intervals; p-values are corrected for {count(max(m.measures for m in voting), 'measure')} (Holm).",
    ]
    if runs == 1:
        words.append(
            "One run of each: it tells these two trainings apart, not their starts. Another seed could turn it round."
        )
    found = [metric for metric in voting if metric.outcome in ("better", "worse") and metric.corrected is not None]
    if found:
        best = min(found, key=lambda metric: metric.corrected or 0.0)
        value = best.corrected or 0.0
        chance = "less than 1 in 1000" if value < 0.001 else f"{value:.1%}".replace("%", " %")
        words.append(
            f"Strongest evidence: {best.metric}, where {best.second} did {best.outcome} than {best.first}; "
            f"chance alone would do as much with probability {chance}."
        )
    elif _hopeless(voting):
        words.append(
            "It was too small to find any difference, however large: speak more sentences or train more seeds."
        )
    else:
        words.append("No voting metric showed a difference: that is no proof that there is none.")
    return words


def _hopeless(voting: list[MetricVerdict]) -> bool:
    """Whether scores differed and yet no size of effect could have passed the correction."""
    differing = [
        metric for metric in voting if metric.interval is not None and metric.interval.low != metric.interval.high
    ]
    return bool(differing) and all(metric.smallest_effect is None for metric in differing)


def limits(result: ComparisonResult) -> list[str]:
    """What nobody may conclude from this page."""
    return [*_seeds(result), *_effects(result), *_scope(result), *_judges(result)]


def _seeds(result: ComparisonResult) -> list[str]:
    seeds = {arm.seed for arm in result.arms}
    if len(seeds) == 1:
        return ["One training per start: nothing is known about what another seed would have given."]
    if len(seeds) < 5:
        return [
            f"{len(seeds)} trainings per start show the spread between seeds only roughly; "
            "intervals are wide for that reason."
        ]
    return []


def _effects(result: ComparisonResult) -> list[str]:
    return [
        words
        for pair in (*result.verdict.candidates, *result.verdict.against_start)
        if (words := _unseen(pair)) is not None
    ]


def _unseen(pair: PairVerdict) -> str | None:
    voting = [metric for metric in pair.metrics if metric.votes]
    seen = [f"{m.metric} {number(m.smallest_effect)}" for m in voting if m.smallest_effect is not None]
    unknown = [metric.metric for metric in voting if metric.smallest_effect is None]
    pieces = []
    if seen:
        pieces.append(f"smaller effects than these would probably not have been seen: {', '.join(seen)}")
    if unknown:
        pieces.append(
            f"no size can be given for {', '.join(unknown)} (too few sentences, or scores that never differed)"
        )
    return f"{pair.second} against {pair.first}: {'; '.join(pieces)}." if pieces else None


def _scope(result: ComparisonResult) -> list[str]:
    words = [
        "Only held-out sentences of this corpus, in its own voices, were spoken. What tuning lost elsewhere (other "
        "voices, cloning from a prompt, other languages, long texts) was not measured here.",
    ]
    budgets = dict.fromkeys(
        f"{part.part} {count(part.steps, 'update')}" for arm in result.arms for part in arm.result.parts
    )
    if budgets:
        words.append(
            f"The budget was {', '.join(budgets)}: with a longer training, other rates or another amount of "
            "recordings the order may be another."
        )
    return words


def _judges(result: ComparisonResult) -> list[str]:
    units = {info.unit for info in result.evaluation.metrics}
    words = ["No person has listened: all scores come from machines. Play the clips."]
    if ERROR_RATE in units:
        words.append("Recognisers guess words from context: they may forgive what an ear does not, and the reverse.")
    if SIMILARITY in units:
        words.append("Similarity compares the colour of a voice, not accent, rhythm or feeling.")
    if OPINION in units:
        words.append("Predicted opinion hears noise and distortion; whether a voice sounds human it cannot tell.")
    return words
