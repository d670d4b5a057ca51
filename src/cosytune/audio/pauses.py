"""Where a recording of any length holds speech and where it pauses: silero-vad where it is installed, or its energy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soxr

from cosytune.audio.files import wave_blocks
from cosytune.audio.silero import has_silero, speech_probabilities
from cosytune.units import FEATURE_FRAME_RATE, FEATURE_SAMPLE_RATE, exact_div

__all__ = [
    "FRAME_SECONDS",
    "Activity",
    "Detector",
    "find_speech",
    "speech_by_energy",
    "speech_by_probability",
    "waves_at_16_khz",
]

Detector = Literal["auto", "silero", "energy"]
"""How speech is found; "auto" is silero-vad where it is installed, and the energy rule elsewhere."""

FRAME = exact_div(FEATURE_SAMPLE_RATE, FEATURE_FRAME_RATE)
FRAME_SECONDS = FRAME / FEATURE_SAMPLE_RATE
"""Levels are measured in frames of 10 ms at 16 kHz."""
BLOCK_SECONDS = 30.0

HIGH_PASS = 120.0
"""Hz below which energy is hum, rumble or an offset: speech has enough above it to be found by."""
DIGITAL_SILENCE = -90.0
"""dB re full scale. Frames below it were made by a gate or an editor: they tell nothing about the room's noise."""
FLOOR_WINDOW = 200
"""Frames (2 s) in which speech pauses at least for a moment: minimum statistics (Martin, IEEE TSAP 9(5), 2001)."""
FLOOR_SHARE = 20
"""Percentile of the windows' minima that is the noise floor."""
HEARD = 6.0
"""dB above the floor from which on a frame counts for the level of speech."""
LOUD_SHARE = 75
"""Percentile of the heard frames' levels that is the level of speech: a slammed door does not move it."""
CONTRAST = 10.0
"""dB by which speech must stand out of the floor; steady noise and tones do not."""
RANGE = 60.0
"""dB below the level of speech under which no floor is assumed: studio silence is not the measure of a consonant."""
ENTER, LEAVE = 0.35, 0.22
"""Speech begins above this share of the way from floor to speech level, and ends below that one."""
ENTER_LEAST, LEAVE_LEAST = 6.0, 3.0
"""dB above the floor that these thresholds have at least."""

SILERO_LEVEL = -24.0
"""dB re full scale. Fainter speech is made this loud before silero-vad hears it."""
PROBABLE, IMPROBABLE = 0.5, 0.35
"""Speech begins above this probability of silero-vad and ends below that one, as its authors use it."""

SHORTEST_PAUSE = 0.1
"""Seconds. A shorter gap may be the closure of a plosive."""
SHORTEST_SPEECH = 0.06
"""Seconds. What is shorter is a click."""


@dataclass(frozen=True, eq=False)
class Activity:
    """What is heard when.

    Attributes:
        seconds: length of the recording, or of the part that was looked at; times count from its beginning.
        speech: float64 [K, 2], begin and end of each stretch of speech in seconds, in order.
        levels: float32 [F], level of each frame of 10 ms in dB re full scale, hum taken away.
        detector: "silero" or "energy".
    """

    seconds: float
    speech: np.ndarray
    levels: np.ndarray
    detector: str


def find_speech(path: Path, start: float = 0.0, end: float | None = None, detector: Detector = "auto") -> Activity:
    """Find the speech of a recording, or of a part of it, in memory that hardly grows with its length (1.5 MB an hour).

    Args:
        path: a recording (see `read_wave`).
        start: seconds to begin at.
        end: seconds to stop at; None is the end of the recording.
        detector: see `Detector`.

    Raises:
        InputError: the recording cannot be read.
        MissingPackageError: silero-vad is asked for by name and not installed.
    """
    chosen = ("silero" if has_silero() else "energy") if detector == "auto" else detector
    levels, seconds = _frame_levels(waves_at_16_khz(path, start, end))
    if chosen == "silero":
        gain = _gain(levels)
        blocks = (gain * block for block in waves_at_16_khz(path, start, end))
        spans = speech_by_probability(np.fromiter(speech_probabilities(blocks), np.float32))
    else:
        spans = speech_by_energy(levels)
    spans = np.minimum(spans, seconds)
    return Activity(seconds, spans[spans[:, 1] > spans[:, 0]], levels, chosen)


def speech_by_energy(levels: np.ndarray) -> np.ndarray:
    """Begin and end of each stretch of speech in seconds [K, 2] of the frame levels [F] in dB.

    The thresholds lie between the recording's own noise floor and its own level of speech, so neither its gain nor its
    hiss matters. What does not rise above its floor (a steady noise, a tone, silence) holds no speech. Music does: only
    silero-vad tells it from speech.
    """
    smooth = _smooth(levels, 3)
    bounds = _floor_and_loudness(smooth)
    if bounds is None:
        return np.zeros((0, 2))
    floor, loud = bounds
    enter = floor + max(ENTER_LEAST, ENTER * (loud - floor))
    leave = floor + max(LEAVE_LEAST, LEAVE * (loud - floor))
    return _clean(_hysteresis(smooth, enter, leave) * FRAME_SECONDS)


