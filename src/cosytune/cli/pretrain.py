"""`cosytune pretrain`: train a model on much speech, from nothing or from a start."""

from __future__ import annotations

from pathlib import Path

import typer

from cosytune.cli.training_options import DATA, JSON, OUTPUT, PARTS, SEED, SETTINGS, WORKERS, run

__all__ = ["command"]


def command(
    data: Path = DATA,
    output: Path = OUTPUT,
    start: Path = typer.Option(None, "--start", help="Model folder to begin from; without it, random weights."),
    size: str = typer.Option("nano", "--size", help="Size of a model begun from nothing: nano or 300m."),
    parts: str = PARTS,
    settings: Path = SETTINGS,
    seed: int = SEED,
    workers: int = WORKERS,
    as_json: bool = JSON,
) -> None:
    """Train all five networks on speech, transcribed or not, from nothing or from a start."""
    from cosytune.comparison.compose import corpus_of
    from cosytune.models.folder import write_model
    from cosytune.training.stages import initial_model

    if start is None:
        start = output.with_name(output.name + ".initial")
        if not (start / "model.json").exists():
            corpus = corpus_of(data, output.with_name(output.name + ".corpus"))
            texts = [clip.text for clip in corpus.utterances("train") if clip.text]
            write_model(initial_model(size, texts, seed), start)
    run("pretrain", start, data, output, parts, settings, seed, workers, as_json)
