"""Loops, silence and long pauses are heard; ordinary speech is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.errors import InputError
from cosytune.synthesis.guards import GuardConfig, loop_length, sound_problem, token_guard
from tests.unit.model_examples import tone

RATE = 16_000


@settings(max_examples=200, deadline=None)
@given(
    speech=st.lists(st.integers(0, 50), max_size=40),
    period=st.lists(st.integers(100, 110), min_size=1, max_size=8, unique=True),
    rounds=st.integers(1, 12),
)
def test_a_loop_is_found_and_its_first_round_is_kept(speech: list[int], period: list[int], rounds: int) -> None:
    span = 12
    tokens = [*speech, *period * rounds]
    expected = (rounds - 1) * len(period) if rounds >= 3 and rounds * len(period) >= span else 0
    if len(period) > span // 2:
        expected = 0  # longer periods are phrases that may come twice
    assert loop_length(tokens, span) == expected


@settings(max_examples=200, deadline=None)
@given(st.permutations(range(60)))
def test_what_does_not_repeat_is_no_loop(tokens: list[int]) -> None:
    assert loop_length(tokens, 10) == 0


def test_a_span_that_nothing_reaches_costs_nothing() -> None:
    """All periods up to half the span were once tried among any number of tokens; this would not end."""
    assert loop_length([1, 2] * 150, 10**15) == 0


def test_a_loop_that_was_left_is_no_loop() -> None:
    assert loop_length([5] * 30 + [1, 2, 3], 12) == 0
    assert loop_length([], 12) == loop_length([5], 12) == 0
    assert loop_length([5] * 30, 12) == 29


def test_the_guard_counts_seconds() -> None:
    guard = token_guard(GuardConfig(loop_seconds=1.0), token_rate=25)
    assert not guard([7] * 20)
    assert guard([7] * 30)
    assert guard([1, 2, 3, 4, *[7, 8] * 13])
    assert not guard(list(range(30)))


def test_silence_and_long_pauses_are_problems() -> None:
    config = GuardConfig(longest_pause=1.0)
    speech = tone(1.0, RATE)
    silence = np.zeros(RATE // 2, np.float32)
    assert sound_problem(speech, RATE, config) is None
    assert sound_problem(np.concatenate([speech, silence, speech]), RATE, config) is None
    paused = np.concatenate([speech, silence, silence, silence, speech])
    assert sound_problem(paused, RATE, config) == "a pause of 1.5 s"
    assert sound_problem(np.concatenate([speech, *[silence] * 6]), RATE, config) is None, "the tail is cut, not retried"
    assert sound_problem(np.zeros(RATE, np.float32), RATE, config) == "nothing but silence"


@pytest.mark.parametrize(
    "wrong", [{"retries": -1}, {"loop_seconds": 0.0}, {"longest_pause": -1}, {"shortest_limit": 0}]
)
def test_guards_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="guards need retries of 0 or more and durations above 0 s"):
        GuardConfig(**wrong)  # type: ignore[arg-type]
