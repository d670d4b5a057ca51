"""`cosytune tune`: teach one task (a voice, a dialect, a style) to a start."""

from __future__ import annotations

from cosytune.cli.training_options import fine_tuning

__all__ = ["command"]

command = fine_tuning("tune", "Teach a voice, a dialect or a style to a model; its speakers join the named voices.")
