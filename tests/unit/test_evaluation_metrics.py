from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosytune.evaluation.metrics import (
    METRICS,
    edge_silence,
    level_dbfs,
    measure,
    pitch_summary,
    runaway,
    spoken_characters,
    too_short,
)

RATE = 16_000
TEXT = "The two men shook hands again."


def tone(seconds, hertz=200.0, level=0.3):
    time = np.arange(round(seconds * RATE)) / RATE
    return (level * np.sign(np.sin(2 * np.pi * hertz * time))).astype(np.float32)


def silence(seconds):
    return np.zeros(round(seconds * RATE), dtype=np.float32)


def test_level():
    assert level_dbfs(np.ones(100, dtype=np.float32)) == 0.0
    assert level_dbfs(np.full(100, -0.1, dtype=np.float32)) == pytest.approx(-20.0, abs=1e-5)
    assert level_dbfs(np.zeros(10, dtype=np.float32)) == -120.0
    assert level_dbfs(np.zeros(0, dtype=np.float32)) == -120.0


@given(before=st.integers(0, 40), after=st.integers(0, 40))
def test_edge_silence_is_found_on_the_grid(before, after):
    wave = np.concatenate([silence(before / 100), tone(0.2), silence(after / 100)])
    found = edge_silence(wave, RATE)
    assert found.leading == pytest.approx(before / 100)
    assert found.trailing == pytest.approx(after / 100)


def test_faint_noise_at_the_edges_is_silence_and_a_pause_inside_is_not():
    hiss = np.random.default_rng(0).normal(0, 3e-4, 3200).astype(np.float32)
    found = edge_silence(np.concatenate([hiss, tone(0.1), silence(0.3), tone(0.1), hiss]), RATE)
    assert (found.leading, found.trailing) == pytest.approx((0.2, 0.2))


def test_a_silent_wave_is_all_edge():
    assert edge_silence(silence(0.5), RATE).leading == 0.5
    assert edge_silence(np.zeros(0, dtype=np.float32), RATE).trailing == 0.0


def test_characters_that_are_read():
    assert spoken_characters("It's five o'clock — really?") == 19
    assert spoken_characters("It's 5 o'clock — really?") == 19
    assert spoken_characters("你好，世界。") == 4


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ("Call 1-800-555-0199.", "Call one, eight zero zero, five five five, zero one nine nine."),
        ("共12345人。", "共一万两千三百四十五人。"),
    ],
)
def test_figures_count_as_the_words_that_are_spoken(figures, words):
    assert spoken_characters(figures) == spoken_characters(words)
    seconds = spoken_characters(words) / 7  # slow reading
    assert not runaway(figures, seconds)


@pytest.mark.parametrize(
    ("text", "natural"), [(TEXT, 1.9), ("No.", 0.5), ("收到好友从远方寄来的生日礼物，那份意外的惊喜。", 4.5)]
)
def test_natural_lengths_pass_and_impossible_ones_do_not(text, natural):
    assert not runaway(text, natural)
    assert not too_short(text, natural)
    assert runaway(text, natural * 3 + 2)
    assert too_short(text, natural / 10)


def test_pitch_middle_and_range_are_musical():
    steady = pitch_summary(tone(0.6, 200.0), RATE)
    assert steady is not None
    assert steady.median_hz == pytest.approx(200.0, rel=0.02)
    assert steady.range_semitones < 0.5
    octave = pitch_summary(np.concatenate([tone(0.5, 120.0), tone(0.5, 240.0)]), RATE)
    assert octave is not None
    assert octave.range_semitones == pytest.approx(12.0, abs=0.7)
    assert pitch_summary(silence(0.5), RATE) is None
    assert pitch_summary(tone(0.02), RATE) is None


def test_measure_returns_numbers_of_the_listed_metrics_only():
    wave = np.concatenate([silence(0.1), tone(2.0), silence(0.3)])
    found = measure(wave, RATE, TEXT, recording_seconds=1.2)
    assert set(found) == {info.name for info in METRICS} - {"spoken"}
    assert found["duration_ratio"] == pytest.approx(2.0)
    assert found["characters_per_second"] == pytest.approx(24 / 2.0)
    assert (found["leading_silence"], found["trailing_silence"]) == pytest.approx((0.1, 0.3))
    assert found["runaway"] == found["too_short"] == 0.0


def test_measure_leaves_out_what_cannot_be_had():
    found = measure(silence(20.0), RATE, TEXT)
    assert not {"duration_ratio", "characters_per_second", "f0_median"} & set(found)
    assert found["runaway"] == found["too_short"] == 1.0
    assert "f0_median" not in measure(tone(1.0), RATE, TEXT, pitch=False)
