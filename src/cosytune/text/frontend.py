"""The entry of the text front end: one text in, the pieces to speak out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cosytune.errors import InputError
from cosytune.text.language import CHARACTER_LANGUAGES, base_language, detect_language, is_chinese, is_speakable
from cosytune.text.normalise import normalise as normalise_text
from cosytune.text.options import DEFAULT, FrontendOptions
from cosytune.text.split import split_sentences
from cosytune.text.whisper_vocabulary import LANGUAGES

__all__ = ["prepare_text"]

_END_OF_PROMPT = "<|endofprompt|>"
_LONGEST_INSTRUCTION = 1000
_TAGS = re.compile(r"((?:\s*<\|[^<>|\s]{1,32}\|>)+)")
_LANGUAGE_TAG = re.compile(r"<\|([a-z]{2,3})\|>")


@dataclass(frozen=True)
class _Section:
    """A stretch of text under one run of tags: the tags as written there, before its first piece, before the others."""

    text: str
    language: str | None
    written: str = ""
    first: str = ""
    others: str = ""


def prepare_text(
    text: str,
    *,
    length: Callable[[str], int],
    split: bool = True,
    normalise: bool = True,
    language: str | None = None,
    options: FrontendOptions = DEFAULT,
) -> list[str]:
    """Normalise a text and cut it into pieces to be spoken one after the other (section 2.1 of the specification).

    Args:
        text: what to speak; may hold `<|en|>` tags and style marks such as `<strong>` or `[breath]`.
        length: number of tokens of a string in the model's tokenizer.
        split: False gives one string, without the final mark that splitting appends (prompt and instruct texts).
        normalise: False leaves the words as they are; splitting still happens (with `REFERENCE` it does not). To switch
            off only the number and date normaliser, use `dataclasses.replace(options, read_numbers=False)`.
        language: language of the untagged text, None to guess (see `normalise`).
        options: `DEFAULT`, or `REFERENCE` for what the published front end gives.

    Raises:
        InputError: there is nothing to pronounce in the text (with `REFERENCE` the list is empty then), or an
            instruction before `<|endofprompt|>` has more than 1000 characters.
    """
    if not options.split_tagged and (not normalise or not text or ("<|" in text and "|>" in text)):
        return [text]
    pieces: list[str] = []
    unsplit = ""
    speakable = not options.refuse_silence
    for section in _sections(text, language, options):
        spoken = normalise_text(section.text, section.language, options) if normalise else section.text
        speakable = speakable or is_speakable(spoken)
        if split:
            pieces += _pieces(spoken, section, length, options)
        else:
            unsplit += section.written + spoken
    if not speakable:
        raise InputError(f"the text {_shortened(text)} holds nothing to pronounce: give at least one letter or number")
    return pieces if split else [unsplit]


def _sections(text: str, language: str | None, options: FrontendOptions) -> Iterator[_Section]:
    """Stretches between runs of tags; a language tag holds until the next one, an instruction for the whole text."""
    text = text.strip()
    if not options.split_tagged:
        yield _Section(text, language)
        return
    instruction, mark, text = text.rpartition(_END_OF_PROMPT)
    if len(instruction) > _LONGEST_INSTRUCTION:
        raise InputError(
            f"the instruction before {_END_OF_PROMPT} has {len(instruction)} characters and is repeated for each piece;"
            f" at most {_LONGEST_INSTRUCTION} are allowed: shorten it"
        )
    head = instruction + mark
    parts = ["", *_TAGS.split(text)]
    carried = ""
    for index, (run, part) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        tags = re.sub(r"\s+", "", run)
        codes = [code for code in _LANGUAGE_TAG.findall(tags) if code in LANGUAGES]
        first = tags if codes else carried + tags
        if codes:
            language = codes[-1]
            carried = "".join(f"<|{code}|>" for code in codes)
        part = part.strip()
        code = language or (detect_language(part) if options.respect_language else None)
        yield _Section(part, code, tags if index else head, head + first, head + carried)


def _pieces(
    spoken: str,
    section: _Section,
    length: Callable[[str], int],
    options: FrontendOptions,
) -> Iterator[str]:
    by_character = is_chinese(spoken)
    if options.respect_language and section.language:
        by_character = base_language(section.language) in CHARACTER_LANGUAGES
    tags = section.first
    for piece in split_sentences(
        spoken,
        chinese=by_character,
        length=length,
        hard_limit=options.hard_limit,
        keep_inner_stops=options.keep_inner_stops,
    ):
        if _is_worth_speaking(piece, options):
            yield tags + (piece.strip() if options.strip_pieces else piece)
            tags = section.others


def _is_worth_speaking(piece: str, options: FrontendOptions) -> bool:
    """The reference drops pieces of Unicode punctuation and symbols only (rule 5); we all without letter or number."""
    if options.refuse_silence:
        return is_speakable(piece)
    return not all(unicodedata.category(character)[0] in "PS" for character in piece)


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
