"""The tables behind `english.py`: months, currencies, units, abbreviations, and the patterns made of them."""

from __future__ import annotations

import re

__all__ = [
    "ABBREVIATIONS",
    "COUNTRIES",
    "CURRENCIES",
    "DAY",
    "IDIOMS",
    "MONTH",
    "MONTHS",
    "MONTH_NAMES",
    "NO_PLURALS",
    "NUMBER",
    "PLURALS",
    "SCALES",
    "SCALE_WORDS",
    "SIGNS",
    "UNIT",
    "UNITS",
    "YEAR",
]

_MONTH_WORDS = "January February March April May June July August September October November December"
MONTHS = _MONTH_WORDS.split()
MONTH = "Sept\\.?|" + "|".join(f"{month[:3]}(?:{month[3:]}|\\.)?" if month != "May" else "May" for month in MONTHS)
MONTH_NAMES = {month[:3]: month for month in MONTHS}
YEAR = r"1[1-9]\d\d|20\d\d"
DAY = r"3[01]|[12]\d|0?[1-9]"
NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"

# one, many, one hundredth, many hundredths
CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
    "￥": ("yuan", "yuan", "fen", "fen"),
    "₹": ("rupee", "rupees", "paisa", "paise"),
    "₩": ("won", "won", "jeon", "jeon"),
}
COUNTRIES = {"US": "US ", "CA": "Canadian ", "AU": "Australian ", "NZ": "New Zealand ", "HK": "Hong Kong "}
SCALES = {"k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion", "tn": "trillion"}
SCALE_WORDS = "hundred|thousand|million|billion|trillion"

UNITS: dict[str, tuple[str, str]] = {
    **{unit: (f"{name}meter", f"{name}meters") for unit, name in (("km", "kilo"), ("cm", "centi"), ("mm", "milli"))},
    **{unit: (f"{name}gram", f"{name}grams") for unit, name in (("kg", "kilo"), ("mg", "milli"), ("g", ""))},
    **{unit: (name, name) for unit, name in (("Hz", "hertz"), ("kHz", "kilohertz"), ("MHz", "megahertz"))},
    **{unit: (f"{name}byte", f"{name}bytes") for unit, name in (("kB", "kilo"), ("KB", "kilo"), ("MB", "mega"))},
    **{unit: (f"{name}byte", f"{name}bytes") for unit, name in (("GB", "giga"), ("TB", "tera"))},
    **{unit: (f"{name}watt", f"{name}watts") for unit, name in (("W", ""), ("kW", "kilo"), ("MW", "mega"))},
    **dict.fromkeys(("ml", "mL"), ("milliliter", "milliliters")),
    **dict.fromkeys(("l", "L"), ("liter", "liters")),
    **dict.fromkeys(("lb", "lbs"), ("pound", "pounds")),
    **dict.fromkeys(("h", "hr", "hrs"), ("hour", "hours")),
    **dict.fromkeys(("min", "mins"), ("minute", "minutes")),
    **dict.fromkeys(("s", "sec", "secs"), ("second", "seconds")),
    **dict.fromkeys(("km/h", "kph"), ("kilometer per hour", "kilometers per hour")),
    **dict.fromkeys(("°C", "℃"), ("degree Celsius", "degrees Celsius")),
    **dict.fromkeys(("°F", "℉"), ("degree Fahrenheit", "degrees Fahrenheit")),
    "GHz": ("gigahertz", "gigahertz"),
    "kWh": ("kilowatt hour", "kilowatt hours"),
    "m": ("meter", "meters"),
    "m/s": ("meter per second", "meters per second"),
    "mph": ("mile per hour", "miles per hour"),
    "mi": ("mile", "miles"),
    "ft": ("foot", "feet"),
    "yd": ("yard", "yards"),
    "oz": ("ounce", "ounces"),
    "ms": ("millisecond", "milliseconds"),
    "dB": ("decibel", "decibels"),
    "V": ("volt", "volts"),
    "kcal": ("kilocalorie", "kilocalories"),
    "rpm": ("revolution per minute", "revolutions per minute"),
    "°": ("degree", "degrees"),
    "%": ("percent", "percent"),
}
for _power, _name in (("²", "square"), ("³", "cubic")):
    for _unit in ("km", "m", "cm", "mm"):
        UNITS[_unit + _power] = (f"{_name} {UNITS[_unit][0]}", f"{_name} {UNITS[_unit][1]}")
UNIT = "|".join(re.escape(unit) for unit in sorted(UNITS, key=len, reverse=True))

ABBREVIATIONS = {
    "Mr.": "Mister",
    "Mrs.": "Missus",
    "Dr.": "Doctor",
    "Prof.": "Professor",
    "Gen.": "General",
    "Capt.": "Captain",
    "Lt.": "Lieutenant",
    "Mt.": "Mount",
    "Jr.": "Junior",
    "Sr.": "Senior",
    "vs.": "versus",
    "approx.": "approximately",
    "e.g.": "for example",
    "i.e.": "that is",
    "etc.": "et cetera",
}
"""Abbreviations with a full stop that is no sentence end, and how they are read."""

IDIOMS = {"24/7": "twenty-four seven", "9/11": "nine eleven", "50/50": "fifty-fifty"}
SIGNS = {"+": "plus", "=": "equals", "×": "times", "x": "times", "*": "times", "÷": "divided by"}
_NO_PLURALS = "is was has as its his this us does yes plus versus"
NO_PLURALS = frozenset(_NO_PLURALS.split())
_PLURALS = "people men women children feet teeth mice sheep fish percent hundred thousand million"
PLURALS = frozenset(_PLURALS.split())
