"""HiFT vocoder: log-mel to wave."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from cosytune.models.vocoder.config import VocoderConfig
from cosytune.models.vocoder.f0_predictor import F0Predictor
from cosytune.models.vocoder.source import HarmonicSource

__all__ = ["ResidualBlock", "Snake", "Vocoder"]

MAGNITUDE_LIMIT = 100.0
"""Largest magnitude of one bin of the head's spectrum."""

HEAD_KERNEL = 7
"""Kernel of the first and of the last convolution."""

INITIAL_STD = 0.01
"""Standard deviation of fresh upsampling, residual and last convolutions (HiFi-GAN, arXiv:2010.05646)."""


class Snake(nn.Module):
    """x + sin^2(alpha x) / alpha with one alpha per channel (Ziyin et al. 2020, arXiv:2006.08195)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Apply to [B, D, N]."""
        alpha = self.alpha.unsqueeze(-1)
        return x + torch.sin(alpha * x).square() * (1 / (alpha + 1e-9))


class ResidualBlock(nn.Module):
    """For each dilation: x + conv(snake(dilated_conv(snake(x)))); the length stays."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(_same_convolution(channels, kernel, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(_same_convolution(channels, kernel, 1) for _ in dilations)
        self.activations1 = nn.ModuleList(Snake(channels) for _ in dilations)
        self.activations2 = nn.ModuleList(Snake(channels) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to [B, D, N]."""
        steps = zip(self.activations1, self.convs1, self.activations2, self.convs2, strict=True)
        for snake1, conv1, snake2, conv2 in steps:
            x = x + conv2(snake2(conv1(snake1(x))))
        return x