def speech_by_probability(probabilities: np.ndarray) -> np.ndarray:
    """Begin and end of each stretch of speech in seconds [K, 2] of silero-vad's probabilities, one each 32 ms."""
    return _clean(_hysteresis(probabilities, PROBABLE, IMPROBABLE) * (512 / FEATURE_SAMPLE_RATE))


def waves_at_16_khz(path: Path, start: float, end: float | None) -> Iterator[np.ndarray]:
    """The waves [N] of a recording, block by block; joined, they are what resampling the whole would give."""
    stream = None
    for block, rate in wave_blocks(path, BLOCK_SECONDS, start, end):
        if rate == FEATURE_SAMPLE_RATE:
            yield block
            continue
        if stream is None:
            stream = soxr.ResampleStream(rate, FEATURE_SAMPLE_RATE, 1, dtype="float32")
        yield stream.resample_chunk(block)
    if stream is not None:
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _frame_levels(blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, float]:
    """Level of each frame, float32 [F] in dB, above the hum; and the seconds of all blocks."""
    from scipy.signal import butter, sosfilt, sosfilt_zi  # takes longer to load than all else here

    high_pass = butter(4, HIGH_PASS, "highpass", fs=FEATURE_SAMPLE_RATE, output="sos")
    # As if the recording had always stood at the value it begins with: an offset is no click.
    settled = sosfilt_zi(high_pass)
    state, rest, samples, levels = None, np.zeros(0), 0, [np.zeros(0, np.float32)]
    for block in blocks:
        if not len(block):
            continue
        samples += len(block)
        state = settled * block[0] if state is None else state
        heard, state = sosfilt(high_pass, block, zi=state)
        rest = np.concatenate([rest, heard])
        whole = len(rest) // FRAME * FRAME
        levels.append(_decibels(np.square(rest[:whole]).reshape(-1, FRAME).mean(axis=1)))
        rest = rest[whole:]
    if len(rest):
        levels.append(_decibels(np.square(rest).mean(keepdims=True)))
    return np.concatenate(levels), samples / FEATURE_SAMPLE_RATE


def _decibels(power: np.ndarray) -> np.ndarray:
    return (10 * np.log10(np.maximum(power, 1e-20))).astype(np.float32)


def _gain(levels: np.ndarray) -> float:
    """Factor that brings speech to the level that silero-vad was trained on; it hears faint recordings badly."""
    bounds = _floor_and_loudness(_smooth(levels, 3))
    return 1.0 if bounds is None else float(10 ** (max(0.0, SILERO_LEVEL - bounds[1]) / 20))


def _smooth(levels: np.ndarray, frames: int) -> np.ndarray:
    """Levels of the mean power of `frames` frames around each."""
    if len(levels) < frames:
        return levels
    padded = np.pad(10.0 ** (levels.astype(np.float64) / 10), frames // 2, mode="edge")
    total = np.cumsum(np.concatenate([[0.0], padded]))
    # A difference of long sums can fall below zero by rounding.
    return 10 * np.log10(np.maximum((total[frames:] - total[:-frames]) / frames, 1e-20))


def _floor_and_loudness(levels: np.ndarray) -> tuple[float, float] | None:
    """Noise floor and level of speech in dB, or None where nothing stands out."""
    sounding = levels[levels > DIGITAL_SILENCE]
    if not len(sounding):
        return None
    windows = [sounding[begin : begin + FLOOR_WINDOW].min() for begin in range(0, len(sounding), FLOOR_WINDOW)]
    floor = float(np.percentile(windows, FLOOR_SHARE))
    if sounding.max() <= floor + HEARD and len(sounding) < len(levels):
        # Nothing stands out of what sounds, but it stands out of the digital silence around it.
        floor = DIGITAL_SILENCE
    heard = sounding[sounding > floor + HEARD]
    if not len(heard):
        return None
    loud = float(np.percentile(heard, LOUD_SHARE))
    return (max(floor, loud - RANGE), loud) if loud - floor > CONTRAST else None


def _hysteresis(values: np.ndarray, enter: float, leave: float) -> np.ndarray:
    """Runs of frames above `leave` that rise above `enter` somewhere, int [K, 2]: first frame, one after the last."""
    above = np.concatenate([[False], values > leave, [False]])
    edges = np.flatnonzero(above[1:] != above[:-1]).reshape(-1, 2)
    if not len(edges):
        return edges
    highest = np.maximum.reduceat(np.append(values, -np.inf), edges.ravel())[::2]
    return edges[highest > enter]


def _clean(spans: np.ndarray) -> np.ndarray:
    """Join spans [K, 2] in seconds over gaps that are no pauses, then leave out clicks."""
    if not len(spans):
        return np.zeros((0, 2))
    parted = spans[1:, 0] - spans[:-1, 1] >= SHORTEST_PAUSE - 1e-9
    begins = spans[np.concatenate([[True], parted]), 0]
    ends = spans[np.concatenate([parted, [True]]), 1]
    joined = np.stack([begins, ends], axis=1)
    return joined[ends - begins >= SHORTEST_SPEECH - 1e-9]
