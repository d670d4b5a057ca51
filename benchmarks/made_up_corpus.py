"""A corpus of noise on disk with made-up features: a training step costs what its lengths cost, whatever is said."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile as sf

from cosytune.data.corpus import Contents, write_corpus
from cosytune.data.extract import extract_features
from cosytune.data.features import Extractors, FeatureStore
from cosytune.data.manifest import Utterance
from cosytune.data.results import LedgerLine
from cosytune.data.sentences_en import MAKERS
from cosytune.data.splits import Side
from cosytune.files import hash_file
from cosytune.units import Clock

__all__ = ["corpus_seconds", "write_made_up"]

_KATHLEEN = (0.76, 1.73, 2.02, 2.42, 3.00, 3.62, 4.14, 4.44, 6.47)
_KATHLEEN_AT = (0, 5, 10, 25, 50, 75, 90, 95, 100)
"""Seconds of the 1,399 clips of a set of read sentences (rhasspy/dataset-voice-kathleen), and their percentiles."""

WORDS_PER_SECOND = 2.9
VALIDATION = 8
LIKELY_NEXT, SURPRISES = 4, 0.1
RATE = 16_000


def corpus_seconds(clips: int) -> np.ndarray:
    """Durations float64 [clips] distributed as kathleen's, in random order."""
    seconds = np.interp(np.linspace(0, 100, clips), _KATHLEEN_AT, _KATHLEEN)
    return np.random.default_rng(0).permutation(seconds.round(2))


def write_made_up(folder: Path, clock: Clock, codebook: int, width: int, bands: int, clips: int) -> FeatureStore:
    """Recordings of noise, English sentences of fitting length, a corpus of them, and features of a model's sizes.

    Args:
        folder: empty; `corpus` in it is the corpus.
        clock: rates of the model.
        codebook: number of speech tokens.
        width: of speaker vectors.
        bands: of the mel.
        clips: how many.
    """
    utterances = list(_utterances(folder, corpus_seconds(clips)))
    hashes = {clip.audio: hash_file(Path(clip.audio)) for clip in utterances}
    sides: list[Side] = ["validation" if number < VALIDATION else "train" for number in range(clips)]
    contents = Contents(
        utterances=[(clip, side, hashes[clip.audio]) for clip, side in zip(utterances, sides, strict=True)],
        recordings=sorted(hashes.items()),
        lines=[LedgerLine(clip.id, clip.audio, "kept", seconds=clip.seconds) for clip in utterances],
        seen=clips,
        notes=(),
        between=0.0,
        splits={},
        source={},
    )
    return extract_features(
        write_corpus(folder / "corpus", contents), _MadeUp(clock, codebook, width, bands).extractors()
    )


def _utterances(folder: Path, durations: np.ndarray) -> Iterator[Utterance]:
    rng = np.random.default_rng(1)
    words = _words()
    for number, seconds in enumerate(durations.tolist()):
        path = folder / f"clip{number:04d}.wav"
        sf.write(path, rng.normal(0, 0.05, round(seconds * RATE)), RATE)
        text = " ".join(next(words) for _ in range(max(1, round(seconds * WORDS_PER_SECOND))))
        yield Utterance(path.stem, str(path), text, "nobody", "en", seconds=seconds)


def _words() -> Iterator[str]:
    rng = random.Random(1)
    while True:
        yield from MAKERS["statement"](rng).split()


class _MadeUp:
    """Front ends that look at the length only. Tokens follow each other by a rule that can be learned."""

    def __init__(self, clock: Clock, codebook: int, width: int, bands: int) -> None:
        self._clock, self._width, self._bands = clock, width, bands
        self._rng = np.random.default_rng(2)
        self._next = self._rng.integers(0, codebook, (codebook, LIKELY_NEXT))

    def extractors(self) -> Extractors:
        """As `extract_features` wants them."""
        ratio = self._clock.frames_per_token
        return Extractors("made up", self._clock.sample_rate, self.tokens, self.vectors, self.mel, ratio)

    def tokens(self, waves: list[np.ndarray]) -> list[np.ndarray]:
        """Each token is one of four that may follow the one before it, or, one time in ten, any."""
        made = []
        for wave in waves:
            tokens = self._rng.integers(0, len(self._next), max(1, len(wave) * self._clock.token_rate // RATE))
            chosen = self._rng.integers(0, LIKELY_NEXT, len(tokens))
            surprising = self._rng.random(len(tokens)) < SURPRISES
            for before, now in pairwise(range(len(tokens))):
                if not surprising[now]:
                    tokens[now] = self._next[tokens[before], chosen[now]]
            made.append(tokens)
        return made

    def vectors(self, waves: list[np.ndarray]) -> np.ndarray:
        """Random speaker vectors [B, E]."""
        return self._rng.normal(size=(len(waves), self._width)).astype(np.float32)

    def mel(self, wave: np.ndarray) -> np.ndarray:
        """Random frames [M, F]."""
        frames = max(1, len(wave) // self._clock.hop)
        return self._rng.normal(size=(self._bands, frames)).astype(np.float32)
