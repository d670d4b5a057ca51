"""`cosytune average`: the mean of several models, or of the checkpoints that a run kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from cosytune.cli.output import print_result

__all__ = ["command"]


def command(
    models: list[Path] = typer.Argument(
        ..., help="Two or more model folders of one family; or OUTPUT.run alone: the best checkpoints that it kept."
    ),
    output: Path = typer.Option(..., "--output", "-o", help="Model folder to write."),
    step: list[str] = typer.Option(
        [], "--step", help="Of a run: PART=STEP, the checkpoint to take; several are averaged, other parts stay."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Average several models, or what one run kept.

    Several models may be runs of several seeds; of one run, checkpoints are taken or averaged.
    """
    from dataclasses import replace

    from cosytune.errors import InputError
    from cosytune.models.folder import read_model, write_model
    from cosytune.training.kept import average_kept, run_of
    from cosytune.training.mixing import average

    if len(models) == 1 and run_of(models[0]) == models[0].resolve():
        mixed = average_kept(models[0], _chosen(step))
        kept = mixed.lineage[-1]["average_of_steps"]
        what = "; ".join(
            f"{part}: {'mean of steps' if len(steps) > 1 else 'step'} {', '.join(map(str, steps))}"
            for part, steps in kept.items()
        )
    elif run := next((found for model in models if (found := run_of(model)) is not None), None):
        raise InputError(
            f"checkpoints of a run are averaged by themselves; give {run} alone, and --step PART=STEP for some of them"
        )
    elif step:
        raise InputError("--step chooses among the checkpoints of one run; give OUTPUT.run alone, or leave --step out")
    else:
        mixed, what = average([read_model(model) for model in models]), f"mean of {len(models)} models"
    write_model(replace(mixed, name=output.resolve().name), output)
    print_result({"model": str(output), "hash": mixed.hash()}, f"{output}: {what}", as_json=as_json)


def _chosen(texts: Sequence[str]) -> dict[str, list[int]] | None:
    """`--step` as steps by part."""
    from cosytune.errors import InputError

    chosen: dict[str, list[int]] = {}
    for text in texts:
        part, _, number = text.partition("=")
        if not number.isdecimal():
            raise InputError(f"--step {text!r} is not PART=STEP, such as lm=38")
        chosen.setdefault(part, []).append(int(number))
    return chosen or None
