"""The text normaliser of the recognition judges: what counts as the same words."""

from __future__ import annotations

import re
import unicodedata

from cosytune.text.normalise import normalise

__all__ = ["NORMALISER", "normalise_for_scoring"]

NORMALISER = "cosytune-en-2"
"""Name and version of the rules below and of how figures are read (`text.english`). Error rates under different
normalisers cannot be compared."""

APOSTROPHES = re.compile(r"['’‘`´]")
DIGIT = re.compile(r"\d")


def normalise_for_scoring(text: str) -> str:
    """Words to compare: numbers written out, accents folded, lower case, no punctuation, single spaces.

    Apostrophes vanish (don't -> dont) and all other marks part words (red-eye -> red eye). Letters of other scripts
    are kept, so that a text the judge cannot hear counts as errors instead of as nothing.
    """
    if DIGIT.search(text):
        text = normalise(text, "en")
    decomposed = unicodedata.normalize("NFKD", APOSTROPHES.sub("", text.casefold()))
    letters = (char for char in decomposed if not unicodedata.combining(char))
    return " ".join("".join(char if char.isalnum() else " " for char in letters).split())
