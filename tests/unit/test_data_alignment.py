"""Laying a transcript along pauses: made-up readers whose every border is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.data.alignment import Unit, align_units, misfit, spoken_size, units_of_text
from cosytune.data.hearing import Hearing, words_of

RATE = 14.0


def read_out(units: list[Unit], seed: int, skipped: tuple[int, ...] = ()) -> tuple[np.ndarray, dict[int, int]]:
    """A reader who pauses at every sentence end and at some commas: stretches of speech, and the unit before each."""
    random = np.random.default_rng(seed)
    spans: list[list[float]] = []
    borders = {0: 0}
    position, pause = 0.3, 1.0
    for number, unit in enumerate(units):
        if number in skipped:
            continue
        length = unit.size / RATE * float(random.lognormal(0, 0.08))
        if pause:
            borders[number] = len(spans)
            spans.append([position, position + length])
        else:
            spans[-1][1] += length
        if unit.ends_sentence:
            pause = float(random.uniform(0.4, 1.2))
        else:
            pause = float(random.uniform(0.15, 0.5)) if random.random() < 0.5 else 0.0
        position += length + pause
    borders[len(units)] = len(spans)
    return np.array(spans), borders


def book(sentences: int, seed: int) -> str:
    random = np.random.default_rng(seed)

    def words(count: int) -> str:
        return " ".join("abcdefghij"[: random.integers(2, 9)] for _ in range(count))

    return " ".join(
        ", ".join(words(int(random.integers(2, 9))) for _ in range(int(random.integers(1, 4)))) + "."
        for _ in range(sentences)
    )


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10_000))
def test_borders_are_found(seed: int) -> None:
    units = units_of_text(book(12, seed), "en")
    speech, borders = read_out(units, seed)
    anchors = align_units(units, speech).anchors
    assert [(anchor.unit, anchor.stretch) for anchor in (anchors[0], anchors[-1])] == [
        (0, 0),
        (len(units), len(speech)),
    ]
    sure = [anchor for anchor in anchors if anchor.confidence >= 0.9]
    assert len(sure) >= 0.7 * len(borders)
    wrong = [anchor for anchor in sure if borders.get(anchor.unit) != anchor.stretch]
    assert len(wrong) <= 0.03 * len(sure) + 1
    pairs = [(anchor.unit, anchor.stretch) for anchor in anchors]
    assert pairs == sorted(pairs)


def test_text_that_was_not_read_and_speech_without_text_are_left_out() -> None:
    units = units_of_text(book(14, 3), "en")
    long = [number for number, unit in enumerate(units) if unit.size > 30]
    speech, borders = read_out(units, 3, skipped=(long[3],))
    announcement = np.array([[0.0, 4.0], [5.0, 9.0], [10.0, 14.0]])
    speech = np.concatenate([announcement, speech + 15.5])
    anchors = [anchor for anchor in align_units(units, speech).anchors if anchor.confidence >= 0.9]
    assert (anchors[0].unit, anchors[0].stretch) == (0, 0)
    assert (anchors[1].unit, anchors[1].stretch) == (0, 3)
    right = [anchor for anchor in anchors[1:] if borders.get(anchor.unit) == anchor.stretch - 3]
    assert len(right) >= len(anchors) - 2


def test_a_ten_minute_text_in_the_hour_of_another_does_not_fail() -> None:
    units = units_of_text(book(10, 1), "en")
    speech = np.stack([np.arange(400) * 9.0, np.arange(400) * 9.0 + 8.0], axis=1)
    anchors = align_units(units, speech).anchors
    assert (anchors[0].unit, anchors[-1].unit) == (0, len(units))


def test_one_unit_is_the_whole() -> None:
    anchors = align_units(units_of_text("Yes.", "en"), np.array([[0.0, 0.4]])).anchors
    assert [(anchor.unit, anchor.stretch) for anchor in anchors] == [(0, 0), (1, 1)]


def test_gaps_have_a_probability() -> None:
    units = [Unit(f"Sentence {number}. ", size, True) for number, size in enumerate([30, 44, 26, 60, 35, 50, 28, 41])]
    speech, _ = read_out(units, 5)
    whole = align_units(units, speech)
    assert whole.unread.shape == (8,) and whole.untold.shape == (8,)
    assert whole.unread.max() < 1e-3 and whole.untold.max() < 1e-3
    read, _ = read_out(units, 5, skipped=(3,))
    found = align_units(units, read)
    assert found.unread[3] > 0.9 and np.delete(found.unread, 3).max() < 0.1 and found.untold.max() < 0.1
    told = align_units([*units[:3], *units[4:]], speech)
    assert told.untold[3] > 0.9 and np.delete(told.untold, 3).max() < 0.1 and told.unread.max() < 0.1


def test_whoever_expects_gaps_is_less_sure_that_there_are_none() -> None:
    units = [Unit(f"Sentence {number}. ", size, True) for number, size in enumerate([30, 44, 26, 60, 35, 50, 28, 41])]
    # Another sentence, of half the length, is read instead of the fourth.
    other = [*units[:3], Unit("Another. ", 28, True), *units[4:]]
    speech, _ = read_out(other, 5)
    trusting, expecting = (align_units(units, speech, gap=gap).unread[3] for gap in (8.0, 4.0))
    assert trusting < 0.05 < expecting


@pytest.mark.parametrize(
    ("text", "language", "parts"),
    [
        ("One, two. Three!", "en", ["One, ", "two.", " Three!"]),
        ("It is 3.14, says Mr. X.", "en", ["It is 3.14, ", "says Mr. X."]),
        ("你好，世界。再见！", "zh", ["你好，", "世界。", "再见！"]),
        ("“Well,” she said; “go.” Then…", "en", ["“Well,” ", "she said;", " “go.”", " Then…"]),
        ("... !!", "en", []),
    ],
)
def test_units_are_the_text(text: str, language: str, parts: list[str]) -> None:
    units = units_of_text(text, language)
    assert [unit.text for unit in units] == parts
    assert "".join(parts) == (text if parts else "")
    assert not units or units[-1].ends_sentence


def test_sizes_are_what_is_said() -> None:
    assert spoken_size("Don't!", "en") == 4
    assert spoken_size("42", "en") == len("fortytwo")
    assert spoken_size("你好", "zh") == pytest.approx(5.2)
    assert misfit(3.0, 3.0) == 0 and misfit(3.0, 5.0) > 3


def test_words_that_were_heard_tell_the_place() -> None:
    units = units_of_text("Alpha beta gamma delta. Epsilon zeta eta theta. Iota kappa lambda mu.", "en")
    heard = [["alpha", "better", "gamma", "delta"], ["iota", "kappa", "lambda"]]
    speech = np.array([[0.0, 1.0], [1.2, 2.0], [3.0, 4.0], [4.2, 5.0]])
    hearing = Hearing(units, "en", speech, [0, 2, 4], heard)
    # The second sentence was not read: both of its ends are where the speech pauses.
    assert hearing.evidence(1, 2) > 0 and hearing.evidence(2, 2) > 0
    assert hearing.evidence(0, 2) < 0 and hearing.evidence(3, 2) <= 0
    assert hearing.evidence(1, 1) == 0.0  # no part ends there
    assert hearing.agreement((0, 1), (0, 2)) == 0.75 and hearing.agreement((2, 3), (2, 4)) == 0.75
    assert hearing.agreement((1, 2), (2, 4)) == 0.0
    nothing = Hearing(units, "en", speech, [0, 2, 4], [["x"], ["y"]])
    assert nothing.evidence(1, 2) == 0.0


def test_words_to_compare() -> None:
    assert words_of("Don't say 42, Zoë!", "en") == ["dont", "say", "forty", "two", "zoë"]
    assert words_of("我有2只cat。", "zh") == ["我", "有", "两", "只", "cat"]
