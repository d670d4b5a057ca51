"""Ids of which no two recordings share one: a second one that comes with an id is given one of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cosytune.data.importers.disk_index import DiskIndex
from cosytune.data.importers.source import Entry, dropped
from cosytune.data.manifest import Utterance

__all__ = ["with_distinct_ids"]

MANY = 8
"""Clips of one id from which on the next free number is remembered instead of looked for."""


def with_distinct_ids(entries: Iterator[Entry]) -> Iterator[tuple[Entry, str]]:
    """Entries, each with what was changed about it: "", or "renamed: " and why.

    The second clip of the id `a` becomes `a~2`. It is dropped instead where it is the same part of the same recording.
    Where it differs from the first in its suffix only, that is one recording in two formats: it keeps its id, so that
    who decodes them takes the first that can be read.

    Args:
        entries: as a source yields them; memory does not grow with them.
    """
    taken = DiskIndex()
    free: dict[str, int] = {}
    for entry in entries:
        if not isinstance(entry, Utterance) or taken.add(entry.id, _part(entry)):
            yield entry, ""
            continue
        first = taken.take(entry.id) or ""
        owner = json.loads(first)[0]
        if first == _part(entry):
            yield dropped(entry.id, entry.audio, f"duplicate id: {owner} has it already"), ""
        elif owner != entry.audio and _without_suffix(owner) == _without_suffix(entry.audio):
            yield entry, ""
        else:
            number = free.get(entry.id, 2)
            while not taken.add(f"{entry.id}~{number}", _part(entry)):
                number += 1
            if number > MANY:
                free[entry.id] = number + 1
            yield replace(entry, id=f"{entry.id}~{number}"), f"renamed: {owner} has the id {entry.id} already"


def _part(clip: Utterance) -> str:
    return json.dumps([clip.audio, clip.start, clip.end])


def _without_suffix(audio: str) -> str:
    # Not Path.with_suffix, which raises for what names no file.
    return audio.removesuffix(Path(audio).suffix)
