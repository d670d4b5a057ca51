"""`cosytune bench`: how fast this machine speaks and learns, beside the reference's way of doing it."""

from __future__ import annotations

from pathlib import Path

import typer

__all__ = ["command"]

SPEAKING = ("lm", "flow", "vocoder", "speech")
PARTS = (*SPEAKING, "training")


def command(
    parts: list[str] = typer.Argument(None, help=f"What to measure: {', '.join(PARTS)}; all of it if not given."),
    model: Path = typer.Option(None, "--model", "-m", help="Model folder; random weights of --size without it."),
    size: str = typer.Option("300m", "--size", help="nano or 300m."),
    as_json: bool = typer.Option(False, "--json", help="Print the figures as JSON, one document a part."),
) -> None:
    """Measure speaking and training on this machine.

    Tokens per second, real-time factors and memory; each part takes some minutes.
    """
    import subprocess
    import sys

    import cosytune
    from cosytune.errors import InputError, MissingPackageError

    folder = Path(cosytune.__file__).resolve().parents[2] / "benchmarks"
    if not folder.is_dir():
        raise MissingPackageError(
            f"the benchmarks are a part of the source tree and {folder} is not there: clone the repository and install "
            "it with pip install --editable"
        )
    unknown = [part for part in parts or () if part not in PARTS]
    if unknown:
        raise InputError(f"there is no benchmark {unknown[0]!r}; give {', '.join(PARTS)}")
    if model is not None and "training" in (parts or ()):
        raise InputError("training is measured with random weights of a size: give --size instead of --model")
    source = ["--size", size] if model is None else ["--model", str(model)]
    for part in parts or (PARTS if model is None else SPEAKING):
        sys.stderr.write(f"measuring {part}\n")
        # A process for each: what one part leaves in memory must not slow or fatten the next.
        arguments = [sys.executable, str(folder / f"{part}.py"), *source, *(["--json"] if as_json else [])]
        status = subprocess.run(arguments, check=False).returncode
        if status:
            raise typer.Exit(status)
