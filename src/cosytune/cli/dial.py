"""`cosytune dial`: a model between a start and what it was tuned to."""

from __future__ import annotations

from pathlib import Path

import typer

from cosytune.cli.output import print_result

__all__ = ["command"]


def command(
    tuned: Path = typer.Argument(..., help="Tuned model folder."),
    start: Path = typer.Option(..., "--start", help="Model folder that it was tuned from."),
    strength: float = typer.Option(..., "--strength", help="0 is the start, 1 the tuned model, up to 1.5."),
    output: Path = typer.Option(..., "--output", "-o", help="Model folder to write."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Weaken or exaggerate a fine-tuning afterwards.

    No training is needed: W = (1 - s) start + s tuned.
    """
    from dataclasses import replace

    from cosytune.models.folder import read_model, write_model
    from cosytune.training.mixing import dial

    mixed = dial(read_model(start), read_model(tuned), strength)
    write_model(replace(mixed, name=output.resolve().name), output)
    print_result(
        {"model": str(output), "strength": strength, "hash": mixed.hash()},
        f"{output}: {strength:g} of the way from {start} to {tuned}",
        as_json=as_json,
    )
