"""Where there is speech in a wave, how loud it is, and how loud the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cosytune.audio.silence import loud_level
from cosytune.data.doctor.spectra import (
    FLOOR_DB,
    band_edges,
    band_powers,
    decibels,
    frame_rms,
    power_spectra,
    quiet_power,
)

__all__ = ["DIGITAL_SILENCE", "LOUDEST_SNR", "Levels", "measure_levels"]

DIGITAL_SILENCE = 10**-9.6
"""Power of a frame (-96 dBFS) below which nothing was recorded: 16 bits have at least so much rounding noise."""

LOUDEST_SNR = 90.0
"""dB. What a recording without measurable noise gets: 16 bits hold little more."""

BELOW_LOUD = 1e-4
"""Power of the softest speech against the loud part (-40 dB); the same limit as `audio.silence`."""

ABOVE_NOISE = 10**0.8
"""Power of the softest sound that stands out from the noise (8 dB)."""

SPOKEN = 10**0.4
"""Power against the noise from which a frame counts as speech when its level is taken (4 dB)."""

HIGHEST_GATE = 1e-2
"""The gate between silence and sound is never nearer to the loud part (-20 dB), however loud the noise."""

FRAME_SECONDS = 0.01
SHORTEST_SOUND = 3
"""Frames of 10 ms: a shorter sound is a click, not the beginning of speech."""

GATED_PAUSES = 3
NOISE_SHARE = 0.1
NOISE_SECONDS, NOISE_PAUSE = 1.5, 0.1
"""A clip shorter than the first needs a pause of the second (seconds in all) for its noise to be known."""

PAUSE = 10**-2.5
"""Power of a frame of such a pause against the loud part (-25 dB)."""

BANDS = 24


@dataclass(frozen=True)
class Levels:
    """Level, noise and bounds of a wave; see `Measures` for the units.

    `sounding` tells for each frame of 10 ms whether it is more than silence.
    """

    level: float
    noise: float | None
    snr: float | None
    leading: float
    trailing: float
    pause: float
    head: float
    tail: float
    sounding: np.ndarray


def measure_levels(wave: np.ndarray, rate: int) -> Levels:
    """Measure a wave [N]; digital silence has level -120 dBFS and is silent from end to end."""
    size = max(1, round(FRAME_SECONDS * rate))
    power = np.square(frame_rms(wave, size))
    seconds = len(wave) / rate
    if power.max(initial=0.0) < DIGITAL_SILENCE:
        return Levels(FLOOR_DB, None, None, seconds, seconds, 0.0, 0.0, 0.0, np.zeros(len(power), dtype=bool))
    loud = loud_level(np.sqrt(power)) ** 2
    noise = _noise_power(wave, rate) if _noise_is_heard(power, loud, size / rate) else None
    if _is_gated(power, loud):
        noise = 0.0
    known = noise or 0.0
    gate = max(DIGITAL_SILENCE, min(max(loud * BELOW_LOUD, known * ABOVE_NOISE), loud * HIGHEST_GATE))
    sounding = _without_clicks(power > gate)
    # Above the highest gate loud noise counts as sound; the level is that of what stands out of it.
    spoken = power > max(gate, known * SPOKEN)
    speech = max(float(power[spoken if spoken.any() else power > gate].mean()) - known, DIGITAL_SILENCE)
    first, last = np.flatnonzero(sounding)[[0, -1]]
    snr = None if noise is None else LOUDEST_SNR
    if known >= DIGITAL_SILENCE:
        snr = min(LOUDEST_SNR, 10 * float(np.log10(speech / known)))
    return Levels(
        level=decibels(speech),
        noise=decibels(known) if known >= DIGITAL_SILENCE else None,
        snr=snr,
        leading=float(first) * size / rate,
        trailing=max(0.0, seconds - (float(last) + 1) * size / rate),
        pause=_longest_pause(sounding) * size / rate,
        head=decibels(float(power[:2].mean()) / speech),
        tail=decibels(float(np.square(wave[-2 * size :], dtype=np.float64).mean()) / speech),
        sounding=sounding,
    )


def _noise_is_heard(power: np.ndarray, loud: float, frame_seconds: float) -> bool:
    """Whether a clip is long enough, or has enough of a pause, for its noise to be told from its speech."""
    return len(power) * frame_seconds >= NOISE_SECONDS or (power < loud * PAUSE).sum() * frame_seconds >= NOISE_PAUSE


def _is_gated(power: np.ndarray, loud: float) -> bool:
    """Whether a gate or an editor made several pauses digitally silent: what is left to measure there is speech."""
    first, last = np.flatnonzero(power > loud * BELOW_LOUD)[[0, -1]]
    return len(_runs(power[first:last] < DIGITAL_SILENCE)) >= GATED_PAUSES


def _noise_power(wave: np.ndarray, rate: int) -> float:
    """Power of the steady background from 60 Hz up, frames of digital silence left out."""
    size = 1 << max(6, round(np.log2(0.032 * rate)))
    edges = band_edges(size, rate, 60.0, rate / 2, BANDS)
    blocks = []
    for spectra in power_spectra(wave, size, max(1, round(FRAME_SECONDS * rate))):
        live = spectra[spectra.sum(axis=1) > DIGITAL_SILENCE]
        blocks.append(band_powers(live, edges))
    bands = np.concatenate(blocks)
    return quiet_power(bands, np.diff(edges), NOISE_SHARE) if len(bands) else 0.0


def _without_clicks(sounding: np.ndarray) -> np.ndarray:
    """The same frames without runs shorter than `SHORTEST_SOUND`, unless all runs are that short."""
    kept = np.zeros_like(sounding)
    for begin, end in _runs(sounding):
        kept[begin:end] = True
    return kept if kept.any() else sounding


def _runs(marked: np.ndarray) -> list[tuple[int, int]]:
    """First and last + 1 frame of each run of True that is not shorter than `SHORTEST_SOUND`."""
    edges = np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8))
    both = zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True)
    return [(int(begin), int(end)) for begin, end in both if end - begin >= SHORTEST_SOUND]


def _longest_pause(sounding: np.ndarray) -> int:
    """Frames of the longest silence between two sounds."""
    places = np.flatnonzero(sounding)
    return int(np.diff(places).max()) - 1 if len(places) > 1 else 0
