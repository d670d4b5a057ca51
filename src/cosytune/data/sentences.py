"""Sentences by the thousand, put together from our own words, each with a label of its type."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from cosytune.data import sentences_en, sentences_zh
from cosytune.errors import InputError

__all__ = ["KINDS", "LANGUAGES", "Sentence", "sentences", "stream"]

KINDS = ("statement", "question", "exclamation", "list", "number", "name", "quote", "long")

_MAKERS: Mapping[str, Mapping[str, Callable[[random.Random], str]]] = {
    "en": sentences_en.MAKERS,
    "zh": sentences_zh.MAKERS,
}
LANGUAGES = tuple(_MAKERS)


@dataclass(frozen=True)
class Sentence:
    """A sentence to read aloud.

    Attributes:
        text: with capital letter (where the script has them) and final mark; numbers are written in words.
        kind: one of KINDS.
    """

    text: str
    kind: str


def sentences(count: int, *, seed: int = 0, kinds: Sequence[str] = KINDS, language: str = "en") -> list[Sentence]:
    """The first `count` sentences of `stream`.

    Raises:
        InputError: a negative count, an unknown kind or language, or no kind.
    """
    if count < 0:
        raise InputError(f"{count} sentences cannot be made; ask for 0 or more")
    return list(islice(stream(seed=seed, kinds=kinds, language=language), count))


def stream(*, seed: int = 0, kinds: Sequence[str] = KINDS, language: str = "en") -> Iterator[Sentence]:
    """Distinct sentences without end, the kinds in turn; the same seed gives the same ones.

    Raises:
        InputError: an unknown kind or language, or no kind.
    """
    if language not in _MAKERS:
        raise InputError(
            f"sentences can be made in {', '.join(LANGUAGES)}, not in {language!r}; bring texts of your own"
        )
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise InputError(f"kinds of sentences are {', '.join(KINDS)}; {unknown[0] if unknown else 'none'!r} was given")
    return _stream(random.Random(f"sentences {seed}"), kinds, _MAKERS[language])


def _stream(
    rng: random.Random, kinds: Sequence[str], makers: Mapping[str, Callable[[random.Random], str]]
) -> Iterator[Sentence]:
    made: set[str] = set()
    while True:
        kind = kinds[len(made) % len(kinds)]
        text = makers[kind](rng)
        text = text[0].upper() + text[1:]
        if text not in made:
            made.add(text)
            yield Sentence(text, kind)
