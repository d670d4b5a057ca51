"""Numbers as words against inflect, which takes two seconds to load."""

from __future__ import annotations

import inflect

from cosytune.text.spelling import cardinal, ordinal


def test_number_words_agree_with_inflect() -> None:
    engine = inflect.engine()
    for value in [
        *range(21),
        *range(23, 130, 3),  # each ten with each unit
        *range(130, 2000, 97),
        *(10**power + extra for power in range(3, 36, 4) for extra in (0, 1, 1124)),
    ]:
        assert cardinal(value, comma=", ") == engine.number_to_words(value)
        assert ordinal(value) == engine.number_to_words(engine.ordinal(value)).replace(",", "")
