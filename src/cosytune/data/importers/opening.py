"""The door of the importers: recognise the layout of a folder and open it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cosytune.data.importers.ljspeech import read_ljspeech
from cosytune.data.importers.plain import read_plain
from cosytune.data.importers.source import AUDIO_SUFFIXES, TRANSCRIPT_SUFFIXES, Entry, Source, walk
from cosytune.data.manifest import read_manifest
from cosytune.errors import DataError

__all__ = ["open_source", "source_files"]

_ACCEPTED = (
    f"accepted are a folder with {', '.join(AUDIO_SUFFIXES)} files (a .txt or .lab of the same name beside each, one "
    "sub-folder per speaker), an LJSpeech folder (metadata.csv with id|text and wavs/), or a folder with manifest.jsonl"
)


def open_source(path: Path) -> Source:
    """Recognise what `path` holds and open it; recordings are not decoded, and tables are read line by line.

    In a plain folder the first sub-folder is the speaker, at any depth below it; clips directly in the folder belong
    to a speaker named after the folder. Recordings without transcript have text None. Hidden files are not looked at.

    Args:
        path: where the recordings are.

    Raises:
        DataError: the folder is missing or of no known layout, or (while it is read) its manifest.jsonl is damaged.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; {_ACCEPTED}")
    layout, entries = _recognise(path)
    return Source(layout, entries)


def _recognise(folder: Path) -> tuple[str, Iterator[Entry]]:
    if (folder / "manifest.jsonl").is_file():
        return "manifest", read_manifest(folder / "manifest.jsonl")
    if (folder / "metadata.csv").is_file():
        return "ljspeech", read_ljspeech(folder)
    if any(path.suffix.lower() in AUDIO_SUFFIXES for path in walk(folder)):
        return "plain", read_plain(folder)
    raise DataError(f"no recordings found in {folder}; {_ACCEPTED}")


def source_files(folder: Path) -> list[Path]:
    """All files that an import of `folder` reads, sorted: recordings, transcripts, metadata.csv, manifest.jsonl."""
    found = [path for path in walk(folder) if path.suffix.lower() in AUDIO_SUFFIXES + TRANSCRIPT_SUFFIXES]
    manifest = folder / "manifest.jsonl"
    if manifest.is_file():
        found += [path for path in {Path(item.audio) for item in read_manifest(manifest)} if path.is_file()]
    found += [path for path in (manifest, folder / "metadata.csv") if path.is_file()]
    return sorted(set(found))
