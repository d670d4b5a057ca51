"""Something that is measured like a voice, folders of it, and records of a check."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from cosytune.audio.files import write_wave
from cosytune.data.doctor_results import Measures

RATE = 16_000

TEXTS = (
    "The boat came in with the morning tide.",
    "She has never seen so many birds at once.",
    "Where do you think they will go from here?",
    "It was a cold and quiet night in the hills.",
    "Nobody could tell who had opened the window.",
    "A letter for you is lying on the kitchen table.",
    "We were told that the road is closed today.",
    "His brother plays the violin in an orchestra.",
    "Take the second street on the left, then ask.",
    "The old clock in the hall has stopped again.",
    "I would rather stay at home and read a book.",
    "They built the bridge out of wood and stone.",
)

GOOD = Measures(
    seconds=4.0, measured_seconds=4.0, sample_rate=24_000, channels=1, bandwidth=11_500.0, edge=0.0, peak=0.5,
    clipped=0.0, crowding=0.02, level=-25.0, noise=-60.0, snr=35.0, leading=0.1, trailing=0.1, pause=0.2, head=-40.0,
    tail=-40.0, steady=0.1, hum=0.0, hum_level=-120.0, offset=0.0,
)  # fmt: skip


def voice(
    seconds: float = 2.5, rate: int = RATE, seed: int = 0, pitch: float = 140.0, room: float = 1e-4
) -> np.ndarray:
    """Syllables of gliding harmonics and hisses with pauses between them and 0.1 s around, float32 [N]."""
    rng = np.random.default_rng(seed)
    wave = room * rng.normal(size=round(seconds * rate))
    at = 0.1
    while at < seconds - 0.45:
        length = rng.uniform(0.12, 0.25)
        time = np.arange(round(length * rate)) / rate
        tone = pitch * rng.uniform(0.8, 1.3) * (1 + rng.uniform(-0.3, 0.3) * time / length)
        phase = 2 * np.pi * np.cumsum(tone) / rate
        formant = rng.uniform(400, 2500)
        syllable = np.zeros(len(time))
        for order in range(1, 30):
            height = 1 / (1 + ((order * pitch - formant) / 500) ** 2) + 0.3 / order
            syllable += height * np.sin(order * phase) * (order * tone < rate / 2)
        hiss = rng.normal(size=len(time)) * np.exp(-(((time - 0.9 * length) / 0.03) ** 2))
        shape = np.sin(np.pi * time / length) ** 0.5 * rng.uniform(0.5, 1.0)
        begin = round(at * rate)
        piece = shape * (0.08 * syllable + 0.1 * hiss)
        wave[begin : begin + len(piece)] += piece
        at += length + rng.uniform(0.03, 0.2)
    return (0.6 * wave / max(1e-9, np.abs(wave).max())).astype(np.float32)


def write_folder(folder: Path, count: int = 12, *, speaker: str = "anna") -> Path:
    """A plain folder of one speaker, a .txt beside each clip."""
    for place in range(count):
        path = folder / speaker / f"{place:02d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_wave(path, voice(seed=place), RATE)
        path.with_suffix(".txt").write_text(TEXTS[place % len(TEXTS)], encoding="utf-8")
    return folder


def good(**changes: object) -> Measures:
    """Measures of a fine clip, some of them changed."""
    return replace(GOOD, **changes)  # type: ignore[arg-type]
