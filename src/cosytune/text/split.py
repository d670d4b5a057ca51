"""Cutting a text into pieces that are spoken one at a time."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from cosytune.errors import InputError
from cosytune.text.english_words import ABBREVIATIONS

__all__ = ["SplitLimits", "sentences", "split_sentences"]

_REFERENCE_MARKS = {True: frozenset("。？！；：、.?!;"), False: frozenset(".?!;:")}


@dataclass(frozen=True)
class SplitLimits:
    """How long a piece may be, in the measure of the language (characters, or tokens of the model's tokenizer).

    Pieces are joined up to `maximum`. The reference starts a new piece only when the one before is longer than
    `minimum`; a rest shorter than `merge_below` is glued to its neighbour: very short pieces are spoken badly.
    """

    maximum: int = 80
    minimum: int = 60
    merge_below: int = 20

    def __post_init__(self) -> None:
        if not 0 <= self.merge_below <= self.minimum <= self.maximum or self.maximum < 1:
            raise InputError(
                f"split limits are maximum={self.maximum}, minimum={self.minimum}, merge_below={self.merge_below}; they"
                " must be 0 <= merge_below <= minimum <= maximum and maximum at least 1: change the one out of order"
            )

    @property
    def hard_maximum(self) -> int:
        """The longest piece there can be when the limit is hard: a full one and the rest that was glued to it."""
        return self.maximum + self.merge_below


def split_sentences(
    text: str,
    *,
    chinese: bool,
    length: Callable[[str], int],
    limits: SplitLimits | None = None,
    hard_limit: bool = True,
    keep_inner_stops: bool = True,
) -> list[str]:
    """Cut a text at sentence ends and join short sentences, in order.

    Args:
        text: normalised text.
        chinese: measure in characters and end with `。` (Chinese, Japanese); else use `length` and end with `.`.
        length: number of tokens of a text in the model's tokenizer.
        limits: the default limits are the reference's.
        hard_limit: no piece longer than `limits.hard_maximum` (except one single character that is), and joined
            together the pieces are the text and at most one final mark. False: the reference's rules (section 2.4),
            which drop marks that follow a mark, never cut a long sentence and join without end what is short.
        keep_inner_stops: full stops and colons between letters or digits, and those of abbreviations and initials, end
            no sentence (only with `hard_limit`).
    """
    limits = limits or SplitLimits()
    measure: Callable[[str], int] = len if chinese else length
    if not text:
        return []
    if not hard_limit:
        return _join_as_reference(_sentences_as_reference(text, chinese), measure, limits)
    if not _ENDING.search(text):
        text += "。" if chinese else "."
    sentences = _sentences(text, keep_inner_stops)
    return _join(_cut_long(sentences, measure, limits.maximum), measure, limits)


def sentences(text: str) -> list[str]:
    """The sentences of a text, marks and spaces included: joined together they are the text."""
    return list(_sentences(text, keep_inner_stops=True))


# --- the rules of the reference -------------------------------------------------------------------------------------


def _sentences_as_reference(text: str, chinese: bool) -> list[str]:
    marks = _REFERENCE_MARKS[chinese]
    if text[-1] not in marks:
        text += "。" if chinese else "."
    pieces: list[str] = []
    start = 0
    for index, character in enumerate(text):
        if character not in marks:
            continue
        if index > start:
            pieces.append(text[start : index + 1])
        start = index + 1
        # the reference fails when there is no piece yet; then the quotation mark starts the next one
        if pieces and text[start : start + 1] in ('"', "”"):
            pieces[-1] += text[start]
            start += 1
    return pieces


def _join_as_reference(pieces: list[str], measure: Callable[[str], int], limits: SplitLimits) -> list[str]:
    joined: list[str] = []
    current = ""
    size = 0
    for piece in pieces:
        whole = measure(current + piece)
        if whole > limits.maximum and size > limits.minimum:
            joined.append(current)
            current = ""
            whole = measure(piece)
        current += piece
        size = whole
    if current and joined and size < limits.merge_below:
        joined[-1] += current
    elif current:
        joined.append(current)
    return joined


# --- the rules with a hard limit ------------------------------------------------------------------------------------

# Sentence ends of the scripts a multilingual model meets, also of Arabic, Urdu, Hindi, Armenian, Ethiopic and Khmer.
_MARKS = "。？！；：.?!;:…｡؟۔।։።។"
_CLOSERS = "\"'”’»」』）)\\]】》〉"
_END = re.compile(rf"[{_MARKS}]+[{_CLOSERS}]*")
_ENDING = re.compile(rf"[{_MARKS}][{_CLOSERS}]*\s*\Z")
_CLAUSE = re.compile(r"[^，,、—–]*[，,、—–]+[”\"’']*|[^，,、—–]+")
_WORD = re.compile(r"\s*\S+\s*\Z|\s*\S+|\s+")
_INITIAL = re.compile(r"(?:^|[\s.(\"“])[A-Z]\.\Z")
_LAST_WORD = re.compile(r"[A-Za-z.]{1,8}\Z")
_SHORT_FORMS = frozenset(ABBREVIATIONS) - {"etc.", "Jr.", "Sr."} | {"St.", "No.", "Ms."}


def _is_inner(text: str, match: re.Match[str]) -> bool:
    """Whether a mark ends no sentence: `3.14`, `10:30`, `example.com`, `Mr. X`, `J. K.`."""
    mark, start, end = match[0], match.start(), match.end()
    if mark not in (".", ":"):
        return False
    after = text[end : end + 1]
    if start and after.isalnum() and after.isascii() and text[start - 1].isascii() and text[start - 1].isalnum():
        return True
    if mark != "." or not after.isspace():
        return False
    before = text[max(0, end - 9) : end]
    word = _LAST_WORD.search(before)
    return bool(_INITIAL.search(before)) or (word is not None and word[0] in _SHORT_FORMS)


def _sentences(text: str, keep_inner_stops: bool) -> Iterator[str]:
    start = 0
    for match in _END.finditer(text):
        if keep_inner_stops and _is_inner(text, match):
            continue
        # marks with nothing before them belong to what follows
        if not any(character.isalnum() for character in text[start : match.start()]):
            continue
        yield text[start : match.end()]
        start = match.end()
    if start < len(text):
        yield text[start:]


def _cut_long(pieces: Iterable[str], measure: Callable[[str], int], maximum: int) -> Iterator[str]:
    """Pieces of at most `maximum`: longer ones cut at commas, else at white space, else anywhere."""
    for piece in pieces:
        if _fits(piece, measure, maximum):
            yield piece
            continue
        for clause in _CLAUSE.findall(piece):
            if _fits(clause, measure, maximum):
                yield clause
            else:
                yield from _cut_clause(clause, measure, maximum)


def _fits(piece: str, measure: Callable[[str], int], maximum: int) -> bool:
    # a token hardly ever holds sixteen characters: do not tokenise a book to find out that it is long
    return len(piece) <= 16 * maximum and measure(piece) <= maximum


def _cut_clause(clause: str, measure: Callable[[str], int], maximum: int) -> Iterator[str]:
    parts: list[str] = []
    size = 0
    for word in _WORD.findall(clause):
        for part in _cut_word(word, measure, maximum):
            # Adding up the lengths of words saves tokenising each beginning again; the sum is not quite the length of
            # the whole, so that is measured at the end.
            more = measure(part)
            if size + more > maximum:
                yield from _checked(parts, measure, maximum)
                parts, size = [], 0
            parts.append(part)
            size += more
    yield from _checked(parts, measure, maximum)


def _checked(parts: list[str], measure: Callable[[str], int], maximum: int) -> Iterator[str]:
    whole = "".join(parts)
    if whole and measure(whole) <= maximum:
        yield whole
    else:
        yield from parts


def _cut_word(word: str, measure: Callable[[str], int], maximum: int) -> Iterator[str]:
    if _fits(word, measure, maximum):
        yield word
        return
    start = 0
    while start < len(word):
        size = maximum
        part = word[start : _whole_character(word, start, start + size)]
        while size > 1 and measure(part) > maximum:
            size //= 2
            part = word[start : _whole_character(word, start, start + size)]
        if measure(part) > maximum:
            part = word[start]
        yield part
        start += len(part)


def _whole_character(word: str, start: int, end: int) -> int:
    """`end` moved left (at most 8 places, not to `start`) so that accents and joined signs stay with their letter."""
    for place in range(end, max(start, end - 8), -1):
        if place >= len(word) or not (unicodedata.combining(word[place]) or word[place] in "\u200c\u200d\ufe0e\ufe0f"):
            return place
    return end


def _join(pieces: Iterable[str], measure: Callable[[str], int], limits: SplitLimits) -> list[str]:
    """Join in order up to `maximum`; what is shorter than `merge_below` may be glued up to `hard_maximum`."""
    joined: list[_Run] = []
    for piece in pieces:
        new = _Run([piece], measure(piece))
        if joined:
            last = joined[-1]
            limit = limits.hard_maximum if last.size < limits.merge_below else limits.maximum
            if last.take(new, measure, limit):
                continue
        joined.append(new)
    if len(joined) > 1 and joined[-1].size < limits.merge_below:
        *_, neighbour, rest = joined
        if neighbour.take(rest, measure, limits.hard_maximum):
            joined.pop()
    return [text for run in joined for text in _checked(run.pieces, measure, limits.hard_maximum)]


@dataclass
class _Run:
    """Pieces to be spoken together and the sum of their lengths, or the length of the whole once that was measured."""

    pieces: list[str]
    size: int

    def take(self, other: _Run, measure: Callable[[str], int], limit: int) -> bool:
        """Append another run if the whole stays within `limit`."""
        size = self.size + other.size
        if size > limit:
            if size > 2 * limit:
                return False
            size = measure("".join([*self.pieces, *other.pieces]))
            if size > limit:
                return False
        self.pieces += other.pieces
        self.size = size
        return True
