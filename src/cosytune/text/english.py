"""Reading English text aloud: numbers, dates, times, sums of money, measures and abbreviations as words.

wetext's English grammar drops the leading "one" of thousands, splits 1234 birds into twelve thirty-four, reads 1990s
as seconds and 5 m as minutes, says "oh" for zero and fails on `#1`, `+1 555` and two spaces in a row. So the rules
below read all that themselves and leave it what it reads well: web addresses and fractions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from cosytune.text.english_words import (
    ABBREVIATIONS,
    COUNTRIES,
    CURRENCIES,
    DAY,
    IDIOMS,
    MONTH,
    MONTH_NAMES,
    MONTHS,
    NO_PLURALS,
    NUMBER,
    PLURALS,
    SCALE_WORDS,
    SCALES,
    SIGNS,
    UNIT,
    UNITS,
    YEAR,
)
from cosytune.text.grammar import read_with_grammar
from cosytune.text.spelling import cardinal, decade, digits, number, ordinal, year

__all__ = ["read_english"]


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    read: str | Callable[[re.Match[str]], str]


def _end_of_sentence(match: re.Match[str], abbreviation: str) -> str:
    """A full stop where an abbreviation's own stop also ended the sentence."""
    rest = match.string[match.end() : match.end() + 3]
    return "." if abbreviation.endswith(".") and (not rest.strip() or re.match(r"\s+[A-Z]", rest)) else ""


def _say_address(match: re.Match[str]) -> str:
    address = match[0].rstrip(".,;:!?)'")
    return (read_with_grammar(address, "en") or address) + match[0][len(address) :]


def _say_date(match: re.Match[str]) -> str:
    named = match.groupdict()
    month = named["month"]
    month = MONTHS[int(month) - 1] if month.isdecimal() else MONTH_NAMES[month[:3]]
    said = f"{month} {ordinal(int(named['day']))}"
    if "the" in named:
        said = f"{named['the'] or 'the '}{ordinal(int(named['day']))} of {month}"
    if figures := named.get("year"):
        said += f", {year(int(figures) if len(figures) == 4 else 2000 + int(figures))}"
    return said


def _say_time(match: re.Match[str]) -> str:
    named = match.groupdict()
    hour, minute, second = (int(named.get(name) or 0) for name in ("hour", "minute", "second"))
    half = f" {named['half'][0].upper()}M" if named.get("half") else ""
    if minute:
        said = f"{cardinal(hour)} {'oh ' if minute < 10 else ''}{cardinal(minute)}"
    elif half:
        said = cardinal(hour)
    else:
        said = f"{cardinal(hour)} o'clock" if 1 <= hour <= 12 else f"{cardinal(hour)} hundred"
    if second:
        said += f" and {cardinal(second)} second{'' if second == 1 else 's'}"
    return said + half + _end_of_sentence(match, named.get("half") or "")


def _say_money(match: re.Match[str]) -> str:
    one, many, cent, cents = CURRENCIES[match["sign"]]
    country = COUNTRIES.get(match["country"] or "", "")
    minus = "minus " if match["minus"] else ""
    amount, scale = match["amount"], match["scale"]
    if scale:
        return f"{minus}{number(amount)} {SCALES.get(scale.lower(), scale)} {country}{many}"
    whole, _, fraction = amount.replace(",", "").partition(".")
    if len(fraction) not in (0, 2):
        return f"{minus}{number(amount)} {country}{many}"
    whole = whole.lstrip("0") or "0"
    said = [f"{number(whole)} {country}{one if whole == '1' else many}"]
    if int(fraction or 0):
        if whole == "0":
            said.clear()
        said.append(f"{cardinal(int(fraction))} {cent if int(fraction) == 1 else cents}")
    return minus + " and ".join(said)


def _say_money_behind(match: re.Match[str]) -> str:
    one, many = CURRENCIES[match["sign"]][:2]
    return f"{number(match['amount'])} {one if match['amount'] == '1' else many}"


def _say_digit_groups(match: re.Match[str]) -> str:
    plus = "plus " if match[0].startswith("+") else ""
    return plus + ", ".join(digits(group) for group in re.findall(r"\d+", match[0]))


def _say_version(match: re.Match[str]) -> str:
    parts = match[0].split(".")
    if len(parts) == 4:
        return " dot ".join(map(digits, parts))
    return " point ".join(map(number, parts))


def _say_measure(match: re.Match[str]) -> str:
    one, many = UNITS[match["unit"]]
    return f"{number(match['amount'])} {one if match['amount'] == '1' else many}"


def _say_year_or_number(match: re.Match[str]) -> str:
    """Four figures: a year after a word like "in", a count before a plural, else a year from 1500 on."""
    value = int(match["value"])
    following = (match["following"] or "").lower()
    counted = following in PLURALS or (following.endswith("s") and following not in NO_PLURALS)
    is_year = bool(match["cue"]) if value < 1500 or counted else True
    if value < 1500 and counted:
        is_year = False
    return (match["cue"] or "") + (year(value) if is_year else cardinal(value))


