"""Discriminators and losses: sizes, shapes, formulas by hand, safe gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.audio.mel import MEL_22K, flow_mel
from cosytune.models.vocoder.config import DiscriminatorConfig, Resolution
from cosytune.models.vocoder.discriminators import MultiPeriodDiscriminator, SpectrogramDiscriminator
from cosytune.models.vocoder.loss import (
    discriminator_loss,
    f0_loss,
    feature_matching_loss,
    generator_loss,
    mel_loss,
    multi_resolution_stft_loss,
    relativistic_loss,
)

SMALL = DiscriminatorConfig(
    periods=(2, 3), period_channels=(4, 6), resolutions=(Resolution(64, 16, 48),), spectrogram_channels=3
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("kind", "parameters", "tensors"),
    [(MultiPeriodDiscriminator, 41_105_770, 90), (SpectrogramDiscriminator, 280_902, 54)],
)
def test_full_size_counts(kind: type[torch.nn.Module], parameters: int, tensors: int) -> None:
    with torch.device("meta"):
        network = kind(DiscriminatorConfig())
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert len(network.state_dict()) == tensors


def test_period_discriminator_shapes() -> None:
    output = MultiPeriodDiscriminator(SMALL)(noise(2, 101))
    # 101 samples: 51 rows of 2 and 34 rows of 3, then one stride of 3.
    assert [tuple(score.shape) for score in output.scores] == [(2, 17 * 2), (2, 12 * 3)]
    assert [tuple(maps[0].shape) for maps in output.features] == [(2, 4, 17, 2), (2, 4, 12, 3)]
    assert [len(maps) for maps in output.features] == [3, 3]


def test_spectrogram_discriminator_shapes() -> None:
    output = SpectrogramDiscriminator(SMALL)(noise(2, 160))
    # 11 frames of 33 bins; three strides of 2 over the bins.
    assert tuple(output.scores[0].shape) == (2, 11 * 5)
    assert [tuple(hidden.shape[2:]) for hidden in output.features[0]] == [(11, 33), (11, 17), (11, 9), (11, 5)] + [
        (11, 5)
    ] * 2


@pytest.mark.parametrize("kind", [MultiPeriodDiscriminator, SpectrogramDiscriminator])
def test_rows_are_judged_alone_and_silence_has_a_gradient(kind: type[torch.nn.Module]) -> None:
    torch.manual_seed(0)
    network, waves = kind(SMALL), noise(2, 200)
    together, alone = network(waves).scores, network(waves[1:]).scores
    for both, one in zip(together, alone, strict=True):
        torch.testing.assert_close(both[1:], one, atol=1e-5, rtol=0)
    silence = torch.zeros(1, 200, requires_grad=True)
    generator_loss(network(silence).scores).backward()
    assert silence.grad is not None
    assert silence.grad.isfinite().all()


def test_least_squares_by_hand() -> None:
    real, made = (
        [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5]])],
        [torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0]])],
    )
    assert discriminator_loss(real, made).item() == pytest.approx((0.5 + 2.0) + (0.25 + 1.0))
    assert generator_loss(made).item() == pytest.approx((1 + 1) / 2 + 0)


def test_feature_matching_by_hand_and_one_sided() -> None:
    real = [[torch.tensor([1.0, 2.0], requires_grad=True)], [torch.tensor([0.0], requires_grad=True)]]
    made = [[torch.tensor([0.0, 4.0], requires_grad=True)], [torch.tensor([-3.0], requires_grad=True)]]
    loss = feature_matching_loss(real, made)
    assert loss.item() == pytest.approx(2 * (1.5 + 3))
    loss.backward()
    assert real[0][0].grad is None
    assert made[0][0].grad is not None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-64, 64), min_size=1, max_size=15), st.sampled_from([0.04, 1e9]))
def test_relativistic_loss_is_the_formula(steps: list[int], tau: float) -> None:
    differences = [step / 64 for step in steps]
    d = np.sort(np.array(differences, dtype=np.float32))
    median = d[(len(d) - 1) // 2]
    below = d[d < median]
    expected = min(tau, float(np.mean((below - median) ** 2)) if len(below) else 0.0)
    better, worse = torch.tensor([differences]) + 0.5, torch.full((1, len(differences)), 0.5)
    assert relativistic_loss([better, better], [worse, worse], tau).item() == pytest.approx(2 * expected, abs=1e-5)


def test_relativistic_loss_of_equals_has_a_finite_gradient() -> None:
    scores = torch.ones(2, 5, requires_grad=True)
    relativistic_loss([scores], [torch.zeros(2, 5)]).backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_mel_loss_listens_to_the_whole_band() -> None:
    config = replace(MEL_22K, fmax=8000)
    time = torch.arange(8192) / config.sample_rate
    quiet = 0.01 * noise(1, 8192)
    whistle = quiet + 0.1 * torch.sin(2 * torch.pi * 10_000 * time)
    band_limited = (flow_mel(quiet, config) - flow_mel(whistle, config)).abs().mean()
    assert mel_loss(whistle, quiet, config) > 5 * band_limited
    assert mel_loss(quiet, quiet, config).item() == 0


def test_f0_loss_is_in_hertz() -> None:
    assert f0_loss(torch.tensor([[100.0, 0.0]]), torch.tensor([[110.0, 30.0]])).item() == 20


def test_stft_loss_is_zero_for_the_same_wave_and_grows_with_noise() -> None:
    wave = noise(2, 4096)
    losses = [multi_resolution_stft_loss(wave + level * noise(2, 4096, seed=1), wave).item() for level in (0, 0.1, 1)]
    assert losses[0] == 0
    assert losses[0] < losses[1] < losses[2]


def test_low_floor_hears_a_faint_tone_in_silence() -> None:
    time = torch.arange(8192) / 16_000
    hum = 1e-5 * torch.sin(2 * torch.pi * 1000 * time).unsqueeze(0)
    speech = torch.cat([noise(1, 4096), torch.zeros(1, 4096)], dim=1)
    low = multi_resolution_stft_loss(speech + hum, speech, floor=1e-4)
    default = multi_resolution_stft_loss(speech + hum, speech)
    assert low > 5 * default


def test_stft_loss_of_silence_has_a_finite_gradient() -> None:
    silence = torch.zeros(1, 4096, requires_grad=True)
    multi_resolution_stft_loss(silence, noise(1, 4096)).backward()
    assert silence.grad is not None
    assert silence.grad.isfinite().all()
