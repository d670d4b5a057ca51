"""Prepared features on disk: Parquet shards with the upstream column names, bound to recordings and extractors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cosytune.data.corpus import read_json
from cosytune.data.feature_index import FeatureIndex
from cosytune.data.feature_shards import OpenShards
from cosytune.data.pace import Pace
from cosytune.data.results import Ledger
from cosytune.errors import DataError

__all__ = ["FEATURES_MARKER", "Extractors", "FeatureStore", "Features"]

FEATURES_MARKER = "features.json"


@dataclass(frozen=True)
class Extractors:
    """The frozen models that make features, as functions; one that is None leaves its column out.

    To work in other processes the functions must be picklable.

    Attributes:
        hash: of the whole set; the features of one set lie in one folder.
        sample_rate: Hz of the waves that `mel` is given (`tokens` and `embedding` get 16 kHz).
        tokens: waves [N] at 16 kHz -> speech tokens [T] of each.
        embedding: waves [N] at 16 kHz -> speaker vectors [B, E], not normalised.
        mel: one wave [N] at `sample_rate` -> log-mel [M, F].
        frames_per_token: mel frames per speech token (`Clock.frames_per_token`); if it is a whole number, tokens and
            mel are cut to each other when they are read.
        hashes: of the weights and settings behind each column ("speech_token", "utt_embedding", "mel"). A column made
            under the same hash by another set is taken over; without an entry, `hash` stands for it.
    """

    hash: str
    sample_rate: int
    tokens: Callable[[list[np.ndarray]], list[np.ndarray]] | None = None
    embedding: Callable[[list[np.ndarray]], np.ndarray] | None = None
    mel: Callable[[np.ndarray], np.ndarray] | None = None
    frames_per_token: float | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.hash:
            raise ValueError("extractors need a hash of their weights: features are bound to it")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features that are made."""
        named = {"speech_token": self.tokens, "utt_embedding": self.embedding, "mel": self.mel}
        return tuple(name for name, function in named.items() if function is not None)

    @property
    def column_hashes(self) -> dict[str, str]:
        """What each column is bound to."""
        return {name: self.hashes.get(name, self.hash) for name in self.columns}


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
    """A finished folder of feature shards, read by utterance id; what lies where is looked up on disk.

    Args:
        path: the folder (`Corpus.features_folder`).
        extractors: hash that the features must have been made with, if the caller knows it.
        cache_bytes: clips read once are kept in memory until together they are this large.
        pace: how the making of the features went, for the caller that had them made.

    Raises:
        DataError: the folder is unfinished or was made by other extractors.
    """

    def __init__(
        self, path: Path, *, extractors: str | None = None, cache_bytes: int = 1 << 30, pace: Pace | None = None
    ) -> None:
        self.path = path
        self.pace = pace
        if not (path / FEATURES_MARKER).is_file():
            raise DataError(f"{path} holds no finished features; prepare them again, which goes on where it stopped")
        self.info: dict[str, Any] = read_json(path / FEATURES_MARKER)
        if extractors is not None and self.info["extractors"] != extractors:
            raise DataError(
                f"the features in {path} were made by extractors {self.info['extractors'][:12]}, but the model at hand "
                f"has {extractors[:12]}; extract features with this model"
            )
        self.columns: tuple[str, ...] = tuple(self.info["columns"])
        self._index = FeatureIndex(path)
        self._shards = OpenShards(path, self.info["shards"])
        self._cache: dict[str, Features] = {}
        self._cache_left = cache_bytes

    @property
    def ids(self) -> tuple[str, ...]:
        """All utterances that have features, in manifest order."""
        return tuple(self._index.ids())

    def __len__(self) -> int:
        return int(self.info["clips"])

    def __contains__(self, identity: object) -> bool:
        return isinstance(identity, str) and self._index.place(identity) is not None

    @cached_property
    def ledger(self) -> Ledger:
        """The account of the extraction."""
        return Ledger.read(self.path / "ledger.jsonl")

    def read(self, ids: Sequence[str]) -> list[Features]:
        """The features of some utterances, in the order asked for.

        Raises:
            DataError: an id has no features, or the shards were made anew since the store was opened.
        """
        return [self._cache.get(identity) or self._read_one(identity) for identity in ids]

    def __iter__(self) -> Iterator[Features]:
        return (self.read([identity])[0] for identity in self._index.ids())

    @cached_property
    def speaker_vectors(self) -> dict[str, np.ndarray]:
        """The vector [E] of each speaker with training clips."""
        return self._index.speakers()

    def _read_one(self, identity: str) -> Features:
        place = self._index.place(identity)
        if place is None:
            raise DataError(f"utterance {identity!r} has no features in {self.path}; see ledger.jsonl there for why")
        features = _features(self._shards.row(*place), self.info["frames_per_token"])
        if features.id != identity:
            raise DataError(f"the features in {self.path} were made anew while they were read; start again")
        size = 4096 + (0 if features.mel is None else features.mel.nbytes)
        if size <= self._cache_left:
            self._cache[identity] = features
            self._cache_left -= size
        return features


def _features(row: pa.Table, frames_per_token: float | None) -> Features:
    def vector(name: str, kind: type) -> np.ndarray | None:
        if name not in row.column_names or not row.column(name)[0].is_valid:
            return None
        return row.column(name)[0].values.to_numpy(zero_copy_only=False).astype(kind)

    tokens, mel = vector("speech_token", np.int64), None
    if "mel" in row.column_names:
        mel = np.frombuffer(row.column("mel")[0].as_py(), np.float32).reshape(row.column("mel_shape")[0].as_py()).copy()
    if tokens is not None and mel is not None and frames_per_token is not None and float(frames_per_token).is_integer():
        # Offline tokens and mel frames round differently (specification 9.3): keep what both have.
        ratio = int(frames_per_token)
        pairs = min(len(tokens), mel.shape[1] // ratio)
        tokens, mel = tokens[:pairs], np.ascontiguousarray(mel[:, : pairs * ratio])
    return Features(
        id=row.column("utt")[0].as_py(),
        text=row.column("text")[0].as_py(),
        speaker=row.column("spk")[0].as_py(),
        speech_tokens=tokens,
        utterance_vector=vector("utt_embedding", np.float32),
        speaker_vector=vector("spk_embedding", np.float32),
        mel=mel,
    )
