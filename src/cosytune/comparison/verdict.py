"""Better, worse, or no difference found: from the scores of systems to a verdict that says how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from cosytune.comparison.pairing import Paired, Table, pair_metric, pair_runs, table_of
from cosytune.comparison.results import MetricVerdict, Outcome, PairVerdict, Verdict
from cosytune.comparison.wording import metric_reason, pair_words, verdict_words
from cosytune.errors import InputError
from cosytune.evaluation.results import Evaluation, Interval, MetricInfo, Vote
from cosytune.evaluation.statistics import hierarchical, holm, p_value, smallest_detectable

__all__ = ["MetricVerdict", "Outcome", "PairVerdict", "Verdict", "give_verdict"]

FEWEST_SENTENCES = 2


@dataclass(frozen=True)
class _Settings:
    level: float
    samples: int
    seed: int


@dataclass(frozen=True)
class _Contest:
    """One metric of one pair before correction."""

    info: MetricInfo
    vote: Vote
    paired: Paired
    interval: Interval | None
    p_value: float | None

    @property
    def family(self) -> bool | None:
        """Voting metrics are corrected together, shown ones together; None: nothing is tested.

        Scores that never differ are not counted: no p-value under 1 was possible for them, so that they cannot add a
        false find (Tarone, Biometrics 46, 1990).
        """
        if self.p_value is None or self.info.higher_is_better is None or not self.paired.differences.any():
            return None
        return self.vote.votes


@dataclass(frozen=True)
class _Match:
    """Two systems, which of their runs are compared, and all metrics."""

    first: Table
    second: Table
    runs: tuple[tuple[int, int], ...]
    contests: tuple[_Contest, ...]

    @property
    def unpaired(self) -> tuple[int, ...]:
        """Seeds that only one of the two has."""
        ours, theirs = {here for here, _ in self.runs}, {there for _, there in self.runs}
        return tuple(sorted((self.first.seeds - ours) | (self.second.seeds - theirs)))


def give_verdict(
    evaluation: Evaluation,
    candidates: Sequence[str],
    *,
    starts: Mapping[str, str] | None = None,
    level: float = 0.95,
    samples: int = 10_000,
    seed: int = 0,
) -> Verdict:
    """Compare candidates with each other, and each with its untouched start.

    Each of the two questions is corrected by Holm over all its pairs and voting metrics. Better or worse is said only
    where the corrected p-value is at most 1 - level *and* the interval leaves zero out.

    Args:
        evaluation: scores of all systems named here, with votes.
        candidates: systems to compare; each later one is reported against each earlier one.
        starts: candidate -> name of its untouched start among the systems.
        level: of the intervals.
        samples: bootstrap samples and sign patterns.
        seed: of those samples.

    Raises:
        InputError: a system without scores, a candidate named twice, runs that cannot be paired, or nothing to compare.
    """
    untouched = dict(starts or {})
    pairs = list(combinations(candidates, 2))
    if len(set(candidates)) != len(candidates) or not (pairs or untouched):
        raise InputError(
            f"candidates {list(candidates)} with starts {untouched} cannot be compared; "
            "name two different systems, or one with its start"
        )
    settings = _Settings(level, samples, seed)
    rivals = _judge_pairs(evaluation, pairs, settings, untouched=False)
    gains = _judge_pairs(evaluation, [(start, tuned) for tuned, start in untouched.items()], settings, untouched=True)
    winner = _overall_winner(candidates, rivals)
    return Verdict(rivals, gains, winner, verdict_words(rivals, gains, winner))


def _judge_pairs(
    evaluation: Evaluation, pairs: Sequence[tuple[str, str]], settings: _Settings, *, untouched: bool
) -> tuple[PairVerdict, ...]:
    """All metrics of all pairs of one question, corrected together."""
    matches = [_match(evaluation, first, second, settings, untouched) for first, second in pairs]
    corrected: dict[int, tuple[float | None, int]] = {}
    for family in (True, False):
        members = [contest for match in matches for contest in match.contests if contest.family is family]
        adjusted = holm([contest.p_value for contest in members if contest.p_value is not None])
        for contest, value in zip(members, adjusted, strict=True):
            corrected[id(contest)] = (value, len(members))
    verdicts = []
    for match in matches:
        first, second = match.first.system, match.second.system
        metrics = tuple(
            _decide(match, contest, *corrected.get(id(contest), (None, 1)), settings.level)
            for contest in match.contests
        )
        words = pair_words(first, second, metrics, seeds=len(match.runs), untouched=untouched, unpaired=match.unpaired)
        winner = _winner(first, second, metrics)
        verdicts.append(PairVerdict(first, second, len(match.runs), settings.level, metrics, winner, words))
    return tuple(verdicts)


def _match(evaluation: Evaluation, first: str, second: str, settings: _Settings, untouched: bool) -> _Match:
    ours, theirs = table_of(evaluation, first), table_of(evaluation, second)
    runs = pair_runs(ours, theirs, untouched=untouched)
    votes = {vote.metric: vote for vote in evaluation.votes}
    contests = []
    for info in evaluation.metrics:
        paired = pair_metric(ours, theirs, runs, info.name)
        vote = votes.get(info.name, Vote(info.name, False, "nobody decided whether it works here"))
        interval, chance = None, None
        if paired.differences.shape[1] >= FEWEST_SENTENCES:
            chosen = {"samples": settings.samples, "seed": settings.seed}
            interval = hierarchical(paired.differences, level=settings.level, **chosen)
            chance = p_value(paired.differences, **chosen)
        contests.append(_Contest(info, vote, paired, interval, chance))
    return _Match(ours, theirs, tuple(runs), tuple(contests))


def _decide(match: _Match, contest: _Contest, corrected: float | None, measures: int, level: float) -> MetricVerdict:
    paired, chance = contest.paired, contest.p_value
    if chance is not None and corrected is None:
        corrected = chance
    verdict = MetricVerdict(
        metric=contest.info.name,
        first=match.first.system,
        second=match.second.system,
        outcome=_outcome(contest, corrected, level),
        interval=contest.interval,
        n=paired.differences.shape[1],
        seeds=len(match.runs),
        smallest_effect=_smallest_effect(paired, measures, level),
        p_value=chance,
        corrected=corrected,
        measures=measures,
        missing_first=paired.missing_first,
        missing_second=paired.missing_second,
        votes=contest.vote.votes,
        reason="",
    )
    return replace(verdict, reason=metric_reason(verdict, contest.info, contest.vote, paired.left_out))


def _outcome(contest: _Contest, corrected: float | None, level: float) -> Outcome:
    interval, higher_is_better = contest.interval, contest.info.higher_is_better
    if interval is None or corrected is None or higher_is_better is None:
        return "not judged"
    # Rounding: 1 - 0.95 is a hair more than 0.05.
    if corrected > round(1.0 - level, 12) or interval.low <= 0.0 <= interval.high:
        return "no difference found"
    return "better" if (interval.estimate > 0) == higher_is_better else "worse"


def _smallest_effect(paired: Paired, measures: int, level: float) -> float | None:
    """At the level that the hardest step of Holm asks for; None where no difference whatever could pass it."""
    runs, n = paired.differences.shape
    alpha = (1.0 - level) / measures
    if n < FEWEST_SENTENCES or (runs == 1 and 2.0 ** (1 - n) > alpha):
        return None
    return smallest_detectable(paired.differences, 1.0 - alpha)


def _winner(first: str, second: str, metrics: Sequence[MetricVerdict]) -> str | None:
    outcomes = {metric.outcome for metric in metrics if metric.votes}
    if "better" in outcomes and "worse" not in outcomes:
        return second
    if "worse" in outcomes and "better" not in outcomes:
        return first
    return None


def _overall_winner(candidates: Sequence[str], rivals: Sequence[PairVerdict]) -> str | None:
    """The candidate that won against every other, if there is one."""
    for candidate in candidates:
        own = [pair for pair in rivals if candidate in (pair.first, pair.second)]
        if own and all(pair.winner == candidate for pair in own):
            return candidate
    return None
