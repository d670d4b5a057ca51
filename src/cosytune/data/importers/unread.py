"""Files of a folder that may hold recordings and that nobody reads: each is said, none is passed over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from cosytune.data.importers.fields import recognise_columns
from cosytune.data.importers.json_lines import first_object, is_json_lines
from cosytune.data.importers.lhotse_manifests import kind_of
from cosytune.data.importers.lists import is_list
from cosytune.data.importers.parquet import is_parquet
from cosytune.data.importers.source import Entry, dropped, walk
from cosytune.data.importers.tables import TABLE_SUFFIXES, table_columns
from cosytune.errors import DataError

__all__ = ["unread_files", "unread_tables"]

_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
_SOUND = (
    *(".caf", ".aifc", ".voc", ".wv", ".ape", ".tta", ".mp2", ".mpc", ".spx", ".ra", ".rm", ".dsf", ".m4r"),
    *(".mka", ".mkv", ".avi", ".wmv", ".mpg", ".mpeg", ".flv", ".m4v"),
)
"""Recordings and films in formats that `audio.files` is not given."""


def unread_files(folder: Path, read: str, *, tables: bool) -> Iterator[Entry]:
    """A dropped line for each archive, foreign recording and, unless they were read, Parquet table below a folder.

    Args:
        folder: that was read.
        read: what was read of it, in words.
        tables: whether its Parquet tables were.
    """
    for path in walk(folder):
        reason = _reason(path, read, tables)
        if reason:
            yield dropped(path.relative_to(folder).as_posix(), path, f"not read: {reason}")


def unread_tables(folder: Path, left_out: Callable[[Path], bool] | None = None) -> Iterator[Entry]:
    """A dropped line for each table of recordings below a folder whose recordings were read one by one.

    Args:
        folder: whose recordings were.
        left_out: tells the tables that were read.
    """
    for path in walk(folder):
        if left_out is not None and left_out(path):
            continue
        try:
            if not _is_table(path):
                continue
            reason = (
                "a table of recordings without texts, or beside other files that were read: the recordings were read "
                "one by one; to read it, give it (or its folder) instead of this folder"
            )
        except DataError as error:
            reason = f"a table that cannot be read: {str(error).splitlines()[0]}"
        yield dropped(path.relative_to(folder).as_posix(), path, f"not read: {reason}")


def _is_table(path: Path) -> bool:
    suffix = path.suffix.lower()
    if path.name in ("wav.scp", "data.list", "metadata.csv"):
        return True
    if suffix in TABLE_SUFFIXES:
        return "audio" in table_columns(path)
    if suffix == ".list":
        return is_list(path)
    first = (first_object(path) or {}) if is_json_lines(path) else {}
    return kind_of(first) is not None or "audio" in recognise_columns(first)


def _reason(path: Path, read: str, tables: bool) -> str:
    name = path.name.lower()
    if is_parquet(path):
        if tables:
            return ""
        return f"a Parquet table beside {read}; to read it instead, give it a folder of its own, or name it itself"
    if name.endswith(_ARCHIVES):
        return "an archive; unpack it here if there are recordings in it"
    if name.endswith(_SOUND):
        return f"{path.suffix} files are not decoded; convert it to wav or flac"
    return ""
