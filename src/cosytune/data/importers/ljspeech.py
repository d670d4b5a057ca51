"""The LJSpeech layout: metadata.csv with id|text (|normalised text) and the recordings in wavs/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cosytune.data.importers.fields import one_line
from cosytune.data.importers.places import Places
from cosytune.data.importers.source import AUDIO_SUFFIXES, Entry, dropped, is_recording
from cosytune.data.importers.texts import open_text
from cosytune.data.manifest import Utterance

__all__ = ["read_ljspeech"]


def read_ljspeech(folder: Path, speaker: str) -> Iterator[Entry]:
    """The rows of metadata.csv, all of one speaker.

    Raises:
        DataError: while it is read, metadata.csv turns out to be unreadable or in another encoding.
    """
    table = folder / "metadata.csv"
    places = Places(folder / "wavs")
    with open_text(table) as rows:
        for number, row in enumerate(rows, start=1):
            if row.strip():
                yield _entry(row, f"line {number} of metadata.csv", table, places, speaker)


def _entry(row: str, where: str, table: Path, places: Places, speaker: str) -> Entry:
    name, *texts = [one_line(column) for column in row.split("|")]
    stem = Path(name).with_suffix("").as_posix() if is_recording(Path(name)) else name
    identity = stem.removeprefix("wavs/")
    if not texts:
        return dropped(identity, table, f"not id|text: {where} has one column")
    path = places.find(name.removeprefix("wavs/"))
    if not path.is_file():
        reason = f"listed recording missing: there is no wavs/{identity} with {' '.join(AUDIO_SUFFIXES)}"
        return dropped(identity, path, reason)
    # The normalised column, where there is one, holds the words as they were read.
    text = texts[1] if len(texts) > 1 and texts[1] else texts[0]
    return Utterance(identity, str(path), text, speaker, "")
