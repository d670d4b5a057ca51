"""`cosytune tune`: teach one task (a voice, a dialect, a style) to a start."""

from __future__ import annotations

from cosytune.cli.training_options import fine_tuning

__all__ = ["command"]

command = fine_tuning(
    "tune", "Teach a model a voice, a dialect or a style.\n\nEvery speaker of the corpus becomes a named voice."
)