def _say_fraction(match: re.Match[str]) -> str:
    read = read_with_grammar(match[0], "en")
    if read is None:
        return re.sub(r"\d+", lambda figures: number(figures[0]), match[0].replace("/", " over "))
    return re.sub(r"\b(\w+ty) (?=(?:one|two|three|four|five|six|seven|eight|nine)\b)", r"\1-", read)


def _say_abbreviation(match: re.Match[str]) -> str:
    return ABBREVIATIONS[match[0]] + (_end_of_sentence(match, match[0]) if match[0] in ("etc.", "Jr.", "Sr.") else "")


def _say_rest(match: re.Match[str]) -> str:
    """Figures glued to letters or marks: `MP3`, `B2B`, `10k`."""
    before, after = match.string[match.start() - 1 : match.start()], match.string[match.end() : match.end() + 1]
    return (" " if before.isalpha() else "") + number(match[0]) + (" " if after.isalpha() else "")


_HALF = r"(?i:[ap](?:\.\s?m\.|m\b))"
_ALONE = r"(?<![\w.,$£€¥])"
_MONEY = r"(?<![\w.,])(?P<minus>[-−])?(?P<country>US|CA|AU|NZ|HK)?(?P<sign>[$£€¥￥₹₩])\s?"

# In order: what an earlier rule has read holds no figures any more.
_BEFORE_NUMBERS = (
    _Rule(
        re.compile(r"(?:https?://|www\.)[!-~]+|[\w.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+", re.ASCII),
        _say_address,
    ),
    _Rule(
        re.compile(rf"{_ALONE}(?P<year>{YEAR})-(?P<month>1[0-2]|0[1-9])-(?P<day>3[01]|[12]\d|0[1-9])(?![\w-])"),
        _say_date,
    ),
    _Rule(
        re.compile(rf"{_ALONE}(?P<month>1[0-2]|0?[1-9])/(?P<day>{DAY})/(?P<year>(?:19|20)\d\d|\d\d)(?![\w/])"),
        _say_date,
    ),
    _Rule(
        re.compile(rf"\b(?P<month>{MONTH}) (?P<day>{DAY})(?:st|nd|rd|th)?(?:,? (?P<year>{YEAR}))?(?![\w:%/]|[.,]\d)"),
        _say_date,
    ),
    _Rule(
        re.compile(
            rf"{_ALONE}(?P<the>[Tt]he )?(?P<day>{DAY})(?:st|nd|rd|th)?(?: of)? (?P<month>{MONTH})"
            rf"(?:,? (?P<year>{YEAR}))?(?!\w)"
        ),
        _say_date,
    ),
    _Rule(
        re.compile(
            r"(?<![\w.-])(?:\+?\d{1,3}[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])"
            r"|(?<![\w.-])\d{3}-\d{4}(?![\w-])|(?<![\w.])\+\d{1,3}[\d ()-]{4,20}\d(?![\w-])"
            r"|(?<![\w.-])\d{1,6}(?:-\d{1,7}){2,}(?![\w-])"
        ),
        _say_digit_groups,
    ),
    _Rule(re.compile(r"(?<![\w.])\d{1,4}(?:\.\d{1,4}){2,}(?![\w.]\d|\d)"), _say_version),
    _Rule(re.compile(r"(?<=[vV])\d{1,4}(?:\.\d{1,4})+"), lambda match: " " + _say_version(match)),
    _Rule(re.compile(rf"(?<![\w/.])(?:{'|'.join(IDIOMS)})(?![\w/])"), lambda match: IDIOMS[match[0]]),
    _Rule(
        re.compile(r"(?<![\w.])(\d)['’′] ?(\d{1,2})(?:[\"”″]|'')"),
        lambda match: f"{cardinal(int(match[1]))} foot {cardinal(int(match[2]))}",
    ),
    _Rule(
        re.compile(rf"(?<![\w.-])({YEAR}) ?[-–] ?({YEAR})(?![\w-])"),
        lambda match: f"{year(int(match[1]))} to {year(int(match[2]))}",
    ),
    _Rule(re.compile(rf"([$£€])({NUMBER}) ?[-–—] ?(?={NUMBER})"), r"\2 to \1"),
    _Rule(re.compile(r"(\d(?: ?[ap]\.?m\.?|%)?) ?[-–—] ?(?=[$£€]?\d)"), r"\1 to "),
    _Rule(
        re.compile(
            rf"(?<![\w:.,])(?P<hour>2[0-4]|[01]?\d):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?(?![\d:])"
            rf"(?: ?(?P<half>{_HALF})| ?o['’]clock)?"
        ),
        _say_time,
    ),
    _Rule(re.compile(rf"(?<![\w:.,])(?P<hour>1[0-2]|0?\d)(?:\.(?P<minute>[0-5]\d))? ?(?P<half>{_HALF})"), _say_time),
    _Rule(
        re.compile(rf"{_MONEY}(?P<amount>{NUMBER})(?: ?(?P<scale>{SCALE_WORDS}|bn|mn|tn|[kKmMbB])(?!\w))?"),
        _say_money,
    ),
    _Rule(re.compile(rf"{_ALONE}(?P<amount>{NUMBER})\s?(?P<sign>[€£])(?!\w)"), _say_money_behind),
)

