"""What both sides of training share about clips: which few of many are validated, and how a transcript is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from cosytune.errors import InputError
from cosytune.text.frontend import prepare_text

__all__ = ["spoken_text", "spread"]

Item = TypeVar("Item")


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of the items, evenly spaced: a manifest sorted by speaker is heard from its first to its last."""
    if len(items) <= count:
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]


def spoken_text(text: str | None, language: str | None = None) -> str:
    """A transcript in the words that synthesis would be given; empty where there is none, or nothing to pronounce."""
    if not text:
        return ""
    try:
        return "".join(prepare_text(text, length=len, split=False, language=language))
    except InputError:
        return ""
