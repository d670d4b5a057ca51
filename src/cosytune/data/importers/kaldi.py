"""Kaldi data directories: wav.scp, text, utt2spk, segments and utt2lang, whichever are there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cosytune.data.importers.disk_index import DiskIndex
from cosytune.data.importers.fields import Row, language_code, one_line
from cosytune.data.importers.places import Places
from cosytune.data.importers.source import Entry, dropped
from cosytune.data.importers.texts import open_text
from cosytune.data.manifest import Utterance

__all__ = ["KALDI_FILES", "read_kaldi"]

KALDI_FILES = ("wav.scp", "segments", "text", "utt2spk", "utt2lang")

_SEGMENT = {name: name for name in ("id", "audio", "start", "end")}


def read_kaldi(folder: Path, speaker: str) -> Iterator[Entry]:
    """The segments, or the recordings where there are none, then what is left over; nothing in wav.scp is executed.

    Args:
        folder: with wav.scp; relative paths are taken from here or from one or two levels up, where Kaldi's own
            scripts are run.
        speaker: label where there is no utt2spk.

    Raises:
        DataError: while it is read, a file turns out to be unreadable or in another encoding.
    """
    places = Places(folder, above=2)
    texts, speakers, languages = (_index(folder / name) for name in ("text", "utt2spk", "utt2lang"))
    for entry in _spoken(folder, places):
        if isinstance(entry, Utterance):
            yield _described(entry, texts, speakers, languages, speaker)
        else:
            # It is accounted for: its text is not left over.
            if texts is not None:
                texts.take(entry.id)
            yield entry
    for identity, _ in texts.unused() if texts is not None else ():
        yield dropped(identity, folder / "text", "transcript without recording: a line of text")


def _spoken(folder: Path, places: Places) -> Iterator[Entry]:
    """What is a clip, not yet with its text."""
    if not (folder / "segments").is_file():
        for identity, path, where in _lines(folder / "wav.scp"):
            yield Row({"id": identity, "audio": path}, _SEGMENT, where).entry(places, "")
        return
    recordings = DiskIndex((identity, listed) for identity, listed, _ in _lines(folder / "wav.scp"))
    for identity, rest, where in _lines(folder / "segments"):
        recording, *times = rest.split()
        listed = recordings.take(recording) if len(times) == 2 else None
        if len(times) != 2:
            yield dropped(identity, folder / "segments", f"not id recording start end: {where}")
        elif listed is None:
            yield dropped(identity, folder / "segments", f"listed recording missing: {recording} is not in wav.scp")
        else:
            # Kaldi writes -1 for the end of the recording.
            end = None if times[1].startswith("-1") else times[1]
            row = {"id": identity, "audio": listed, "start": times[0], "end": end}
            yield Row(row, _SEGMENT, where).entry(places, "")
    for recording, listed in recordings.unused():
        yield dropped(recording, listed, "without segments: no line of segments names this recording")


def _described(
    utterance: Utterance,
    texts: DiskIndex | None,
    speakers: DiskIndex | None,
    languages: DiskIndex | None,
    speaker: str,
) -> Entry:
    """The utterance with what the other files say about it."""
    text = texts.take(utterance.id) if texts is not None else None
    language = (languages.take(utterance.id) if languages is not None else None) or ""
    named = speakers.take(utterance.id) if speakers is not None else speaker
    if not named:
        return dropped(utterance.id, utterance.audio, "without speaker: no line of utt2spk names this utterance")
    return replace(utterance, text=text, speaker=named, language=language_code(language))


def _index(path: Path) -> DiskIndex | None:
    if not path.is_file():
        return None
    return DiskIndex((identity, one_line(rest)) for identity, rest, _ in _lines(path))


def _lines(path: Path) -> Iterator[tuple[str, str, str]]:
    """The first word of each line, the rest, and the line's place in words."""
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            identity, *rest = line.strip().split(maxsplit=1)
            yield identity, rest[0] if rest else "", f"line {number} of {path.name}"
