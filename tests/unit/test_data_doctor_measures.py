"""What the doctor measures: every defect planted in something voice-like, and the untouched wave beside it."""

from __future__ import annotations

import io
from dataclasses import astuple

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.audio.files import encode_wave
from cosytune.audio.resample import resample
from cosytune.data.doctor.background import measure_hum, measure_steady
from cosytune.data.doctor.bandwidth import measure_bandwidth
from cosytune.data.doctor.clipping import crowding, flat_share
from cosytune.data.doctor.fingerprints import fingerprint, same_recordings
from cosytune.data.doctor.levels import measure_levels
from cosytune.data.doctor.measuring import measure_wave
from cosytune.data.doctor.outliers import pace_line, robust_scores
from tests.unit.doctor_examples import RATE, voice

FULL = 24_000


@pytest.fixture(scope="module")
def wave() -> np.ndarray:
    return voice(3.0)


def speech_rms(wave: np.ndarray, rate: int = RATE) -> float:
    return float(10 ** (measure_levels(wave, rate).level / 20))


@given(snr=st.floats(6, 30), seed=st.integers(0, 20))
@settings(max_examples=12, deadline=None)
def test_noise_of_a_known_level_is_measured(snr: float, seed: int) -> None:
    clean = voice(3.0, seed=seed, room=1e-6)
    noise = np.random.default_rng(seed).normal(size=len(clean)) * speech_rms(clean) * 10 ** (-snr / 20)
    measured = measure_levels((clean + noise).astype(np.float32), RATE).snr
    assert measured == pytest.approx(snr, abs=2.5)


@given(gain=st.floats(-20, 0))
@settings(max_examples=8, deadline=None)
def test_level_follows_the_gain_and_nothing_else_does(gain: float) -> None:
    clean = voice(2.0, room=1e-3)
    before, after = measure_levels(clean, RATE), measure_levels(clean * np.float32(10 ** (gain / 20)), RATE)
    assert after.level - before.level == pytest.approx(gain, abs=0.05)
    assert after.snr == pytest.approx(before.snr, abs=0.1)


@pytest.mark.parametrize("room", [0.0, 3e-4])
def test_silence_at_the_ends(wave: np.ndarray, room: float) -> None:
    rng = np.random.default_rng(0)
    parts = [room * rng.normal(size=round(length * RATE)) for length in (1.5, 0.8)]
    before = measure_levels(wave, RATE)
    after = measure_levels(np.concatenate([parts[0], wave, parts[1]]).astype(np.float32), RATE)
    assert after.leading - before.leading == pytest.approx(1.5, abs=0.04)
    assert after.trailing - before.trailing == pytest.approx(0.8, abs=0.04)
    assert after.level == pytest.approx(before.level, abs=0.3)


def test_a_click_is_not_the_beginning_of_speech(wave: np.ndarray) -> None:
    silence = np.zeros(RATE, np.float32)
    silence[5000:5080] = 0.5
    assert measure_levels(np.concatenate([silence, wave]), RATE).leading > 1.0


