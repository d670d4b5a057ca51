"""A tiny vocoder learns one batch: the whole path from loss to weights works."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cosytune.models.vocoder import DiscriminatorConfig, Vocoder
from cosytune.models.vocoder.config import Resolution
from cosytune.models.vocoder.discriminators import (
    DiscriminatorOutput,
    MultiPeriodDiscriminator,
    SpectrogramDiscriminator,
)
from cosytune.models.vocoder.loss import (
    discriminator_loss,
    f0_loss,
    feature_matching_loss,
    generator_loss,
    multi_resolution_stft_loss,
    relativistic_loss,
)
from tests.unit.test_vocoder_config import tiny_config

FRAMES = 13
RESOLUTIONS = (Resolution(512, 128, 512), Resolution(256, 64, 256))


def harmonic_batch() -> tuple[Tensor, Tensor, Tensor]:
    """Mels [2, 20, F] that tell two hums apart, their F0 [2, F] and their waves [2, N] of eight harmonics."""
    f0 = torch.tensor([[120.0], [200.0]]).repeat(1, FRAMES)
    phase = 2 * math.pi * (f0.repeat_interleave(320, dim=-1) / 16_000).cumsum(-1)
    wave = torch.stack([0.15 / h * torch.sin(h * phase) for h in range(1, 9)]).sum(0)
    mel = 0.5 * torch.randn(2, 20, 1, generator=torch.Generator().manual_seed(1)).repeat(1, 1, FRAMES)
    return mel, f0, wave


def critics_loss(judged: list[tuple[DiscriminatorOutput, DiscriminatorOutput]]) -> Tensor:
    terms = [discriminator_loss(r.scores, m.scores) + relativistic_loss(r.scores, m.scores) for r, m in judged]
    return torch.stack(terms).sum()


def test_overfits_one_batch_with_the_warm_up_losses() -> None:
    torch.manual_seed(0)
    vocoder = Vocoder(tiny_config(base_channels=16, f0_width=16))
    mel, f0, wave = harmonic_batch()
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(vocoder.parameters(), lr=1.5e-2, betas=(0.8, 0.99))
    spectral, pitch = [], []
    for _ in range(34):
        made = vocoder.decode(mel, vocoder.source(f0, generator))
        spectral.append(multi_resolution_stft_loss(made, wave, RESOLUTIONS))
        pitch.append(f0_loss(vocoder.predict_f0(mel), f0))
        optimiser.zero_grad()
        (spectral[-1] + 0.01 * pitch[-1]).backward()
        torch.nn.utils.clip_grad_norm_(vocoder.parameters(), 5)
        optimiser.step()
    assert spectral[-1] < 0.5 * spectral[0]
    assert pitch[-1] < 0.2 * pitch[0]


def test_adversarial_step_moves_both_sides() -> None:
    torch.manual_seed(0)
    sizes = DiscriminatorConfig(period_channels=(4, 8), resolutions=RESOLUTIONS, spectrogram_channels=4)
    critics = torch.nn.ModuleList([MultiPeriodDiscriminator(sizes), SpectrogramDiscriminator(sizes)])
    vocoder = Vocoder(tiny_config())
    mel, _, wave = harmonic_batch()
    made = vocoder(mel, torch.Generator().manual_seed(0))
    judged = [(critic(wave), critic(made.detach())) for critic in critics]
    before = critics_loss(judged)
    before.backward()
    assert all(parameter.grad is not None for parameter in critics.parameters())
    torch.optim.SGD(critics.parameters(), lr=1e-3).step()
    judged = [(critic(wave), critic(made)) for critic in critics]
    assert critics_loss(judged) < before
    losses = [
        generator_loss(m.scores)
        + 2 * feature_matching_loss(r.features, m.features)
        + relativistic_loss(m.scores, r.scores)
        for r, m in judged
    ]
    torch.stack(losses).sum().backward()
    gradient = vocoder.conv_pre.parametrizations.weight.original1.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0
