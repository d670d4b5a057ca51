"""`cosytune plan`: which start, what it costs on this machine, whether a minute of it works; before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import typer

from cosytune.cli.training_options import (
    DATA,
    JSON,
    LISTEN,
    PARTS,
    REPLAY,
    SEED,
    SETTINGS,
    STRATEGY,
    WORKERS,
    named_strategy,
    split_parts,
    with_replay,
)

__all__ = ["command"]


def command(
    data: Path = DATA,
    start: list[Path] = typer.Option(..., "--start", help="Model folder that may be begun from; several are compared."),
    goal: str = typer.Option(..., "--goal", help="What is to be learned: voice, voices, language or style."),
    keep: list[str] = typer.Option(
        [], "--keep", help="What must not be lost: voices, cloning or instructions; give it several times."
    ),
    measured: Path = typer.Option(
        None, "--measured", help="Folder of an earlier cosytune compare of these starts; its verdict goes first."
    ),
    parts: str = PARTS,
    strategy: str = STRATEGY,
    settings: Path = SETTINGS,
    replay: float = REPLAY,
    listen: int = LISTEN,
    seed: int = SEED,
    workers: int = WORKERS,
    quick: bool = typer.Option(False, "--quick", help="Advice, settings and sizes only: no update is tried."),
    force: bool = typer.Option(False, "--force", help="Allow what is only unwise: low sample rates, rates, budgets."),
    output: Path = typer.Option(None, "--output", "-o", help="JSON file to write the plan to."),
    as_json: bool = JSON,
) -> None:
    """Say which start to take and what tuning it costs here.

    Also why, and whether a minute of it works; trains nothing.
    """
    import tempfile

    from cosytune.cli.output import print_result, progress
    from cosytune.comparison.advice import named_goal, named_keep
    from cosytune.comparison.compose import corpus_of
    from cosytune.comparison.compose.planning import PlanRequest, make_plan, read_measured
    from cosytune.files import write_json
    from cosytune.report.plan import plan_in_words
    from cosytune.training.jobs import default_workers
    from cosytune.training.settings import read_overrides

    chosen = split_parts(parts, "tune")
    wanted, kept = named_goal(goal), named_keep(keep)
    overrides = with_replay(read_overrides(settings) if settings is not None else {}, chosen, replay)
    moved_by = named_strategy(strategy)
    given = {"--settings": settings, "--replay": replay, "--listen": listen, "--seed": seed, "--workers": workers}
    with progress() as bars, tempfile.TemporaryDirectory(prefix="cosytune-plan-") as place:
        corpus = corpus_of(data, Path(place) / "corpus")
        bars.say(corpus.ledger.summary())
        request = PlanRequest(
            goal=wanted,
            corpus=corpus.path,
            data=data,
            starts=tuple(start),
            parts=chosen,
            overrides=overrides,
            strategy=moved_by,
            keep=kept,
            measured=None if measured is None else read_measured(measured),
            options=_repeated(given, force=force),
            workers=workers or default_workers(*start),
            listen=listen,
            seed=seed,
            force=force,
            trials=not quick,
        )
        plan = make_plan(request, bars)
    if output is not None:
        write_json(output, plan.to_json())
    print_result(plan.to_json(), plan_in_words(plan), as_json=as_json)


def _repeated(given: Mapping[str, object], *, force: bool) -> tuple[str, ...]:
    """The options that are not what `tune` takes by itself, as they are typed: what was planned is what is run."""
    usual = {"--listen": LISTEN.default, "--seed": SEED.default}
    words = [word for name, value in given.items() if value != usual.get(name) for word in (name, str(value))]
    return (*words, *(["--force"] if force else []))
