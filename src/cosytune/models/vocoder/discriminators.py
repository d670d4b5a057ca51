"""The two families of networks that tell real waves from made ones; used in training only."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from cosytune.models.vocoder.config import DiscriminatorConfig, Resolution

__all__ = ["DiscriminatorOutput", "MultiPeriodDiscriminator", "SpectrogramDiscriminator"]

LEAKY_SLOPE = 0.1


class DiscriminatorOutput(NamedTuple):
    """What each sub-discriminator says.

    Attributes:
        scores: one map [B, ...] each; 1 means real, 0 made.
        features: the hidden maps of each, the score map last.
    """

    scores: list[Tensor]
    features: list[list[Tensor]]


class MultiPeriodDiscriminator(nn.Module):
    """Looks at every p-th sample, for several p (HiFi-GAN, Kong et al. 2020, arXiv:2010.05646)."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(
            _PeriodDiscriminator(period, config.period_channels) for period in config.periods
        )

    def forward(self, wave: Tensor) -> DiscriminatorOutput:
        """Judge waves [B, N]; N must exceed the largest period."""
        return _collect(self.discriminators, wave)


class SpectrogramDiscriminator(nn.Module):
    """Looks at magnitude spectrograms of several resolutions (UnivNet, Jang et al. 2021, arXiv:2106.07889)."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(
            _ResolutionDiscriminator(resolution, config.spectrogram_channels) for resolution in config.resolutions
        )

    def forward(self, wave: Tensor) -> DiscriminatorOutput:
        """Judge waves [B, N]; N must exceed half the largest n_fft."""
        return _collect(self.discriminators, wave)


class _PeriodDiscriminator(nn.Module):
    def __init__(self, period: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.period = period
        strides = [3] * (len(channels) - 1) + [1]
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(inputs, outputs, (5, 1), (stride, 1), padding=(2, 0)))
            for inputs, outputs, stride in zip((1, *channels[:-1]), channels, strides, strict=True)
        )
        self.output = weight_norm(nn.Conv2d(channels[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, wave: Tensor) -> list[Tensor]:
        wave = F.pad(wave, (0, -wave.shape[-1] % self.period), mode="reflect")
        return _hidden_maps(wave.view(wave.shape[0], 1, -1, self.period), self.convs, self.output)


class _ResolutionDiscriminator(nn.Module):
    window: Tensor

    def __init__(self, resolution: Resolution, channels: int) -> None:
        super().__init__()
        self.resolution = resolution
        wide = [nn.Conv2d(1, channels, (3, 9), padding=(1, 4))]
        wide += [nn.Conv2d(channels, channels, (3, 9), (1, 2), padding=(1, 4)) for _ in range(3)]
        last = nn.Conv2d(channels, channels, (3, 3), padding=(1, 1))
        self.convs = nn.ModuleList(weight_norm(convolution) for convolution in (*wide, last))
        self.output = weight_norm(nn.Conv2d(channels, 1, 3, padding=1))
        self.register_buffer("window", torch.hann_window(resolution.window), persistent=False)

    def forward(self, wave: Tensor) -> list[Tensor]:
        n_fft, hop, window = self.resolution
        spectrum = torch.stft(
            wave.to(torch.float32), n_fft, hop, window, self.window.to(torch.float32), return_complex=True
        )
        # Frames by bins: the strides thin out the frequencies. The root of exactly 0 would have no gradient.
        magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt().transpose(1, 2)
        return _hidden_maps(magnitude.unsqueeze(1), self.convs, self.output)


def _hidden_maps(x: Tensor, convolutions: nn.ModuleList, output: nn.Module) -> list[Tensor]:
    maps = []
    for convolution in convolutions:
        x = F.leaky_relu(convolution(x), LEAKY_SLOPE)
        maps.append(x)
    return [*maps, output(x)]


def _collect(discriminators: nn.ModuleList, wave: Tensor) -> DiscriminatorOutput:
    features: list[list[Tensor]] = [discriminator(wave) for discriminator in discriminators]
    return DiscriminatorOutput([maps[-1].flatten(1) for maps in features], features)
