"""From a text of any length to what is decoded at a time, and the pauses between."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cosytune.audio.silence import speech_bounds
from cosytune.errors import InputError
from cosytune.text.frontend import prepare_text
from cosytune.units import samples_of_seconds

__all__ = ["TextPiece", "cut_text", "join"]

SENTENCE_PAUSE = 0.35
CLAUSE_PAUSE = 0.15
PARAGRAPH_PAUSE = 0.7
"""Seconds of silence as readers leave them after a sentence, inside one, and between paragraphs."""

EDGE = 0.03
"""Seconds kept around the speech of a piece when its own silence gives way to a measured pause."""

LONGEST_TAIL = 0.5
"""Seconds of silence that may stand at either end of the whole."""

_PARAGRAPHS = re.compile(r"\n[ \t]*\n\s*")
_CLAUSE_END = re.compile(r"[，,、—–][\"'”’»」』）)\]]*\s*\Z")


@dataclass(frozen=True)
class TextPiece:
    """One piece to be decoded by itself and the silence after it, in seconds."""

    text: str
    pause: float


def cut_text(text: str, *, length: Callable[[str], int], language: str | None = None) -> list[TextPiece]:
    """Normalise a text and cut it into pieces.

    Args:
        text: of any length; blank lines part paragraphs.
        length: number of tokens of a string in the model's tokenizer.
        language: of the text; guessed for each paragraph without it.

    Raises:
        InputError: there is nothing to pronounce in it.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    # A language tag holds until the next one, also across paragraphs: then the text stays whole.
    paragraphs = [text] if "<|" in text else _PARAGRAPHS.split(text)
    pieces: list[TextPiece] = []
    silent: InputError | None = None
    for paragraph in paragraphs:
        try:
            found = prepare_text(paragraph, length=length, language=language)
        except InputError as error:  # a line of stars between two chapters says nothing
            silent = silent or error
            continue
        pieces += [TextPiece(piece, _pause(piece)) for piece in found[:-1]]
        pieces += [TextPiece(piece, PARAGRAPH_PAUSE) for piece in found[-1:]]
    if not pieces:
        raise silent or InputError(f"there is nothing to say in {text[:40]!r}; give text with words in it")
    return pieces


def _pause(piece: str) -> float:
    return CLAUSE_PAUSE if _CLAUSE_END.search(piece) else SENTENCE_PAUSE


def join(waves: list[np.ndarray], pauses: list[float], sample_rate: int) -> tuple[np.ndarray, list[int]]:
    """Put pieces behind each other; the silence between two of them is the first one's pause.

    Args:
        waves: [N_i] each.
        pauses: seconds after each; the last one's is not used.
        sample_rate: Hz.

    Returns:
        The whole wave [N] and the sample at which each piece begins.
    """
    edge, tail = (samples_of_seconds(seconds, sample_rate) for seconds in (EDGE, LONGEST_TAIL))
    parts: list[np.ndarray] = []
    starts: list[int] = []
    size = 0
    for index, (wave, pause) in enumerate(zip(waves, pauses, strict=True)):
        final = index == len(waves) - 1
        kept = _without_silence(wave, sample_rate, before=edge if index else tail, after=tail if final else edge)
        starts.append(size)
        parts.append(kept)
        size += len(kept)
        if not final:
            missing = max(0, samples_of_seconds(pause, sample_rate) - 2 * edge)  # both edges are silent as well
            parts.append(np.zeros(missing, dtype=np.float32))
            size += len(parts[-1])
    return np.concatenate(parts), starts


def _without_silence(wave: np.ndarray, sample_rate: int, before: int, after: int) -> np.ndarray:
    """The wave with at most so many samples of silence at its ends."""
    first, last = speech_bounds(wave, sample_rate)
    if first == last:
        return wave[: before + after]
    return wave[max(0, first - before) : last + after]
