"""A plain folder: recordings in any mix of formats, transcripts beside them, one sub-folder per speaker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cosytune.data.importers.source import AUDIO_SUFFIXES, TRANSCRIPT_SUFFIXES, Entry, dropped, walk
from cosytune.data.manifest import Utterance

__all__ = ["read_plain"]


def read_plain(folder: Path) -> Iterator[Entry]:
    """The recordings below `folder`, then the transcripts that have none."""
    transcripts: dict[Path, Path] = {}
    recordings: list[Path] = []
    for path in walk(folder):
        if path.suffix.lower() in TRANSCRIPT_SUFFIXES:
            known = transcripts.get(path.with_suffix(""))
            # .txt goes before .lab, whichever comes first in the folder.
            if known is None or path.suffix.lower() == ".txt":
                transcripts[path.with_suffix("")] = path
        elif path.suffix.lower() in AUDIO_SUFFIXES:
            recordings.append(path)
    for path in recordings:
        inside = path.relative_to(folder).with_suffix("")
        speaker = inside.parts[0] if len(inside.parts) > 1 else folder.resolve().name
        base = Utterance(inside.as_posix(), str(path.absolute()), None, speaker, "")
        beside = transcripts.get(path.with_suffix(""))
        yield base if beside is None else _with_transcript(base, beside)
    spoken = {path.with_suffix("") for path in recordings}
    for stem, path in sorted(transcripts.items()):
        if stem not in spoken:
            yield dropped(stem.relative_to(folder).as_posix(), path, "transcript without recording: " + path.name)


def _with_transcript(utterance: Utterance, path: Path) -> Entry:
    try:
        text = " ".join(path.read_text(encoding="utf-8-sig").split())
    except (OSError, UnicodeDecodeError) as error:
        reason = f"transcript unreadable: {path.name} is not UTF-8 text ({error})"
        return dropped(utterance.id, utterance.audio, reason)
    return replace(utterance, text=text)
