"""`cosytune sft`: supervised fine-tuning with speaker labels; every speaker becomes a named voice."""

from __future__ import annotations

from pathlib import Path

import typer

from cosytune.cli.training_options import (
    DATA,
    FORCE,
    JSON,
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
    force: bool = FORCE,
    as_json: bool = JSON,
) -> None:
    """Fine-tune on labelled speech; every speaker of the corpus becomes a named voice."""
    run(
        "sft",
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
        replay=replay,
        replay_data=replay_data,
    )
