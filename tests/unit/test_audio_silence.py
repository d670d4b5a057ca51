"""Silence: bounds and pauses of waves whose silences are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosytune.audio.silence import longest_pause, loud_level, speech_bounds

RATES = st.sampled_from([8_000, 16_000, 22_050])
FRAMES = st.integers(1, 60)


def tone(frames: int, rate: int, level: float = 0.3) -> np.ndarray:
    """A hum of `frames` frames of 10 ms."""
    count = frames * round(0.01 * rate)
    return (level * np.sin(2 * np.pi * 200 / rate * np.arange(count) + 0.5)).astype(np.float32)


def hush(frames: int, rate: int, level: float = 0.0) -> np.ndarray:
    """Silence, or noise of this RMS."""
    count = frames * round(0.01 * rate)
    return (level * np.random.default_rng(0).standard_normal(count)).astype(np.float32)


@given(RATES, st.integers(0, 300), FRAMES, st.integers(0, 300), st.sampled_from([0.0, 1e-4, 5e-4]))
def test_bounds_are_where_the_sound_is(rate: int, before: int, frames: int, after: int, room: float) -> None:
    wave = np.concatenate([hush(before, rate, room), tone(frames, rate), hush(after, rate, room)])
    frame = round(0.01 * rate)
    assert speech_bounds(wave, rate) == (before * frame, (before + frames) * frame)
    assert longest_pause(wave, rate) == 0.0


@given(RATES, FRAMES, st.lists(st.tuples(FRAMES, FRAMES), min_size=1, max_size=4), st.integers(0, 200))
def test_the_longest_pause_inside_is_found(rate: int, first: int, rest: list[tuple[int, int]], around: int) -> None:
    pieces = [hush(around, rate), tone(first, rate)]
    for silent, sounding in rest:
        pieces += [hush(silent, rate), tone(sounding, rate)]
    wave = np.concatenate([*pieces, hush(around, rate)])
    expected = max(silent for silent, _ in rest) * round(0.01 * rate) / rate
    assert longest_pause(wave, rate) == pytest.approx(expected)


@given(st.lists(st.floats(-1, 1, width=32), max_size=2000), RATES, st.floats(-90, -1))
def test_any_wave_has_bounds_that_hold_its_sound(values: list[float], rate: int, floor: float) -> None:
    wave = np.array(values, dtype=np.float32)
    start, end = speech_bounds(wave, rate, floor)
    assert 0 <= start <= end <= len(wave)
    assert 0 <= longest_pause(wave, rate, floor) <= (end - start) / rate
    if not end:
        assert np.square(wave, dtype=np.float64).sum() <= len(wave) * 1e-8
    else:
        # Nothing that is cut off is louder than what stays.
        outside = np.concatenate([wave[:start], wave[end:]])
        assert np.abs(outside).max(initial=0) <= np.abs(wave[start:end]).max() * np.sqrt(round(0.01 * rate))


@given(RATES, FRAMES, FRAMES, st.sampled_from([2.0**-n for n in range(6)]))
def test_loudness_does_not_matter(rate: int, before: int, frames: int, gain: float) -> None:
    wave = np.concatenate([hush(before, rate, 1e-4), tone(frames, rate), hush(before, rate, 1e-4)])
    assert speech_bounds(wave * np.float32(gain), rate) == speech_bounds(wave, rate)


@pytest.mark.parametrize("wave", [np.zeros(0), np.zeros(5000), np.full(5000, 5e-5)])
def test_all_silent(wave: np.ndarray) -> None:
    assert speech_bounds(wave.astype(np.float32), 16_000) == (0, 0)
    assert longest_pause(wave.astype(np.float32), 16_000) == 0.0


def test_a_short_last_frame_counts() -> None:
    wave = np.concatenate([hush(3, 16_000), tone(2, 16_000), tone(1, 16_000)[:50]])
    assert speech_bounds(wave, 16_000) == (480, 850)


def test_a_faint_consonant_is_speech_and_a_breath_is_not() -> None:
    wave = np.concatenate(
        [tone(30, 16_000), tone(5, 16_000, 0.3 * 10 ** (-34 / 20)), tone(5, 16_000, 0.3 * 10 ** (-46 / 20))]
    )
    assert speech_bounds(wave, 16_000) == (0, 35 * 160)


def test_one_click_does_not_hide_the_speech() -> None:
    wave = np.concatenate([hush(20, 16_000), tone(100, 16_000, 0.05), hush(20, 16_000)])
    wave[100] = 1.0
    assert speech_bounds(wave, 16_000) == (0, 120 * 160)
    assert loud_level(np.array([0.1] * 50 + [0.001] * 5000)) == pytest.approx(0.1)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one wave \[N\], got shape \[2, 100\]"):
        speech_bounds(np.zeros((2, 100), np.float32), 16_000)
    with pytest.raises(ValueError, match=r"at least 100 Hz and a floor below 0 dB, got 16000 Hz and 3 dB"):
        longest_pause(np.zeros(100, np.float32), 16_000, 3)
    with pytest.raises(ValueError, match=r"not finite: it is broken"):
        speech_bounds(np.array([0.0, np.nan], np.float32), 16_000)
