"""`cosytune sft`: supervised fine-tuning with speaker labels; every speaker becomes a named voice."""

from __future__ import annotations

from cosytune.cli.training_options import fine_tuning

__all__ = ["command"]

command = fine_tuning(
    "sft", "Fine-tune a base model on labelled speech.\n\nEvery speaker of the corpus becomes a named voice."
)
