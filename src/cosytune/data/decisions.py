"""What the data doctor decided, carried out on the entries of a source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cosytune.data.doctor_results import read_clips
from cosytune.data.importers.disk_index import DiskIndex
from cosytune.data.importers.source import Entry, dropped
from cosytune.data.results import LedgerLine

__all__ = ["decided", "read_decisions"]


def read_decisions(path: Path) -> DiskIndex:
    """What the doctor decided on the clips that he could hear, by id, as JSON on disk.

    What was refused before has no id of its own, and is refused again.

    Raises:
        DataError: the file is not a check of recordings.
    """
    clips = (clip for clip in read_clips(path) if clip.measures is not None)
    return DiskIndex((clip.id, json.dumps([clip.decision, clip.reason, clip.start, clip.end])) for clip in clips)


def decided(entries: Iterator[tuple[Entry, str]], decisions: DiskIndex) -> Iterator[tuple[Entry, str]]:
    """Entries after the doctor's decisions, each with what was changed before and by him."""
    for entry, change in entries:
        decision, reason, start, end = json.loads(decisions.take(entry.id) or '["kept", "", null, null]')
        if decision == "kept" or isinstance(entry, LedgerLine):
            yield entry, change
        elif decision == "dropped":
            yield dropped(entry.id, entry.audio, reason), ""
        elif start is None and end is None:
            # What prepare does anyway, such as cutting.
            yield entry, change
        else:
            start = entry.start if start is None else start
            end = entry.end if end is None else end
            yield replace(entry, start=start, end=end), f"{change}; {reason}" if change else reason
