"""Lhotse manifests: cuts, or recordings with supervisions. Lhotse reads its records; we never let it open a source.

A Lhotse source may be a shell command or a web address, so only sources that are files become utterances.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cosytune.data.importers.disk_index import DiskIndex
from cosytune.data.importers.fields import language_code, one_line
from cosytune.data.importers.places import Places, why_no_file
from cosytune.data.importers.source import Entry, dropped
from cosytune.data.importers.texts import open_text
from cosytune.data.manifest import Utterance
from cosytune.data.results import LedgerLine
from cosytune.errors import DataError
from cosytune.files import parse_json

if TYPE_CHECKING:
    from lhotse import Recording, SupervisionSegment

__all__ = ["Kind", "kind_of", "read_cuts", "read_pair", "utterance_of"]

Kind = Literal["cuts", "recordings", "supervisions"]

_CUTS = frozenset({"MonoCut", "MultiCut", "MixedCut", "PaddingCut", "Cut"})
_ROUNDED = 1e-3
"""Seconds by which a cut may miss the end of its recording and still reach it: Lhotse's own tolerance."""


def kind_of(first: dict[str, Any]) -> Kind | None:
    """Which Lhotse manifest begins with this object, if any does."""
    if first.get("type") in _CUTS:
        return "cuts"
    if {"id", "sources", "sampling_rate"} <= first.keys():
        return "recordings"
    return "supervisions" if {"id", "recording_id", "start", "duration"} <= first.keys() else None


def read_cuts(paths: Iterable[Path], speaker: str) -> Iterator[Entry]:
    """Each cut with one supervision or none is an utterance; of a cut with several each supervision is.

    Args:
        paths: manifests of cuts (.jsonl or .jsonl.gz).
        speaker: label where a supervision has none.

    Raises:
        DataError: while it is read, a file turns out to be unreadable.
    """
    for path in paths:
        places = Places(path.parent, above=2)
        for cut in _items(path):
            if isinstance(cut, LedgerLine):
                yield cut
            else:
                yield from _of_cut(cut, path, places, speaker)


def read_pair(recordings: Iterable[Path], supervisions: Iterable[Path], speaker: str) -> Iterator[Entry]:
    """Each supervision is an utterance; a recording that has none is one without transcript.

    Args:
        recordings: manifests of recordings.
        supervisions: manifests of supervisions, in any order.
        speaker: label where a supervision has none.

    Raises:
        DataError: there are no recordings, or (while it is read) a file turns out to be unreadable.
    """
    recordings = list(recordings)
    if not recordings:
        raise DataError(
            f"{', '.join(map(str, supervisions))}: supervisions name recordings by id only; put the manifest of "
            "recordings beside them"
        )
    return _pairs(recordings, supervisions, speaker)


def _pairs(recordings: list[Path], supervisions: Iterable[Path], speaker: str) -> Iterator[Entry]:
    index = DiskIndex()
    for path in recordings:
        for item in _items(path):
            if isinstance(item, LedgerLine):
                yield item
            elif not index.add(item.id, json.dumps([str(path.parent), item.to_dict()])):
                yield dropped(item.id, path, f"duplicate id: two recordings of {path.name} have it")
    for path in supervisions:
        for item in _items(path):
            if isinstance(item, LedgerLine):
                yield item
                continue
            stored = index.take(item.recording_id)
            if stored is None:
                reason = f"listed recording missing: {item.recording_id} is in no manifest of recordings"
                yield dropped(item.id, path, reason)
            else:
                recording, places = _stored(stored)
                yield utterance_of(item.id, recording, places, item.start, item.end, item, speaker)
    for _, stored in index.unused():
        recording, places = _stored(stored)
        yield utterance_of(recording.id, recording, places, 0.0, recording.duration, None, speaker)


def _stored(text: str) -> tuple[Recording, Places]:
    from lhotse import Recording

    folder, values = json.loads(text)
    return Recording.from_dict(values), Places(Path(folder), above=2)


