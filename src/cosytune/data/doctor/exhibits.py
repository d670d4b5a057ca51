"""The worst clips made ready to look at and listen to: sound for any browser, outline and spectrogram."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cosytune.audio.files import encode_wave, read_wave
from cosytune.audio.resample import resample
from cosytune.data.doctor.spectra import power_spectra
from cosytune.data.doctor_results import ClipCheck, DoctorResult, Exhibit
from cosytune.errors import InputError

__all__ = ["choose_exhibits", "make_exhibits"]

UNHEARD = frozenset(
    {"repeated text", "figures", "unknown characters", "no transcript", "mixed alphabets", "unreadable"}
)
"""Defects of which nothing can be heard or seen in the sound."""

SOUND_RATES = (8000, 12_000, 16_000, 24_000)
"""Hz that MP3 knows: every browser plays it, and it takes a tenth of a wave's bytes."""

LONGEST = 30.0
"""Seconds of a clip that are shown and played."""

COLUMNS, ROWS = 480, 96
RANGE_DB = 70.0
TOP_HERTZ = 12_000.0


def choose_exhibits(result: DoctorResult, each: int) -> list[ClipCheck]:
    """At most `each` clips of every defect, the worst first, in the order of the folder."""
    wanted: dict[str, list[ClipCheck]] = defaultdict(list)
    for clip in sorted(result.clips, key=lambda clip: clip.severity, reverse=True):
        for defect in {finding.defect for finding in clip.findings} - UNHEARD:
            wanted[defect].append(clip)
    chosen = {clip.id for clips in wanted.values() for clip in clips[:each]}
    return [clip for clip in result.clips if clip.id in chosen and clip.measures is not None]


def make_exhibits(result: DoctorResult, *, each: int = 8, most_bytes: int = 9_000_000) -> list[Exhibit]:
    """Sound and pictures of the worst clips of each defect.

    Args:
        result: the recordings it names are read again.
        each: clips of each defect, at most.
        most_bytes: of sound in all; the mildest clips are left out beyond.
    """
    chosen = choose_exhibits(result, each)
    found: dict[str, Exhibit] = {}
    used = 0
    for clip in _by_turns(chosen):
        try:
            exhibit = _exhibit(clip)
        except InputError:
            # It could be read a moment ago; whoever changed it since has taken nothing but its picture.
            continue
        used += len(exhibit.sound)
        if used > most_bytes:
            break
        found[clip.id] = exhibit
    return [found[clip.id] for clip in chosen if clip.id in found]


def _by_turns(clips: Sequence[ClipCheck]) -> Iterator[ClipCheck]:
    """The worst clip of each defect, then the second of each, so that a limit leaves some of all."""
    queues: dict[str, list[ClipCheck]] = defaultdict(list)
    for clip in sorted(clips, key=lambda clip: clip.severity, reverse=True):
        queues[clip.findings[0].defect].append(clip)
    for turn in range(max(map(len, queues.values()), default=0)):
        for defect in sorted(queues):
            if turn < len(queues[defect]):
                yield queues[defect][turn]


def _exhibit(clip: ClipCheck) -> Exhibit:
    seconds = clip.measures.seconds if clip.measures is not None else LONGEST
    # The clip as it was found, not as it would be after the fix.
    wave, rate = read_wave(Path(clip.audio), None, clip.began, clip.began + min(seconds, LONGEST))
    target = next(known for known in SOUND_RATES if known >= min(rate, SOUND_RATES[-1]))
    top = min(rate / 2, TOP_HERTZ)
    return Exhibit(
        id=clip.id,
        sound=encode_wave(np.clip(resample(wave, rate, target), -1, 1), target, "mp3"),
        media_type="audio/mpeg",
        seconds=len(wave) / rate,
        envelope=_envelope(wave),
        spectrogram=_spectrogram(wave, rate, top),
        top_hertz=top,
    )


def _envelope(wave: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Lowest and highest sample of `COLUMNS` stretches of a wave [N], of fewer where N is smaller."""
    starts = np.unique(np.linspace(0, len(wave), COLUMNS, endpoint=False).astype(int))
    lows, highs = np.minimum.reduceat(wave, starts), np.maximum.reduceat(wave, starts)
    return tuple((round(float(low), 4), round(float(high), 4)) for low, high in zip(lows, highs, strict=True))


def _spectrogram(wave: np.ndarray, rate: int, top: float) -> tuple[bytes, ...]:
    """`ROWS` rows from `top` Hz down to 0, loudness in 256 steps of the 70 dB below the loudest."""
    size = 1 << round(np.log2(0.025 * rate))
    hop = max(1, len(wave) // COLUMNS)
    spectra = np.concatenate(list(power_spectra(wave, size, hop)))[:, : max(2, round(top * size / rate) + 1)]
    edges = np.unique(np.linspace(0, spectra.shape[1], ROWS, endpoint=False).astype(int))
    power = np.add.reduceat(spectra, edges, axis=1) / np.diff(np.append(edges, spectra.shape[1]))
    loudness = 10 * np.log10(np.maximum(power, 1e-14))
    grey = np.clip((loudness - loudness.max() + RANGE_DB) / RANGE_DB, 0, 1)
    return tuple(row.tobytes() for row in np.round(255 * grey.T[::-1]).astype(np.uint8))
