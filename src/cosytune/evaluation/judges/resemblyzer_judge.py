"""Is it the same voice? Speaker similarity by the Resemblyzer encoder (model in its wheel).

Source: Wan et al., "Generalized End-to-End Loss for Speaker Verification", ICASSP 2018.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from cosytune.audio.librosa_once import load_librosa
from cosytune.errors import InputError
from cosytune.evaluation.judges.base import JUDGE_RATE, Recording, heard, is_silent, load_package, package_version
from cosytune.evaluation.results import SIMILARITY, MetricInfo

__all__ = ["ResemblyzerJudge"]

# --no-deps: its metadata asks for `webrtcvad`, which must be compiled; `webrtcvad-wheels` holds the same module.
INSTALL = "pip install --no-deps resemblyzer && pip install webrtcvad-wheels"

NO_VOICE = 0.0
"""Similarity of silence to anybody; between speakers the cosine stays well above."""

SHORTEST_VOICED = 0.1
"""Seconds. If its voice detector leaves less, the whole clip is embedded (whispers, single digits)."""


class ResemblyzerJudge:
    """Cosine between a wave's vector and the mean vector of reference recordings of the speaker."""

    name = "resemblyzer"
    metrics = (
        MetricInfo("sim", SIMILARITY, True, "resemblyzer", "similarity of the voice to recordings of the speaker"),
    )

    def __init__(self) -> None:
        self._known: dict[bytes, np.ndarray] = {}

    @property
    def version(self) -> str:
        """Packages that decide the numbers."""
        return f"{package_version('resemblyzer')}, {package_version('webrtcvad-wheels')}"

    @cached_property
    def _package(self) -> ModuleType:
        load_librosa()
        return load_package("resemblyzer", INSTALL)

    @cached_property
    def _encoder(self) -> Any:
        import torch

        package = self._package
        # Building the network draws random weights; a judge must not move the random numbers of a training beside it.
        with torch.random.fork_rng(devices=[]):
            return package.VoiceEncoder("cpu", verbose=False)

    def embed(self, wave: np.ndarray, sample_rate: int) -> np.ndarray | None:
        """Unit vector [256] of the voice in a wave float32 [N], or None if there is nothing to hear.

        Raises:
            InputError: the wave cannot be judged.
            MissingPackageError: resemblyzer or webrtcvad is not installed.
        """
        wave = heard(wave, sample_rate)
        if is_silent(wave, JUDGE_RATE):
            return None
        voiced = self._package.preprocess_wav(wave)
        if len(voiced) < SHORTEST_VOICED * JUDGE_RATE:
            voiced = wave
        vector = np.asarray(self._encoder.embed_utterance(voiced), dtype=np.float32)
        return vector if np.isfinite(vector).all() else None

    def score(self, wave: np.ndarray, sample_rate: int, text: str, references: Sequence[Recording]) -> dict[str, float]:
        """`sim` of a wave float32 [N] to the mean vector of the references; text is not used. Silence scores 0.

        Raises:
            InputError: the wave cannot be judged, there is no reference, or one is silent.
            MissingPackageError: resemblyzer or webrtcvad is not installed.
        """
        if not references:
            raise InputError(
                "similarity needs at least one reference recording of the speaker, and none is given; "
                "give some that the model has not heard, or leave this judge out"
            )
        vector = self.embed(wave, sample_rate)
        if vector is None:
            return {"sim": NO_VOICE}
        mean = np.mean([self._reference(recording) for recording in references], axis=0)
        return {"sim": float(np.dot(vector, mean) / (np.linalg.norm(vector) * np.linalg.norm(mean)))}

    def _reference(self, recording: Recording) -> np.ndarray:
        """The vector [256] of a reference, computed once per content."""
        key = hashlib.sha256(recording.wave.tobytes() + str(recording.sample_rate).encode()).digest()
        if key not in self._known:
            vector = self.embed(recording.wave, recording.sample_rate)
            if vector is None:
                raise InputError("a reference recording is silent; give recordings in which the speaker speaks")
            self._known[key] = vector
        return self._known[key]