_NUMBERS = (
    _Rule(re.compile(r"(?<![\w.,])['’]?(1[1-9]\d0|20\d0)['’]?s\b"), lambda match: decade(int(match[1]))),
    _Rule(re.compile(r"['’]([2-9]0)s\b"), lambda match: decade(int(match[1]))),
    _Rule(
        re.compile(r"(?i:\b(the|in|his|her|their|my|early|late|mid)[ -])([2-9]0)s\b"),
        lambda match: match[0][: -len(match[2]) - 1] + decade(int(match[2])),
    ),
    _Rule(
        re.compile(r"(?<![\w.,])(\d{1,3}(?:,\d{3})+|\d{1,9})(?:st|nd|rd|th)\b"),
        lambda match: ordinal(int(match[1].replace(",", ""))),
    ),
    _Rule(re.compile(r"(?:\bNo\. ?|\bno\. |(?<!\w)# ?)(?=\d)"), "number "),
    _Rule(re.compile(r"(?<=\d)\^(?=\d)"), " to the power of "),
    _Rule(re.compile(r"(?<=\d) ?([+=×x*÷]) ?(?=\d)"), lambda match: f" {SIGNS[match[1]]} "),
    _Rule(re.compile(r"(?<=\d)x(?!\w)"), " times"),
    _Rule(re.compile(r"(?<=\d)k(?!\w)"), " thousand"),
    _Rule(re.compile(r"(?<=[A-Za-z])[-–](?=\d)"), " "),
    _Rule(re.compile(r"(?<![\w.,)])[-−](?=\.?\d)"), "minus "),
    _Rule(re.compile(rf"(?<![\w.,/])(?P<amount>{NUMBER}) ?(?P<unit>{UNIT})(?![\w/²³°'’])"), _say_measure),
    _Rule(re.compile(r"(?<![\w.,/])(?:\d{1,3} )?\d{1,3}/\d{1,3}(?![\w/]|\.\d)"), _say_fraction),
    _Rule(
        re.compile(r"(?<![\w.,])(\d{1,2}):(\d{1,2})(?![\w:])"),
        lambda match: f"{number(match[1])} to {number(match[2])}",
    ),
    _Rule(
        re.compile(
            r"(?P<cue>\b(?i:in|since|by|until|till|before|after|during|circa|year|from|of) )?"
            r"(?<![\w.,-])(?P<value>1\d{3}|20\d\d)"
            r"(?!\w|[,.]\d)(?= (?P<following>[A-Za-z]{1,30})|)"
        ),
        _say_year_or_number,
    ),
    _Rule(re.compile(rf"(?<![\w.]){NUMBER}(?!\w)"), lambda match: number(match[0])),
    _Rule(re.compile(r"\d+(?:\.\d+)?"), _say_rest),
)

_ABBREVIATION = re.compile("|".join(rf"(?<![\w.]){re.escape(short)}" for short in ABBREVIATIONS))
_SAINT = re.compile(r"\bSt\. (?=[A-Z])")
_AMPERSAND = re.compile(r"(?<=\w) ?& ?(?=\w)")
_VULGAR_FRACTION = re.compile(r"(\d?)([½⅓⅔¼¾⅛⅜⅝⅞])")
_FRACTION_FORMS = "1/2 1/3 2/3 1/4 3/4 1/8 3/8 5/8 7/8"
_FRACTIONS = dict(zip("½⅓⅔¼¾⅛⅜⅝⅞", _FRACTION_FORMS.split(), strict=True))
_POWERS = str.maketrans({"²": " squared", "³": " cubed"})


def read_english(text: str) -> str:
    """Write what an English reader says: numbers of every kind as words, common abbreviations spelled out.

    Numbers of four figures from 1500 on are years unless a plural follows; dates with slashes are month first.
    """
    text = _SAINT.sub("Saint ", _ABBREVIATION.sub(_say_abbreviation, text))
    text = _AMPERSAND.sub(" and ", text)
    text = _VULGAR_FRACTION.sub(lambda match: f"{match[1]} {_FRACTIONS[match[2]]}".lstrip(), text)
    if re.search(r"\d|@|://|www\.", text):
        for pattern, read in (*_BEFORE_NUMBERS, *_NUMBERS):
            text = pattern.sub(read, text)
    return text.translate(_POWERS)
