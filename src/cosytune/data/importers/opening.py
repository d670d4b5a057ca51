"""The door of the importers: recognise the layout of a folder or a file and open it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from cosytune.data.importers.disk_index import DiskIndex
from cosytune.data.importers.fields import recognise_columns
from cosytune.data.importers.json_lines import first_object, is_json_lines, read_json_lines
from cosytune.data.importers.kaldi import read_kaldi
from cosytune.data.importers.lhotse_manifests import Kind, kind_of, read_cuts, read_pair
from cosytune.data.importers.lhotse_recipes import read_recipe, recognise_recipe
from cosytune.data.importers.lists import is_list, read_list
from cosytune.data.importers.ljspeech import read_ljspeech
from cosytune.data.importers.parquet import find_shards, is_parquet, listed_shards, names_clips, read_parquet
from cosytune.data.importers.plain import read_plain, read_recording
from cosytune.data.importers.several import Found, find_folders, read_folders
from cosytune.data.importers.source import Entry, Source, dropped, is_recording, printable, walk
from cosytune.data.importers.tables import TABLE_SUFFIXES, read_table, table_columns
from cosytune.data.importers.texts import first_line
from cosytune.data.importers.unread import unread_files, unread_tables
from cosytune.data.manifest import read_manifest
from cosytune.errors import DataError

__all__ = ["open_source"]

_ACCEPTED = (
    "accepted are a folder with .wav, .flac, .mp3, .ogg or .m4a files (a .txt or .lab of the same name beside each, "
    "one sub-folder per speaker), an LJSpeech folder (metadata.csv with id|text and wavs/), a folder with "
    "manifest.jsonl, a .csv, .tsv, .jsonl or .list table of recordings, a Kaldi directory (wav.scp), Lhotse manifests, "
    "Parquet tables (data.list), or a corpus of a Lhotse recipe that is named"
)
_OURS = frozenset({"id", "audio", "speaker", "language"})


def open_source(path: Path, *, recipe: str | None = None, media: Path | None = None) -> Source:
    """Recognise what `path` holds and open it; recordings are not decoded, and tables are read line by line.

    The layouts, and how each is recognised, are in docs/data.md. Hidden files are not looked at. What a table names
    and cannot be used, and a recording of the folder that its table does not name, is a ledger line.

    Args:
        path: a folder of recordings, a table of them, or one recording.
        recipe: name of the Lhotse recipe of the corpus in this folder; without it the folder's tree decides.
        media: folder to write recordings to that lie inside a Parquet table.

    Raises:
        DataError: nothing is there, the layout is unknown, or (while it is read) a table is damaged.
    """
    if recipe is not None and not path.is_dir():
        raise DataError(f"{path} is not a folder: a recipe reads the folder of its corpus")
    if path.is_dir():
        return _open_folder(path, recipe, media)
    if not path.is_file():
        raise DataError(f"{path} does not exist; {_ACCEPTED}")
    source = _open_file(path, media)
    if source is None:
        raise DataError(f"{path} is no table of recordings that is known; {_ACCEPTED}")
    return source


def _open_file(path: Path, media: Path | None) -> Source | None:
    speaker = path.absolute().parent.name or "speaker"
    if is_recording(path):
        return Source("plain", read_recording(path))
    if is_parquet(path):
        return Source("parquet", read_parquet(iter([path]), speaker, media))
    if path.name == "wav.scp":
        return Source("kaldi", read_kaldi(path.parent, speaker))
    if is_json_lines(path):
        return _open_json(path, speaker)
    if path.suffix.lower() in TABLE_SUFFIXES:
        return Source("table", read_table(path, speaker))
    if path.suffix.lower() in (".list", ".txt"):
        if is_list(path):
            return Source("list", read_list(path, speaker))
        if path.suffix.lower() == ".list":
            return Source("parquet", read_parquet(listed_shards(path), speaker, media))
        if "audio" in table_columns(path):
            return Source("table", read_table(path, speaker))
    return None


def _open_json(path: Path, speaker: str) -> Source:
    first = first_object(path) or {}
    if first.keys() >= _OURS:
        return Source("manifest", read_manifest(path))
    kind = kind_of(first)
    if kind == "cuts":
        return Source("lhotse", read_cuts([path], speaker))
    if kind is not None:
        # The other half of a pair lies beside it.
        return Source("lhotse", _lhotse_folder(path.parent, speaker))
    return Source("jsonl", read_json_lines(path, speaker))


def _open_folder(folder: Path, recipe: str | None, media: Path | None) -> Source:
    recipe = recipe or recognise_recipe(folder)
    if recipe is not None:
        return Source(recipe, read_recipe(folder, recipe))
    speaker = folder.resolve().name or "speaker"
    own = _tables_in(folder, speaker, media)
    if own is not None:
        return Source(own.layout, _accounted(own.entries, folder, own.names, tables=own.parquet))
    return _open_recordings(folder, speaker, media)


def _tables_in(folder: Path, speaker: str, media: Path | None) -> Found | None:
    """The tables directly in a folder that name recordings and what is said in them, if there are some."""
    manifest = folder / "manifest.jsonl"
    if manifest.is_file() and not kind_of(first := first_object(manifest) or {}):
        # Other programs call their files manifest.jsonl too; what names no recording is reported as a bad manifest.
        foreign = "audio" in recognise_columns(first) and not first.keys() >= _OURS
        if not foreign:
            return Found("manifest", read_manifest(manifest), manifest.name)
        return Found("jsonl", read_json_lines(manifest, speaker), manifest.name)
    if (folder / "wav.scp").is_file():
        return Found("kaldi", read_kaldi(folder, speaker), "wav.scp")
    if _lhotse_files(folder):
        return Found("lhotse", _lhotse_folder(folder, speaker), "the Lhotse manifests")
    if (folder / "data.list").is_file():
        listed = read_parquet(listed_shards(folder / "data.list"), speaker, media)
        return Found("parquet", listed, "data.list", parquet=True)
    return _text_tables_in(folder, speaker)


def _lhotse_folder(folder: Path, speaker: str) -> Iterator[Entry]:
    """Cuts where there are some, or else the pair that cuts are made from."""
    files = _lhotse_files(folder)
    if "cuts" in files:
        return read_cuts(files["cuts"], speaker)
    return read_pair(files.get("recordings", []), files.get("supervisions", []), speaker)


def _lhotse_files(folder: Path) -> dict[Kind, list[Path]]:
    files: dict[Kind, list[Path]] = {}
    for path in _visible(folder):
        kind = kind_of(first_object(path) or {}) if path.name.lower().endswith((".jsonl", ".jsonl.gz")) else None
        if kind is not None:
            files.setdefault(kind, []).append(path)
    return files


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _text_tables_in(folder: Path, speaker: str) -> Found | None:
    """Those without a name that tells their layout."""
    metadata = folder / "metadata.csv"
    if metadata.is_file() and "audio" not in table_columns(metadata):
        line = first_line(metadata)
        if line and "|" not in line:
            read_table(metadata, speaker)  # raises: it says which columns are missing
        return Found("ljspeech", read_ljspeech(folder, speaker), metadata.name)
    files = _visible(folder)
    tables = {path: table_columns(path) for path in files if path.suffix.lower() in TABLE_SUFFIXES}
    if (folder / "clips").is_dir() and folder / "validated.tsv" in tables:
        # Common Voice: its train, dev and test tables are parts of this one, and the others are what failed review.
        tables = {path: columns for path, columns in tables.items() if path.name == "validated.tsv"}
    chosen = [path for path, columns in tables.items() if {"audio", "text"} <= columns.keys()]
    if chosen:
        return _chained("table", chosen, read_table, speaker)
    for path, columns in tables.items():
        if "text" in columns:
            read_table(path, speaker)  # raises: transcripts that cannot be matched to recordings are not passed over
    lists = [path for path in files if path.suffix.lower() == ".list" and is_list(path)]
    if lists:
        return _chained("list", lists, read_list, speaker)
    lines = [path for path in files if is_json_lines(path) and _names_both(path)]
    return _chained("jsonl", lines, read_json_lines, speaker) if lines else None


def _names_both(path: Path) -> bool:
    return {"audio", "text"} <= recognise_columns(first_object(path) or {}).keys()


def _chained(layout: str, paths: list[Path], read: Callable[[Path, str], Iterator[Entry]], speaker: str) -> Found:
    entries = chain.from_iterable([read(path, speaker) for path in paths])
    return Found(layout, entries, " or ".join(path.name for path in paths))


def _accounted(entries: Iterable[Entry], below: Path, names: str, *, tables: bool = False) -> Iterator[Entry]:
    """The entries of tables, then every recording below a folder that none of them names, and what is not read.

    Args:
        entries: what the tables hold.
        below: the folder.
        names: the tables, in words.
        tables: whether Parquet tables are what was read.
    """
    named = DiskIndex()
    for entry in entries:
        named.add(os.path.normpath(entry.audio))
        yield entry
    below = Path(os.path.normpath(below.absolute()))
    for path in walk(below):
        if is_recording(path) and printable(path) not in named:
            yield dropped(path.relative_to(below).with_suffix("").as_posix(), path, f"not listed in {names}")
    yield from unread_files(below, names, tables=tables)


def _open_recordings(folder: Path, speaker: str, media: Path | None) -> Source:
    """A folder without such tables: Parquet tables of clips, folders with tables, or the recordings themselves."""
    found = any(map(is_recording, walk(folder)))
    shards = any(names_clips(path) if found else True for path in find_shards(folder))
    if shards:
        entries = read_parquet(find_shards(folder), speaker, media)
        return Source("parquet", _accounted(entries, folder, "the Parquet tables", tables=True))
    root = Path(os.path.normpath(folder.absolute()))
    recognise = partial(_tables_in, media=media)
    folders = find_folders(root, recognise)
    if folders:
        return Source("folders", read_folders(root, folders, recognise))
    if found:
        unread = chain(unread_files(folder, "the recordings", tables=False), unread_tables(folder))
        return Source("plain", chain(read_plain(folder), unread))
    for path in _visible(folder):
        if path.suffix.lower() in TABLE_SUFFIXES:
            return Source("table", read_table(path, speaker))
    raise DataError(f"no recordings found in {folder}; {_ACCEPTED}")
