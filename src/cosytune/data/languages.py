"""The language of clips whose source names none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cosytune.data.manifest import Utterance
from cosytune.text.language import detect_language, is_chinese

__all__ = ["LanguageVote", "with_languages"]

VOTING_CHARACTERS = 4000
"""Of a speaker's texts that decide on the language: more change nothing, and memory must not grow with the corpus."""


class LanguageVote:
    """Guesses languages from texts; every clip is shown first, then asked about.

    One short sentence in Latin letters tells little, so all texts of a speaker vote together. Chinese characters tell
    enough by themselves.
    """

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._characters: dict[str, int] = {}
        self._guesses: dict[str, str] | None = None

    def add(self, clip: Utterance) -> None:
        """Show a clip; one whose language is given does not vote."""
        if clip.language or not clip.text or is_chinese(clip.text):
            return
        if self._characters.get(clip.speaker, 0) < VOTING_CHARACTERS:
            self._texts.setdefault(clip.speaker, []).append(clip.text)
            self._characters[clip.speaker] = self._characters.get(clip.speaker, 0) + len(clip.text)
            self._guesses = None

    def guess(self, clip: Utterance) -> str:
        """Code of the language of a clip, "" if neither its text nor another one of its speaker tells."""
        if clip.text and is_chinese(clip.text):
            return detect_language(clip.text)
        if self._guesses is None:
            self._guesses = {speaker: detect_language(" ".join(texts)) for speaker, texts in self._texts.items()}
        return self._guesses.get(clip.speaker, "")


def with_languages(clips: Iterable[Utterance], language: str | None) -> list[Utterance]:
    """Fill in the language where the source named none: the one given, or a guess, or "" where nothing tells."""
    items, vote = list(clips), LanguageVote()
    if language is None:
        for item in items:
            vote.add(item)
    return [item if item.language else replace(item, language=language or vote.guess(item)) for item in items]
