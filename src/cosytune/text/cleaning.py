"""From whatever was pasted to plain text: control characters, mark-up, white space, full-width letters."""

from __future__ import annotations

import html
import re
import unicodedata
from functools import lru_cache

__all__ = ["clean"]

STYLE_MARKS = ("laughter", "strong", "endofprompt")
"""Names of the marks in angle brackets that CosyVoice models know; they are no mark-up."""

# Invisible, but they shape the letters beside them in Persian and in the scripts of India.
_JOINERS = "\u200c\u200d"
_FULL_WIDTH = {
    code: chr(code - 0xFEE0)
    for first, last in (("０", "９"), ("Ａ", "Ｚ"), ("ａ", "ｚ"))
    for code in range(ord(first), ord(last) + 1)
}

_TERMINAL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
"""Colours and the like as terminals are told them (ECMA-48, control sequences)."""
_HTML = re.compile(rf"<!--[^<>]{{0,1000}}-->|</?(?!(?:{'|'.join(STYLE_MARKS)})>)[A-Za-z][^<>]{{0,300}}>")
_ENTITY = re.compile(r"&(?:[A-Za-z]{2,8}|#\d{1,7}|#[xX][0-9A-Fa-f]{1,6});")
_LINK = re.compile(r"!?\[([^\[\]\n]{1,300})\]\([^()\s]{1,500}\)")
_LINE_START = re.compile(r"^[ \t]{0,8}(?:#{1,6}[ \t]+|>[ \t]+|[-*+•][ \t]+)", re.MULTILINE)
_EMPHASIS = re.compile(r"(?<!\d)\*{1,3}(?=\S)|(?<=\S)\*{1,3}(?!\d)|`{1,3}|~~|(?<!\w)_{1,3}(?=\w)|(?<=\w)_{1,3}(?!\w)")
_BLANKS = re.compile(r"[ \t]+")
_PARAGRAPH = re.compile(r"([^\n]?)\n(?:[ \t]*\n)+")
_LINE_END = re.compile(r"[ \t]*\n[ \t]*")


@lru_cache(maxsize=8192)
def _clean_character(character: str) -> str:
    category = unicodedata.category(character)
    if character in "\n\t" or category == "Zl" or category == "Zp":
        return "\n" if character != "\t" else " "
    if category == "Zs":
        return " "
    if category in ("Cc", "Cs", "Co", "Cn") or (category == "Cf" and character not in _JOINERS):
        return ""
    return _FULL_WIDTH.get(ord(character), character)


def clean(text: str, character_language: bool = False) -> str:
    """Plain text, one form for one thing; letters are never changed in case nor stripped of accents.

    Composes accents (NFC); drops control, private and invisible characters; drops HTML tags, Markdown marks and link
    targets but keeps `<strong>`, `<laughter>` and marks in square brackets; full-width letters and digits become ASCII;
    white space becomes single spaces. A blank line ends a sentence (`。` when `character_language`, else `.`), a single
    line end is a space, in a language without spaces nothing.
    """
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _TERMINAL.sub("", text)
    text = _LINK.sub(r"\1", _HTML.sub(" ", text))
    text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
    text = _EMPHASIS.sub("", _LINE_START.sub("\n", text))
    if not (text.isascii() and text.isprintable()):
        text = "".join(map(_clean_character, text))
    text = _BLANKS.sub(" ", text).strip()
    text = _PARAGRAPH.sub(lambda match: _end_paragraph(match[1], character_language), text)
    return _LINE_END.sub("" if character_language else " ", text)


def _end_paragraph(last: str, character_language: bool) -> str:
    if last and last.isalnum():
        return f"{last}。" if character_language else f"{last}. "
    return f"{last}" if character_language else f"{last} "
