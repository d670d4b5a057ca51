"""The features of one batch of clips: what a worker does, in whatever process it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cosytune.audio.files import read_wave
from cosytune.audio.resample import resample
from cosytune.data.feature_index import IndexedClip
from cosytune.data.feature_shards import Cells, stored
from cosytune.data.features import Extractors
from cosytune.errors import CosytuneError, DataError, MachineError, MissingPackageError
from cosytune.files import hash_file
from cosytune.units import FEATURE_SAMPLE_RATE

__all__ = ["ClipBatch", "Outcome", "extract_batch"]

Outcome = Cells | str
"""The cells of a clip, or the reason why there are none."""

_MACHINE = (MissingPackageError, MachineError)
"""What every clip would be refused for: it stops the job."""

_REFUSALS = (CosytuneError, ValueError, RuntimeError, MemoryError)
"""What extractors raise over a recording: torch and onnxruntime say everything with a RuntimeError. Anything else is a
fault of the program."""


@dataclass(frozen=True)
class ClipBatch:
    """Clips of similar length that lack the same columns."""

    clips: tuple[IndexedClip, ...]
    columns: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Audio in all."""
        return sum(clip.utterance.seconds for clip in self.clips)

    def singles(self) -> list[ClipBatch]:
        """Each clip as a batch of its own."""
        return [ClipBatch((clip,), self.columns) for clip in self.clips]


@dataclass(frozen=True)
class _Waves:
    """A decoded clip: waves [N] at 16 kHz and at the model's rate, whichever is needed."""

    low: np.ndarray | None
    high: np.ndarray | None


def extract_batch(extractors: Extractors, batch: ClipBatch) -> list[Outcome]:
    """The outcome of each clip, in order: a bad one costs itself only."""
    outcomes: dict[str, Outcome] = {}
    waves: dict[str, _Waves] = {}
    for clip in batch.clips:
        try:
            waves[clip.clip] = _decode(clip, extractors, batch.columns)
        except (CosytuneError, OSError) as error:
            outcomes[clip.clip] = f"unreadable: {error}"
    made = _extract(extractors, list(waves.values()), batch.columns)
    outcomes |= dict(zip(waves, made, strict=True))
    return [outcomes[clip.clip] for clip in batch.clips]


def _decode(clip: IndexedClip, extractors: Extractors, columns: Sequence[str]) -> _Waves:
    path = Path(clip.utterance.audio)
    state = path.stat()
    if _hash(path, state.st_size, state.st_mtime_ns) != clip.audio_hash:
        raise DataError(f"{path} has changed since the corpus was prepared; prepare it again")
    wave, rate = read_wave(path, start=clip.utterance.start or 0.0, end=clip.utterance.end)
    needs_low = "speech_token" in columns or "utt_embedding" in columns
    low = resample(wave, rate, FEATURE_SAMPLE_RATE) if needs_low else None
    if "mel" not in columns:
        return _Waves(low, None)
    same = low is not None and extractors.sample_rate == FEATURE_SAMPLE_RATE
    return _Waves(low, low if same else resample(wave, rate, extractors.sample_rate))


@lru_cache(maxsize=256)
def _hash(path: Path, size: int, changed: int) -> str:
    """`hash_file`, once for the many utterances that one long recording may hold; size and time tell of a change."""
    return hash_file(path)


def _extract(extractors: Extractors, waves: list[_Waves], columns: Sequence[str]) -> list[Outcome]:
    """An outcome for each clip; a batch that is refused is tried clip by clip."""
    if not waves:
        return []
    low: Any = [wave.low for wave in waves]
    made: dict[str, Any] = {}
    try:
        if extractors.tokens is not None and "speech_token" in columns:
            made["speech_token"] = extractors.tokens(low)
        if extractors.embedding is not None and "utt_embedding" in columns:
            made["utt_embedding"] = extractors.embedding(low)
        if extractors.mel is not None and "mel" in columns:
            made["mel"] = [extractors.mel(wave.high) for wave in waves if wave.high is not None]
    except _MACHINE:
        raise
    except _REFUSALS as error:
        if len(waves) == 1:
            return [f"refused by an extractor: {error}"]
        return [outcome for wave in waves for outcome in _extract(extractors, [wave], columns)]
    rows = zip(*made.values(), strict=True)
    return [_outcome(dict(zip(made, row, strict=True))) for row in rows]


def _outcome(values: dict[str, np.ndarray]) -> Outcome:
    if "speech_token" in values and not len(values["speech_token"]):
        return "no speech tokens: the recording is too short for the tokenizer"
    if not all(np.isfinite(values[name]).all() for name in ("utt_embedding", "mel") if name in values):
        return "not finite: an extractor made numbers that are none"
    return {name: cell for column, value in values.items() for name, cell in stored(column, value).items()}
