"""`cosytune demo`: the whole story on synthesised speech."""

from __future__ import annotations

from pathlib import Path

import typer

from cosytune.cli.compare import show
from cosytune.cli.training_options import JSON, SEED, WORKERS

__all__ = ["command"]


def command(
    output: Path = typer.Option(Path("demo"), "--output", "-o", help="Folder for everything that the demo makes."),
    toy: bool = typer.Option(False, "--toy", help="Every step with nothing learned: shows quickly that all works."),
    seed: int = SEED,
    workers: int = WORKERS,
    as_json: bool = JSON,
) -> None:
    """Show the whole story on synthetic voices.

    Make a corpus, pre-train a nano base, SFT it, and compare both as starts for a new voice. Both stay in
    OUTPUT/models and are starts for your own recordings.
    """
    from cosytune.cli.output import progress
    from cosytune.comparison.compose.demo import FULL_DEMO, TOY_DEMO, run_demo
    from cosytune.report.comparison import write_report
    from cosytune.training.jobs import default_workers

    with progress() as bars:
        result = run_demo(output, TOY_DEMO if toy else FULL_DEMO, bars, seed=seed, workers=workers or default_workers())
        page = write_report(result, output / "report.html")
    honest = (
        "An honest word: these models have a few million weights and trained for minutes on synthetic speech. They "
        "babble more than they read; what the demo shows is the way from recordings to a verdict, not its destination."
    )
    show(result, page, as_json=as_json, remark=honest)
