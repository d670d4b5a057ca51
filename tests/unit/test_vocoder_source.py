"""The excitation: recorded numbers, exact phase, random numbers only from a generator."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from cosytune.models.vocoder.source import HarmonicSource
from tests.golden_fill import filled_input


def make_source(sample_rate: int = 22_050, harmonics: int = 8) -> HarmonicSource:
    return HarmonicSource(sample_rate, harmonics, sine_amplitude=0.1, noise_std=0.003, voiced_threshold=10.0)


def test_excitation_is_the_recorded_one(golden: Path) -> None:
    expected = load_file(golden / "nano" / "expected.safetensors")
    released = torch.load(golden / "nano" / "hift.pt", weights_only=True)
    source = make_source()
    source.mix.load_state_dict({name: released[f"m_source.l_linear.{name}"] for name in ("weight", "bias")})
    f0 = expected["source.in.f0"].squeeze(1)
    made = source(f0, phases=torch.zeros(1, 9), noise=torch.zeros(1, f0.shape[-1], 9))
    assert torch.equal(made.voiced.float(), expected["source.out.voiced"])
    torch.testing.assert_close(made.excitation, expected["source.out.excitation"], atol=1e-4, rtol=0)


def test_sines_are_the_recorded_ones(golden: Path) -> None:
    row = json.loads((golden / "golden.json").read_text())["hift1.sine_minus_noise_h0"]
    f0 = filled_input("in:f01", (1, 30), scale=200) + 180
    f0[:, 10:15] = 0
    samples = f0.repeat_interleave(256, dim=-1)
    sines = make_source().sines(samples, torch.zeros(1, 9))[..., 0] * (samples > 10)
    assert list(sines.shape) == row["shape"]
    assert sines.mean().item() == pytest.approx(row["mean"], abs=1e-4)
    assert sines.abs().mean().item() == pytest.approx(row["absmean"], abs=1e-4)
    assert sines[0, :6].tolist() == pytest.approx(row["first"], abs=1e-4)
    assert sines[0, -4:].tolist() == pytest.approx(row["last"], abs=1e-4)


def test_phase_does_not_drift_in_two_minutes() -> None:
    sample_rate, harmonics = 16_000, 1
    count = 120 * sample_rate
    f0 = torch.full((1, count), 210.7)
    tail = make_source(sample_rate, harmonics).sines(f0, torch.zeros(1, 2))[0, -1000:].double().numpy()
    turns = np.arange(count - 999, count + 1) * float(f0[0, 0] / sample_rate)
    for column, harmonic in enumerate((1, 2)):
        np.testing.assert_allclose(tail[:, column], 0.1 * np.sin(2 * np.pi * harmonic * turns), atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 900, width=32), min_size=1, max_size=60), st.integers(0, 5))
def test_phase_is_the_running_sum_of_frequency(values: list[float], harmonics: int) -> None:
    f0 = torch.tensor([values])
    phases = torch.linspace(-3, 3, harmonics + 1).unsqueeze(0)
    sines = make_source(8_000, harmonics).sines(f0, phases)
    turns = np.cumsum(np.array(values) / 8_000)[:, None] * np.arange(1, harmonics + 2)
    expected = 0.1 * np.sin(2 * np.pi * turns + phases.double().numpy())
    np.testing.assert_allclose(sines[0].double().numpy(), expected, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 900, width=32), min_size=2, max_size=60), st.integers(0, 60))
def test_phase_goes_on_where_the_samples_before_ended(values: list[float], cut: int) -> None:
    source, f0 = make_source(), torch.tensor([values, values[::-1]])
    noise, phases = torch.randn(2, len(values), 9), torch.zeros(2, 9)
    whole = source(f0, phases=phases, noise=noise)
    first = source(f0[:, :cut], phases=phases, noise=noise[:, :cut])
    second = source(f0[:, cut:], phases=phases, noise=noise[:, cut:], turns=first.turns)
    joined = torch.cat((first.excitation, second.excitation), dim=-1)
    torch.testing.assert_close(joined, whole.excitation, atol=1e-6, rtol=0)
    assert torch.equal(second.turns, whole.turns)


def test_noise_is_small_where_voiced_and_large_elsewhere() -> None:
    source = make_source(16_000, harmonics=0)
    with torch.no_grad():
        source.mix.weight.fill_(1.0)
        source.mix.bias.zero_()
    f0 = torch.zeros(1, 20_000)
    f0[:, 10_000:] = 16_000.0  # a whole turn per sample: the sine stays at 0 and only noise is left
    made = source(f0, torch.Generator().manual_seed(0), phases=torch.zeros(1, 1)).excitation.flatten()
    assert made[:10_000].std().item() == pytest.approx(0.1 / 3, rel=0.05)
    assert made[10_000:].std().item() == pytest.approx(0.003, rel=0.05)


def test_random_phases_are_per_utterance_and_leave_the_fundamental() -> None:
    phases = make_source().draw_phases(500, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert torch.equal(phases[:, 0], torch.zeros(500))
    assert phases.abs().max() <= math.pi
    assert phases[:, 1:].std().item() == pytest.approx(math.pi / math.sqrt(3), rel=0.05)


def test_random_numbers_come_from_the_generator_only() -> None:
    source, f0 = make_source(), torch.full((2, 400), 150.0)
    before = torch.get_rng_state()
    first = source(f0, torch.Generator().manual_seed(1)).excitation
    again = source(f0, torch.Generator().manual_seed(1)).excitation
    other = source(f0, torch.Generator().manual_seed(2)).excitation
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_missing_generator_and_wrong_shapes_are_refused() -> None:
    source, f0 = make_source(), torch.full((1, 40), 150.0)
    with pytest.raises(ValueError, match=r"needs a torch.Generator, or the tensor phases"):
        source(f0)
    with pytest.raises(ValueError, match=r"needs a torch.Generator, or the tensor noise"):
        source(f0, phases=torch.zeros(1, 9))
    with pytest.raises(ValueError, match=r"phases has shape \(1, 8\), the source expects \(1, 9\)"):
        source(f0, phases=torch.zeros(1, 8), noise=torch.zeros(1, 40, 9))
    with pytest.raises(ValueError, match=r"noise has shape \(1, 41, 9\), the source expects \(1, 40, 9\)"):
        source(f0, phases=torch.zeros(1, 9), noise=torch.zeros(1, 41, 9))
