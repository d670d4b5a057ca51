"""Frames, spectra and bands of a wave: what the doctor's measures are made of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.signal import get_window
from scipy.stats import chi2

__all__ = ["FLOOR_DB", "band_edges", "band_powers", "decibels", "frame_rms", "power_spectra", "quiet_power"]

FLOOR_DB = -120.0
"""What digital silence is called on a scale where its logarithm would be minus infinity."""

HANN_OVERLAP = 1.5
"""Neighbouring bins of a Hann window are not independent: a band of n bins varies like one of n / 1.5."""

BLOCK_FRAMES = 4096
"""Frames transformed at once: 40 s of 10 ms hops, so that memory stays bounded however long the wave."""


def decibels(power: float) -> float:
    """10 log10 of a power, at least -120."""
    return max(FLOOR_DB, 10 * float(np.log10(power))) if power > 0 else FLOOR_DB


def frame_rms(wave: np.ndarray, size: int) -> np.ndarray:
    """RMS of every frame of `size` samples side by side [ceil(N / size)]; the last one may be short."""
    starts = np.arange(0, len(wave), size)
    energy = np.add.reduceat(np.square(wave, dtype=np.float64), starts)
    return np.sqrt(energy / np.minimum(size, len(wave) - starts))


def power_spectra(wave: np.ndarray, size: int, hop: int) -> Iterator[np.ndarray]:
    """Power spectra of Hann-windowed frames in blocks [F, size // 2 + 1]; the bins of a frame sum to its mean square.

    A wave shorter than a frame is padded with zeros; the part of a last incomplete frame is left out.
    """
    if len(wave) < size:
        wave = np.pad(wave, (0, size - len(wave)))
    window = get_window("hann", size).astype(np.float32)
    scale = 2.0 / (size * float(np.square(window).sum()))
    frames = np.lib.stride_tricks.sliding_window_view(wave, size)[::hop]
    for begin in range(0, len(frames), BLOCK_FRAMES):
        power = np.square(np.abs(np.fft.rfft(frames[begin : begin + BLOCK_FRAMES] * window, axis=1))) * scale
        power[:, [0, -1]] *= 0.5
        yield power.astype(np.float32)


def band_edges(size: int, rate: int, low: float, high: float, bands: int) -> np.ndarray:
    """Bin numbers [bands + 1 or fewer] of bands that widen with frequency, each at least one bin wide."""
    hertz = 700 * np.expm1(np.linspace(np.log1p(low / 700), np.log1p(min(high, rate / 2) / 700), bands + 1))
    return np.unique(np.clip(np.round(hertz * size / rate), 1, size // 2 + 1).astype(int))


def band_powers(spectra: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Power [F, bands] of spectra [F, bins] between the bin numbers of `edges`."""
    return np.add.reduceat(spectra[:, : edges[-1]], edges[:-1], axis=1)


def quiet_power(bands: np.ndarray, widths: np.ndarray, share: float) -> float:
    """Power of the steady background of [F, bands]: in each band a low quantile, corrected for its chance.

    The power of steady noise in a band of n independent bins is spread like chi-squared with 2 n degrees of freedom, so
    its quantile lies a known factor below its mean. Speech leaves each band alone for a part of the time, even where it
    leaves no pause.

    Args:
        bands: power of each frame and band.
        widths: bins in each band.
        share: quantile, 0 to 1.
    """
    freedom = np.maximum(2.0, 2.0 * widths / HANN_OVERLAP)
    chance = chi2.ppf(share, freedom) / freedom
    return float((np.quantile(bands, share, axis=0) / chance).sum())
