"""Numbers as English words: cardinals, ordinals, years, digits, decimals.

`cardinal(n, comma=", ")` writes what `inflect.number_to_words` writes (a test holds the two together); importing
inflect takes more than a second, so it is not used at run time.
"""

from __future__ import annotations

import re

__all__ = ["cardinal", "decade", "digits", "number", "ordinal", "year"]

_SMALL_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
)
_SMALL = _SMALL_WORDS.split()
_TENS_WORDS = "twenty thirty forty fifty sixty seventy eighty ninety"
_TENS = _TENS_WORDS.split()
_SCALE_WORDS = (
    "thousand million billion trillion quadrillion quintillion sextillion septillion octillion nonillion decillion"
)
_SCALES = ["", *_SCALE_WORDS.split()]
_IRREGULAR_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_LARGEST = 10 ** (3 * len(_SCALES))
# Nobody says more digits than these as one number.
_LONGEST_NUMBER = 15


def _below_thousand(value: int) -> str:
    hundreds, rest = divmod(value, 100)
    tail = _SMALL[rest] if rest < 20 else _TENS[rest // 10 - 2]
    if rest > 20 and rest % 10:
        tail += f"-{_SMALL[rest % 10]}"
    if not hundreds:
        return tail
    return f"{_SMALL[hundreds]} hundred" + (f" and {tail}" if rest else "")


def cardinal(value: int, comma: str = " ") -> str:
    """Words of a whole number of at most 36 digits, `comma` between the groups of three; longer ones digit by digit."""
    if value < 0:
        return f"minus {cardinal(-value, comma)}"
    if value < 1000:
        return _below_thousand(value)
    if value >= _LARGEST:
        return digits(str(value))
    groups = []
    rest, scale = value, 0
    while rest:
        rest, group = divmod(rest, 1000)
        if group:
            groups.append(f"{_below_thousand(group)} {_SCALES[scale]}".strip())
        scale += 1
    groups.reverse()
    # "one thousand and five", but "one thousand, one hundred"
    if 0 < value % 1000 < 100:
        last = groups.pop()
        return f"{comma.join(groups)} and {last}"
    return comma.join(groups)


def ordinal(value: int) -> str:
    """Words of an ordinal number: 21 is `twenty-first`."""
    words = cardinal(value)
    start, mark, last = re.fullmatch(r"(?:(.*)([ -]))?([a-z]+)", words).groups(default="")  # type: ignore[union-attr]
    if last in _IRREGULAR_ORDINALS:
        last = _IRREGULAR_ORDINALS[last]
    else:
        last = f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th"
    return f"{start}{mark}{last}"


def digits(text: str) -> str:
    """Digit by digit: `007` is `zero zero seven`; characters that are no decimal digits are skipped."""
    return " ".join(_SMALL[int(character)] for character in text if character.isdecimal())


def number(text: str) -> str:
    """Words of a written number: `1,234.5`, `.5`, `007` (digit by digit), `-3`, or too long a one (digit by digit)."""
    if text[0] in "-−":
        return f"minus {number(text[1:])}"
    whole, point, fraction = text.replace(",", "").partition(".")
    whole = whole or "0"
    said = digits(whole) if len(whole) > _LONGEST_NUMBER or re.match(r"0\d", whole) else cardinal(int(whole))
    return f"{said} point {digits(fraction)}" if point and fraction else said


def year(value: int) -> str:
    """A year of four figures: 1905 `nineteen oh five`, 2005 `two thousand and five`, 2024 `twenty twenty-four`."""
    century, rest = divmod(value, 100)
    if value % 1000 < 10:
        return cardinal(value)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def decade(value: int) -> str:
    """`1990` is `nineteen nineties`, `2000` is `two thousands`, `90` is `nineties`."""
    words = year(value) if value >= 1000 else cardinal(value)
    return f"{words[:-1]}ies" if words.endswith("y") else f"{words}s"
