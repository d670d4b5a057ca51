"""Where the features of each clip lie, in an SQLite file beside the shards: nothing of it has to be kept in memory."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cosytune.data.manifest import Utterance, manifest_line
from cosytune.data.splits import Side
from cosytune.errors import DataError

__all__ = ["INDEX", "FeatureIndex", "IndexWriter", "IndexedClip"]

INDEX = "index.sqlite"

_TABLES = """
CREATE TABLE clips (ordinal INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, shard INTEGER NOT NULL, row INTEGER,
                    reason TEXT);
CREATE TABLE shards (number INTEGER PRIMARY KEY, bytes INTEGER NOT NULL);
CREATE TABLE speakers (name TEXT PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE work (ordinal INTEGER PRIMARY KEY, line BLOB NOT NULL, audio_hash TEXT NOT NULL, clip TEXT NOT NULL,
                   side TEXT NOT NULL);
"""


@dataclass(frozen=True)
class IndexedClip:
    """One utterance as the extraction sees it.

    Attributes:
        ordinal: its place in the manifest, from 0.
        utterance: the line of the manifest.
        audio_hash: SHA-256 of the recording.
        clip: content address: hash of the recording's hash and of the part of it.
        side: of the split.
    """

    ordinal: int
    utterance: Utterance
    audio_hash: str
    clip: str
    side: Side


class IndexWriter:
    """The index in the making, beside its final name; it holds the whole manifest while the shards are made."""

    def __init__(self, folder: Path, clips: Iterable[tuple[IndexedClip, int]]) -> None:
        """Take down all clips with the number of the shard that each belongs to."""
        self._path = folder / INDEX
        self._partial = folder / f".{INDEX}.partial"
        self._partial.unlink(missing_ok=True)
        self._base = sqlite3.connect(self._partial)
        # What is lost with the process is made anew: no journal, no waiting for the disk before `finish`.
        self._base.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _TABLES)
        for clip, shard in clips:
            line = manifest_line(clip.utterance)
            self._base.execute(
                "INSERT INTO clips (ordinal, id, shard) VALUES (?, ?, ?)", (clip.ordinal, clip.utterance.id, shard)
            )
            row = (clip.ordinal, line, clip.audio_hash, clip.clip, clip.side)
            self._base.execute("INSERT INTO work VALUES (?, ?, ?, ?, ?)", row)
        self._base.execute("CREATE INDEX clips_of_shard ON clips (shard, ordinal)")

    def clips(self, shard: int) -> list[IndexedClip]:
        """The clips of one shard in manifest order."""
        return [
            _indexed(row[:5]) for row in self._base.execute(f"{_JOINED} WHERE shard = ? ORDER BY ordinal", (shard,))
        ]

    def settle(self, clips: Iterable[IndexedClip], reasons: Mapping[str, str]) -> None:
        """Note where the clips of a shard came to lie; `reasons` tells, by id, why one did not."""
        row = 0
        for clip in clips:
            reason = reasons.get(clip.utterance.id)
            place = None if reason is not None else row
            row += reason is None
            self._base.execute("UPDATE clips SET row = ?, reason = ? WHERE ordinal = ?", (place, reason, clip.ordinal))

    def outcomes(self) -> Iterator[tuple[Utterance, str | None]]:
        """All utterances in manifest order, with the reason of those that were dropped."""
        for *row, reason in self._base.execute(f"{_JOINED} ORDER BY ordinal"):
            yield _indexed(row).utterance, reason

    def finish(self, shard_bytes: Iterable[int], speakers: Mapping[str, np.ndarray]) -> None:
        """Drop what only the making needed, and give the file its name."""
        self._base.executemany("INSERT INTO shards VALUES (?, ?)", enumerate(shard_bytes))
        rows = ((name, np.asarray(vector, "<f4").tobytes()) for name, vector in speakers.items())
        self._base.executemany("INSERT INTO speakers VALUES (?, ?)", rows)
        self._base.execute("DROP TABLE work")
        self._base.execute("DROP INDEX clips_of_shard")
        self._base.commit()
        self._base.execute("VACUUM")
        self._base.close()
        with self._partial.open("rb") as written:
            os.fsync(written.fileno())
        self._partial.replace(self._path)

    def discard(self) -> None:
        """Remove what was not finished."""
        self._base.close()
        self._partial.unlink(missing_ok=True)


_JOINED = "SELECT clips.ordinal, line, audio_hash, clip, side, reason FROM clips JOIN work USING (ordinal)"


def _indexed(row: Iterable[Any]) -> IndexedClip:
    ordinal, line, audio_hash, clip, side = row
    return IndexedClip(ordinal, Utterance(**{"text": None, **json.loads(line)}), audio_hash, clip, side)


class FeatureIndex:
    """A finished index, read clip by clip; threads may share it.

    Raises:
        DataError: the file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / INDEX
        self._lock = threading.Lock()
        try:
            # The file is replaced, never changed, so SQLite need not look for other writers.
            uri = f"{self._path.absolute().as_uri()}?mode=ro&immutable=1"
            self._base = sqlite3.connect(uri, uri=True, check_same_thread=False)
            self._base.execute("SELECT 1 FROM clips LIMIT 1")
        except sqlite3.Error as error:
            raise self._damaged(error) from error

    def place(self, identity: str) -> tuple[int, int] | None:
        """Shard and row of a clip's features; None if it has none."""
        found = self._rows("SELECT shard, row FROM clips WHERE id = ? AND row IS NOT NULL", identity)
        return found[0] if found else None

    def ids(self) -> Iterator[str]:
        """All clips with features in manifest order, some thousand in memory at a time."""
        after = -1
        query = "SELECT ordinal, id FROM clips WHERE ordinal > ? AND row IS NOT NULL ORDER BY ordinal LIMIT 5000"
        while rows := self._rows(query, after):
            yield from (identity for _, identity in rows)
            after = rows[-1][0]

    def shard_bytes(self) -> list[int]:
        """Size of each shard's file."""
        return [size for (size,) in self._rows("SELECT bytes FROM shards ORDER BY number")]

    def speakers(self) -> dict[str, np.ndarray]:
        """The vector float32 [E] of each speaker with training clips."""
        rows = self._rows("SELECT name, vector FROM speakers ORDER BY name")
        return {name: np.frombuffer(vector, "<f4").astype(np.float32) for name, vector in rows}

    def _rows(self, query: str, *values: object) -> list[tuple]:
        try:
            with self._lock:
                return self._base.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> DataError:
        return DataError(f"{self._path} cannot be read ({error}); delete it and extract the features again")
