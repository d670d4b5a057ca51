"""Train, validation and test sides, drawn by sentence so that no text, nor one nearly like it, is on two of them."""

from __future__ import annotations

import hashlib
import unicodedata
from array import array
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from cosytune.data.manifest import Utterance
from cosytune.data.near_duplicates import THRESHOLD, TextFile, group, near_pairs, words_of
from cosytune.errors import DataError

__all__ = ["SIDES", "Drawn", "Side", "SplitSettings", "Splitter", "text_key"]

Side = Literal["train", "validation", "test"]
SIDES: tuple[Side, ...] = ("train", "validation", "test")

_TRAIN, _TIE, _FREE = 0, -1, -2
_SPEAKER_SENTENCES = 10
"""From this many distinct sentences on, a speaker is given at least one on each held-out side."""
_AT_LEAST = 5
"""Sentences wanted on each held-out side, if three quarters can stay in training."""


@dataclass(frozen=True)
class SplitSettings:
    """How the sides are drawn.

    Attributes:
        validation: share of sentences on the validation side.
        test: share of sentences on the test side.
        seed: another seed draws another split.

    Raises:
        DataError: the shares are negative or leave nothing to train on.
    """

    validation: float = 0.1
    test: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.validation >= 0 and self.test >= 0 and self.validation + self.test < 1):
            raise DataError(
                f"shares of {self.validation} for validation and {self.test} for test cannot be cut; "
                "give two numbers of 0 or more whose sum is below 1"
            )

    @property
    def shares(self) -> dict[int, float]:
        """Share by side (its place in SIDES) of the held-out sides that are wanted."""
        return {
            SIDES.index(side): share for side, share in (("test", self.test), ("validation", self.validation)) if share
        }


@dataclass(frozen=True)
class Drawn:
    """The outcome, in the order in which the utterances were added.

    Attributes:
        notes: what a person should know about the sides.
        info: settings and counts.
    """

    notes: tuple[str, ...]
    info: dict[str, Any]
    _sides: np.ndarray

    def side(self, number: int) -> Side | None:
        """The side of an utterance; None for a new one whose text would tie two sides together: it must be left out."""
        place = int(self._sides[number])
        return None if place == _TIE else SIDES[place]


def text_key(utterance: Utterance) -> str:
    """What decides the side: the letters and digits of the text in lower case, or the recording where there are none.

    Two readings of a sentence, and copies that differ in case, spacing, width or punctuation, have one key. Clips
    without text that were cut out of one recording stay together.
    """
    text = unicodedata.normalize("NFKC", utterance.text or "").casefold()
    letters = "".join(character for character in text if character.isalnum())
    return f"text {letters}" if letters else f"audio {utterance.audio}"


