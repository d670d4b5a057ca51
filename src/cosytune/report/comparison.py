"""One HTML file that tells a whole comparison: verdict, tables, players, curves, and what nobody can know from it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from cosytune.comparison.plan import ComparisonResult
from cosytune.comparison.results import MetricVerdict, PairVerdict
from cosytune.evaluation.results import COUNTED, Evaluation, MetricInfo
from cosytune.files import write_text
from cosytune.report.curves import arm_name, arm_styles, read_panels
from cosytune.report.differences import differences, held, warnings
from cosytune.report.figures import draw_interval, draw_panel
from cosytune.report.limits import certainty, limits
from cosytune.report.players import AUDIO_BYTES, players_of
from cosytune.report.systems import systems_of
from cosytune.report.tables import count, means_of, number, p_words, unit_words
from cosytune.training.results import PartResult

__all__ = ["write_report"]

MARKS = {"better": "▲", "worse": "▼", "no difference found": "=", "not judged": "–"}

SHAPES = {
    "o": "M15 1.2a3.8 3.8 0 1 0 .01 0z",
    "s": "M11.6 1.6h6.8v6.8h-6.8z",
    "^": "M15 .8l4.4 8h-8.8z",
    "D": "M15 .4l4.6 4.6-4.6 4.6-4.6-4.6z",
}
"""The markers of the curves as paths for the legend, in a box of 30 by 10."""


@dataclass(frozen=True)
class _MetricRow:
    """One line of a pair's table."""

    verdict: MetricVerdict
    info: MetricInfo
    picture: Markup


def write_report(result: ComparisonResult, path: Path, *, audio_bytes: int = AUDIO_BYTES) -> Path:
    """Write the page of a comparison: one file that needs nothing else, and the same bytes for the same result.

    Curves and clips that are missing or damaged are named on the page; they do not stop it.

    Args:
        result: what the comparison left behind; its arms' run folders and its clips are read.
        path: file to write; an older one is replaced only by the whole new one.
        audio_bytes: most bytes of base64 that players may take.
    """
    write_text(path, _page(result, audio_bytes))
    return path


def _page(result: ComparisonResult, audio_bytes: int) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _signed, "p": p_words, "unit": unit_words}
    environment.globals |= {"count": count, "marks": MARKS, "shapes": SHAPES, "arm_name": arm_name}
    template = environment.from_string(files("cosytune.report").joinpath("comparison.html").read_text("utf-8"))
    systems = systems_of(result)
    panels, problems = read_panels(result.arms)
    voting, shown = _metrics(result.evaluation)
    return template.render(
        result=result,
        title=" or ".join(dict.fromkeys(arm.start for arm in result.arms)) or "comparison",
        certainty=certainty(result),
        systems=systems,
        scored=[system for system in systems if system.name in result.evaluation.systems],
        means=means_of(result.evaluation),
        voting=voting,
        shown=shown,
        reasons=_reasons(result.evaluation, shown),
        against={pair.second: {m.metric: m for m in pair.metrics} for pair in result.verdict.against_start},
        pairs=_pairs(result),
        players=players_of(result, systems, limit=audio_bytes),
        styles=arm_styles(result.arms),
        panels=[(panel, Markup(draw_panel(panel, place))) for place, panel in enumerate(panels)],
        parts=list(dict.fromkeys(part.part for arm in result.arms for part in arm.result.parts)),
        curve_problems=problems,
        differences=differences(result.arms),
        warnings=warnings(result.arms),
        held=held(result),
        skipped=_skipped(result),
        chosen=_chosen(result),
        limits=limits(result),
    )


def _metrics(evaluation: Evaluation) -> tuple[list[MetricInfo], list[MetricInfo]]:
    """Metrics with and without a vote, judges' before counted ones; those that nobody scored are left out."""
    votes = {vote.metric for vote in evaluation.votes if vote.votes}
    scored = {score.metric for score in evaluation.scores}
    infos = sorted((info for info in evaluation.metrics if info.name in scored), key=_counted)
    return [info for info in infos if info.name in votes], [info for info in infos if info.name not in votes]


def _counted(info: MetricInfo) -> bool:
    return info.judge == COUNTED


def _reasons(evaluation: Evaluation, shown: list[MetricInfo]) -> dict[str, list[MetricInfo]]:
    """Why metrics have no vote: by reason, for many share one."""
    reasons = {vote.metric: vote.reason for vote in evaluation.votes}
    found: dict[str, list[MetricInfo]] = {}
    for info in shown:
        found.setdefault(reasons.get(info.name, "nobody decided whether it works here"), []).append(info)
    return found


def _pairs(result: ComparisonResult) -> list[tuple[str, list[tuple[PairVerdict, list[_MetricRow], list[_MetricRow]]]]]:
    """Both questions, each with its pairs and their voting and silent lines."""
    questions = [
        ("Between the tuned models", result.verdict.candidates),
        ("Tuned against untouched", result.verdict.against_start),
    ]
    infos = {info.name: info for info in result.evaluation.metrics}
    reach = _reach(result)
    found = []
    for question, pairs in questions:
        entries = []
        for pair in pairs:
            rows = [_metric_row(metric, infos[metric.metric], reach) for metric in pair.metrics]
            rows.sort(key=lambda row: _counted(row.info))
            entries.append((pair, [r for r in rows if r.verdict.votes], [r for r in rows if not r.verdict.votes]))
        if entries:
            found.append((question, entries))
    return found


def _reach(result: ComparisonResult) -> dict[str, float]:
    """One scale per metric for all pairs: the farthest end of any interval."""
    reach: dict[str, float] = {}
    for pair in (*result.verdict.candidates, *result.verdict.against_start):
        for metric in pair.metrics:
            if metric.interval is not None:
                farthest = max(abs(metric.interval.low), abs(metric.interval.high))
                reach[metric.metric] = max(farthest, reach.get(metric.metric, 0.0))
    return reach


def _metric_row(verdict: MetricVerdict, info: MetricInfo, reach: dict[str, float]) -> _MetricRow:
    picture = Markup()
    if verdict.interval is not None and info.higher_is_better is not None:
        interval = verdict.interval
        drawn = draw_interval(
            interval.low,
            interval.estimate,
            interval.high,
            reach=reach[verdict.metric],
            flipped=not info.higher_is_better,
            outcome=verdict.outcome,
        )
        picture = Markup(drawn)
    return _MetricRow(verdict, info, picture)


def _skipped(result: ComparisonResult) -> list[str]:
    """Updates that training left out, in words."""
    return [
        f"{arm_name(arm)}, {part.part}: {count(len(part.skipped), 'update')} left out because the loss or its gradient "
        f"was not finite; first at step {part.skipped[0][0]} with {', '.join(part.skipped[0][1][:5])}"
        for arm in result.arms
        for part in arm.result.parts
        if part.skipped
    ]


def _chosen(result: ComparisonResult) -> list[str]:
    """The checkpoint that was kept where somebody listened, and what would have ended the arm early, in words."""
    return [f"{arm_name(arm)}, {line}" for arm in result.arms for part in arm.result.parts if (line := _kept(part))]


def _kept(part: PartResult) -> str:
    if not part.heard or part.chosen_step is None:
        return ""
    scores = dict(part.heard)
    line = f"{part.part}: update {part.chosen_step} of {part.steps}, score {scores[part.chosen_step]:.3f}"
    line += f", the untouched start had {scores[0]:.3f}" if 0 in scores else ""
    return f"{line}; recorded, not obeyed: {part.stop}" if part.stop else line


def _signed(value: float) -> str:
    """A number with a real minus sign."""
    return number(value).replace("-", "−")
