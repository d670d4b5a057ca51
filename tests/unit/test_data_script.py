"""What is doubted of a text that was laid along speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cosytune.audio.pauses import Activity
from cosytune.data.alignment import Anchor, Unit
from cosytune.data.script import MISFIT, Script, script_of_transcript
from cosytune.errors import DataError


def script_of(said: Sequence[float], taken: Sequence[float], **options: Any) -> tuple[Script, np.ndarray]:
    """Sentences that should take `said` seconds at 10 letters a second, in stretches of `taken` seconds."""
    units = [Unit(f"Sentence {number}. ", 10 * seconds, True) for number, seconds in enumerate(said)]
    ends = np.cumsum(np.array(taken) + 0.5)
    speech = np.stack([ends - taken, ends], axis=1)
    anchors = [Anchor(number, number, 1.0) for number in range(len(said) + 1)]
    return Script(units, anchors, [""] * len(said), [None] * len(said), "a test", **options), speech


def test_nothing_is_doubted_where_all_fits() -> None:
    script, speech = script_of([2, 3, 5, 2.5], [2.2, 2.9, 5.3, 2.4], limit=MISFIT)
    assert script.doubts(speech) == [""] * 4


def test_one_sentence_that_does_not_fit_is_doubted_with_its_rate() -> None:
    script, speech = script_of([3] * 9, [3, 3, 3, 3, 4.8, 3, 3, 3, 3], limit=MISFIT)
    doubts = script.doubts(speech)
    assert doubts[4] == "text does not fit the speech here or around: 6.2 letters a second where 10.0 are usual"
    assert doubts[0] == "" and doubts[8] == ""


def test_a_text_that_slipped_by_a_sentence_is_doubted_though_no_length_is_odd_by_itself() -> None:
    lengths = [3.0, 3.9, 3.1, 4.0, 3.0, 4.1, 3.2, 4.0]
    right, speech = script_of([3.0] * 8 + lengths, [3.0] * 8 + lengths, limit=MISFIT)
    assert right.doubts(speech) == [""] * 16
    slipped, speech = script_of([3.0] * 8 + lengths, [3.0] * 8 + [*lengths[1:], 3.0], limit=MISFIT)
    doubts = slipped.doubts(speech)
    assert doubts[:5] == [""] * 5 and all(doubts[10:14])


def test_people_may_speak_at_different_rates_in_subtitles() -> None:
    script, speech = script_of([3] * 8, [3, 4.8, 2, 3, 3, 3, 3, 6])
    assert [bool(doubt) for doubt in script.doubts(speech)] == [False] * 7 + [True]


def test_what_was_not_heard_is_doubted() -> None:
    heard = SimpleNamespace(agreement=lambda units, stretches: 0.1 if units[0] == 2 else 0.6)
    script, speech = script_of([3] * 5, [3] * 5, limit=MISFIT, hearing=heard)
    doubts = script.doubts(speech)
    assert doubts[2] == "text was not heard: 10% of its words where 60% are usual"
    assert [doubt for number, doubt in enumerate(doubts) if number != 2] == [""] * 4


def test_where_a_gap_is_likely_nothing_is_believed() -> None:
    gaps = (np.array([0.0, 0.0, 0.2, 0.0, 0.0]), np.array([0.0, 0.0, 0.0, 0.0, 0.08]))
    script, speech = script_of([3] * 5, [3] * 5, limit=MISFIT, gaps=gaps)
    doubts = script.doubts(speech)
    assert [bool(doubt) for doubt in doubts] == [False, False, True, False, False]
    assert doubts[2] == "text and speech have gaps, and here may be one"
    stricter, _ = script_of([3] * 5, [3] * 5, limit=MISFIT, gaps=gaps, certainty=0.95)
    assert bool(stricter.doubts(speech)[4])


def test_the_rest_of_a_sentence_of_which_a_part_was_not_read_is_not_believed() -> None:
    script, speech = script_of([3] * 5, [3] * 5, limit=MISFIT, gaps=(np.eye(5)[2], np.zeros(5)))
    units = [replace(unit, ends_sentence=number != 2) for number, unit in enumerate(script.units)]
    assert [bool(doubt) for doubt in script.doubts(speech)] == [False, False, True, False, False]
    assert [bool(doubt) for doubt in replace(script, units=units).doubts(speech)] == [False, False, True, True, False]


def test_a_text_that_sounds_otherwise_is_doubted() -> None:
    ear = SimpleNamespace(fit=lambda first, second: 0.2 if first.unit == 1 else 0.9)
    gaps = (np.zeros(25), np.eye(25)[11])
    script, speech = script_of([3] * 25, [3] * 25, limit=MISFIT, ear=ear, gaps=gaps)
    doubts = script.doubts(speech)
    assert doubts[1] == "text does not sound like the speech: 0.20 in its worst part where 1 is usual"
    assert [number for number, doubt in enumerate(doubts) if doubt] == [1, 11]
    far = replace(script, gaps=(np.zeros(25), np.eye(25)[12]))
    assert [number for number, doubt in enumerate(far.doubts(speech)) if doubt] == [12], "gaps are far away"


def test_a_text_without_words_is_refused() -> None:
    activity = Activity(9.0, np.array([[1.0, 8.0]]), np.zeros(900, np.float32), "energy")
    with pytest.raises(DataError, match="transcript empty"):
        script_of_transcript(" ... ", "en", activity, 0.9)
