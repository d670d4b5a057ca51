"""A few clips of a corpus with their real features, for who wants to try something before all features are made."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cosytune.data.corpus import MARKER, Contents, Corpus, write_corpus
from cosytune.data.features import FEATURES_MARKER, FeatureStore
from cosytune.data.manifest import Utterance
from cosytune.data.results import LedgerLine
from cosytune.data.splits import Side
from cosytune.models.folder import Model
from cosytune.training.features import corpus_features, features_hash, precision_of
from cosytune.training.parts import check_sides

__all__ = ["FewClips", "few_clips"]

COUNT, SECONDS = 3, 3.0
"""How many training clips, and how long they should be: enough tokens to compare losses by, and few to wait for."""


@dataclass(frozen=True)
class FewClips:
    """Clips of both sides, and where their features are.

    Attributes:
        made: whether the features were made now.
    """

    train: tuple[Utterance, ...]
    validation: tuple[Utterance, ...]
    features: FeatureStore
    made: bool


def few_clips(corpus: Corpus, model: Model, place: Path) -> FewClips:
    """Clips of about three seconds, with transcripts if there are any; always the same ones.

    Features that the corpus has are used. Others are made of these clips alone, in `place`; the corpus stays as it is.

    Raises:
        DataError: a side has no clips.
    """
    identity = features_hash(corpus, model)
    there = corpus.features_folder(identity)
    store = FeatureStore(there, extractors=identity) if (there / FEATURES_MARKER).is_file() else None
    train, validation = _chosen(corpus, "train", COUNT, store), _chosen(corpus, "validation", 1, store)
    check_sides(corpus, train, validation, "clips" if store is None else "clips with features")
    if store is not None:
        return FewClips(train, validation, store, made=False)
    small = _small_corpus(corpus, train, validation, place / "few-clips")
    features = corpus_features(small, model, _Silent(), onnx_precision=precision_of(corpus, model))
    return FewClips(train, validation, features, made=True)


def _chosen(corpus: Corpus, side: Side, count: int, store: FeatureStore | None) -> tuple[Utterance, ...]:
    known: Iterable[Utterance] = (clip for clip in corpus.stream(side) if store is None or clip.id in store)
    return tuple(heapq.nsmallest(count, known, key=lambda clip: (not clip.text, abs(clip.seconds - SECONDS), clip.id)))


def _small_corpus(
    corpus: Corpus, train: tuple[Utterance, ...], validation: tuple[Utterance, ...], place: Path
) -> Corpus:
    if (place / MARKER).is_file():
        return Corpus(place)
    sides: dict[Side, tuple[Utterance, ...]] = {"train": train, "validation": validation}
    clips = [(clip, side, corpus.audio_hash(clip.audio)) for side, own in sides.items() for clip in own]
    contents = Contents(
        utterances=clips,
        recordings=sorted({(clip.audio, audio_hash) for clip, _, audio_hash in clips}),
        lines=[LedgerLine(clip.id, clip.audio, "kept", seconds=clip.seconds) for clip, _, _ in clips],
        seen=len(clips),
        notes=(),
        between=0.0,
        splits={},
        source={"corpus": corpus.hash},
    )
    return write_corpus(place, contents)


class _Silent:
    """A reporter for work too short to speak of."""

    def start(self, name: str, total: int) -> None:
        pass

    def move(self, name: str, done: int) -> None:
        pass

    def say(self, line: str) -> None:
        pass
