"""Resampling: lengths, tones and refusals (the comparison with the reference is in test_audio_golden)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.audio.resample import resample

RATES = st.sampled_from([8000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000])


@settings(deadline=None, max_examples=60)
@given(samples=st.integers(1, 5000), source=RATES, target=RATES)
def test_length_is_rounded_up(samples: int, source: int, target: int) -> None:
    wave = np.zeros(samples, dtype=np.float32)
    out = resample(wave, source, target)
    assert out.dtype == np.float32
    assert len(out) == -(-samples * target // source)


def test_a_tone_keeps_its_pitch_and_phase() -> None:
    tone = {rate: np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32) for rate in (16_000, 24_000)}
    out = resample(tone[24_000], 24_000, 16_000)
    assert np.abs(out - tone[16_000])[200:-200].max() < 1e-3


def test_what_the_new_rate_cannot_hold_is_removed() -> None:
    tone = np.sin(2 * np.pi * 10_000 * np.arange(24_000) / 24_000).astype(np.float32)
    assert np.abs(resample(tone, 24_000, 16_000))[500:-500].max() < 1e-3


def test_equal_rates_change_nothing() -> None:
    wave = np.ones(5, dtype=np.float32)
    assert resample(wave, 16_000, 16_000) is wave


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one channel \[N\], got shape \[2, 5\]"):
        resample(np.zeros((2, 5), dtype=np.float32), 16_000, 24_000)
    with pytest.raises(ValueError, match="must be positive, got 16000 Hz to 0 Hz"):
        resample(np.zeros(5, dtype=np.float32), 16_000, 0)
