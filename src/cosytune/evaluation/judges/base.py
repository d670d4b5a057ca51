"""What a judge is, and what every judge does to a wave before it listens."""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

import numpy as np

from cosytune.errors import InputError, MissingPackageError
from cosytune.evaluation.results import MetricInfo

__all__ = ["JUDGE_RATE", "Judge", "Recording", "check_wave", "heard", "is_silent", "load_package", "package_version"]

JUDGE_RATE = 16_000
"""Hz. What all shipped judges listen at."""

LOWEST_RATE = 4_000
"""Hz. Below this there is no speech to judge."""

SILENCE_PEAK = 1e-4
"""A wave whose largest sample stays below this (-80 dBFS) holds nothing a person would hear."""

SHORTEST_SECONDS = 0.05
"""A shorter wave is judged as silence: no word fits, and the judges' windows do not either."""


@dataclass(frozen=True)
class Recording:
    """A wave to compare with. `wave` is float32 [N] in [-1, 1] at `sample_rate` Hz."""

    wave: np.ndarray
    sample_rate: int


class Judge(Protocol):
    """An independent model that scores waves. It loads its model at the first score, and then always answers alike."""

    @property
    def name(self) -> str:
        """Short name, the `judge` of its metrics."""

    @property
    def version(self) -> str:
        """Everything that decides its numbers: package versions, normaliser."""

    @property
    def metrics(self) -> tuple[MetricInfo, ...]:
        """The metrics that `score` returns."""

    def score(self, wave: np.ndarray, sample_rate: int, text: str, references: Sequence[Recording]) -> dict[str, float]:
        """One finite number per metric, for silence too (its worst); `wave` is float32 [N].

        Raises:
            InputError: the wave is not finite or not [N], or text or references cannot be used.
            MissingPackageError: the package that holds the model is not installed.
        """


def check_wave(wave: np.ndarray, sample_rate: int) -> None:
    """Refuse what no judge can hear.

    Raises:
        InputError: not [N], not finite, or a sample rate under 4000 Hz.
    """
    if wave.ndim != 1:
        raise InputError(f"a wave of shape {list(wave.shape)} cannot be judged; give one channel, shape [N]")
    if sample_rate < LOWEST_RATE:
        raise InputError(
            f"a sample rate of {sample_rate} Hz cannot be judged, the lowest is {LOWEST_RATE} Hz; "
            "give the rate of the wave, such as 24000"
        )
    if not np.isfinite(wave).all():
        raise InputError(
            f"{int((~np.isfinite(wave)).sum())} of {len(wave)} samples are not finite numbers, so the wave cannot be "
            "judged; look at the model that made it"
        )


def heard(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """The wave [N] as judges hear it: checked, float32, at `JUDGE_RATE` Hz, clipped to [-1, 1].

    Raises:
        InputError: as `check_wave`.
    """
    check_wave(wave, sample_rate)
    if wave.size == 0:
        return np.zeros(0, dtype=np.float32)
    # Imported here: resampling loads native code that is not needed to know which judges there are.
    from cosytune.audio.resample import resample

    clipped = np.clip(np.asarray(wave, dtype=np.float32), -1.0, 1.0)
    if sample_rate == JUDGE_RATE:
        return clipped
    return np.clip(resample(clipped, sample_rate, JUDGE_RATE), -1.0, 1.0).astype(np.float32)


def is_silent(wave: np.ndarray, sample_rate: int) -> bool:
    """Whether a finite wave [N] is empty, shorter than 50 ms or nowhere above -80 dBFS."""
    return len(wave) < SHORTEST_SECONDS * sample_rate or float(np.abs(wave).max()) < SILENCE_PEAK


def load_package(module: str, install: str) -> ModuleType:
    """Import a judge's module, without the warnings its old code raises.

    Raises:
        MissingPackageError: it, or a package it needs, is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f"this judge needs the Python package of {module!r}, which cannot be imported ({error}); "
            f"install it with: {install}"
        ) from error


def package_version(distribution: str) -> str:
    """`name version` of an installed distribution, or `name (not installed)`."""
    try:
        return f"{distribution} {importlib.metadata.version(distribution)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{distribution} (not installed)"
