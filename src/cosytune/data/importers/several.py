"""A folder of folders, each with tables of its own: one LJSpeech folder per speaker, several Kaldi directories."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from cosytune.data.importers.disk_index import DiskIndex
from cosytune.data.importers.plain import read_plain
from cosytune.data.importers.source import TRANSCRIPT_SUFFIXES, Entry, dropped, is_recording, printable, walk
from cosytune.data.importers.tables import TABLE_SUFFIXES
from cosytune.data.importers.unread import unread_files, unread_tables
from cosytune.data.manifest import Utterance
from cosytune.errors import DataError

__all__ = ["Found", "find_folders", "read_folders"]


@dataclass(frozen=True)
class Found:
    """Tables directly in a folder.

    Attributes:
        layout: how they are read.
        entries: what they hold, read while it is iterated.
        names: the tables, in words.
        parquet: whether they are Parquet tables.
    """

    layout: str
    entries: Iterator[Entry]
    names: str
    parquet: bool = False


Recognise = Callable[[Path, str], Found | None]
"""Folder and the label of its speaker to the tables directly in it, None where there are none."""


def find_folders(root: Path, recognise: Recognise) -> list[Path]:
    """The topmost folders below `root` with tables that can be read; what is in them belongs to those tables.

    Args:
        root: has no tables itself.
        recognise: tells them; a DataError of it makes a folder one without tables. Parquet tables are found by
            another rule, wherever they lie.
    """
    found: list[Path] = []
    for folder, files in groupby(walk(root), key=lambda path: path.parent):
        if folder == root or (found and found[-1] in folder.parents) or not any(map(_may_be_table, files)):
            continue
        try:
            tables = recognise(folder, "")
            if tables is not None and not tables.parquet:
                found.append(folder)
        except DataError:
            continue  # `unread_tables` names it
    return found


def _may_be_table(path: Path) -> bool:
    name = path.name.lower()
    return name == "wav.scp" or name.endswith((*TABLE_SUFFIXES, ".list", ".jsonl", ".jsonl.gz"))


def read_folders(root: Path, folders: Sequence[Path], recognise: Recognise) -> Iterator[Entry]:
    """Folder by folder what the tables hold, then the recordings that no table speaks of, as a plain folder.

    Ids begin with the path of their folder, so that those of two speakers never meet. A recording (or part of one) that
    was named before is dropped: its texts might differ. So is one that no table names, where one lies around it or
    names its neighbours, unless it has a transcript beside it.

    Args:
        root: of all.
        folders: with tables, as `find_folders` finds them.
        recognise: opens their tables. The speaker, where a table names none, is the name of its folder, or the path
            below `root` where two folders have one name.
    """
    speakers = _speakers(root, folders)
    named, parts, beside = DiskIndex(), DiskIndex(), DiskIndex()
    for folder in folders:
        for entry in _tables(folder, folder.relative_to(root).as_posix(), recognise, speakers[folder]):
            audio = os.path.normpath(entry.audio)
            named.add(audio)
            if isinstance(entry, Utterance):
                beside.add(str(Path(audio).parent))
                if not parts.add(json.dumps([audio, entry.start, entry.end])):
                    yield dropped(entry.id, audio, "listed twice: a table that was read before names this recording")
                    continue
            yield entry

    def is_inside(path: Path) -> bool:
        return not speakers.keys().isdisjoint(path.parents)

    def is_left_out(path: Path) -> bool:
        if is_inside(path):
            return True
        untold = str(path.parent) in beside and not any(path.with_suffix(end).is_file() for end in TRANSCRIPT_SUFFIXES)
        return is_recording(path) and (printable(path) in named or untold)

    for path in walk(root):
        if is_recording(path) and printable(path) not in named and is_left_out(path):
            reason = "not listed: no table names it, as one does its neighbours"
            yield dropped(path.relative_to(root).with_suffix("").as_posix(), path, reason)
    yield from read_plain(root, is_left_out)
    yield from unread_files(root, "the tables", tables=False)
    yield from unread_tables(root, is_inside)


def _speakers(root: Path, folders: Sequence[Path]) -> dict[Path, str]:
    names = Counter(folder.name for folder in folders)
    return {
        folder: folder.name if names[folder.name] == 1 else folder.relative_to(root).as_posix() for folder in folders
    }


def _tables(folder: Path, prefix: str, recognise: Recognise, speaker: str) -> Iterator[Entry]:
    """The entries of a folder's tables; a table that cannot be read to its end costs what is left of it."""
    try:
        found = recognise(folder, speaker)
        for entry in found.entries if found is not None else ():
            yield replace(entry, id=f"{prefix}/{entry.id}")
    except DataError as error:
        yield dropped(prefix, folder, f"unreadable table: {str(error).splitlines()[0]}")
