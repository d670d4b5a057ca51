"""Which files a corpus was made from: when one of them changes, it must be prepared again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cosytune.data.importers.json_lines import is_json_lines
from cosytune.data.importers.kaldi import KALDI_FILES
from cosytune.data.importers.opening import open_source
from cosytune.data.importers.parquet import is_parquet
from cosytune.data.importers.source import TRANSCRIPT_SUFFIXES, is_recording, walk
from cosytune.data.importers.tables import TABLE_SUFFIXES

__all__ = ["source_files"]

_READ = (*TRANSCRIPT_SUFFIXES, *TABLE_SUFFIXES, ".list", ".srt", ".vtt")
_ANYWHERE = frozenset({"manifest", "table", "jsonl", "list", "kaldi", "lhotse", "parquet", "folders"})
"""Layouts whose recordings may lie outside of the folder."""


def source_files(path: Path, *, recipe: str | None = None) -> Iterator[Path]:
    """All files that an import of `path` reads, in a stable order: those of the folder, then those its tables name.

    Recordings outside of the folder that one table names in succession come once; files may come twice otherwise.

    Args:
        path: as given to `open_source`.
        recipe: as given to `open_source`.

    Raises:
        DataError: as `open_source`.
    """
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        yield from (file for file in walk(path) if _is_read(file) and file.is_file())
    else:
        yield path
    source = open_source(path, recipe=recipe)
    if path.is_dir() and source.layout not in _ANYWHERE:
        return
    before = None
    for entry in source.entries:
        audio = Path(entry.audio)
        elsewhere = not (path.is_dir() and audio.is_relative_to(folder.absolute()))
        # Not Path.is_file, which raises for a name that no disk can hold.
        if audio != before and elsewhere and os.path.isfile(audio):  # noqa: PTH113
            yield audio
        before = audio


def _is_read(path: Path) -> bool:
    return (
        is_recording(path)
        or path.suffix.lower() in _READ
        or path.name in KALDI_FILES
        or is_json_lines(path)
        or is_parquet(path)
    )
