"""What is written: characters to speak, changes that the normaliser makes, characters that a model does not know."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable

from cosytune.text.language import base_language, common_word_hits, detect_language
from cosytune.text.normalise import normalise

__all__ = [
    "foreign_language",
    "main_script",
    "mixed_words",
    "reading_change",
    "scripts",
    "spoken_characters",
    "text_key",
    "unknown_characters",
    "unread_figures",
]

_WORD = re.compile(r"\w+")
_ALPHABETS = frozenset({"LATIN", "CYRILLIC", "GREEK"})
"""Scripts whose letters look alike, so that one may stand in another's word unseen."""

_UNITED = {
    "HIRAGANA": "KANA",
    "KATAKANA": "KANA",
    "KATAKANA-HIRAGANA": "KANA",
    "FULLWIDTH": "LATIN",
    "HALFWIDTH": "KANA",
}

FOREIGN_MARGIN = 2
"""Common words by which another language must lead: one of its short words may be a name."""


def spoken_characters(text: str) -> int:
    """Letters, digits and other characters that are read aloud: all but marks, punctuation, symbols and spaces."""
    return sum(unicodedata.category(character)[0] in "LN" for character in text)


def text_key(text: str) -> str:
    """Letters and digits of a text in lower case: equal for texts that are read alike."""
    return "".join(character for character in unicodedata.normalize("NFKC", text).casefold() if character.isalnum())


def reading_change(text: str, language: str) -> str | None:
    """The text as it would be read aloud, or None if its letters and digits stay the same."""
    read = normalise(text, language or None)
    return read if text_key(read) != text_key(text) else None


def unread_figures(text: str, language: str) -> bool:
    """Whether digits are left after normalising: nobody knows how they are spoken in this language."""
    return any(character.isdigit() for character in normalise(text, language or None))


def unknown_characters(text: str, encode: Callable[[str], list[int]]) -> list[str]:
    """Characters that a tokenizer spells byte by byte, in order of appearance: to the model they are rare or new.

    Args:
        text: any.
        encode: text to ids.
    """
    return [
        character
        for character in dict.fromkeys(text)
        if not character.isspace() and len(encode(character)) > max(1, len(character.encode("utf-8", "replace")) - 1)
    ]


def scripts(text: str) -> Counter[str]:
    """How many letters of each script a text holds, by the script's name in Unicode (`LATIN`, `CJK`, `KANA` ...)."""
    found: Counter[str] = Counter()
    for character in text:
        if character.isalpha():
            script = unicodedata.name(character, "UNKNOWN").split(" ", 1)[0]
            found[_UNITED.get(script, script)] += 1
    return found


def mixed_words(text: str) -> list[str]:
    """Words whose letters belong to two alphabets that look alike, such as a Latin word with a Cyrillic a."""
    return [word for word in _WORD.findall(text) if len(scripts(word).keys() & _ALPHABETS) > 1]


def foreign_language(text: str, language: str) -> str | None:
    """The language that a text is in, if it is plainly another than `language`; None otherwise, and in doubt.

    In one script the commonest words decide, and another language must lead by two of them.
    """
    own = base_language(language)
    found = detect_language(text)
    if found in (own, "und") or {found, own} <= {"zh", "yue", "ja"}:
        return None
    hits = common_word_hits(text)
    if found not in hits or own not in hits:
        # One of the two has a script of its own, or is a language without a table: only a script of its own tells.
        return found if found in ("zh", "ja", "ko") or own in ("zh", "yue", "ja", "ko") else None
    return found if hits[found] - hits[own] >= FOREIGN_MARGIN else None


def main_script(texts: Iterable[str]) -> str:
    """The script of most letters of some texts; empty without letters."""
    counts = sum((scripts(text) for text in texts), Counter[str]())
    return counts.most_common(1)[0][0] if counts else ""
