"""Sizes of the vocoder and of the discriminators that train it, as data."""

from __future__ import annotations

from math import prod
from typing import Annotated, NamedTuple

from pydantic import Field, model_validator

from cosytune.models.layers.config import PartConfig

__all__ = ["DiscriminatorConfig", "Resolution", "VocoderConfig"]

Positive = Annotated[int, Field(gt=0)]
PositiveNumber = Annotated[float, Field(gt=0)]


class Resolution(NamedTuple):
    """One short-time Fourier transform: all three in samples."""

    n_fft: int
    hop: int
    window: int


class VocoderConfig(PartConfig):
    """Sizes of a HiFT vocoder (neural source filter with an inverse STFT head).

    Attributes:
        sample_rate: Hz of the wave.
        hop: samples per mel frame; must be the product of `upsample_rates` times `istft_hop`.
        base_channels: width before the first upsampling; every stage halves it.
        upsample_rates: how many times each stage lengthens the signal.
        upsample_kernels: kernel of each transposed convolution; kernel minus rate must be even.
        istft_n_fft: samples of the inverse STFT window of the head.
        istft_hop: samples per frame of the head.
        f0_width: channels inside the F0 predictor.
        mel_bins: bands of the log-mel.
        resblock_kernels: kernels of the parallel residual blocks of each stage.
        resblock_dilations: for each of those blocks, its dilations.
        source_kernels: kernel of the residual block that refines the excitation, one per stage.
        source_dilations: for each of those blocks, its dilations.
        harmonics: sines of the excitation above the fundamental.
        sine_amplitude: peak of each sine; noise of a third of it replaces them where speech is unvoiced.
        noise_std: standard deviation of the noise added where speech is voiced.
        voiced_threshold: Hz; a frame with a higher F0 is voiced.
        leaky_slope: slope of the LeakyReLU before each upsampling.
        audio_limit: the wave is clamped to this magnitude.
    """

    sample_rate: Positive
    hop: Positive
    base_channels: Positive
    upsample_rates: tuple[Positive, ...]
    upsample_kernels: tuple[Positive, ...]
    istft_n_fft: Positive
    istft_hop: Positive
    f0_width: Positive
    mel_bins: Positive = 80
    resblock_kernels: tuple[Positive, ...] = (3, 7, 11)
    resblock_dilations: tuple[tuple[Positive, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    source_kernels: tuple[Positive, ...] = (7, 11)
    source_dilations: tuple[tuple[Positive, ...], ...] = ((1, 3, 5), (1, 3, 5))
    harmonics: Annotated[int, Field(ge=0)] = 8
    sine_amplitude: PositiveNumber = 0.1
    noise_std: Annotated[float, Field(ge=0)] = 0.003
    voiced_threshold: Annotated[float, Field(ge=0)] = 10.0
    leaky_slope: Annotated[float, Field(ge=0)] = 0.1
    audio_limit: PositiveNumber = 0.99

    @model_validator(mode="after")
    def _check_stages(self) -> VocoderConfig:
        rates = self.upsample_rates
        if not rates:
            raise ValueError("upsample_rates is empty: name at least one stage, for example (8, 8)")
        if min(rates) < 2:
            raise ValueError(f"upsample rate {min(rates)} lengthens nothing: use rates of at least 2, leave others out")
        for name in ("upsample_kernels", "source_kernels", "source_dilations"):
            if len(getattr(self, name)) != len(rates):
                raise ValueError(
                    f"{name} has {len(getattr(self, name))} entries for {len(rates)} upsample_rates: "
                    "give exactly one for each stage"
                )
        for rate, kernel in zip(rates, self.upsample_kernels, strict=True):
            if kernel < rate or (kernel - rate) % 2:
                raise ValueError(
                    f"upsample kernel {kernel} does not fit rate {rate}: use a kernel of at least the rate that "
                    f"differs from it by an even number, for example {2 * rate + rate % 2}"
                )
        if self.base_channels % 2 ** len(rates):
            raise ValueError(
                f"base_channels {self.base_channels} cannot be halved {len(rates)} times: "
                f"use a multiple of {2 ** len(rates)}"
            )
        return self

    @model_validator(mode="after")
    def _check_blocks(self) -> VocoderConfig:
        if not self.resblock_kernels or len(self.resblock_kernels) != len(self.resblock_dilations):
            raise ValueError(
                f"{len(self.resblock_kernels)} resblock_kernels and {len(self.resblock_dilations)} "
                "resblock_dilations: give at least one kernel and one tuple of dilations for each"
            )
        for kernel in (*self.resblock_kernels, *self.source_kernels):
            if kernel % 2 == 0:
                raise ValueError(f"residual block kernel {kernel} is even: use odd kernels, they keep the length")
        if not all((*self.resblock_dilations, *self.source_dilations)):
            raise ValueError("a residual block has no dilations: give each at least one, for example (1, 3, 5)")
        return self

    @model_validator(mode="after")
    def _check_clock(self) -> VocoderConfig:
        made = prod(self.upsample_rates) * self.istft_hop
        if self.hop != made:
            factors = " x ".join(str(factor) for factor in (*self.upsample_rates, self.istft_hop))
            raise ValueError(
                f"hop {self.hop} is not what the stages make: {factors} = {made} samples per mel frame; "
                "change hop, upsample_rates or istft_hop"
            )
        if self.istft_n_fft % 2 or self.istft_n_fft < 2 * self.istft_hop:
            raise ValueError(
                f"istft_n_fft {self.istft_n_fft} must be even and at least twice istft_hop {self.istft_hop}: "
                "otherwise the overlapping windows leave gaps"
            )
        if self.istft_n_fft >= 2 * self.hop:
            raise ValueError(
                f"istft_n_fft {self.istft_n_fft} must be less than twice the hop {self.hop}: "
                "a single frame could not be padded by reflection"
            )
        return self


class DiscriminatorConfig(PartConfig):
    """Sizes of the two families of discriminators; the defaults are those of the 300M vocoder.

    Attributes:
        periods: samples per row of each period discriminator.
        period_channels: output channels of its convolutions; all but the last have stride 3.
        resolutions: STFT of each spectrogram discriminator.
        spectrogram_channels: width of its convolutions.
    """

    periods: tuple[Positive, ...] = (2, 3, 5, 7, 11)
    period_channels: tuple[Positive, ...] = (32, 128, 512, 1024, 1024)
    resolutions: tuple[Resolution, ...] = (
        Resolution(1024, 120, 600),
        Resolution(2048, 240, 1200),
        Resolution(512, 50, 240),
    )
    spectrogram_channels: Positive = 32

    @model_validator(mode="after")
    def _check(self) -> DiscriminatorConfig:
        if not self.periods or not self.period_channels or not self.resolutions:
            raise ValueError("periods, period_channels and resolutions need at least one entry each")
        for resolution in self.resolutions:
            if not 0 < resolution.hop <= resolution.window <= resolution.n_fft:
                raise ValueError(
                    f"resolution n_fft {resolution.n_fft}, hop {resolution.hop}, window {resolution.window}: "
                    "0 < hop <= window <= n_fft is needed"
                )
        return self
