"""What every layout yields, and what the readers of several layouts share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from cosytune.data.manifest import Utterance
from cosytune.data.results import LedgerLine

__all__ = ["AUDIO_SUFFIXES", "TRANSCRIPT_SUFFIXES", "Entry", "Source", "dropped", "is_recording", "printable", "walk"]

AUDIO_SUFFIXES = (
    *(".wav", ".flac", ".mp3", ".ogg", ".opus", ".oga", ".aif", ".aiff", ".au", ".sph", ".w64"),
    *(".m4a", ".mp4", ".aac", ".m4b", ".webm", ".wma", ".mov", ".3gp", ".amr"),
)
"""What `audio.files` reads: the first row by libsndfile, the second by ffmpeg."""
TRANSCRIPT_SUFFIXES = (".txt", ".lab")

Entry: TypeAlias = Utterance | LedgerLine
"""A clip, or the reason why something that was found is none."""


@dataclass(frozen=True)
class Source:
    """An opened folder or table of recordings.

    Attributes:
        layout: how it is read: "plain", "ljspeech", "manifest", "table", "jsonl", "list", "kaldi", "lhotse",
            "parquet", "folders" (several folders with tables), or the name of the Lhotse recipe.
        entries: each thing found, once, in a stable order, read while it is iterated. Nothing is decoded yet:
            `seconds` is 0 and `language` is "" where the source does not tell them. Two entries may have one id.
    """

    layout: str
    entries: Iterator[Entry]


def dropped(identity: str, audio: Path | str, reason: str) -> LedgerLine:
    """The line of something that was found and cannot be used."""
    return LedgerLine(printable(identity), printable(audio), "dropped", printable(reason))


def printable(name: Path | str) -> str:
    """A name as text that can be written as UTF-8: bytes of a file name that are none stand as escapes."""
    return str(name).encode("utf-8", "backslashreplace").decode("utf-8")


def is_recording(path: Path) -> bool:
    """Whether the suffix, in any case, is one of a recording."""
    return path.suffix.lower() in AUDIO_SUFFIXES


def walk(folder: Path, onerror: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    """All files below `folder` in a stable order, hidden ones and the litter of macOS archives left out.

    Links to folders are followed; each real folder is entered once, so that loops end. A corpus of ours in it is not
    looked into, and neither are the features of the corpus that is `folder`.

    Args:
        folder: where to begin.
        onerror: called for a folder that cannot be listed; without it such a folder counts as empty.
    """
    entered: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=onerror):
        place = Path(parent).stat()
        if (place.st_dev, place.st_ino) in entered:
            folders.clear()
            continue
        entered.add((place.st_dev, place.st_ino))
        if _is_corpus(files):
            if Path(parent) != folder:
                folders.clear()
                continue
            folders[:] = [name for name in folders if name != "features"]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        yield from (Path(parent, name) for name in sorted(files) if not name.startswith("."))


def _is_corpus(files: list[str]) -> bool:
    """Whether these files are of a corpus, finished or not."""
    return ".working.sqlite" in files or {"corpus.json", "sides.jsonl"} <= set(files)
