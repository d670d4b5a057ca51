"""Changing the sample rate of a wave."""

from __future__ import annotations

import math

import numpy as np
import soxr

__all__ = ["resample"]


def resample(wave: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """Resample a wave with soxr's high-quality linear-phase filter.

    The reference uses torchaudio's short windowed sinc (6 zero crossings), whose roll-off begins early. Measured with
    white noise at the six pairs of rates of the specification (11.5), the RMS difference between the two is 0.3 % of
    the signal below 70 % of the lower Nyquist frequency, 3 % from 70 to 80 %, 18 to 22 % from 80 to 90 % and 58 to 69 %
    above, where speech at 16 kHz and more holds little.

    Args:
        wave: [N] float32 or float64.
        source_rate: Hz of `wave`.
        target_rate: Hz wanted.

    Returns:
        [ceil(N * target_rate / source_rate)] in the type of `wave`; `wave` itself if the rates are equal.

    Raises:
        ValueError: the wave is not one-dimensional or a rate is not positive.
    """
    if wave.ndim != 1:
        raise ValueError(f"resample takes one channel [N], got shape {list(wave.shape)}: average the channels first")
    if source_rate <= 0 or target_rate <= 0:
        raise ValueError(f"sample rates must be positive, got {source_rate} Hz to {target_rate} Hz")
    if source_rate == target_rate:
        return wave
    step = math.gcd(source_rate, target_rate)
    source_step, target_step = source_rate // step, target_rate // step
    samples = -(-len(wave) * target_step // source_step)
    # soxr rounds the length to the nearest sample; a short silent tail lets us cut to the exact ceiling instead.
    tail = np.zeros(source_step // target_step + 2, dtype=wave.dtype)
    return soxr.resample(np.concatenate([wave, tail]), source_rate, target_rate, quality="HQ")[:samples]
