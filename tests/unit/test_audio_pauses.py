"""Where speech is: waves whose pauses are known, at any level, over noise, hum and offsets, in blocks of any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.audio import pauses, silero
from cosytune.audio.pauses import Detector, find_speech, speech_by_energy, speech_by_probability
from cosytune.errors import InputError, MissingPackageError
from tests.unit.long_audio import murmur, recording

RATE = 16_000


def spans_of(wave: np.ndarray, tmp_path: Path, rate: int = RATE, detector: Detector = "energy") -> np.ndarray:
    soundfile.write(tmp_path / "a.wav", wave, rate, "FLOAT")
    return find_speech(tmp_path / "a.wav", detector=detector).speech


SPOKEN = [(0.5, 2.0), (2.4, 4.4), (5.4, 5.9)]


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 48_000])
@pytest.mark.parametrize("gain", [1.0, 0.01])
@pytest.mark.parametrize("disturbed", ["clean", "noise", "hum", "offset"])
def test_pauses_are_where_they_were_made(tmp_path: Path, rate: int, gain: float, disturbed: str) -> None:
    wave = recording(SPOKEN, 7.0, rate, room=1e-3 if disturbed == "noise" else 1e-5)
    time = np.arange(len(wave)) / rate
    if disturbed == "hum":
        wave += 0.1 * np.sin(2 * np.pi * 50 * time)
    if disturbed == "offset":
        wave += 0.2
    found = spans_of(gain * wave, tmp_path, rate)
    np.testing.assert_allclose(found, SPOKEN, atol=0.051)


@pytest.mark.parametrize("detector", ["energy", "silero"])
@pytest.mark.parametrize(
    "wave",
    [
        np.zeros(5 * RATE),
        0.1 * np.random.default_rng(0).standard_normal(5 * RATE),
        0.3 * np.sin(2 * np.pi * 440 / RATE * np.arange(5 * RATE)),
        np.full(5 * RATE, 0.5),
        np.zeros(7),
    ],
    ids=["silence", "noise", "tone", "offset", "seven samples"],
)
def test_what_is_no_speech_holds_none(tmp_path: Path, wave: np.ndarray, detector: Detector) -> None:
    if detector == "silero" and not silero.has_silero():
        pytest.skip("silero-vad is not installed")
    assert not len(spans_of(wave, tmp_path, detector=detector))


def test_sound_in_digital_silence_is_found(tmp_path: Path) -> None:
    tone = 0.3 * np.sin(2 * np.pi * 440 / RATE * np.arange(RATE))
    found = spans_of(np.concatenate([np.zeros(RATE), tone, np.zeros(RATE)]), tmp_path)
    np.testing.assert_allclose(found, [(1, 2)], atol=0.03)


def test_a_click_is_no_speech_and_a_slam_does_not_hide_it(tmp_path: Path) -> None:
    wave = recording(SPOKEN, 7.0, RATE, level=0.003)
    wave[round(6.5 * RATE) : round(6.5 * RATE) + 200] = 0.9
    np.testing.assert_allclose(spans_of(wave, tmp_path)[:3], SPOKEN, atol=0.05)
    assert not len(speech_by_energy(np.array([-70.0] * 300 + [-10.0, -10.0] + [-70.0] * 300)))


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.integers(10, 300), st.integers(12, 300)), min_size=1, max_size=6), st.integers(-60, -10))
def test_runs_of_loud_frames_are_the_speech(runs: list[tuple[int, int]], level: int) -> None:
    levels, expected = [float(level - 40)] * 250, []
    for loud, quiet in runs:
        expected.append((len(levels) / 100, (len(levels) + loud) / 100))
        levels += [float(level)] * loud + [float(level - 40)] * quiet
    found = speech_by_energy(np.array(levels))
    np.testing.assert_allclose(found, expected, atol=0.0201)


def test_hysteresis_and_short_gaps() -> None:
    likely = np.array([0.1, 0.4, 0.6, 0.4, 0.1, 0.1, 0.1, 0.1, 0.4, 0.1, 0.1, 0.9, 0.9, 0.1, 0.9, 0.2])
    window = 512 / RATE
    np.testing.assert_allclose(speech_by_probability(likely), [(1 * window, 4 * window), (11 * window, 15 * window)])


def test_levels_do_not_hang_on_the_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", recording(SPOKEN, 7.0, 22_050), 22_050)
    whole = find_speech(tmp_path / "a.wav", detector="energy")
    monkeypatch.setattr(pauses, "BLOCK_SECONDS", 0.0373)
    blocks = find_speech(tmp_path / "a.wav", detector="energy")
    assert blocks.seconds == whole.seconds == pytest.approx(7.0, abs=1e-4)
    np.testing.assert_allclose(blocks.levels, whole.levels, atol=0.05)
    np.testing.assert_array_equal(blocks.speech, whole.speech)


def test_a_part_is_looked_at_by_itself(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", recording(SPOKEN, 7.0, RATE), RATE)
    part = find_speech(tmp_path / "a.wav", 2.2, 5.0, "energy")
    assert part.seconds == pytest.approx(2.8) and part.detector == "energy"
    np.testing.assert_allclose(part.speech, [(0.2, 2.2)], atol=0.05)


def test_a_broken_recording_is_refused(tmp_path: Path) -> None:
    wave = murmur(RATE, RATE)
    wave[-1] = np.inf
    soundfile.write(tmp_path / "a.wav", wave, RATE, "FLOAT")
    with pytest.raises(InputError, match="NaN or infinity"):
        find_speech(tmp_path / "a.wav", detector="energy")


def test_silero_is_asked_for_by_name_and_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    soundfile.write(tmp_path / "a.wav", recording(SPOKEN, 7.0, RATE), RATE)
    assert find_speech(tmp_path / "a.wav").detector == "energy"
    with pytest.raises(MissingPackageError, match=r"pip install 'cosytune\[vad\]', or choose the energy rule"):
        find_speech(tmp_path / "a.wav", detector="silero")


@pytest.mark.parametrize("gain", [1.0, 0.01])
def test_both_detectors_agree_on_real_speech(tmp_path: Path, shared: Path, gain: float) -> None:
    if not silero.has_silero():
        pytest.skip("silero-vad is not installed")
    wave, rate = soundfile.read(sorted((shared / "speech" / "kathleen").rglob("*.flac"))[100])
    wave = gain * np.concatenate([np.zeros(rate), wave, np.zeros(rate)])
    wave += 1e-6 * np.random.default_rng(0).standard_normal(len(wave))
    by_energy = spans_of(wave, tmp_path, rate)
    by_silero = spans_of(wave, tmp_path, rate, "silero")
    assert find_speech(tmp_path / "a.wav").detector == "silero"
    np.testing.assert_allclose(by_silero[[0, -1], [0, 1]], by_energy[[0, -1], [0, 1]], atol=0.15)
