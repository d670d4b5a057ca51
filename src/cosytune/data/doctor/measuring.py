"""All numbers of one recording: a wave goes in, a few numbers come out, and nothing of the wave is kept."""

from __future__ import annotations

import numpy as np

from cosytune.data.doctor.background import measure_hum, measure_steady
from cosytune.data.doctor.bandwidth import measure_bandwidth
from cosytune.data.doctor.clipping import crowding, flat_share
from cosytune.data.doctor.levels import measure_levels
from cosytune.data.doctor.spectra import decibels
from cosytune.data.doctor_results import Measures

__all__ = ["measure_wave", "mono"]


def mono(channels: np.ndarray) -> np.ndarray:
    """The mean of the channels [N, C] without its offset, [N] float32: what a training hears, and what is measured."""
    wave = channels[:, 0] if channels.shape[1] == 1 else channels.mean(axis=1)
    return (wave - wave.mean()).astype(np.float32)


def measure_wave(channels: np.ndarray, rate: int, seconds: float | None = None) -> Measures:
    """Measure a recording.

    Args:
        channels: [N, C] float32 in [-1, 1], N at least 1.
        rate: Hz.
        seconds: length of the clip, where `channels` is only its beginning.
    """
    wave = mono(channels)
    levels = measure_levels(wave, rate)
    bandwidth, edge = measure_bandwidth(wave, rate)
    hum, hum_level = measure_hum(wave, rate)
    gap, likeness = _compare_channels(channels)
    return Measures(
        seconds=round(len(wave) / rate if seconds is None else seconds, 6),
        measured_seconds=round(len(wave) / rate, 6),
        sample_rate=rate,
        channels=channels.shape[1],
        bandwidth=round(bandwidth, 1),
        edge=round(edge, 2),
        peak=round(float(np.abs(channels).max()), 6),
        clipped=round(max(flat_share(channel) for channel in channels.T), 8),
        crowding=round(max(crowding(channel) for channel in channels.T), 6),
        level=round(levels.level, 2),
        noise=None if levels.noise is None else round(levels.noise, 2),
        snr=None if levels.snr is None else round(levels.snr, 2),
        leading=round(levels.leading, 4),
        trailing=round(levels.trailing, 4),
        pause=round(levels.pause, 4),
        head=round(levels.head, 2),
        tail=round(levels.tail, 2),
        steady=round(measure_steady(wave, rate), 4),
        hum=hum,
        hum_level=round(hum_level, 2),
        offset=round(float(channels.mean()), 7),
        channel_gap=None if gap is None else round(gap, 3),
        channel_likeness=None if likeness is None else round(likeness, 5),
    )


def _compare_channels(channels: np.ndarray) -> tuple[float | None, float | None]:
    """dB between the loudest and the softest channel of [N, C], and the correlation of the two least alike."""
    if channels.shape[1] == 1:
        return None, None
    centred = channels - channels.mean(axis=0)
    powers = np.square(centred, dtype=np.float64).mean(axis=0)
    gap = decibels(float(powers.max())) - decibels(float(powers.min()))
    if powers.min() <= 0:
        return gap, 0.0
    likeness = (centred.T.astype(np.float64) @ centred) / len(centred) / np.sqrt(np.outer(powers, powers))
    return gap, float(likeness.min())
