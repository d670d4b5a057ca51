"""Pitch: accuracy, alignment with the mel frames, voicing, and what real voices give."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.audio import librosa_once
from cosytune.audio.files import read_wave
from cosytune.audio.pitch import pitch
from cosytune.files import lock


def buzz(frequency: np.ndarray, sample_rate: int) -> np.ndarray:
    """A voice-like sound: eight harmonics of a frequency given per sample."""
    phase = 2 * np.pi * np.cumsum(frequency) / sample_rate
    harmonics = np.stack([np.sin(k * phase) / k for k in range(1, 9)])
    return (0.2 * harmonics.sum(axis=0)).astype(np.float32)


@pytest.mark.parametrize(("sample_rate", "hop"), [(22_050, 256), (24_000, 480), (16_000, 320), (8000, 80)])
@pytest.mark.parametrize("hertz", [75.0, 140.0, 233.0, 400.0])
def test_a_steady_tone_is_measured(sample_rate: int, hop: int, hertz: float) -> None:
    f0 = pitch(buzz(np.full(sample_rate, hertz), sample_rate), sample_rate, hop, sample_rate // hop)
    inside = f0[5:-5]
    assert f0.dtype == np.float32 and (inside > 0).all()
    assert np.abs(inside / hertz - 1).max() < 0.01


@pytest.mark.parametrize(("sample_rate", "hop"), [(22_050, 256), (24_000, 480), (16_000, 321)])
def test_a_glide_is_aligned_with_the_mel_frames(sample_rate: int, hop: int) -> None:
    slope = 80.0  # Hz a second
    frequency = 120 + slope * np.arange(2 * sample_rate) / sample_rate
    frames = len(frequency) // hop
    f0 = pitch(buzz(frequency, sample_rate), sample_rate, hop, frames)
    centres = (np.arange(frames) * hop + hop / 2) / sample_rate
    delay = (f0 - (120 + slope * centres))[3:-3] / slope
    assert abs(np.median(delay)) < 0.003  # seconds: a fraction of a frame


def test_voicing_begins_with_the_tone() -> None:
    wave = buzz(np.full(24_000, 200.0), 24_000)
    wave[:12_000] = 1e-5
    f0 = pitch(wave, 24_000, 480, 50)
    assert (f0[:24] == 0).all() and (f0[27:49] > 0).all()


def test_noise_and_silence_are_unvoiced() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(24_000).astype(np.float32)
    assert (pitch(noise, 24_000, 480, 50) > 0).mean() < 0.05
    assert (pitch(np.zeros(24_000, dtype=np.float32), 24_000, 480, 50) == 0).all()


def test_a_stray_octave_is_dropped() -> None:
    frequency = np.full(24_000, 150.0)
    frequency[12_000:14_000] = 300.0
    f0 = pitch(buzz(frequency, 24_000), 24_000, 480, 50)
    assert f0.max() < 200 and (f0 > 0).mean() > 0.8


@settings(deadline=None, max_examples=25)
@given(samples=st.integers(0, 3000), frames=st.integers(0, 30), hop=st.sampled_from([80, 256, 480, 2000]))
def test_there_are_exactly_as_many_frames_as_asked_for(samples: int, frames: int, hop: int) -> None:
    f0 = pitch(buzz(np.full(samples, 180.0), 16_000), 16_000, hop, frames)
    assert f0.shape == (frames,) and np.isfinite(f0).all()
    assert (((f0 >= 59) & (f0 <= 520)) | (f0 == 0)).all()


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"pitch takes one wave \[N\], got shape \[2, 100\]"):
        pitch(np.zeros((2, 100), dtype=np.float32), 24_000, 480, 5)
    for wrong in ((1000, 480, 5), (24_000, 0, 5), (24_000, 480, -1)):
        with pytest.raises(ValueError, match="pitch needs more than 1000 Hz, a positive hop and frames >= 0"):
            pitch(np.zeros(100, dtype=np.float32), *wrong)


def test_a_real_woman_speaks_where_independent_measures_put_her(shared: Path) -> None:
    # Praat's autocorrelation method gives this speaker a median of 156 Hz over forty clips.
    clips = sorted((shared / "speech" / "kathleen" / "wavs").glob("*.flac"))[::200]
    tracks = []
    for clip in clips:
        wave, rate = read_wave(clip)
        tracks.append(pitch(wave, rate, 480, len(wave) // 480))
    voiced = np.concatenate(tracks)
    share, voiced = (voiced > 0).mean(), voiced[voiced > 0]
    assert 140 < np.median(voiced) < 175
    assert 0.4 < share < 0.8
    assert (np.abs(np.log2(voiced / np.median(voiced))) > 0.8).mean() < 0.02


def test_heavy_packages_are_imported_only_when_needed() -> None:
    code = (
        "import sys, cosytune.audio.files, cosytune.audio.resample, cosytune.audio.pitch; "
        "print(*[name for name in ('torch', 'librosa') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_librosa_is_loaded_by_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(librosa_once.tempfile, "gettempdir", lambda: str(tmp_path))
    free_inside: list[bool] = []
    librosa = librosa_once.load_librosa()

    def compiling(*_: object, **__: object) -> None:
        (file,) = tmp_path.glob("cosytune-librosa-*.lock")
        with pytest.raises(BlockingIOError):
            lock(file, wait=False)
        free_inside.append(False)

    monkeypatch.setattr(librosa, "yin", compiling)
    assert librosa_once.load_librosa.__wrapped__() is librosa
    assert free_inside == [False]
    (file,) = tmp_path.glob("cosytune-librosa-*.lock")
    lock(file, wait=False).close()
