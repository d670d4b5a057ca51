"""Prepared features on disk: Parquet shards with the upstream column names, bound to recordings and extractors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cosytune.data.corpus import read_json
from cosytune.data.results import Ledger
from cosytune.errors import DataError
from cosytune.files import write_bytes

__all__ = ["FEATURES_MARKER", "Extractors", "FeatureStore", "Features", "read_shard_note", "write_shard"]

FEATURES_MARKER = "features.json"
_NOTE = b"cosytune"
_ROWS_PER_GROUP = 8
"""Rows of one Parquet row group: what must be unpacked to read one clip, so few."""


@dataclass(frozen=True)
class Extractors:
    """The frozen models that make features, as functions; one that is None leaves its column out.

    Attributes:
        hash: of the weights and settings of all functions; features made under another hash are never used.
        sample_rate: Hz of the waves that `mel` is given (`tokens` and `embedding` get 16 kHz).
        tokens: waves [N] at 16 kHz -> speech tokens [T] of each.
        embedding: waves [N] at 16 kHz -> speaker vectors [B, E], not normalised.
        mel: one wave [N] at `sample_rate` -> log-mel [M, F].
        frames_per_token: mel frames per speech token (`Clock.frames_per_token`); if it is a whole number, tokens and
            mel are cut to each other.
    """

    hash: str
    sample_rate: int
    tokens: Callable[[list[np.ndarray]], list[np.ndarray]] | None = None
    embedding: Callable[[list[np.ndarray]], np.ndarray] | None = None
    mel: Callable[[np.ndarray], np.ndarray] | None = None
    frames_per_token: float | None = None

    def __post_init__(self) -> None:
        if not self.hash:
            raise ValueError("extractors need a hash of their weights: features are bound to it")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features that are made."""
        named = {"speech_token": self.tokens, "utt_embedding": self.embedding, "mel": self.mel}
        return tuple(name for name, function in named.items() if function is not None)


@dataclass(frozen=True)
class Features:
    """The features of one utterance; what was not extracted is None.

    Attributes:
        id: of the utterance.
        text: transcript, or None.
        speaker: label.
        speech_tokens: int64 [T].
        utterance_vector: float32 [E], raw.
        speaker_vector: float32 [E], mean of the speaker's vectors, each of length one, over the train side; None for a
            speaker without training clips.
        mel: float32 [M, F].
    """

    id: str
    text: str | None
    speaker: str
    speech_tokens: np.ndarray | None = None
    utterance_vector: np.ndarray | None = None
    speaker_vector: np.ndarray | None = None
    mel: np.ndarray | None = None


class FeatureStore:
    """A finished folder of feature shards, read by utterance id.

    Args:
        path: the folder (`Corpus.features_folder`).
        extractors: hash that the features must have been made with, if the caller knows it.
        cache_bytes: clips read once are kept in memory until together they are this large.

    Raises:
        DataError: the folder is unfinished or was made by other extractors.
    """

    def __init__(self, path: Path, *, extractors: str | None = None, cache_bytes: int = 1 << 30) -> None:
        self.path = path
        if not (path / FEATURES_MARKER).is_file():
            raise DataError(f"{path} holds no finished features; prepare them again, which goes on where it stopped")
        self.info: dict[str, Any] = read_json(path / FEATURES_MARKER)
        if extractors is not None and self.info["extractors"] != extractors:
            raise DataError(
                f"the features in {path} were made by extractors {self.info['extractors'][:12]}, but the model at hand "
                f"has {extractors[:12]}; extract features with this model"
            )
        self.columns: tuple[str, ...] = tuple(self.info["columns"])
        self._shards = [pq.ParquetFile(path / name) for name in self.info["shards"]]
        self._places = {
            identity: (number, row)
            for number, shard in enumerate(self._shards)
            for row, identity in enumerate(shard.read(columns=["utt"]).column("utt").to_pylist())
        }
        self._cache: dict[str, Features] = {}
        self._cache_left = cache_bytes

    @property
    def ids(self) -> tuple[str, ...]:
        """All utterances that have features, in manifest order."""
        return tuple(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, identity: object) -> bool:
        return identity in self._places

    @cached_property
    def ledger(self) -> Ledger:
        """The account of the extraction."""
        return Ledger.read(self.path / "ledger.jsonl")

    def read(self, ids: Sequence[str]) -> list[Features]:
        """The features of some utterances, in the order asked for.

        Raises:
            DataError: an id has no features.
        """
        return [self._cache.get(identity) or self._read_one(identity) for identity in ids]

    def __iter__(self) -> Iterator[Features]:
        return (self.read([identity])[0] for identity in self._places)

    @cached_property
    def speaker_vectors(self) -> dict[str, np.ndarray]:
        """The vector [E] of each speaker with training clips."""
        if "spk_embedding" not in self.columns:
            return {}
        vectors: dict[str, np.ndarray] = {}
        for shard in self._shards:
            table = shard.read(columns=["spk", "spk_embedding"])
            for speaker, vector in zip(*(table.column(name).to_pylist() for name in table.column_names), strict=True):
                if vector is not None and speaker not in vectors:
                    vectors[speaker] = np.asarray(vector, np.float32)
        return vectors

    def _read_one(self, identity: str) -> Features:
        if identity not in self._places:
            raise DataError(f"utterance {identity!r} has no features in {self.path}; see ledger.jsonl there for why")
        number, row = self._places[identity]
        group = self._shards[number].read_row_group(row // _ROWS_PER_GROUP)
        features = _features(group.slice(row % _ROWS_PER_GROUP, 1))
        size = 0 if features.mel is None else features.mel.nbytes
        if size + 4096 <= self._cache_left:
            self._cache[identity] = features
            self._cache_left -= size + 4096
        return features


def _features(row: pa.Table) -> Features:
    def vector(name: str, kind: type) -> np.ndarray | None:
        if name not in row.column_names or not row.column(name)[0].is_valid:
            return None
        return row.column(name)[0].values.to_numpy(zero_copy_only=False).astype(kind)

    mel = None
    if "mel" in row.column_names:
        mel = np.frombuffer(row.column("mel")[0].as_py(), np.float32).reshape(row.column("mel_shape")[0].as_py()).copy()
    return Features(
        id=row.column("utt")[0].as_py(),
        text=row.column("text")[0].as_py(),
        speaker=row.column("spk")[0].as_py(),
        speech_tokens=vector("speech_token", np.int64),
        utterance_vector=vector("utt_embedding", np.float32),
        speaker_vector=vector("spk_embedding", np.float32),
        mel=mel,
    )


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
