"""What every layout yields, and what the readers of several layouts share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from cosytune.data.manifest import Utterance
from cosytune.data.results import LedgerLine

__all__ = ["AUDIO_SUFFIXES", "TRANSCRIPT_SUFFIXES", "Entry", "Source", "dropped", "walk"]

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".m4a")
TRANSCRIPT_SUFFIXES = (".txt", ".lab")

Entry: TypeAlias = Utterance | LedgerLine
"""A clip, or the reason why something that was found is none."""


@dataclass(frozen=True)
class Source:
    """An opened folder or table of recordings.

    Attributes:
        layout: how it was read: "plain", "ljspeech" or "manifest".
        entries: each thing found, once, in a stable order, read while it is iterated. Nothing is decoded yet:
            `seconds` is 0 and `language` is "" where the source does not tell them; ids may occur twice.
    """

    layout: str
    entries: Iterator[Entry]


def dropped(identity: str, audio: Path | str, reason: str) -> LedgerLine:
    """The line of something that was found and cannot be used."""
    return LedgerLine(identity, str(audio), "dropped", reason)


def walk(folder: Path) -> Iterator[Path]:
    """All files below `folder` in a stable order, hidden ones and the litter of macOS archives left out."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        yield from (Path(parent, name) for name in sorted(files) if not name.startswith("."))
