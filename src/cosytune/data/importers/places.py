"""Where a recording is that a table names: relative paths, missing suffixes, other spellings of the same name."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from cosytune.data.importers.source import AUDIO_SUFFIXES, is_recording

__all__ = ["Places", "why_no_file"]

_BESIDE = ("clips", "wavs", "wav", "audio", "recordings")
"""Folders beside a table whose names its paths often leave out (Common Voice lists files of clips/)."""
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_ARCHIVE_POSITION = re.compile(r"\.ark:\d+(\[.*\])?$")


def why_no_file(listed: str) -> str | None:
    """The reason why what a table names cannot be a file on this disk, or None: nothing in a table is executed."""
    if "\0" in listed:
        return f"no file can be called {listed!r}: a null character is in it"
    if listed.startswith("|") or listed.endswith("|"):
        return (
            f"a shell command instead of a file: {listed!r} is never run; run it once yourself, "
            "and list the file that it makes"
        )
    if _ADDRESS.match(listed):
        return f"a web address instead of a file: download {listed!r} and list the file"
    if _ARCHIVE_POSITION.search(listed):
        return f"inside a Kaldi archive: copy {listed!r} out into a file of its own (wav-copy)"
    return None


class Places:
    """Finds the recordings that a table names.

    Args:
        folder: the table's own; relative paths are taken from here.
        above: further levels of folders that they may be taken from: where programs run that write such tables.
    """

    def __init__(self, folder: Path, above: int = 0) -> None:
        self.folder = folder.absolute()
        beside = (self.folder / name for name in _BESIDE)
        self._roots = [self.folder, *(path for path in beside if path.is_dir()), *self.folder.parents[:above]]

    def find(self, listed: str) -> Path:
        """The file that is meant; where there is none, the path as listed, which then does not exist."""
        for name in _spellings(listed):
            endings = ("",) if is_recording(Path(name)) else ("", *AUDIO_SUFFIXES)
            for root in self._roots:
                for ending in endings:
                    path = os.path.normpath(root / (name + ending))
                    # Not Path.is_file, which raises for a name that is too long for the disk.
                    if os.path.isfile(path):  # noqa: PTH113
                        return Path(path)
        return Path(os.path.normpath(self.folder / listed))


def _spellings(listed: str) -> Iterator[str]:
    """The name as listed, as Windows writes it, and with composed or decomposed accents (macOS writes the latter)."""
    for name in dict.fromkeys((listed, listed.replace("\\", "/"))):
        yield from dict.fromkeys((name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)))
