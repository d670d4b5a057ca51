"""What sounds behind the voice: steady tones of music, the hum of the mains."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import maximum_filter1d, median_filter, minimum_filter1d

from cosytune.data.doctor.spectra import FLOOR_DB, decibels, power_spectra

__all__ = ["measure_hum", "measure_steady"]

WINDOW_SECONDS = 0.09
HOP_SECONDS = 0.02
HIGHEST_TONE = 4000.0
STEADY_FRAMES = 10
"""Frames of 20 ms that a tone must hold one frequency: the harmonics of a voice glide."""

STANDS_OUT = 10**0.9
"""Power of a tone against the bins around it (9 dB)."""

FEWEST_FRAMES = 50
"""A clip of less than a second may be one vowel."""

QUIET_SHARE = 0.4
"""The softest frames, in which a background can be heard."""

MAINS = (50.0, 60.0)
HUM = 10**1.2
"""Power of a mains tone against the bins around it (12 dB)."""


def measure_steady(wave: np.ndarray, rate: int) -> float:
    """Mean number of tones at a time that hold their frequency for 0.2 s, in the softest 40 % of the frames.

    A rule for suspicion, not a classifier: music of drums or of singing alone has few steady tones, and a voice that
    holds a note has some. Tones from 200 to 4000 Hz are counted.
    """
    size = _window(rate)
    spectra = np.concatenate(list(power_spectra(wave, size, max(1, round(HOP_SECONDS * rate)))))
    lowest = round(200 * size / rate)
    part = spectra[:, : round(HIGHEST_TONE * size / rate) + 1]
    if len(part) < FEWEST_FRAMES:
        return 0.0
    around = median_filter(part, size=(1, 31), mode="nearest")
    peak = (part == maximum_filter1d(part, 5, axis=1, mode="nearest")) & (part > STANDS_OUT * around)
    peak &= part > 1e-12
    peak[:, :lowest] = False
    # A tone between two bins may change from one to the other: its neighbours count as the same.
    near = maximum_filter1d(peak.astype(np.int8), 3, axis=1)
    held = minimum_filter1d(near, STEADY_FRAMES, axis=0, mode="constant")
    held = maximum_filter1d(held, STEADY_FRAMES, axis=0, origin=-1 if STEADY_FRAMES % 2 == 0 else 0)
    tones = (peak & (held > 0)).sum(axis=1)
    loudness = part.sum(axis=1)
    quiet = loudness <= np.quantile(loudness, QUIET_SHARE)
    return float(tones[quiet].mean())


def measure_hum(wave: np.ndarray, rate: int) -> tuple[float, float]:
    """Mains frequency (50 or 60 Hz, 0 for none) and dBFS of its hum in a wave [N] of half a second and more.

    Two of the first four harmonics, the lowest two among them, must stand 12 dB above what is around, where the wave is
    softest in each bin: a voice comes and goes, the mains stay.
    """
    size = 1 << round(np.log2(0.25 * rate))
    if len(wave) < 2 * size:
        return 0.0, FLOOR_DB
    spectra = np.concatenate(list(power_spectra(wave, size, size // 4)))
    steady = np.quantile(spectra, 0.1, axis=0)
    around = median_filter(steady, size=21, mode="nearest")
    found = (0.0, FLOOR_DB)
    for mains in MAINS:
        lines = [_line(steady, around, round(mains * order * size / rate)) for order in (1, 2, 3, 4)]
        power = sum(lines)
        if any(lines[:2]) and sum(line > 0 for line in lines) >= 2 and decibels(power) > found[1]:
            found = mains, decibels(power)
    return found


def _line(steady: np.ndarray, around: np.ndarray, place: int) -> float:
    """Power of the tone near a bin, 0 if none stands out there."""
    near = steady[max(0, place - 1) : place + 2]
    return float(near.sum()) if near.max() > HUM * max(around[place], 1e-12) else 0.0


def _window(rate: int) -> int:
    return 1 << round(np.log2(WINDOW_SECONDS * rate))
