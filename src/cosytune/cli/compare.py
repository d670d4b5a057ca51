"""`cosytune compare`: tune several starts on the same recordings and say which did better."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cosytune.cli.training_options import (
    DATA,
    JSON,
    LISTEN,
    PARTS,
    SETTINGS,
    SHARD,
    TRACK,
    WORKERS,
    named_strategy,
    split_parts,
)

if TYPE_CHECKING:
    from cosytune.comparison.plan import ComparisonResult

__all__ = ["command", "show"]


def command(
    data: Path = DATA,
    start: list[Path] = typer.Option(..., "--start", help="Model folder to begin from; give it two or more times."),
    output: Path = typer.Option(..., "--output", "-o", help="Folder for arms, samples, results and report.html."),
    seeds: int = typer.Option(
        1, "--seeds", min=1, help="Trainings per start; one says nothing about starts in general."
    ),
    sentences: int = typer.Option(
        20, "--sentences", min=2, help="Held-out sentences that every system speaks, at most."
    ),
    parts: str = PARTS,
    strategy: str = typer.Option(
        "full", "--strategy", help="full, conservative, lora: the same numbers for every start; or advised."
    ),
    listen: int = LISTEN,
    settings: Path = SETTINGS,
    workers: int = WORKERS,
    track: str = TRACK,
    disk_budget: float = typer.Option(
        None, "--disk-budget", min=0.001, help="GB that all arms may hold, models and runs; older checkpoints go first."
    ),
    shard: bool = SHARD,
    as_json: bool = JSON,
) -> None:
    """Tune several starts alike and say which did better.

    All speak held-out sentences and are scored beside the recordings and the untouched starts.
    """
    from cosytune.cli.output import progress
    from cosytune.comparison.compose import compare, corpus_of, keep_apart
    from cosytune.comparison.plan import ComparisonPlan
    from cosytune.report.comparison import write_report
    from cosytune.training.disk import DiskBudget
    from cosytune.training.jobs import default_workers
    from cosytune.training.settings import read_overrides
    from cosytune.training.trackers import parse_trackers

    keep_apart(data, output)
    starts = named(start)
    overrides = read_overrides(settings) if settings is not None else {}
    trackers = parse_trackers(track)
    chosen, moved_by = split_parts(parts, "tune"), named_strategy(strategy)
    with progress() as bars:
        corpus = corpus_of(data, output / "corpus")
        bars.say(corpus.ledger.summary())
        plan = ComparisonPlan(
            starts=starts,
            corpus=corpus.path,
            output=output,
            seeds=tuple(range(seeds)),
            overrides=overrides,
            parts=chosen,
            sentences=sentences,
            workers=workers or default_workers(*starts.values()),
            strategy=moved_by or "full",
            trackers=trackers,
            disk=DiskBudget.of_gigabytes(output / "arms", disk_budget),
            listen=listen,
            shard=shard,
        )
        result = compare(plan, bars)
        page = write_report(result, output / "report.html")
    show(result, page, as_json=as_json)


def show(result: ComparisonResult, page: Path, *, as_json: bool, remark: str = "") -> None:
    """Table, verdict and where the report is."""
    from cosytune.cli.output import print_result
    from cosytune.report.tables import score_table

    lines = [score_table(result.evaluation), *result.verdict.words, remark, f"report: {page}"]
    print_result(
        {"report": str(page), "verdict": result.verdict.to_json(), "failures": result.failures},
        "\n".join(line for line in lines if line),
        as_json=as_json,
    )


def named(starts: list[Path]) -> dict[str, Path]:
    """Short names for model folders: the last part of each path.

    Raises:
        InputError: there are fewer than two, or two folders have the same last part.
    """
    from cosytune.errors import InputError

    if len(starts) < 2:
        raise InputError("a comparison needs at least two starts; give --start twice")
    names = {path.resolve().name: path for path in starts}
    if len(names) < len(starts):
        raise InputError("two starts have the same folder name, which the report could not tell apart; rename one")
    return names
