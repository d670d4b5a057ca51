"""What the parts share about clips: found by id without being kept, which few are validated, how a text is read."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from itertools import chain
from typing import TypeVar

import numpy as np

from cosytune.data.clip_index import clips_at
from cosytune.data.manifest import Utterance
from cosytune.errors import InputError
from cosytune.synthesis.requests import END_OF_PROMPT
from cosytune.text.frontend import prepare_text
from cosytune.text.language import is_speakable

__all__ = ["Catalogue", "has_words", "instruction_of", "spoken_text", "spread"]

TEXTS_REMEMBERED = 1 << 15
"""Transcripts whose spoken form is at hand, some 15 MB: it takes a tenth of a millisecond to make."""

Item = TypeVar("Item")


class Catalogue:
    """Clips by id, in 16 bytes each: what stands in a clip's line is read when it is asked for.

    Clips are numbered over all groups, from 0; of two with one id the first is found.

    Args:
        groups: of clips, each gone through once, here.
        kind: what is to be known of each clip without reading it.

    Attributes:
        kinds: int32 [N], number of each clip's kind, counted in the order in which kinds come.
    """

    def __init__(self, *groups: Sequence[Utterance], kind: Callable[[Utterance], Hashable] = lambda clip: None) -> None:
        self._groups = groups
        self._ends = np.cumsum([len(group) for group in groups])
        numbers: dict[Hashable, int] = {}
        hashes, kinds = array("Q"), array("i")
        for clip in chain.from_iterable(groups):
            hashes.append(_hash(clip.id))
            kinds.append(numbers.setdefault(kind(clip), len(numbers)))
        self.kinds = np.array(kinds, np.int32)
        found = np.array(hashes, np.uint64)
        self._order = np.argsort(found, kind="stable").astype(np.uint32)
        self._hashes = found[self._order]

    def find(self, clip_id: str) -> tuple[int, Utterance]:
        """Number and clip of an id.

        Raises:
            KeyError: there is none.
        """
        wanted = np.uint64(_hash(clip_id))
        rank = int(np.searchsorted(self._hashes, wanted))
        while rank < len(self._hashes) and self._hashes[rank] == wanted:
            number = int(self._order[rank])
            if (clip := self.at(number)).id == clip_id:
                return number, clip
            rank += 1  # another id with the same hash
        raise KeyError(clip_id)

    def __getitem__(self, clip_id: str) -> Utterance:
        return self.find(clip_id)[1]

    def at(self, number: int) -> Utterance:
        """The clip of a number."""
        group = int(np.searchsorted(self._ends, number, side="right"))
        begin = int(self._ends[group - 1]) if group else 0
        return clips_at(self._groups[group], [number - begin])[0]


def _hash(clip_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(clip_id.encode("utf-8"), digest_size=8).digest(), "little")


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of the items, evenly spaced: a manifest sorted by speaker is heard from its first to its last."""
    if len(items) <= count:
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]


def has_words(clip: Utterance) -> bool:
    """Whether a clip has a transcript with anything to pronounce, told without reading numbers and abbreviations."""
    return bool(clip.text) and is_speakable(clip.text or "")


def instruction_of(clip: Utterance) -> str:
    """How a clip is spoken, in words, with the mark at its end that synthesis puts before the text; empty if plain.

    A clip without a transcript has none either: an instruction alone says nothing of what is said.
    """
    words = spoken_text(clip.instruct) if clip.instruct and has_words(clip) else ""
    return words + END_OF_PROMPT if words else ""


@lru_cache(maxsize=TEXTS_REMEMBERED)
def spoken_text(text: str | None, language: str | None = None) -> str:
    """A transcript in the words that synthesis would be given; empty where there is none, or nothing to pronounce."""
    if not text:
        return ""
    try:
        return "".join(prepare_text(text, length=len, split=False, language=language))
    except InputError:
        return ""
