"""Examining all entries of a source, some of them known from an earlier preparation, whoever does the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from cosytune.data.examining import Examined, Examiner
from cosytune.data.importers.source import Entry, dropped
from cosytune.data.manifest import Utterance
from cosytune.data.working_index import WorkingIndex

__all__ = ["examine_all"]


def examine_all(
    entries: Iterator[tuple[Entry, str]],
    examiner: Examiner,
    index: WorkingIndex,
    parallel: Callable[..., Iterator[tuple[str | None, str, Examined]]],
) -> Iterator[Examined]:
    """What becomes of each entry, in order; what is known from before is not examined again."""

    def items() -> Iterator[_Item]:
        for entry, change in entries:
            key = examiner.key(entry) if isinstance(entry, Utterance) else None
            yield _Item(entry, change, key, None if key is None else index.known(key))

    for key, change, found in parallel(partial(_examine, examiner), items(), lost=_lost):
        index.remember(key, found)
        yield found if not change else _with_change(found, change)


@dataclass(frozen=True)
class _Item:
    entry: Entry
    change: str
    key: str | None
    known: Examined | None


def _examine(examiner: Examiner, item: _Item) -> tuple[str | None, str, Examined]:
    if item.known is not None:
        return None, item.change, item.known
    return item.key, item.change, examiner(item.entry)


def _lost(item: _Item) -> tuple[str | None, str, Examined]:
    """A recording that kills its worker twice costs only itself."""
    reason = "unreadable: the process that decoded it was killed, twice (want of memory, or a fault of its decoder)"
    return None, "", Examined((dropped(item.entry.id, item.entry.audio, reason),))


def _with_change(found: Examined, change: str) -> Examined:
    """The doctor's change goes before those of examining."""
    clips = [entry.id for entry in found.entries if isinstance(entry, Utterance)]
    changes = {name: f"{change}; {found.changes[name]}" if name in found.changes else change for name in clips}
    return replace(found, changes=changes)
