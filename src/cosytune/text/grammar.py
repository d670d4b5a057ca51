"""The finite-state grammars of wetext, handed only what they can take.

wetext 0.1.8 takes quadratic time in the length of its input, fails an assertion on characters it does not know,
escapes quotation marks and strips white space. So texts go through it in short stretches, and a stretch it cannot read
comes back unread (`None`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

__all__ = ["read_stretches", "read_with_grammar"]

# Above this many characters a stretch is not worth the quadratic time.
_LONGEST_STRETCH = 160
_LONGEST_CLAUSE = 60
# Up to a clause mark, a quotation mark or a line end. Full stops, colons and dashes may stand inside a number.
_CLAUSE = re.compile(rf'[^。？！；，、,…?!;"\\“”\n]{{1,{_LONGEST_CLAUSE}}}|[。？！；，、,…?!;"\\“”\n]+')
# Escaped by wetext, or (lone surrogates) no text at all.
_UNREADABLE = re.compile(r'["\\\ud800-\udfff]')
# The last place in a clause that is too long where no number, unit or word is cut.
_SAFE_CUT = re.compile(r".*[^\dA-Za-z.:/%+\-~$€£¥￥点年月日号时分秒百千万亿第]", re.DOTALL)


@lru_cache(maxsize=3)
def _grammar(language: str) -> Callable[[str], str]:
    from wetext import Normalizer  # loading its grammars takes a third of a second: only when a number is met

    normalizer = Normalizer(lang=language, operator="tn", remove_erhua=False)
    return normalizer.normalize


def read_with_grammar(stretch: str, language: str) -> str | None:
    """Read the numbers of a short stretch of text with wetext's grammar of `language` (en, zh or ja).

    White space at the ends is kept. None when the grammar cannot read the stretch.
    """
    core = stretch.strip()
    if not core or len(core) > _LONGEST_STRETCH or _UNREADABLE.search(core):
        return None
    read = _read(core, language)
    start = len(stretch) - len(stretch.lstrip())
    return f"{stretch[:start]}{read}{stretch[start + len(core) :]}" if read else None


@lru_cache(maxsize=4096)
def _read(core: str, language: str) -> str | None:
    try:
        return _grammar(language)(core)
    except (AssertionError, IndexError):
        # wetext's token parser asserts on what its tagger gives for a character outside the grammar
        return None


def read_stretches(text: str, language: str) -> str:
    """Read a text of any length clause by clause, so that time grows with its length only; unread clauses stay."""
    pieces = []
    start = 0
    while match := _CLAUSE.match(text, start):
        clause = match[0]
        if len(clause) == _LONGEST_CLAUSE and match.end() < len(text) and (cut := _SAFE_CUT.match(clause)):
            clause = cut[0]
        read = read_with_grammar(clause, language) if re.search(r"\d", clause) else None
        pieces.append(clause if read is None else read)
        start += len(clause)
    return "".join(pieces)
