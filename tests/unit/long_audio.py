"""Made-up speech: noise with the slow swing of syllables, in known places."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile

from cosytune.data.manifest import Utterance


def murmur(samples: int, rate: int, level: float = 0.2) -> np.ndarray:
    """A voice without words: five harmonics of 150 Hz and breath, louder and softer four times a second."""
    time = np.arange(samples) / rate
    voice = sum(np.sin(2 * np.pi * 150 * n * time + n) / n for n in range(1, 6))
    breath = 0.1 * np.random.default_rng(samples).standard_normal(samples)
    return level * (0.6 + 0.4 * np.cos(2 * np.pi * 4 * time)) * (voice + breath) / 2


def recording(
    spoken: Iterable[tuple[float, float]], seconds: float, rate: int = 16_000, level: float = 0.2, room: float = 1e-5
) -> np.ndarray:
    """Murmuring between the given seconds, [N] float32, over a faint noise."""
    wave = room * np.random.default_rng(1).standard_normal(round(seconds * rate))
    for begin, end in spoken:
        first, last = round(begin * rate), round(end * rate)
        wave[first:last] += murmur(last - first, rate, level)
    return wave.astype(np.float32)


def write_recording(path: Path, spoken: Iterable[tuple[float, float]], seconds: float, rate: int = 8_000) -> Utterance:
    """A recording on disk and its utterance without text."""
    soundfile.write(path, recording(spoken, seconds, rate), rate)
    return Utterance(path.stem, str(path), None, "someone", "en")
