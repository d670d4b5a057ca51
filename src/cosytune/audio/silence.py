"""Where speech begins and ends in a wave, and how long it pauses."""

from __future__ import annotations

import numpy as np

__all__ = ["longest_pause", "speech_bounds"]

FRAME_SECONDS = 0.01
FLOOR_DB = -40.0
"""A frame this far below the loud part is silent: breath and room are, unvoiced consonants (-25 to -35 dB) are not."""
SILENCE = 1e-4
"""RMS that is silent whatever the rest (80 dB below full scale)."""


def speech_bounds(wave: np.ndarray, sample_rate: int, floor_db: float = FLOOR_DB) -> tuple[int, int]:
    """First sample that is not silence and the one after the last, to whole frames of 10 ms.

    Args:
        wave: [N] in [-1, 1].
        sample_rate: Hz, at least 100.
        floor_db: silence is this far below the loud part (negative); see `loud_level`.

    Returns:
        (start, end) in samples; (0, 0) if all is silent.

    Raises:
        ValueError: the wave is not [N] of finite numbers, or a number is out of range.
    """
    sounding = np.flatnonzero(_sounding(wave, sample_rate, floor_db))
    if not len(sounding):
        return 0, 0
    frame = _frame_samples(sample_rate)
    return int(sounding[0]) * frame, min((int(sounding[-1]) + 1) * frame, len(wave))


def longest_pause(wave: np.ndarray, sample_rate: int, floor_db: float = FLOOR_DB) -> float:
    """Seconds of the longest silence between the bounds of speech, to whole frames of 10 ms; 0 if there is none.

    Arguments and errors as in `speech_bounds`.
    """
    sounding = np.flatnonzero(_sounding(wave, sample_rate, floor_db))
    if len(sounding) < 2:
        return 0.0
    silent_frames = int(np.diff(sounding).max()) - 1
    return silent_frames * _frame_samples(sample_rate) / sample_rate


def loud_level(rms: np.ndarray) -> float:
    """RMS of the loud part: half of the wave's energy is in frames [F] at least as loud.

    In speech these are the vowels. A percentile of all frames would sink with the length of the silence around them.
    """
    energy = np.sort(np.square(rms))[::-1]
    total = np.cumsum(energy)
    return float(np.sqrt(energy[np.searchsorted(total, total[-1] / 2)]))


def _sounding(wave: np.ndarray, sample_rate: int, floor_db: float) -> np.ndarray:
    """Bool [ceil(N / frame)], True where a frame is not silent."""
    if wave.ndim != 1:
        raise ValueError(f"silence is looked for in one wave [N], got shape {list(wave.shape)}")
    if sample_rate * FRAME_SECONDS < 1 or not floor_db < 0:
        raise ValueError(
            f"silence needs at least {1 / FRAME_SECONDS:g} Hz and a floor below 0 dB, "
            f"got {sample_rate} Hz and {floor_db} dB"
        )
    if not np.isfinite(wave).all():
        raise ValueError("the wave holds numbers that are not finite: it is broken, make or read it again")
    if not len(wave):
        return np.zeros(0, dtype=bool)
    rms = _frame_rms(wave, _frame_samples(sample_rate))
    return rms > max(SILENCE, loud_level(rms) * 10 ** (floor_db / 20))


def _frame_rms(wave: np.ndarray, frame: int) -> np.ndarray:
    """RMS of every frame; the last one may be short."""
    starts = np.arange(0, len(wave), frame)
    energy = np.add.reduceat(np.square(wave, dtype=np.float64), starts)
    return np.sqrt(energy / np.minimum(frame, len(wave) - starts))


def _frame_samples(sample_rate: int) -> int:
    return round(FRAME_SECONDS * sample_rate)
