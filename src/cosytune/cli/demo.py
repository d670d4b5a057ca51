"""`cosytune demo`: the whole story on synthesised speech."""

from __future__ import annotations

from pathlib import Path

import typer

__all__ = ["command"]


def command(
    output: Path = typer.Option(Path("demo"), "--output", "-o", help="Folder for everything that the demo makes."),
) -> None:
    """Make a corpus, pre-train, fine-tune, compare starts, write the report."""
