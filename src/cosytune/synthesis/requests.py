"""What is asked of the synthesiser and what it gives back."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from cosytune.errors import CosytuneError, InputError

__all__ = ["END_OF_PROMPT", "Failure", "Mode", "Outcome", "Piece", "Request", "Speech", "problems_of"]

Mode = Literal["voice", "zero-shot", "cross-lingual", "instruct", "conversion"]

END_OF_PROMPT = "<endofprompt>"
"""What stands between an instruction and the text in the sequences that released instruct models were trained on."""

_END_MARKS = (END_OF_PROMPT, "<|endofprompt|>")
SLOWEST, FASTEST = 0.5, 2.0
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")


@dataclass(frozen=True)
class Request:
    """One text to be spoken, or one recording to be said again by another voice.

    Who speaks: a named `voice`, or the voice of a recording (`prompt_wave`). What is said: `text`, or what
    `source_wave` says (voice conversion).

    Attributes:
        text: what to say, of any length.
        voice: a named voice of the model; or
        prompt_wave: a recording whose voice is taken, float32 [N] at `prompt_rate` Hz.
        prompt_rate: Hz.
        prompt_text: what is said in the recording; with it the model continues the recording (zero-shot), without it
            only its sound is taken (cross-lingual).
        instruct: how to say it, in words; for models that were trained on instructions.
        source_wave: a recording whose words are kept and whose voice is exchanged, float32 [N] at `source_rate` Hz.
        source_rate: Hz.
        language: code of the text such as `en`, `zh-CN` or `yue`, for reading its numbers; guessed without it.
        speed: 0.5 (half as fast) to 2; the pitch stays.
        seed: of this request's own random numbers: the same request with the same seed gives the same speech.
        name: label for messages and files.
    """

    text: str = ""
    voice: str | None = None
    prompt_wave: np.ndarray | None = None
    prompt_rate: int | None = None
    prompt_text: str | None = None
    language: str | None = None
    seed: int = 0
    name: str = "request"
    instruct: str | None = None
    source_wave: np.ndarray | None = None
    source_rate: int | None = None
    speed: float = 1.0

    @property
    def mode(self) -> Mode:
        """What is asked for, by what was given.

        Raises:
            InputError: the parts of the request contradict each other.
        """
        if not isinstance(self.text, str):
            raise InputError(f"{self.name}: the text is a {type(self.text).__name__}; give a string")
        if (self.voice is None) == (self.prompt_wave is None):
            raise InputError(f"{self.name}: give either a voice or a prompt recording")
        if self.prompt_text is not None and self.prompt_wave is None:
            raise InputError(
                f"{self.name}: a prompt text says what is said in a prompt recording; give that recording, not the "
                f"voice {self.voice!r}, or leave the prompt text out"
            )
        if not SLOWEST <= self.speed <= FASTEST:
            raise InputError(f"{self.name}: speed {self.speed:g} is outside {SLOWEST:g} to {FASTEST:g}; 1 is unchanged")
        if self.language is not None and not _LANGUAGE.fullmatch(self.language):
            raise InputError(
                f"{self.name}: {self.language[:40]!r} is no language code; give two or three letters such as en or "
                "yue, with a region if you like (zh-CN), or leave it out: then the language is guessed"
            )
        if self.source_wave is not None:
            if self.text or self.instruct is not None or self.prompt_text is not None:
                raise InputError(
                    f"{self.name}: a recording to convert brings its own words; leave text, instruction and prompt "
                    "text out, or leave the recording out"
                )
            return "conversion"
        if self.instruction is not None:
            if self.instruct is not None and _at_mark(self.text)[1]:
                raise InputError(
                    f"{self.name}: there is an instruction and another one stands in the text before an end-of-prompt "
                    "mark; leave one of the two out"
                )
            if self.prompt_text is not None:
                raise InputError(
                    f"{self.name}: an instruction takes the place of the prompt text; leave one of the two out"
                )
            return "instruct"
        if self.voice is not None:
            return "voice"
        return "cross-lingual" if self.prompt_text is None else "zero-shot"

    @property
    def instruction(self) -> str | None:
        """`instruct`, or what stands before an end-of-prompt mark in the text, without the mark."""
        given = self.instruct
        if given is None:
            given, mark, _ = _at_mark(self.text)
            if not mark:
                return None
        for mark in _END_MARKS:
            given = given.replace(mark, " ")
        return given.strip()

    @property
    def words(self) -> str:
        """The text without an instruction written in front of it."""
        return _at_mark(self.text)[2] if self.instruct is None else self.text


def _at_mark(text: str) -> tuple[str, str, str]:
    """What stands before the last end-of-prompt mark, the mark, and what stands behind it."""
    found = [(text.rfind(mark), mark) for mark in _END_MARKS]
    place, mark = max(found)
    return ("", "", text) if place < 0 else (text[:place], mark, text[place + len(mark) :])


@dataclass(frozen=True)
class Piece:
    """One sentence or so, decoded by itself.

    Attributes:
        text: as it was handed to the LM; empty for a converted recording.
        tokens: speech tokens.
        ended: whether the LM ended it by itself.
        problem: what is still wrong with it after all tries, in words; None if nothing was found.
        retries: tries that were thrown away.
        start: seconds into the wave.
        seconds: its duration there.
    """

    text: str
    tokens: list[int]
    ended: bool
    problem: str | None
    retries: int
    start: float
    seconds: float


def problems_of(pieces: Sequence[Piece]) -> list[str]:
    """What is wrong with pieces, a line for each that something is wrong with."""
    return [f"{piece.text[:40]!r} at {piece.start:.1f} s: {piece.problem}" for piece in pieces if piece.problem]


@dataclass(frozen=True)
class Speech:
    """One request, spoken.

    Attributes:
        wave: float32 [N] in [-1, 1].
        sample_rate: Hz.
        mode: what was done.
        pieces: what it consists of, in order.
        seconds_spent: wall time by part (`prompt`, `lm`, `flow`, `vocoder`); time that several requests shared is
            divided among them.
    """

    wave: np.ndarray
    sample_rate: int
    mode: Mode
    pieces: list[Piece]
    seconds_spent: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Duration of the speech."""
        return len(self.wave) / self.sample_rate

    @property
    def tokens(self) -> int:
        """Speech tokens in all pieces."""
        return sum(len(piece.tokens) for piece in self.pieces)

    @property
    def empty(self) -> bool:
        """Whether nothing was said: no token in any piece, so that pauses are all there is, or no sample."""
        return not self.tokens or not len(self.wave)

    @property
    def retries(self) -> int:
        """Tries that were thrown away."""
        return sum(piece.retries for piece in self.pieces)

    @property
    def problems(self) -> list[str]:
        """What is wrong with it, a line for each piece that something is wrong with."""
        return problems_of(self.pieces)

    @property
    def real_time_factor(self) -> float:
        """Wall time per second of speech (RTF); below 1 is faster than real time."""
        return sum(self.seconds_spent.values()) / self.seconds if self.seconds else float("inf")

    @property
    def real_time_factors(self) -> dict[str, float]:
        """RTF of each part."""
        seconds = self.seconds
        return {part: spent / seconds if seconds else float("inf") for part, spent in self.seconds_spent.items()}

    def save(self, path: Path | str) -> None:
        """Write the wave; the format follows the suffix (wav, flac, mp3, ogg)."""
        from cosytune.audio.files import write_wave

        write_wave(Path(path), self.wave, self.sample_rate)


@dataclass(frozen=True)
class Failure:
    """A request that could not be met, among others that could."""

    error: CosytuneError


@dataclass(frozen=True)
class Outcome:
    """What became of one of many requests.

    Attributes:
        number: its place in the order they were given in, from 0.
        request: the request itself.
        result: its speech, or why there is none.
    """

    number: int
    request: Request
    result: Speech | Failure


Progress = Callable[[int, int], None]
"""Called with the pieces done and all pieces, before the first and after each."""
