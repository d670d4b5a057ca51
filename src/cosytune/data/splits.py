"""Train, validation and test sides, drawn by sentence so that no text is ever on two of them."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from cosytune.data.manifest import Utterance
from cosytune.errors import DataError

__all__ = ["SIDES", "Side", "make_splits", "text_key"]

Side = Literal["train", "validation", "test"]
SIDES: tuple[Side, ...] = ("train", "validation", "test")

_HELD_OUT: tuple[Side, ...] = ("test", "validation")
_SPEAKER_SENTENCES = 10
"""From this many distinct sentences on, a speaker is given at least one on each held-out side."""


def text_key(utterance: Utterance) -> str:
    """What decides the side: the letters and digits of the text in lower case, or the id where there are none.

    Two readings of a sentence, and copies that differ in case, spacing, width or punctuation, have one key.
    """
    text = unicodedata.normalize("NFKC", utterance.text or "").casefold()
    letters = "".join(character for character in text if character.isalnum())
    return f"text {letters}" if letters else f"id {utterance.id}"


def make_splits(
    utterances: Iterable[Utterance],
    *,
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    at_least: int = 5,
    keep: Mapping[str, Side] | None = None,
) -> dict[str, Side]:
    """Give each utterance a side.

    A sentence's side follows from the hash of its key and the seed alone, so that clips added later move nobody. Where
    chance left a held-out side with fewer than `at_least` sentences (or a speaker of ten sentences and more with none),
    the training sentences next in hash order go over; `keep` makes such moves last.

    Args:
        utterances: all clips of the corpus.
        validation: share of sentences on the validation side.
        test: share of sentences on the test side.
        seed: another seed draws another split.
        at_least: sentences wanted on each held-out side with a share above 0, if three quarters can stay in training.
        keep: sides by id of an earlier split; these clips stay where they were.

    Raises:
        DataError: the shares are negative or leave nothing to train on.
    """
    if validation < 0 or test < 0 or validation + test >= 1:
        raise DataError(
            f"shares of {validation} for validation and {test} for test cannot be cut; "
            "give two numbers of 0 or more whose sum is below 1"
        )
    utterances = list(utterances)
    keys = {utterance.id: text_key(utterance) for utterance in utterances}
    fixed = _kept_keys(keys, keep or {})
    place = {key: _place(key, seed) for key in set(keys.values())}
    sides = {key: fixed.get(key) or _drawn(place[key], validation, test) for key in place}
    shares = {"test": test, "validation": validation}
    movable = [key for key in sorted(place, key=place.__getitem__) if key not in fixed]
    wanted = [side for side in _HELD_OUT if shares[side] > 0]
    for group in _speakers(utterances, keys).values():
        if len(group) >= _SPEAKER_SENTENCES:
            _top_up(sides, sorted(group - fixed.keys(), key=place.__getitem__), group, wanted, 1)
    _top_up(sides, movable, set(place), wanted, min(at_least, len(place) // (4 * max(1, len(wanted)))))
    return {utterance.id: sides[keys[utterance.id]] for utterance in utterances}


def _place(key: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}\n{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _drawn(place: float, validation: float, test: float) -> Side:
    if place < test:
        return "test"
    return "validation" if place < test + validation else "train"


def _kept_keys(keys: Mapping[str, str], keep: Mapping[str, Side]) -> dict[str, Side]:
    """Sides of the sentences known from an earlier split; a sentence that was trained on once stays in training."""
    kept: dict[str, Side] = {}
    for identity, key in keys.items():
        side = keep.get(identity)
        if side is not None and (key not in kept or SIDES.index(side) < SIDES.index(kept[key])):
            kept[key] = side
    return kept


def _speakers(utterances: Sequence[Utterance], keys: Mapping[str, str]) -> dict[str, set[str]]:
    groups: dict[str, set[str]] = defaultdict(set)
    for utterance in utterances:
        groups[utterance.speaker].add(keys[utterance.id])
    return dict(sorted(groups.items()))


def _top_up(sides: dict[str, Side], movable: list[str], group: set[str], wanted: list[Side], at_least: int) -> None:
    """Move the first movable training sentences of `group` until each wanted side holds `at_least` of them."""
    free = [key for key in movable if sides[key] == "train"]
    for side in wanted:
        missing = at_least - sum(sides[key] == side for key in group)
        for key in free[: max(0, missing)]:
            sides[key] = side
        free = free[max(0, missing) :]
