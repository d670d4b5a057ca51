"""`cosytune inspect`: what is in a model folder."""

from __future__ import annotations

from pathlib import Path

import typer

from cosytune.cli.output import print_result
from cosytune.errors import ModelError

__all__ = ["command"]


def command(
    model: Path = typer.Argument(..., help="Model folder, cosytune's own or a released CosyVoice 1 one."),
    verify: bool = typer.Option(
        False, "--verify", help="Also read every file, look at every weight and try the front ends; status 4 if wrong."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Say what a model is, what it can do and how we know.

    Its kind, parts, sizes, voices and memory are shown; nothing is run without --verify.
    """
    from cosytune.models.inspection import inspect_model
    from cosytune.models.inspection_words import in_words

    found = inspect_model(model, verify=verify)
    print_result(found.to_json(), in_words(found), as_json=as_json)
    if not found.sound:
        raise typer.Exit(ModelError.exit_status)
