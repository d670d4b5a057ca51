"""Numbers that need no judge: pace, pauses, pitch, level, and whether a clip ran away or broke off."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cosytune.evaluation.results import COUNTED, MetricInfo
from cosytune.text.language import is_chinese
from cosytune.text.normalise import normalise

__all__ = [
    "METRICS",
    "PACE_CHINESE",
    "PACE_LETTERS",
    "EdgeSilence",
    "PaceLimits",
    "PitchSummary",
    "edge_silence",
    "level_dbfs",
    "measure",
    "pitch_summary",
    "runaway",
    "spoken_characters",
    "too_short",
]

FLOOR_DBFS = -120.0
"""What silence is called on a scale where its logarithm would be minus infinity."""

SILENT_POWER = 10.0 ** (-60.0 / 10.0)
SILENT_SHARE = 10.0 ** (-40.0 / 10.0)
"""Mean square below which a frame is silent: as it is, and as a share of the loudest frame's."""

FRAME_SECONDS = 0.01
PITCH_HOP_SECONDS = 0.01
FEWEST_VOICED_FRAMES = 5


@dataclass(frozen=True)
class PaceLimits:
    """Characters a second that human reading does not leave, and seconds of slack for breath, pauses, short texts."""

    slowest: float
    fastest: float
    slack_seconds: float


PACE_LETTERS = PaceLimits(slowest=5.0, fastest=30.0, slack_seconds=1.5)
"""Letters and digits of alphabetic scripts. Read sentences of two voices have 10 to 20 a second."""

PACE_CHINESE = PaceLimits(slowest=1.8, fastest=10.0, slack_seconds=1.5)
"""Characters of Chinese, each a syllable: read speech has 3 to 7 a second."""


@dataclass(frozen=True)
class EdgeSilence:
    """Seconds of silence before and after the speech; both are the whole length if there is no speech."""

    leading: float
    trailing: float


@dataclass(frozen=True)
class PitchSummary:
    """Median F0 in Hz, and the distance from its 10th to its 90th percentile in semitones (a log measure)."""

    median_hz: float
    range_semitones: float


METRICS = (
    MetricInfo("spoken", "yes=1", True, COUNTED, "whether there is anything to hear at all"),
    MetricInfo("runaway", "yes=1", False, COUNTED, "far longer than its text can take"),
    MetricInfo("too_short", "yes=1", False, COUNTED, "far shorter than its text needs"),
    MetricInfo("seconds", "s", None, COUNTED, "length of the clip"),
    MetricInfo("characters_per_second", "1/s", None, COUNTED, "pace of the speech between its edge silences"),
    MetricInfo("leading_silence", "s", None, COUNTED, "silence before the speech"),
    MetricInfo("trailing_silence", "s", None, COUNTED, "silence after the speech"),
    MetricInfo("level", "dBFS", None, COUNTED, "root mean square level"),
    MetricInfo("duration_ratio", "ratio", None, COUNTED, "length, divided by the length of the recording of the text"),
    MetricInfo("f0_median", "Hz", None, COUNTED, "middle of the pitch"),
    MetricInfo("f0_range", "semitones", None, COUNTED, "liveliness of the pitch: 10th to 90th percentile"),
)
"""All that `measure` can return. Without a direction: a faster or higher voice is neither better nor worse."""


def level_dbfs(wave: np.ndarray) -> float:
    """Root mean square of a wave [N] in dB, where a full-scale square wave has 0; silence has -120."""
    power = float(np.mean(np.square(wave, dtype=np.float64))) if wave.size else 0.0
    return max(FLOOR_DBFS, 10.0 * float(np.log10(power))) if power > 0 else FLOOR_DBFS


def edge_silence(wave: np.ndarray, sample_rate: int) -> EdgeSilence:
    """Silence at both ends of a wave [N], on a grid of 10 ms.

    A frame is silent if its level is more than 40 dB under the loudest frame's, or under -60 dBFS.
    """
    size = max(1, round(FRAME_SECONDS * sample_rate))
    seconds = len(wave) / sample_rate
    frames = -(-len(wave) // size)
    padded = np.zeros(frames * size)
    padded[: len(wave)] = wave
    power = np.square(padded.reshape(frames, size)).mean(axis=1)
    threshold = max(SILENT_POWER, float(power.max(initial=0.0)) * SILENT_SHARE)
    (loud,) = np.nonzero(power >= threshold)
    if loud.size == 0:
        return EdgeSilence(seconds, seconds)
    end = min(len(wave), (int(loud[-1]) + 1) * size)
    return EdgeSilence(int(loud[0]) * size / sample_rate, (len(wave) - end) / sample_rate)


@lru_cache(maxsize=4096)
def spoken_characters(text: str) -> int:
    """Letters and other characters that are read aloud: all but marks, punctuation, symbols and spaces.

    Figures count as the words that they are read as, where the normaliser can read them: `1999` takes as long as
    eighteen letters, not as four.
    """
    if any(map(str.isdigit, text)):
        text = normalise(text)
    return sum(unicodedata.category(char)[0] in "LN" for char in text)


def _limits(text: str) -> PaceLimits:
    return PACE_CHINESE if is_chinese(text) else PACE_LETTERS


def runaway(text: str, seconds: float) -> bool:
    """Whether a clip is longer than the slowest reading of its text: repeats, babble, or silence without end."""
    limits = _limits(text)
    return seconds > spoken_characters(text) / limits.slowest + limits.slack_seconds


def too_short(text: str, seconds: float) -> bool:
    """Whether `seconds` of speech are fewer than the fastest reading of the text: words are missing."""
    return seconds < spoken_characters(text) / _limits(text).fastest


def pitch_summary(wave: np.ndarray, sample_rate: int) -> PitchSummary | None:
    """Middle and range of F0 of a wave [N], or None if fewer than five frames of 10 ms are voiced."""
    # Imported here: the pitch tracker takes seconds to load and most callers never ask for it.
    from cosytune.audio.pitch import pitch

    hop = max(1, round(PITCH_HOP_SECONDS * sample_rate))
    frames = len(wave) // hop
    if frames < FEWEST_VOICED_FRAMES:
        return None
    contour = pitch(wave, sample_rate, hop, frames)
    voiced = contour[contour > 0]
    if voiced.size < FEWEST_VOICED_FRAMES:
        return None
    low, middle, high = np.percentile(voiced, [10, 50, 90])
    return PitchSummary(float(middle), float(12.0 * np.log2(high / low)))


def measure(
    wave: np.ndarray, sample_rate: int, text: str, *, recording_seconds: float | None = None, pitch: bool = True
) -> dict[str, float]:
    """All of `METRICS` that can be had from an audible wave float32 [N]; what cannot is absent.

    Args:
        recording_seconds: length of a recording of the same text; None leaves `duration_ratio` out.
        pitch: whether to follow F0, by far the slowest of these numbers.
    """
    seconds = len(wave) / sample_rate
    silence = edge_silence(wave, sample_rate)
    speech = max(0.0, seconds - silence.leading - silence.trailing)
    found = {
        "runaway": float(runaway(text, seconds)),
        "too_short": float(too_short(text, speech)),
        "seconds": seconds,
        "leading_silence": silence.leading,
        "trailing_silence": silence.trailing,
        "level": level_dbfs(wave),
    }
    if speech > 0:
        found["characters_per_second"] = spoken_characters(text) / speech
    if recording_seconds:
        found["duration_ratio"] = seconds / recording_seconds
    contour = pitch_summary(wave, sample_rate) if pitch else None
    if contour is not None:
        found["f0_median"] = contour.median_hz
        found["f0_range"] = contour.range_semitones
    return found
