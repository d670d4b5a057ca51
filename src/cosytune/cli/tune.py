"""`cosytune tune`: teach one task (a voice, a dialect, a style) to a start."""

from __future__ import annotations

from pathlib import Path

import typer

from cosytune.cli.training_options import (
    DATA,
    FORCE,
    JSON,
    LISTEN,
    OUTPUT,
    PARTS,
    REPLAY,
    REPLAY_DATA,
    SEED,
    SETTINGS,
    STRATEGY,
    WORKERS,
    run,
)

__all__ = ["command"]


def command(
    data: Path = DATA,
    start: Path = typer.Option(..., "--start", help="Model folder to begin from."),
    output: Path = OUTPUT,
    parts: str = PARTS,
    settings: Path = SETTINGS,
    seed: int = SEED,
    workers: int = WORKERS,
    strategy: str = STRATEGY,
    replay: float = REPLAY,
    replay_data: Path = REPLAY_DATA,
    listen: int = LISTEN,
    force: bool = FORCE,
    as_json: bool = JSON,
) -> None:
    """Teach a voice, a dialect or a style to a model; its speakers join the named voices."""
    run(
        "tune",
        start,
        data,
        output,
        parts,
        settings,
        seed,
        workers,
        strategy,
        force,
        as_json,
        replay,
        replay_data,
        listen,
    )
