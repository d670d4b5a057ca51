"""Reading Chinese (and Japanese) text aloud: wetext's grammars, what they get wrong, and the rules of the reference."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from cosytune.text.grammar import read_stretches, read_with_grammar

__all__ = ["chinese_rules", "read_chinese", "read_japanese"]

_DIGITS = "零一二三四五六七八九"
_CURRENCIES = {"$": "美元", "€": "欧元", "£": "英镑", "¥": "元", "￥": "元", "₩": "韩元", "₹": "卢比"}
_SCALES = {"k": "千", "K": "千", "M": "百万", "B": "十亿"}
_UNITS = {"kWh": "千瓦时", "kW": "千瓦", "W": "瓦", "V": "伏", "g": "克", "L": "升", "l": "升", "dB": "分贝"}
_UNITS |= {"Hz": "赫兹", "kHz": "千赫兹", "MHz": "兆赫兹", "GHz": "吉赫兹"}


def _without_commas(match: re.Match[str]) -> str:
    return match[0].replace(",", "")


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    replacement: str | Callable[[re.Match[str]], str]


def _say_digits(text: str) -> str:
    return "".join(_DIGITS[int(character)] for character in text if character.isdecimal())


def _say_money(match: re.Match[str]) -> str:
    scale = match["scale"] or ""
    # "￥99元" names the currency twice
    currency = "" if match["named"] is not None else _CURRENCIES[match["sign"]]
    return f"{match['amount']}{_SCALES.get(scale, scale)}{currency}"


def _say_version(match: re.Match[str]) -> str:
    parts = match[0].split(".")
    if len(parts) == 4:
        return "点".join(map(_say_digits, parts))
    return "点".join(read_with_grammar(part, "zh") or _say_digits(part) for part in parts)


def _say_year_span(match: re.Match[str]) -> str:
    return f"{_say_digits(match[1])}到{_say_digits(match[2])}"


_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")

# In order. What the grammar reads wrongly (thousands, versions, long and grouped digits, dashes, some units), brought
# into a form it reads rightly or read here.
_BEFORE_GRAMMAR = (
    _Rule(_THOUSANDS, _without_commas),
    _Rule(
        re.compile(
            r"(?P<sign>[$€£¥￥₩₹])\s?(?P<amount>\d+(?:\.\d+)?)\s?(?P<scale>[十百千]?[万亿]|百|千|[kKMB](?![A-Za-z]))?(?P<named>(?=元|块|人民币))?"
        ),
        _say_money,
    ),
    _Rule(re.compile(r"(\d)\.0+(?=[万亿]?(?:美|欧|韩|日|港)?元)"), r"\1"),
    _Rule(re.compile(r"(\.\d*[1-9])0+(?=[万亿]?(?:美|欧|韩|日|港)?元)"), r"\1"),
    _Rule(re.compile(r"(?<![\d.])((?:19|20)\d\d)\.([01]?\d)\.([0-3]?\d)(?![\d.])"), r"\1年\2月\3日"),
    _Rule(re.compile(r"(?<![\d.])\d{1,4}(?:\.\d{1,4}){2,}(?![\d.])"), _say_version),
    _Rule(re.compile(r"(?<![\d.-])(1[3-9]\d)-(\d{4})-(\d{4})(?![\d-])"), r"\1\2\3"),
    _Rule(re.compile(r"(?<![\d.])\d{12,}(?![\d.])"), lambda match: _say_digits(match[0])),
    _Rule(re.compile(r"(?<![\d.-])((?:1\d|20)\d\d)\s?[-–—~～]\s?((?:1\d|20)\d\d)(?=年代?)"), r"\1年到\2"),
    _Rule(re.compile(r"(?<![\d.-])((?:1\d|20)\d\d)\s?[-–—~～]\s?((?:1\d|20)\d\d)(?![\d.-])"), _say_year_span),
    _Rule(re.compile(r"(比分\D{0,3}\d{1,3})[-–:：](?=\d{1,3}(?!\d))"), r"\1比"),
    _Rule(re.compile(r"(?<=\d%)\s?[-–—~～]\s?(?=\d)"), "到"),
    _Rule(re.compile(r"(第\d{1,6})\s?[-–—~～]\s?(?=\d)"), r"\1到"),
    _Rule(re.compile(r"(?<=\d)\s?[–—～]\s?(?=\d)"), "到"),
    _Rule(re.compile(r"(?<=[A-Za-z])-(?=\d)"), " "),
    _Rule(re.compile(r"(?<![A-Za-z])N[Oo]\.\s?(?=\d)"), "第"),
    _Rule(re.compile(r"(?<![A-Za-z0-9.])[-−](?=\d+(?:\.\d+)?\s?(?:℃|°C|度))"), "零下"),
    _Rule(re.compile(r"(\d+(?:\.\d+)?)‰"), r"千分之\1"),
    _Rule(
        re.compile(rf"(?<=\d)\s?({'|'.join(sorted(_UNITS, key=len, reverse=True))})(?![A-Za-z0-9/²³])"),
        lambda match: _UNITS[match[1]],
    ),
)

_ADDRESS = re.compile(r"(?:https?://|www\.)[!-~]+|[\w.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+", re.ASCII)
_DIGIT = re.compile(r"\d")


def _outside_addresses(text: str, read: Callable[[str], str]) -> str:
    pieces = []
    start = 0
    for match in _ADDRESS.finditer(text):
        pieces += [read(text[start : match.start()]), match[0]]
        start = match.end()
    return "".join([*pieces, read(text[start:])])


def _read_chinese(text: str) -> str:
    for pattern, replacement in _BEFORE_GRAMMAR:
        text = pattern.sub(replacement, text)
    return read_stretches(text, "zh")


def read_chinese(text: str) -> str:
    """Write the numbers, dates, times, sums and measures of a Chinese text as words; addresses stay as they are."""
    if not _DIGIT.search(text):
        return text
    return _outside_addresses(text, _read_chinese)


def read_japanese(text: str) -> str:
    """Write the numbers of a Japanese text as Japanese words (wetext's grammar); addresses stay as they are."""
    if not _DIGIT.search(text):
        return text
    return _outside_addresses(_THOUSANDS.sub(_without_commas, text), partial(read_stretches, language="ja"))


_INNER_STOP = re.compile(r"(?<![0-9A-Za-z])\.|\.(?![0-9A-Za-z])")
_DROPPED = str.maketrans({**dict.fromkeys("（）【】`"), "²": "平方", "³": "立方"})
_NEEDLESS_SPACE = re.compile(r"(?<![\x00-\x1f!-\x7f]) | (?![\x00-\x1f!-\x7f])")
# Neither white space nor general punctuation nor a sign of Chinese and Japanese: what stands in words with spaces
# between them, whatever the script.
_SPACED = r"[^\s\u2000-\u206f\u2e80-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff9f\U00020000-\U0003ffff]"
_NEEDLESS_EVEN_ABROAD = re.compile(rf"(?!(?<={_SPACED}) {_SPACED})(?:{_NEEDLESS_SPACE.pattern})")


def chinese_rules(text: str, keep_inner_stops: bool, *, keep_foreign_spaces: bool) -> str:
    """The written form the Chinese models were trained on (section 2.2 of the specification, steps 2 to 8).

    No line ends; spaces only between two ASCII characters (with `keep_foreign_spaces` also between words of other
    scripts that write them: `café au lait`, `Москва и Киев`); `²` and `³` as words; full stops as `。` (with
    `keep_inner_stops` not those between two ASCII letters or digits); no round or lenticular brackets; ` - ` as `，`; a
    comma at the end as `。`.
    """
    needless = _NEEDLESS_EVEN_ABROAD if keep_foreign_spaces else _NEEDLESS_SPACE
    text = needless.sub("", text.replace("\n", ""))
    # brackets go after the full stops and dashes, as there; the order matters only for what stands beside them
    text = text.replace("²", "平方").replace("³", "立方")
    text = _INNER_STOP.sub("。", text) if keep_inner_stops else text.replace(".", "。")
    text = text.replace(" - ", "，").translate(_DROPPED).replace("——", " ")
    stripped = text.rstrip("，,、")
    return stripped if len(stripped) == len(text) else f"{stripped}。"
