"""The LJSpeech layout: metadata.csv with id|text (|normalised text) and the recordings in wavs/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cosytune.data.importers.source import AUDIO_SUFFIXES, Entry, dropped, walk
from cosytune.data.manifest import Utterance
from cosytune.errors import DataError

__all__ = ["read_ljspeech"]


def read_ljspeech(folder: Path) -> Iterator[Entry]:
    """The rows of metadata.csv, then the recordings that no row names."""
    table = folder / "metadata.csv"
    try:
        rows = table.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table} cannot be read ({error}); save it as UTF-8 text with lines id|text") from error
    recordings: dict[str, Path] = {}
    for path in walk(folder / "wavs"):
        if path.suffix.lower() in AUDIO_SUFFIXES:
            recordings.setdefault(path.relative_to(folder / "wavs").with_suffix("").as_posix(), path)
    listed = set()
    for number, row in enumerate(rows, start=1):
        if not row.strip():
            continue
        name, *texts = [column.strip() for column in row.split("|")]
        stem = Path(name).with_suffix("").as_posix() if Path(name).suffix.lower() in AUDIO_SUFFIXES else name
        identity = stem.removeprefix("wavs/")
        listed.add(identity)
        if not texts:
            reason = f"not id|text: line {number} of metadata.csv has one column"
            yield dropped(identity, table, reason)
        elif identity not in recordings:
            reason = f"listed recording missing: there is no wavs/{identity} with {' '.join(AUDIO_SUFFIXES)}"
            yield dropped(identity, folder / "wavs" / identity, reason)
        else:
            # The normalised column, where there is one, holds the words as they were read.
            text = texts[1] if len(texts) > 1 and texts[1] else texts[0]
            yield Utterance(identity, str(recordings[identity].absolute()), text, folder.resolve().name, "")
    for identity, path in recordings.items():
        if identity not in listed:
            yield dropped(identity, path, "not listed in metadata.csv")
