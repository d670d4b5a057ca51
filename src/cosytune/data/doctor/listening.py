"""What a worker does with one clip: decode it, measure it, let the judges hear it, forget it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cosytune.audio.files import read_channels, wave_info
from cosytune.data.doctor.fingerprints import fingerprint
from cosytune.data.doctor.measuring import measure_wave, mono
from cosytune.data.doctor_results import Measures
from cosytune.data.manifest import Utterance
from cosytune.errors import InputError
from cosytune.text.language import base_language

__all__ = ["Embed", "Heard", "Listener", "Recogniser", "Transcribe", "lost_clip", "sound_hash"]

Transcribe = Callable[[np.ndarray, int], str]
"""A wave float32 [N] and its rate to words."""

Embed = Callable[[np.ndarray, int], "np.ndarray | None"]
"""A wave float32 [N] and its rate to a unit vector [E] of the voice, None for silence."""

HEARD_SECONDS = 60.0
"""Of a longer recording only so much is listened to: memory stays bounded, and it will be cut anyway."""

ROUNDED = 0.05
"""Seconds by which a table's `end` may pass the last sample: such times are often rounded."""


@dataclass(frozen=True)
class Recogniser:
    """Somebody who writes down what is said.

    Attributes:
        name: for the report.
        languages: codes that it understands; None are all.
        transcribe: a function that can be pickled, and small when pickled.
        fold: text to the words that count; used for transcripts and for what was heard.
    """

    name: str
    languages: frozenset[str] | None
    transcribe: Transcribe
    fold: Callable[[str], str]

    def understands(self, language: str) -> bool:
        """Whether it is asked about clips of a language; "" is none."""
        return bool(language) and (self.languages is None or base_language(language) in self.languages)


@dataclass(frozen=True, slots=True)
class Heard:
    """What is kept of a clip.

    Attributes:
        measures: None if the clip cannot be used at all.
        problem: why not, "kind: detail".
        sound: hash of the decoded samples.
        prints: fingerprint, uint32 [frames].
        vector: of the voice [E], None if nobody was asked or there is no voice.
        words: what the recogniser heard, None if nobody was asked.
    """

    measures: Measures | None
    problem: str = ""
    sound: str = ""
    prints: np.ndarray | None = None
    vector: np.ndarray | None = None
    words: str | None = None


@dataclass(frozen=True)
class Listener:
    """A worker's function from an utterance to what is kept of it; it never raises for a bad file.

    Attributes:
        embed: voice encoder, or None.
        transcribe: recogniser, or None.
        languages: the languages that the recogniser is asked about.
    """

    embed: Embed | None = None
    transcribe: Transcribe | None = None
    languages: frozenset[str] = frozenset()

    def __call__(self, utterance: Utterance) -> Heard:
        """Decode, measure, listen."""
        try:
            channels, rate, seconds = _read(utterance)
        except InputError as error:
            return Heard(None, f"unreadable: {error}")
        measures = measure_wave(channels, rate, seconds)
        wave = mono(channels)
        audible = measures.speech_seconds > 0 and rate >= 4000
        listened = audible and self.transcribe is not None and utterance.language in self.languages and utterance.text
        return Heard(
            measures,
            sound=sound_hash(channels, rate),
            prints=fingerprint(wave, rate),
            vector=self.embed(wave, rate) if audible and self.embed is not None else None,
            words=self.transcribe(wave, rate) if listened and self.transcribe is not None else None,
        )


def lost_clip(utterance: Utterance) -> Heard:
    """What is known of a clip whose worker died."""
    return Heard(None, f"unreadable: decoding {utterance.audio} ended the process (out of memory, or a broken codec)")


def sound_hash(channels: np.ndarray, rate: int) -> str:
    """Hash of the samples [N, C] at 16 bits: equal for a wav and the flac made of it."""
    samples = np.round(channels * 32768.0).astype("<i4")
    return hashlib.sha256(samples.tobytes() + str([rate, *samples.shape]).encode()).hexdigest()[:32]


def _read(utterance: Utterance) -> tuple[np.ndarray, int, float]:
    """Samples [N, C] of the clip or its beginning, their rate, and the length of the whole clip in seconds."""
    path = Path(utterance.audio)
    # Not Path.is_file, which raises for a name that no disk can hold.
    if os.path.isfile(path) and path.stat().st_size == 0:  # noqa: PTH113
        raise InputError(f"{path} has no bytes: copy or export it again, or leave it out")
    total = wave_info(path).seconds
    start, end = utterance.start or 0.0, total if utterance.end is None else utterance.end
    if end > total + ROUNDED or start >= total:
        raise InputError(
            f"the clip goes from {start:g} to {end:g} s and {path} ends at {total:.2f} s: correct start and end"
        )
    end = min(end, total)
    channels, rate = read_channels(path, start, end if end - start <= HEARD_SECONDS else start + HEARD_SECONDS)
    return channels, rate, end - start
