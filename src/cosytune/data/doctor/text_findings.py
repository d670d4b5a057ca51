"""From the transcript of one clip to what is wrong with it, in words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from cosytune.data.doctor.texts import (
    foreign_language,
    mixed_words,
    reading_change,
    scripts,
    spoken_characters,
    unknown_characters,
    unread_figures,
)
from cosytune.data.doctor_results import Finding
from cosytune.text.language import base_language

__all__ = ["text_findings"]

SHOWN = 12
"""Characters or words that a sentence names."""

SCRIPT_SHARE = 0.5
"""Share of a text's letters in another script from which the text is not one of this corpus."""


def text_findings(
    text: str | None,
    language: str,
    own_languages: Collection[str],
    script: str,
    encode: Callable[[str], list[int]] | None,
) -> list[Finding]:
    """All findings that follow from one transcript.

    Args:
        text: the transcript, None without one.
        language: of the clip.
        own_languages: that the speaker speaks in this corpus.
        script: of most letters of the texts in this language.
        encode: the model's tokenizer, or None.
    """
    if text is None:
        return [Finding("no transcript", "keep", "It has no transcript: good for pre-training only.")]
    if not spoken_characters(text):
        return [Finding("empty transcript", "drop", "Its transcript holds no letter or number.")]
    return [
        *_figures(text, language),
        *_unknown(text, encode),
        *_scripts(text, script),
        *_language(text, language, own_languages),
    ]


def _figures(text: str, language: str) -> Iterator[Finding]:
    read = reading_change(text, language)
    if read is not None:
        words = "Figures or symbols in its text are read as words. Check that the voice says the same words."
        yield Finding("figures", "keep", words, before=text, after=read)
    elif unread_figures(text, language):
        words = (
            f"Its text has figures, and the normaliser does not read those of the language {language or 'unknown'!r}: "
            "write the words that are spoken."
        )
        yield Finding("figures", "keep", words, before=text, after=text)


def _unknown(text: str, encode: Callable[[str], list[int]] | None) -> Iterator[Finding]:
    unknown = unknown_characters(text, encode) if encode is not None else []
    if unknown:
        words = (
            f"The model's tokenizer does not know {' '.join(unknown[:SHOWN])}: it spells "
            f"{'it' if len(unknown) == 1 else 'them'} byte by byte, which no model has learned to say. "
            "Write the text without."
        )
        yield Finding("unknown characters", "keep", words, float(len(unknown)), 0.0, "characters", len(unknown))


def _scripts(text: str, script: str) -> Iterator[Finding]:
    mixed = mixed_words(text)
    if mixed:
        words = f"Letters of two alphabets that look alike stand in one word: {', '.join(mixed[:SHOWN])}."
        yield Finding("mixed alphabets", "keep", words)
    counts = scripts(text)
    others = counts.total() - counts[script]
    if (
        script
        and counts.total()
        and others / counts.total() > SCRIPT_SHARE
        and not {"CJK", "KANA"} >= {script, *counts}
    ):
        name = max(counts, key=lambda other: (other != script, counts[other]))
        words = f"Its text is written in {name.title()} letters, the others of its language in {script.title()}."
        yield Finding("wrong script", "drop", words, others / counts.total(), SCRIPT_SHARE, "share of letters")


def _language(text: str, language: str, own_languages: Collection[str]) -> Iterator[Finding]:
    if language and own_languages and language not in own_languages:
        words = f"It is in {language!r}, the other clips of its speaker in {', '.join(sorted(own_languages))}."
        yield Finding("wrong language", "drop", words)
        return
    found = foreign_language(text, language) if language else None
    if found is not None and found not in {base_language(code) for code in own_languages}:
        words = f"Its text looks like {found!r}, and the clip counts as {language!r}."
        yield Finding("wrong language", "drop", words)
