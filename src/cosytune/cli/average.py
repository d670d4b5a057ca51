"""`cosytune average`: the mean of several models."""

from __future__ import annotations

from pathlib import Path

import typer

from cosytune.cli.output import print_result

__all__ = ["command"]


def command(
    models: list[Path] = typer.Argument(..., help="Two or more model folders of one family, such as kept checkpoints."),
    output: Path = typer.Option(..., "--output", "-o", help="Model folder to write."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Average the weights of several models.

    They may be the best checkpoints of a run, or runs of several seeds.
    """
    from dataclasses import replace

    from cosytune.models.folder import read_model, write_model
    from cosytune.training.mixing import average

    mixed = average([read_model(model) for model in models])
    write_model(replace(mixed, name=output.resolve().name), output)
    print_result(
        {"model": str(output), "hash": mixed.hash()}, f"{output}: mean of {len(models)} models", as_json=as_json
    )
