"""`cosytune pretrain`: train a model on much speech, from nothing or from a start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import typer

from cosytune.cli.training_options import (
    DATA,
    DISK_BUDGET,
    FORCE,
    JSON,
    OUTPUT,
    PARTS,
    REPLAY,
    REPLAY_DATA,
    SEED,
    SETTINGS,
    SHARD,
    STRATEGY,
    TRACK,
    WORKERS,
    Asked,
    named_folder,
    run,
)

__all__ = ["command"]


def command(
    data: Path = DATA,
    output: Path = OUTPUT,
    start: Path = typer.Option(None, "--start", help="Model folder to begin from; without it, random weights."),
    size: str = typer.Option(None, "--size", help="Size of a model begun from nothing: nano (default) or 300m."),
    parts: str = PARTS,
    settings: Path = SETTINGS,
    seed: int = SEED,
    workers: int = WORKERS,
    strategy: str = STRATEGY,
    replay: float = REPLAY,
    replay_data: Path = REPLAY_DATA,
    track: str = TRACK,
    disk_budget: float = DISK_BUDGET,
    shard: bool = SHARD,
    force: bool = FORCE,
    as_json: bool = JSON,
) -> None:
    """Train all networks on much speech of many speakers.

    Transcripts are welcome and not needed. Training begins from random weights, or from a start.
    """
    from cosytune.comparison.compose import corpus_of, initial_start
    from cosytune.errors import InputError
    from cosytune.training.trackers import parse_trackers

    output = named_folder(output)
    parse_trackers(track)  # refused before anything is prepared
    if start is None:
        corpus = corpus_of(data, output.with_name(output.name + ".corpus"))
        start = initial_start(size or "nano", corpus, seed, output.with_name(output.name + ".initial"))
    elif size is not None:
        raise InputError(f"--size {size} is for a model begun from nothing; {start} has its size, leave one out")
    asked = Asked("pretrain", start, data, output, parts, settings, seed, workers, strategy, force, as_json)
    asked = replace(asked, replay=replay, replay_data=replay_data)
    run(replace(asked, track=track, disk_budget=disk_budget, shard=shard))