class Vocoder(nn.Module):
    """Log-mel to wave by predicting F0, exciting a filter with its harmonics and inverting a short spectrum.

    iSTFTNet (arXiv:2203.02395) with a neural source filter (HiFTNet, arXiv:2309.09493).
    """

    window: Tensor

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        self.config = config
        stages = len(config.upsample_rates)
        widths = [config.base_channels >> stage for stage in range(stages + 1)]
        spectrum = config.istft_n_fft + 2
        self.f0_predictor = F0Predictor(config.mel_bins, config.f0_width)
        self.harmonic_source = HarmonicSource(
            config.sample_rate, config.harmonics, config.sine_amplitude, config.noise_std, config.voiced_threshold
        )
        self.conv_pre = weight_norm(nn.Conv1d(config.mel_bins, widths[0], HEAD_KERNEL, padding=HEAD_KERNEL // 2))
        self.ups = nn.ModuleList(
            _upsampling(widths[stage], rate, kernel)
            for stage, (rate, kernel) in enumerate(zip(config.upsample_rates, config.upsample_kernels, strict=True))
        )
        self.source_downs = nn.ModuleList(
            _downsampling(spectrum, widths[stage + 1], math.prod(config.upsample_rates[stage + 1 :]))
            for stage in range(stages)
        )
        self.source_resblocks = nn.ModuleList(
            ResidualBlock(widths[stage + 1], config.source_kernels[stage], config.source_dilations[stage])
            for stage in range(stages)
        )
        self.resblocks = nn.ModuleList(
            ResidualBlock(width, kernel, dilations)
            for width in widths[1:]
            for kernel, dilations in zip(config.resblock_kernels, config.resblock_dilations, strict=True)
        )
        self.conv_post = _small_weights(nn.Conv1d(widths[-1], spectrum, HEAD_KERNEL, padding=HEAD_KERNEL // 2))
        self.register_buffer("window", torch.hann_window(config.istft_n_fft), persistent=False)

    def forward(self, mel: Tensor, generator: torch.Generator | None) -> Tensor:
        """Log-mel [B, M, F] to float32 wave [B, N], N = F hop, within +-audio_limit.

        Raises:
            ValueError: no generator is given.
        """
        return self.decode(mel, self.source(self.predict_f0(mel), generator))

    def predict_f0(self, mel: Tensor) -> Tensor:
        """F0 [B, F] in Hz of log-mel [B, M, F]."""
        return self.f0_predictor(mel)

    def source(
        self,
        f0: Tensor,
        generator: torch.Generator | None = None,
        *,
        phases: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Excitation [B, 1, N] for F0 [B, F] in Hz; `phases` [B, H+1] and `noise` [B, N, H+1] may be given.

        Raises:
            ValueError: random numbers are needed and no generator is given.
        """
        samples = f0.repeat_interleave(self.config.hop, dim=-1)
        return self.harmonic_source(samples, generator, phases=phases, noise=noise).excitation

    def decode(self, mel: Tensor, source: Tensor) -> Tensor:
        """Filter the excitation [B, 1, N] as log-mel [B, M, F] says: wave [B, N].

        Raises:
            ValueError: the excitation is not hop samples for each mel frame.
        """
        self.check_lengths(mel, source)
        spectrum = self._analyse(source).to(mel.dtype)
        x = self.conv_pre(mel)
        for stage in range(len(self.ups)):
            x = self._stage(stage, x, spectrum)
        return self._synthesise(self.conv_post(F.leaky_relu(x)))

    def check_lengths(self, mel: Tensor, source: Tensor) -> None:
        """Refuse an excitation [B, 1, N] that does not fit log-mel [B, M, F].

        Raises:
            ValueError: the excitation is not hop samples for each mel frame.
        """
        frames, samples = mel.shape[-1], source.shape[-1]
        if samples != frames * self.config.hop:
            raise ValueError(
                f"an excitation of {samples} samples does not fit {frames} mel frames: "
                f"{frames} x {self.config.hop} = {frames * self.config.hop} are needed"
            )

    def _stage(self, stage: int, x: Tensor, spectrum: Tensor) -> Tensor:
        x = self.ups[stage](F.leaky_relu(x, self.config.leaky_slope))
        if stage == len(self.ups) - 1:
            # A centred STFT has one frame more than the samples divided by its hop.
            x = F.pad(x, (1, 0), mode="reflect")
        x = x + self.source_resblocks[stage](self.source_downs[stage](spectrum))
        parallel = len(self.config.resblock_kernels)
        blocks = [self.resblocks[stage * parallel + index] for index in range(parallel)]
        total = blocks[0](x)
        for block in blocks[1:]:
            total = total + block(x)
        return total / parallel

    def _analyse(self, source: Tensor) -> Tensor:
        """Excitation [B, 1, N] to its real and imaginary parts [B, n_fft + 2, frames]."""
        transformed = torch.stft(
            source.squeeze(1).to(torch.float32),
            self.config.istft_n_fft,
            self.config.istft_hop,
            window=self.window.to(torch.float32),
            return_complex=True,
        )
        return torch.cat([transformed.real, transformed.imag], dim=1)

    def _synthesise(self, parts: Tensor) -> Tensor:
        """Log magnitudes and sines' arguments [B, n_fft + 2, frames] to wave [B, N]; always in float32."""
        log_magnitude, argument = parts.to(torch.float32).chunk(2, dim=1)
        # Clamping before the exponential: its gradient stays finite where it would overflow.
        magnitude = log_magnitude.clamp(max=math.log(MAGNITUDE_LIMIT)).exp()
        phase = torch.sin(argument)
        wave = torch.istft(
            torch.complex(magnitude * phase.cos(), magnitude * phase.sin()),
            self.config.istft_n_fft,
            self.config.istft_hop,
            window=self.window.to(torch.float32),
        )
        return wave.clamp(-self.config.audio_limit, self.config.audio_limit)


def _small_weights(convolution: nn.Conv1d | nn.ConvTranspose1d) -> nn.Module:
    """A weight-normed convolution that starts with small weights; drawn before the norm splits them."""
    nn.init.normal_(convolution.weight, 0.0, INITIAL_STD)
    return weight_norm(convolution)


def _same_convolution(channels: int, kernel: int, dilation: int) -> nn.Module:
    padding = (kernel - 1) * dilation // 2
    return _small_weights(nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=padding))


def _upsampling(channels: int, rate: int, kernel: int) -> nn.Module:
    """Transposed convolution that lengthens exactly `rate` times and halves the channels."""
    return _small_weights(
        nn.ConvTranspose1d(channels, channels // 2, kernel, stride=rate, padding=(kernel - rate) // 2)
    )


def _downsampling(inputs: int, outputs: int, rate: int) -> nn.Module:
    """Convolution that brings the excitation's spectrum to the frame rate of a stage."""
    if rate == 1:
        return nn.Conv1d(inputs, outputs, 1)
    return nn.Conv1d(inputs, outputs, 2 * rate, stride=rate, padding=rate // 2)
