"""A plain folder: recordings in any mix of formats, transcripts beside them, one sub-folder per speaker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from cosytune.data.importers.source import TRANSCRIPT_SUFFIXES, Entry, dropped, is_recording, printable, walk
from cosytune.data.importers.texts import read_transcript
from cosytune.data.manifest import Utterance
from cosytune.errors import DataError

__all__ = ["read_plain", "read_recording"]


def read_plain(folder: Path, left_out: Callable[[Path], bool] | None = None) -> Iterator[Entry]:
    """Folder by folder: the recordings, then the transcripts that have none; last the folders that cannot be listed.

    Args:
        folder: with recordings.
        left_out: tells the files that somebody else reads.
    """
    closed: list[OSError] = []
    for _, files in groupby(walk(folder, closed.append), key=lambda path: path.parent):
        yield from _one_folder(folder, list(files), left_out)
    for error in closed:
        yield dropped(str(error.filename), str(error.filename), f"unreadable folder: {error.strerror}")


def read_recording(path: Path) -> Iterator[Entry]:
    """One recording, with the transcript beside it if there is one."""
    names = [path.with_suffix(suffix) for suffix in TRANSCRIPT_SUFFIXES]
    yield from _one_folder(path.parent, [path, *(name for name in names if name.is_file())])


def _one_folder(root: Path, files: list[Path], left_out: Callable[[Path], bool] | None = None) -> Iterator[Entry]:
    transcripts: dict[str, Path] = {}
    # .txt goes before .lab, whichever comes first in the folder.
    for path in sorted(files, key=lambda path: path.suffix.lower() == ".txt"):
        if path.suffix.lower() in TRANSCRIPT_SUFFIXES:
            transcripts[path.stem] = path
    spoken = set()
    for path in files:
        if is_recording(path):
            spoken.add(path.stem)
            if left_out is None or not left_out(path):
                yield _entry(root, path, transcripts.get(path.stem))
    for stem, path in sorted(transcripts.items()):
        if stem not in spoken and (left_out is None or not left_out(path)):
            identity = path.relative_to(root).with_suffix("").as_posix()
            yield dropped(identity, path, f"transcript without recording: {path.name}")


def _entry(root: Path, path: Path, transcript: Path | None) -> Entry:
    inside = path.relative_to(root).with_suffix("")
    if printable(path) != str(path):
        return dropped(inside.as_posix(), path, "file name is not UTF-8: rename the file or its folder")
    # The words of a folder's name: "" for the root of a disk.
    speaker = inside.parts[0] if len(inside.parts) > 1 else root.resolve().name or "speaker"
    utterance = Utterance(inside.as_posix(), str(path.absolute()), None, speaker, "")
    if transcript is None:
        return utterance
    try:
        return replace(utterance, text=read_transcript(transcript))
    except DataError as error:
        return dropped(utterance.id, utterance.audio, f"transcript unreadable: {error}")
