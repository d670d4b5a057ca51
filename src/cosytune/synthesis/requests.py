"""What is asked of the synthesiser and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

__all__ = ["Request", "Speech"]


@dataclass(frozen=True)
class Request:
    """One text to be spoken.

    Attributes:
        text: what to say.
        voice: a named voice of the model; or
        prompt_wave: a recording whose voice is taken, float32 [N] at `prompt_rate` Hz.
        prompt_rate: Hz.
        prompt_text: what is said in the recording; with it the model continues the recording (zero-shot), without it
            only its sound is taken (cross-lingual).
        language: code of the text, for reading its numbers; guessed without it.
        seed: of this request's own random numbers: the same request with the same seed gives the same speech.
        name: label for messages and files.
    """

    text: str
    voice: str | None = None
    prompt_wave: np.ndarray | None = None
    prompt_rate: int | None = None
    prompt_text: str | None = None
    language: str | None = None
    seed: int = 0
    name: str = "request"


@dataclass(frozen=True)
class Speech:
    """One spoken text.

    Attributes:
        wave: float32 [N] in [-1, 1].
        sample_rate: Hz.
        pieces: the sentences as they were handed to the LM.
        tokens: speech tokens of each piece.
        ended: for each piece, whether the LM ended it by itself (False: the length limit did).
        seconds_spent: wall time by part.
    """

    wave: np.ndarray
    sample_rate: int
    pieces: list[str]
    tokens: list[list[int]]
    ended: list[bool]
    seconds_spent: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Duration of the speech."""
        return len(self.wave) / self.sample_rate

    @property
    def real_time_factor(self) -> float:
        """Wall time per second of speech (RTF); below 1 is faster than real time."""
        return sum(self.seconds_spent.values()) / self.seconds if self.seconds else float("inf")

    def save(self, path: Path | str) -> None:
        """Write the wave; the format follows the suffix (wav, flac, mp3, ogg)."""
        from cosytune.audio.files import write_wave

        write_wave(Path(path), self.wave, self.sample_rate)