def _items(path: Path) -> Iterator[Any]:
    """Lhotse's records of a file, and a ledger line for each line that is none."""
    from lhotse.serialization import deserialize_item

    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"line {number} of {path.name}"
            try:
                item = deserialize_item(_finite(parse_json(line)))
            except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
                item = dropped(where, path, f"not a Lhotse record: {where} ({type(error).__name__}: {error})")
            yield item


def _finite(values: Any) -> Any:
    """The same values; Lhotse computes with their times wherever they are asked for.

    Raises:
        ValueError: a number in it is none.
    """
    if isinstance(values, dict):
        for value in values.values():
            _finite(value)
    elif isinstance(values, list):
        for value in values:
            _finite(value)
    elif isinstance(values, float) and not math.isfinite(values):
        raise ValueError(f"{values} is no number")
    return values


def _of_cut(cut: Any, path: Path, places: Places, speaker: str) -> Iterator[Entry]:
    from lhotse import MonoCut, MultiCut

    if not isinstance(cut, (MonoCut, MultiCut)) or cut.recording is None:
        kind = type(cut).__name__ + ("" if getattr(cut, "recording", None) else " without recording")
        yield dropped(cut.id, path, f"not one recording: it is a {kind}; save its sound (CutSet.save_audios) first")
    elif len(cut.supervisions) > 1:
        for part in cut.supervisions:
            begin, end = cut.start + part.start, cut.start + part.end
            yield utterance_of(part.id, cut.recording, places, begin, end, part, speaker)
    else:
        only = cut.supervisions[0] if cut.supervisions else None
        yield utterance_of(cut.id, cut.recording, places, cut.start, cut.end, only, speaker, cut.channel)


def utterance_of(
    identity: str,
    recording: Recording,
    places: Places,
    start: float,
    end: float,
    supervision: SupervisionSegment | None,
    speaker: str,
    channel: int | list[int] | None = None,
) -> Entry:
    """One part of a recording with what its supervision says.

    Args:
        identity: of the utterance.
        recording: Lhotse's record of it; nothing in it is opened.
        places: finds its file.
        start: seconds from the beginning of the recording.
        end: seconds from the beginning of the recording.
        supervision: text, speaker and language, or None.
        speaker: label where the supervision has none.
        channel: what the part uses of the recording; None asks the supervision.
    """
    identity = str(identity)
    listed = str(recording.sources[0].source) if recording.sources else ""
    used = channel if channel is not None else supervision.channel if supervision is not None else None
    refused = _why_not(recording, used)
    if refused is not None:
        return dropped(identity, listed[:200], refused)
    for name in ("text", "speaker", "language"):
        value = getattr(supervision, name, None)
        if value is not None and not isinstance(value, str):
            return dropped(identity, listed, f"not a Lhotse record: its {name} is a {type(value).__name__}")
    text = supervision.text if supervision is not None else None
    return Utterance(
        identity,
        str(places.find(listed)),
        None if text is None else one_line(text),
        (supervision.speaker if supervision is not None else None) or speaker,
        language_code((supervision.language if supervision is not None else None) or ""),
        None,
        None if start <= 0 else round(start, 6),
        None if end >= recording.duration - _ROUNDED else round(end, 6),
    )


def _why_not(recording: Recording, channel: int | list[int] | None) -> str | None:
    """Why a recording cannot be read as one file with all its channels averaged, if it cannot."""
    if len(recording.sources) != 1:
        return f"not one file: the recording has {len(recording.sources)} sources; save its sound as one file first"
    source = recording.sources[0]
    if source.type != "file":
        refused = why_no_file(str(source.source)) if source.type == "url" else None
        return refused or (
            f"not a file but a {source.type!r} source, which is never run or read: save its sound as a file first"
        )
    if recording.transforms:
        names = ", ".join(
            str(getattr(change, "name", None) or type(change).__name__) for change in recording.transforms
        )
        return f"changed while it is read ({names}): save the changed sound first (Recording.save_audio)"
    channels = set(channel if isinstance(channel, list) else [] if channel is None else [channel])
    if channels and channels != set(recording.channel_ids):
        return (
            f"one of several channels: it uses {sorted(channels)} of {recording.channel_ids}; "
            "write the channels as files of their own"
        )
    return None