def test_digital_silence_has_no_noise_and_a_short_word_an_unknown_one() -> None:
    silent = measure_levels(np.zeros(RATE, np.float32), RATE)
    assert (silent.level, silent.noise, silent.snr, silent.leading, silent.trailing) == (-120.0, None, None, 1.0, 1.0)
    gated = voice(3.0, room=0.0)
    assert measure_levels(gated, RATE).snr == 90.0
    assert measure_levels(gated, RATE).noise is None
    vowel = np.sin(2 * np.pi * 200 * np.arange(RATE // 3) / RATE).astype(np.float32)
    assert measure_levels(vowel, RATE).snr is None


def test_a_pause_and_cut_ends(wave: np.ndarray) -> None:
    half = len(wave) // 2
    paused = np.concatenate([wave[:half], np.zeros(2 * RATE, np.float32), wave[half:]])
    assert 2.0 <= measure_levels(paused, RATE).pause < 2.4
    levels = measure_levels(wave, RATE)
    assert levels.head < -25 and levels.tail < -25
    loud = np.flatnonzero(levels.sounding)[5] * RATE // 100
    assert measure_levels(wave[loud:], RATE).head > -15


@pytest.mark.parametrize("depth", [3, 6, 12])
@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_clipping_is_seen_at_any_level(wave: np.ndarray, depth: float, gain: float) -> None:
    limit = np.abs(wave).max() * 10 ** (-depth / 20)
    clipped = np.round(np.clip(wave, -limit, limit) * gain * 32768) / 32768
    assert flat_share(wave) == 0.0
    assert flat_share(clipped) > 1e-4
    assert crowding(clipped) > 0.15 > crowding(wave)


def test_clipping_of_one_side_and_of_little() -> None:
    wave = voice(3.0)
    assert flat_share(np.minimum(wave, 0.2)) > 2e-4
    assert flat_share(np.zeros(0, np.float32)) == crowding(np.zeros(2, np.float32)) == 0.0
    assert flat_share(np.zeros(100, np.float32)) == 0.0


@pytest.mark.parametrize("narrow", [8000, 11_025])
def test_a_file_that_was_only_converted_up(narrow: int) -> None:
    wide = voice(3.0, FULL)
    up = resample(resample(wide, FULL, narrow), narrow, FULL)
    bandwidth, edge = measure_bandwidth(up.astype(np.float32), FULL)
    assert bandwidth == pytest.approx(narrow / 2, rel=0.06)
    assert edge > 30
    bandwidth, edge = measure_bandwidth(wide, FULL)
    assert bandwidth > 11_000 and edge < 15
    assert measure_bandwidth(np.zeros(FULL, np.float32), FULL) == (0.0, 0.0)


def test_music_behind_a_voice_and_hum(wave: np.ndarray) -> None:
    seconds = np.arange(len(wave)) / RATE
    chord = sum(np.sin(2 * np.pi * hertz * seconds) for hertz in (392.0, 494.0, 587.0, 784.0, 1175.0))
    assert measure_steady(wave, RATE) < 0.8
    assert measure_steady((wave + 0.03 * chord).astype(np.float32), RATE) > 2.0
    assert measure_steady(wave[: RATE // 2], RATE) == 0.0
    hum = sum(0.01 * np.sin(2 * np.pi * 50 * order * seconds) / order for order in (1, 2, 3))
    assert measure_hum(wave, RATE)[0] == 0.0
    mains, level = measure_hum((wave + hum).astype(np.float32), RATE)
    assert mains == 50.0
    assert level == pytest.approx(20 * np.log10(0.01 / np.sqrt(2)), abs=3)
    assert measure_hum(wave[: RATE // 2], RATE) == (0.0, -120.0)


def test_channels_and_offset(wave: np.ndarray) -> None:
    other = voice(3.0, seed=9)
    alike = measure_wave(np.stack([wave, wave], axis=1), RATE)
    assert (alike.channel_gap, alike.channel_likeness) == (0.0, 1.0)
    different = measure_wave(np.stack([wave, other], axis=1), RATE)
    assert different.channel_likeness is not None and different.channel_likeness < 0.3
    assert measure_wave(np.stack([wave, -wave], axis=1), RATE).channel_likeness == pytest.approx(-1.0)
    empty = measure_wave(np.stack([wave, 0 * wave], axis=1), RATE)
    assert empty.channel_gap is not None and empty.channel_gap > 60
    assert empty.channel_likeness == 0.0
    shifted = measure_wave(wave[:, None] + np.float32(0.05), RATE)
    assert shifted.offset == pytest.approx(0.05, abs=1e-3)
    assert shifted.level == pytest.approx(measure_wave(wave[:, None], RATE).level, abs=0.1)


@given(samples=st.integers(1, 400), seed=st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_the_shortest_clips_are_measured_too(samples: int, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=(samples, 1)).astype(np.float32) * 0.1
    measures = measure_wave(noise, 8000)
    assert all(np.isfinite(value) for value in astuple(measures) if value is not None)


def as_mp3(wave: np.ndarray) -> np.ndarray:
    return soundfile.read(io.BytesIO(encode_wave(wave, RATE, "mp3")), dtype="float32")[0]


def test_a_recording_is_found_again() -> None:
    originals = [voice(2.5, seed=seed) for seed in range(6)]
    wave = originals[2]
    silence = np.zeros(7777, np.float32)
    changed = {
        "softer": 0.1 * wave,
        "padded": np.concatenate([silence, wave, silence]),
        "shorter": wave[len(wave) // 6 :],
        "coded": as_mp3(wave),
    }
    prints = [fingerprint(own, RATE) for own in originals]
    assert same_recordings(prints) == []
    for name, copy in changed.items():
        found = same_recordings([*prints, fingerprint(copy, RATE)])
        assert [(match.first, match.second) for match in found] == [(2, 6)], name
    slower = fingerprint(resample(wave, RATE, 24_000), 24_000)
    assert [match.first for match in same_recordings([*prints, slower])] == [2]


def test_silence_matches_nothing() -> None:
    silent = fingerprint(np.zeros(RATE, np.float32), RATE)
    assert same_recordings([silent, silent, fingerprint(np.zeros(10, np.float32), RATE)]) == []
    assert same_recordings([]) == []


@given(offset=st.floats(0, 1), slope=st.floats(0.02, 0.2), seed=st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_the_pace_is_known_among_outliers(offset: float, slope: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    characters = rng.integers(5, 120, 60)
    seconds = (offset + slope * characters) * rng.normal(1, 0.02, 60)
    seconds[:12] *= 3
    found_offset, found_slope = pace_line(characters.tolist(), seconds.tolist())
    assert found_offset + 60 * found_slope == pytest.approx(offset + 60 * slope, rel=0.1)


def test_robust_statistics() -> None:
    scores = robust_scores([1.0, 1.1, 0.9, 1.0, 9.0], least_spread=0.01)
    assert scores[4] > 20 and abs(scores[:4]).max() < 2
    assert robust_scores([5.0] * 9 + [5.1], least_spread=0.2)[-1] == pytest.approx(0.5)
    assert pace_line([4, 4, 4], [1.0, 1.2, 8.0]) == (0.0, 0.3)