class Splitter:
    """Draws the sides of a corpus that is shown utterance by utterance.

    Sentences that are near-duplicates make a group (`near_duplicates`), and a group goes to one side as a whole. From
    the groups of each speaker as many are drawn, in an order that text and seed decide, as the shares ask for; what
    rounding leaves over is drawn from the next speaker. An utterance that has a side from an earlier split keeps it,
    and a new one goes where its near-duplicates are. Memory holds about 30 bytes an utterance, some 150 while drawing.
    """

    def __init__(self, settings: SplitSettings) -> None:
        self.settings = settings
        self._keys = array("Q")
        self._places = array("d")
        self._speakers = array("L")
        self._kept = array("b")
        self._names: dict[str, int] = {}
        self._texts = TextFile()

    def add(self, utterance: Utterance, kept: Side | None = None) -> None:
        """Show the next utterance.

        Args:
            utterance: of the corpus.
            kept: its side in an earlier split, if it had the same text there.
        """
        key = text_key(utterance)
        self._keys.append(_hash(key))
        # Where recordings lie is not to decide anything.
        label = key if key.startswith("text ") else f"id {utterance.id}"
        self._places.append(_hash(f"{self.settings.seed}\n{label}") / 2**64)
        self._speakers.append(self._names.setdefault(utterance.speaker, len(self._names)))
        self._kept.append(_FREE if kept is None else SIDES.index(kept))
        self._texts.append(words_of(utterance.text or ""))

    def draw(self) -> Drawn:
        """The sides of all utterances shown."""
        keys, kept = np.array(self._keys, np.uint64), np.array(self._kept, np.int8)
        _, first, sentence_of = np.unique(keys, return_index=True, return_inverse=True)
        largest = max(20, len(first) // 50)
        groups, strict = self._groups(first, largest)
        sides = self._kept_sides(kept, sentence_of, len(first))
        sides = _inherited(self._texts, first, groups, sides)
        if (sides == _FREE).any():
            sides = self._drawn(first, sentence_of, groups, sides)
        info = {**asdict(self.settings), "sentences": len(first), "groups": len(np.unique(groups))}
        notes = _notes(sides, self.settings, strict)
        of_utterances = sides[sentence_of] if len(first) else np.zeros(0, np.int8)
        # What was on a side stays there, whatever its sentence was later given.
        return Drawn(notes, info, np.where(kept == _FREE, of_utterances, kept))

    def _groups(self, first: np.ndarray, largest: int) -> tuple[np.ndarray, int]:
        """Number of the group of each sentence, and how many sentences were grouped by a stricter measure."""
        groups = first.copy()
        spoken = np.flatnonzero([bool(self._texts[number]) for number in first.tolist()])
        order = spoken[np.argsort(first[spoken])]
        groups[order], strict = group(self._texts, first[order], largest)
        return groups, strict

    def _kept_sides(self, kept: np.ndarray, sentence_of: np.ndarray, sentences: int) -> np.ndarray:
        """Side of each sentence known from an earlier split; one that was trained on counts as training."""
        sides = np.full(sentences, len(SIDES), np.int8)
        known = kept != _FREE
        np.minimum.at(sides, sentence_of[known], kept[known])
        return np.where(sides == len(SIDES), np.int8(_FREE), sides)

    def _drawn(self, first: np.ndarray, sentence_of: np.ndarray, groups: np.ndarray, sides: np.ndarray) -> np.ndarray:
        """Give each group that has no side one."""
        leaders, group_of = np.unique(groups, return_inverse=True)
        speakers = np.array(self._speakers, np.int64)
        pool = _Pool(
            sizes=np.bincount(group_of, minlength=len(leaders)),
            places=np.array(self._places)[leaders],
            speakers=speakers[leaders],
            sides=np.full(len(leaders), _FREE, np.int8),
        )
        pool.sides[group_of[sides != _FREE]] = sides[sides != _FREE]
        spoken = np.unique(np.stack([speakers, group_of[sentence_of]]), axis=1)
        pool.draw(self.settings.shares)
        pool.help_speakers(self.settings.shares, spoken)
        pool.top_up(self.settings.shares)
        return np.where(sides == _FREE, pool.sides[group_of], sides)


@dataclass
class _Pool:
    """Groups of sentences, of which those without a side are drawn.

    Attributes:
        sizes: int64 [G], sentences.
        places: float64 [G], the order of drawing.
        speakers: int64 [G], who speaks the first clip.
        sides: int8 [G], place in SIDES, or _FREE; changed while drawing.
    """

    sizes: np.ndarray
    places: np.ndarray
    speakers: np.ndarray
    sides: np.ndarray

    def __post_init__(self) -> None:
        self._new = self.sides == _FREE

    def draw(self, shares: Mapping[int, float]) -> None:
        """From each speaker's groups the share of each side; what rounding leaves over goes to the next speaker."""
        order = np.lexsort((self.places, self.speakers))
        needed = dict.fromkeys(shares, 0.0)
        for own in np.split(order, np.flatnonzero(np.diff(self.speakers[order])) + 1):
            for side, share in shares.items():
                taken = self.sizes[own][self.sides[own] == side].sum()
                # An earlier split may hold more than the share; the next speaker is not to pay for it.
                needed[side] = max(needed[side] + share * self.sizes[own].sum() - taken, -0.5)
                free = own[self.sides[own] == _FREE]
                for chosen in free[self.sizes[free] <= needed[side] + 0.5]:
                    if needed[side] < 0.5:
                        break
                    if self.sizes[chosen] <= needed[side] + 0.5:
                        self.sides[chosen] = side
                        needed[side] -= self.sizes[chosen]
        self.sides[self.sides == _FREE] = _TRAIN

    def help_speakers(self, shares: Mapping[int, float], spoken: np.ndarray) -> None:
        """Let a speaker of many sentences have one on each side.

        Args:
            shares: the sides that are wanted.
            spoken: int64 [2, P], pairs of a speaker and a group of which the speaker has clips, sorted.
        """
        for own in np.split(spoken[1], np.flatnonzero(np.diff(spoken[0])) + 1):
            if len(own) >= _SPEAKER_SENTENCES:
                for side in shares:
                    self._move(own, side, 1, len(own) // 4)

    def top_up(self, shares: Mapping[int, float]) -> None:
        """Let each side have some sentences, if that leaves three quarters to train on."""
        sentences = int(self.sizes.sum())
        for side in shares:
            at_least = min(_AT_LEAST, sentences // (4 * len(shares)))
            self._move(np.arange(len(self.sizes)), side, at_least, max(1, sentences // 8))

    def _move(self, own: np.ndarray, side: int, at_least: int, largest: int) -> None:
        """Move new training groups, small ones first, until `side` holds `at_least` sentences of `own`."""
        missing = at_least - int(self.sizes[own][self.sides[own] == side].sum())
        if missing <= 0:
            return
        free = own[self._new[own] & (self.sides[own] == _TRAIN) & (self.sizes[own] <= largest)]
        for chosen in free[np.lexsort((self.places[free], self.sizes[free]))]:
            if missing <= 0:
                return
            self.sides[chosen] = side
            missing -= int(self.sizes[chosen])


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _inherited(texts: TextFile, first: np.ndarray, groups: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Sides of sentences in a group that has one already; where it has two, new sentences are looked at one by one."""
    leaders, group_of = np.unique(groups, return_inverse=True)
    known = sides != _FREE
    lowest = np.full(len(leaders), len(SIDES), np.int8)
    highest = np.full(len(leaders), _FREE, np.int8)
    np.minimum.at(lowest, group_of[known], sides[known])
    np.maximum.at(highest, group_of[known], sides[known])
    has_side = (highest != _FREE)[group_of]
    sides = np.where(~known & has_side, highest[group_of], sides)
    torn = np.flatnonzero(has_side & (lowest < highest)[group_of])
    if not (~known[torn]).any():
        return sides
    number = {int(first[sentence]): int(sentence) for sentence in torn}
    neighbours: dict[int, set[int]] = defaultdict(set)
    for one, other in near_pairs(texts, np.array(sorted(number), np.int64), THRESHOLD):
        neighbours[number[one]].add(number[other])
        neighbours[number[other]].add(number[one])
    old = {int(sentence): int(sides[sentence]) for sentence in torn if known[sentence]}
    new = [number[place] for place in sorted(number) if not known[number[place]]]
    for sentence, side in _spread(old, new, neighbours).items():
        sides[sentence] = side
    return sides


def _spread(old: dict[int, int], new: list[int], neighbours: Mapping[int, set[int]]) -> dict[int, int]:
    """Sides of new sentences from those of their near-duplicates, wave by wave; two sides make a tie."""
    decided = dict(old)
    waiting = new
    while waiting:
        reached = [sentence for sentence in waiting if neighbours[sentence] & decided.keys()]
        if not reached:
            break
        for sentence in reached:
            found = {decided[near] for near in neighbours[sentence] if near in decided} - {_TIE}
            decided[sentence] = found.pop() if len(found) == 1 else (_TIE if found else _TRAIN)
        waiting = [sentence for sentence in waiting if sentence not in decided]
    return {sentence: decided.get(sentence, _TRAIN) for sentence in new}


def _notes(sides: np.ndarray, settings: SplitSettings, strict: int) -> tuple[str, ...]:
    notes = []
    if strict:
        notes.append(
            f"{strict} sentences are alike in chains too long for one side; of these only sentences that are alike to "
            "0.9 and more were kept together"
        )
    empty = [SIDES[side] for side in settings.shares if not (sides == side).any()]
    if empty and len(sides):
        notes.append(
            f"nothing is on the side for {' and '.join(sorted(empty, reverse=True))}: there are only "
            f"{len(sides)} different sentences, and no sentence is put on two sides; add recordings of other sentences"
        )
    return tuple(notes)
