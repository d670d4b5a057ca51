"""Text as it is written to text as it is spoken, one set of rules for training and inference."""

from __future__ import annotations

import re

from cosytune.text.chinese import chinese_rules, read_chinese, read_japanese
from cosytune.text.cleaning import clean
from cosytune.text.english import read_english
from cosytune.text.grammar import read_stretches
from cosytune.text.language import CHARACTER_LANGUAGES, base_language, detect_language, is_chinese
from cosytune.text.options import DEFAULT, FrontendOptions
from cosytune.text.spelling import cardinal, digits

__all__ = ["normalise"]

_READERS = {"en": read_english, "zh": read_chinese, "yue": read_chinese, "ja": read_japanese}


def normalise(text: str, language: str | None = None, options: FrontendOptions = DEFAULT) -> str:
    """The words to speak: numbers, dates, sums and measures written out, mark-up and control characters gone.

    Args:
        text: one text, without `<|...|>` tags (`prepare_text` takes those).
        language: a language code such as `en`, `zh-CN`, `de`; None guesses from the text. English, Chinese (also `yue`)
            and Japanese numbers are read; in every other language figures stay figures, since English words would be
            wrong there. Give the language where it is known: a guess from three words can fail.
        options: `REFERENCE` normalises as the published front end does and does not look at `language`.
    """
    if not options.respect_language:
        return _normalise_as_reference(text, options)
    code = base_language(language) if language else detect_language(text)
    by_character = code in CHARACTER_LANGUAGES
    if options.clean:
        text = clean(text, by_character)
    if options.read_numbers and code in _READERS:
        text = _READERS[code](text)
    if by_character:
        text = chinese_rules(text, options.keep_inner_stops, keep_foreign_spaces=True)
    return re.sub(" {2,}", " ", text).strip() if options.clean else text


def _normalise_as_reference(text: str, options: FrontendOptions) -> str:
    """Sections 2.2 and 2.3 of the specification: Han characters select the Chinese rules, all else is English."""
    chinese = is_chinese(text)
    if options.clean:
        text = clean(text, chinese)
    if options.read_numbers:
        text = read_stretches(text, "zh" if chinese else "en")
    if not chinese:
        return _spell_digit_runs(text)
    return chinese_rules(text, options.keep_inner_stops, keep_foreign_spaces=False)


def _spell_digit_runs(text: str) -> str:
    """Each run of `str.isdigit` characters as a cardinal number; a run without a decimal digit (`²`) is zero."""
    pieces: list[str] = []
    run = ""
    for character in text + "\0":
        if character.isdigit():
            run += character
            continue
        if run:
            decimals = "".join(filter(str.isdecimal, run)).lstrip("0") or "0"
            pieces.append(cardinal(int(decimals), comma=", ") if len(decimals) <= 36 else digits(decimals))
            run = ""
        pieces.append(character)
    return "".join(pieces)[:-1]
