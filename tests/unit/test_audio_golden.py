"""The audio front ends against recorded numbers of the reference implementation (specification 11.5)."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from cosytune.audio.fbank import kaldi_fbank, mean_normalised
from cosytune.audio.mel import MEL_22K, MEL_24K, MelConfig, flow_mel
from cosytune.audio.resample import resample
from cosytune.audio.whisper import whisper_mel
from tests.golden_fill import uniform

PRINTED = 2e-5
"""The specification prints five digits after the point."""


def signal(sample_rate: int) -> np.ndarray:
    """The test signal of 11.5: one second of a 220 Hz tone and noise."""
    n = np.arange(sample_rate)
    tone = 0.5 * np.sin(2 * np.pi * 220 * n / sample_rate)
    return (tone + 0.1 * uniform(f"in:wav{sample_rate}", sample_rate)).astype(np.float32)


def wave(sample_rate: int) -> Tensor:
    return torch.from_numpy(signal(sample_rate))


def assert_row(
    values: Tensor, shape: list[int], mean: float, mean_abs: float, first: list[float], last: list[float]
) -> None:
    flat = values.double().flatten()
    assert list(values.shape) == shape
    assert flat.mean().item() == pytest.approx(mean, abs=PRINTED)
    assert flat.abs().mean().item() == pytest.approx(mean_abs, abs=PRINTED)
    assert flat[:5].tolist() == pytest.approx(first, abs=PRINTED)
    assert flat[-3:].tolist() == pytest.approx(last, abs=PRINTED)


def test_signal() -> None:
    first, last = [-0.04122, 0.00162, 0.06357, 0.10779, 0.13295], [-0.05621, -0.03845, -0.07852]
    assert_row(wave(24_000)[None], [1, 24_000], 0.000126, 0.318798, first, last)


def test_mel_v1() -> None:
    first, last = [-0.43764, -2.26155, -3.72600, -3.57321, -3.43655], [-3.74837, -3.63509, -3.81091]
    assert_row(flow_mel(wave(22_050)[None], MEL_22K), [1, 80, 86], -3.611032, 3.662058, first, last)


def test_mel_v2() -> None:
    first, last = [0.27326, -1.42086, -2.80856, -2.89725, -3.19108], [-2.82864, -2.85388, -2.88196]
    assert_row(flow_mel(wave(24_000)[None], MEL_24K), [1, 80, 50], -2.739991, 2.822815, first, last)


def test_mel_v3() -> None:
    first, last = [0.26709, -1.44476, -2.91917, -2.90153, -3.11231], [-2.87592, -2.90086, -2.91108]
    config = replace(MEL_24K, fmax=None)
    assert_row(flow_mel(wave(24_000)[None], config), [1, 80, 50], -2.755209, 2.840531, first, last)


def test_whisper() -> None:
    first, last = [1.07124, 0.48854, 0.23197, 0.31424, 0.33819], [0.39224, 0.36621, 0.33889]
    assert_row(whisper_mel(wave(16_000)), [128, 100], 0.393641, 0.395384, first, last)


def test_fbank() -> None:
    features = kaldi_fbank(wave(16_000))
    first, last = [-5.13672, -10.03152, -5.80037, -4.30747, -2.68266], [0.68833, 1.16915, 1.58871]
    assert_row(features, [98, 80], -1.821800, 2.455312, first, last)
    first, last = [1.13676, -1.58637, 0.25823, -0.01791, 0.01314], [-0.55411, -0.16315, 0.16006]
    assert_row(mean_normalised(features), [98, 80], 0.0, 0.509716, first, last)


@pytest.mark.parametrize("clip", ["cross_lingual_prompt", "zero_shot_prompt"])
@pytest.mark.parametrize(("config", "name"), [(MEL_22K, "mel_22k"), (MEL_24K, "mel_24k")])
def test_flow_mel_of_real_speech(shared: Path, clip: str, config: MelConfig, name: str) -> None:
    recorded = load_file(shared / "parity" / "frontend" / "features.safetensors")
    torch.testing.assert_close(
        flow_mel(recorded[f"{clip}.wave"], config), recorded[f"{clip}.{name}"], atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("clip", ["cross_lingual_prompt", "zero_shot_prompt"])
def test_whisper_mel_of_real_speech(shared: Path, clip: str) -> None:
    recorded = load_file(shared / "parity" / "frontend" / "features.safetensors")
    ours, theirs = whisper_mel(recorded[f"{clip}.wave"][0]), recorded[f"{clip}.whisper_mel128"][0]
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def reference_resample(x: np.ndarray, source: int, target: int) -> np.ndarray:
    """The windowed sinc of the specification, 3.1."""
    step = math.gcd(source, target)
    o, n = source // step, target // step
    base = 0.99 * min(o, n)
    width = math.ceil(6 * o / base)
    taps = np.arange(-width, width + o)
    t = np.clip(base * (taps[None] / o - np.arange(n)[:, None] / n), -6, 6)
    kernels = base / o * np.cos(np.pi * t / 12) ** 2 * np.sinc(t)
    padded = np.concatenate([np.zeros(width), x, np.zeros(width + o)])
    framed = np.lib.stride_tricks.sliding_window_view(padded, 2 * width + o)[::o]
    return (framed @ kernels.T).reshape(-1)[: math.ceil(n * len(x) / o)]


RESAMPLED = [
    (24_000, 16_000, 0.318696, [-0.03052, 0.02602, 0.11892, 0.10670, 0.15657]),
    (44_100, 16_000, 0.318427, [0.01930, 0.05521, 0.09692, 0.11381, 0.19371]),
    (16_000, 24_000, 0.319083, [0.01416, 0.00485, 0.02605, 0.07446, 0.09652]),
    (48_000, 16_000, 0.318660, [0.02210, 0.03651, 0.06895, 0.11687, 0.16250]),
    (16_000, 22_050, 0.319081, [0.01416, 0.00480, 0.03430, 0.08409, 0.09786]),
    (44_100, 24_000, 0.318522, [0.02810, 0.03372, 0.07349, 0.10015, 0.10012]),
]


@pytest.mark.parametrize(("source", "target", "mean_abs", "first"), RESAMPLED)
def test_resample_agrees_where_speech_is(source: int, target: int, mean_abs: float, first: list[float]) -> None:
    x = signal(source)
    theirs, ours = reference_resample(x, source, target), resample(x, source, target)
    assert theirs[:5] == pytest.approx(first, abs=PRINTED)  # the yardstick itself is right
    assert len(ours) == len(theirs) == target
    assert np.abs(ours).mean() == pytest.approx(mean_abs, abs=3e-4)
    # The filters differ near the Nyquist frequency on purpose; below 70 % of it they must not.
    window = np.hanning(target)
    ours_spectrum, theirs_spectrum = np.fft.rfft(ours * window), np.fft.rfft(theirs * window)
    kept = np.fft.rfftfreq(target, 1 / target) < 0.7 * min(source, target) / 2
    error = np.linalg.norm((ours_spectrum - theirs_spectrum)[kept]) / np.linalg.norm(theirs_spectrum[kept])
    assert error < 1e-3
