"""`cosytune evaluate`: score a model on held-out sentences beside the recordings themselves."""

from __future__ import annotations

from pathlib import Path

import typer

from cosytune.cli.training_options import DATA, JSON, WORKERS

__all__ = ["command"]


def command(
    model: Path = typer.Argument(..., help="Model folder."),
    data: Path = DATA,
    output: Path = typer.Option(..., "--output", "-o", help="Folder for samples and evaluation.json."),
    sentences: int = typer.Option(20, "--sentences", min=1, help="Held-out sentences to speak, at most."),
    workers: int = WORKERS,
    as_json: bool = JSON,
) -> None:
    """Score what a model says of held-out sentences.

    The judges work offline; the recordings and their copy-synthesis are scored beside it.
    """
    from cosytune.cli.output import print_result, progress
    from cosytune.comparison.compose import corpus_of, evaluate, keep_apart
    from cosytune.report.tables import score_table
    from cosytune.training.jobs import default_workers

    keep_apart(data, output)
    with progress() as bars:
        corpus = corpus_of(data, output / "corpus")
        evaluation = evaluate(model, corpus, output, sentences, workers or default_workers(), bars)
    print_result(evaluation.to_json(), score_table(evaluation), as_json=as_json)
