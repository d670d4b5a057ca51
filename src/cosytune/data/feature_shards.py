"""The shards of a set of features: which clip lies in which, and how they are written, read and taken over.

A clip's shard follows from its content address alone, so clips that are added leave the others where they are, and the
shards of two sets of features hold the same clips: a column that did not change is taken from the older set.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cosytune.data.feature_index import IndexedClip
from cosytune.files import write_bytes

__all__ = [
    "Cells",
    "Donors",
    "OpenShards",
    "clip_address",
    "read_shard_note",
    "shard_count",
    "shard_of",
    "shard_path",
    "shard_table",
    "stored",
    "write_shard",
]

Cells = dict[str, Any]
"""The features of one clip by column, as they are stored."""

_NOTE = b"cosytune"
_ROWS_PER_GROUP = 8
"""Rows of one Parquet row group: what must be unpacked to read one clip, so few."""
_OPEN_FILES = 64
_KINDS: dict[str, tuple[tuple[str, pa.DataType], ...]] = {
    "speech_token": (("speech_token", pa.list_(pa.int32())),),
    "utt_embedding": (("utt_embedding", pa.list_(pa.float32())),),
    "mel": (("mel", pa.binary()), ("mel_shape", pa.list_(pa.int32()))),
}


def clip_address(audio_hash: str, start: float | None, end: float | None) -> str:
    """Content address of a clip: SHA-256 of the recording's SHA-256 and of the part of it, in seconds."""
    return hashlib.sha256(f"{audio_hash} {start or 0.0} {end}".encode()).hexdigest()


def shard_count(clips: int, shard_size: int) -> int:
    """How many shards hold so many clips, `shard_size` in each on average or fewer: a power of two."""
    return 1 << max(0, -(-clips // shard_size) - 1).bit_length()


def shard_of(clip: str, count: int) -> int:
    """The shard of a content address; with twice the shards it is this one or this one plus `count`."""
    return int(clip[:8], 16) % count


def shard_path(folder: Path, number: int, count: int) -> Path:
    """The file of a shard."""
    return folder / f"shard-{number:05d}-of-{count:05d}.parquet"


def shard_table(clips: Sequence[IndexedClip], cells: Mapping[str, Cells], columns: Sequence[str]) -> pa.Table:
    """Rows of one shard: `clips` in their order, each with its cells, found by content address."""
    plain: dict[str, list[str | None]] = {
        "utt": [clip.utterance.id for clip in clips],
        "wav": [clip.utterance.audio for clip in clips],
        "text": [clip.utterance.text for clip in clips],
        "spk": [clip.utterance.speaker for clip in clips],
        "audio_hash": [clip.audio_hash for clip in clips],
        "clip": [clip.clip for clip in clips],
    }
    arrays = {name: pa.array(values, pa.string()) for name, values in plain.items()}
    for column in columns:
        for name, kind in _KINDS[column]:
            arrays[name] = pa.array([cells[clip.clip][name] for clip in clips], kind)
    return pa.table(arrays)


def write_shard(path: Path, table: pa.Table, note: dict[str, Any]) -> None:
    """Write one shard in one piece; `note` says what it was made from and travels inside the file."""
    sink = pa.BufferOutputStream()
    marked = table.replace_schema_metadata({_NOTE: json.dumps(note, ensure_ascii=False).encode()})
    pq.write_table(marked, sink, compression="zstd", compression_level=1, row_group_size=_ROWS_PER_GROUP)
    write_bytes(path, sink.getvalue())


def read_shard_note(path: Path) -> dict[str, Any]:
    """The note of a shard; empty if the file is missing or damaged, so that it is made again."""
    try:
        return json.loads(pq.read_schema(path).metadata[_NOTE])
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
        return {}


class OpenShards:
    """The shards of a folder, opened when needed and a few kept open."""

    def __init__(self, folder: Path, count: int) -> None:
        self._open = lru_cache(_OPEN_FILES)(lambda number: pq.ParquetFile(shard_path(folder, number, count)))

    def row(self, number: int, row: int) -> pa.Table:
        """One row of one shard."""
        group = self._open(number).read_row_group(row // _ROWS_PER_GROUP)
        return group.slice(row % _ROWS_PER_GROUP, 1)


class Donors:
    """Cells that earlier extractions from this corpus made: of fewer clips, or with some of the same extractors.

    Args:
        own: folder of the set that is being made; what is unfinished there counts too.
        hashes: what each column must have been made with.
    """

    def __init__(self, own: Path, hashes: Mapping[str, str]) -> None:
        self._hashes = hashes
        folders = [own, *sorted(path for path in own.parent.iterdir() if path.is_dir() and path != own)]
        self._files = [found for folder in folders for found in _shards_in(folder)]

    def cells(self, number: int, count: int, wanted: Collection[str]) -> dict[str, Cells]:
        """What is there of the clips of one shard, by content address; a clip may have some columns only."""
        found: dict[str, Cells] = {clip: {} for clip in wanted}
        for path, its_number, its_count in self._files:
            if (number - its_number) % min(count, its_count):
                continue
            made_with = read_shard_note(path).get("extractors", {})
            columns = [name for name, value in self._hashes.items() if made_with.get(name) == value]
            if columns:
                _take_over(path, columns, found)
        return found


def _shards_in(folder: Path) -> Iterator[tuple[Path, int, int]]:
    for path in sorted(folder.glob("shard-*-of-*.parquet")):
        _, number, _, count = path.stem.split("-")
        yield path, int(number), int(count)


def _take_over(path: Path, columns: Sequence[str], found: dict[str, Cells]) -> None:
    names = [name for column in columns for name, _ in _KINDS[column]]
    try:
        table = pq.read_table(path, columns=["clip", *names])
    except (OSError, pa.ArrowInvalid, pa.ArrowKeyError):
        return  # damaged: made again like any other
    for row, clip in enumerate(table.column("clip").to_pylist()):
        if clip in found:
            cells = found[clip]
            cells |= {name: _cell(table.column(name)[row]) for name in names if name not in cells}


def _cell(value: pa.Scalar) -> Any:
    if isinstance(value, pa.ListScalar):
        return value.values.to_numpy(zero_copy_only=False)
    return value.as_py()


def stored(column: str, value: np.ndarray) -> Cells:
    """One feature as the cells that hold it."""
    if column == "mel":
        mel = np.ascontiguousarray(value, np.float32)
        return {"mel": mel.tobytes(), "mel_shape": np.asarray(mel.shape, np.int32)}
    kind = np.int32 if column == "speech_token" else np.float32
    return {column: np.asarray(value, kind)}
