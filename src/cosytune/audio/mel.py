"""The log-mel spectrogram that flow and vocoder live on, and the Slaney filter bank behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from cosytune.errors import InputError

__all__ = ["MEL_22K", "MEL_24K", "MelConfig", "flow_mel", "mel_filters", "window_and_filters"]

MAGNITUDE_EPSILON = 1e-9
"""Added under the square root: its gradient stays finite in silence."""

LOG_FLOOR = 1e-5
"""Band magnitudes are lifted to this before the natural logarithm, so silence is -11.5129."""


def _check_bands(sample_rate: int, bins: int, fmin: float, fmax: float | None) -> None:
    nyquist = sample_rate / 2
    top = nyquist if fmax is None else fmax
    if bins <= 0:
        raise ValueError(f"a filter bank needs at least one band, not {bins}")
    if not 0 <= fmin < top <= nyquist:
        raise ValueError(f"filter bands must satisfy 0 <= fmin < fmax <= {nyquist:g} Hz, got {fmin:g} to {top:g} Hz")


@dataclass(frozen=True)
class MelConfig:
    """The settings of one mel spectrogram.

    Attributes:
        sample_rate: Hz of the waves.
        n_fft: length of the Fourier transform, samples.
        win: length of the Hann window, samples, at most `n_fft` (a shorter one is centred in the transform).
        hop: samples between frames; `n_fft - hop` must be even, so that frame f is centred on f * hop + hop / 2.
        bins: number of bands M.
        fmin: lower edge of the first band, Hz.
        fmax: upper edge of the last band, Hz; None is the Nyquist frequency.
    """

    sample_rate: int
    n_fft: int
    win: int
    hop: int
    bins: int = 80
    fmin: float = 0.0
    fmax: float | None = 8000.0

    def __post_init__(self) -> None:
        if not 0 < self.win <= self.n_fft:
            raise ValueError(f"a mel window must have 1 to n_fft = {self.n_fft} samples, not {self.win}")
        if not 0 < self.hop <= self.n_fft or (self.n_fft - self.hop) % 2:
            raise ValueError(
                f"a mel hop must be 1 to n_fft = {self.n_fft} samples and leave an even rest, not {self.hop}"
            )
        _check_bands(self.sample_rate, self.bins, self.fmin, self.fmax)

    @property
    def padding(self) -> int:
        """Samples reflected at each end, so that N samples give floor(N / hop) frames."""
        return (self.n_fft - self.hop) // 2

    @property
    def minimum_samples(self) -> int:
        """The shortest wave that can be reflected and gives a frame."""
        return max(self.hop, self.padding + 1)


MEL_22K = MelConfig(sample_rate=22_050, n_fft=1024, win=1024, hop=256)
"""The 300M family."""

MEL_24K = MelConfig(sample_rate=24_000, n_fft=1920, win=1920, hop=480)
"""CosyVoice 2."""


def _slaney_mel(frequency: float) -> float:
    """Slaney's mel scale: linear below 1 kHz (200/3 Hz a mel), logarithmic above (27 mels to a factor of 6.4)."""
    if frequency < 1000.0:
        return 3.0 * frequency / 200.0
    return 15.0 + math.log(frequency / 1000.0) * 27.0 / math.log(6.4)


def _slaney_frequencies(mels: Tensor) -> Tensor:
    """The inverse of `_slaney_mel`, Hz."""
    return torch.where(mels < 15.0, mels * 200.0 / 3.0, 1000.0 * torch.exp((mels - 15.0) * math.log(6.4) / 27.0))


def mel_filters(
    sample_rate: int,
    n_fft: int,
    bins: int,
    fmin: float = 0.0,
    fmax: float | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Triangular bands of equal area, equally spaced on Slaney's mel scale (Auditory Toolbox, 1998; librosa's default).

    Band b is max(0, min((f - e[b]) / (e[b+1] - e[b]), (e[b+2] - f) / (e[b+2] - e[b+1]))) * 2 / (e[b+2] - e[b]).

    Returns:
        [bins, n_fft // 2 + 1], a new tensor on the CPU.

    Raises:
        ValueError: no band, or the frequencies are not 0 <= fmin < fmax <= Nyquist.
    """
    _check_bands(sample_rate, bins, fmin, fmax)
    top = sample_rate / 2 if fmax is None else fmax
    mels = torch.linspace(_slaney_mel(fmin), _slaney_mel(top), bins + 2, dtype=torch.float64, device="cpu")
    edges = _slaney_frequencies(mels)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    frequencies = torch.arange(n_fft // 2 + 1, dtype=torch.float64, device="cpu") * (sample_rate / n_fft)
    rising = (frequencies - low) / (centre - low)
    falling = (high - frequencies) / (high - centre)
    return (torch.minimum(rising, falling).clamp(min=0.0) * 2.0 / (high - low)).to(dtype)


@lru_cache(maxsize=64)
def window_and_filters(config: MelConfig, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The periodic Hann window [win] and the filter bank [M, n_fft // 2 + 1] of a configuration, made once; read only.

    The key is everything the values depend on: two models in one process never share a bank.
    """
    # A tensor born under inference mode can never be saved for backward; a later training step would fail on it.
    with torch.inference_mode(False):
        # The window is computed in the working type, not rounded from float64: its rounding noise leaks into quiet
        # bands and moves the values there by up to 2e-4 away from the reference's.
        window = torch.hann_window(config.win, periodic=True, dtype=dtype, device="cpu")
        filters = mel_filters(config.sample_rate, config.n_fft, config.bins, config.fmin, config.fmax, torch.float64)
        return window.to(device), filters.to(dtype).to(device)


def flow_mel(wave: Tensor, config: MelConfig) -> Tensor:
    """Natural-log mel magnitudes, differentiable (HiFi-GAN's mel; the reference calls it `mel_spectrogram`).

    log(max(filters @ sqrt(|STFT|^2 + 1e-9), 1e-5)); the wave is reflected by (n_fft - hop) / 2 at both ends and the
    transform is not centred. Computed in float32 (float64 for float64 waves), also under autocast: half precision
    cannot hold the small magnitudes that the logarithm spreads out.

    Args:
        wave: [B, N] in [-1, 1] at `config.sample_rate` Hz.
        config: settings.

    Returns:
        [B, M, F] with F = floor(N / hop).

    Raises:
        InputError: the wave is shorter than the reflection needs.
        ValueError: the wave is not [B, N].
    """
    if wave.ndim != 2:
        raise ValueError(f"flow_mel takes waves [B, N], got shape {list(wave.shape)}")
    if wave.shape[1] < config.minimum_samples:
        raise InputError(
            f"a wave of {wave.shape[1]} samples is too short for a mel spectrogram at {config.sample_rate} Hz: "
            f"give at least {config.minimum_samples} samples, or leave the recording out"
        )
    dtype = torch.float64 if wave.dtype == torch.float64 else torch.float32
    window, filters = window_and_filters(config, dtype, wave.device)
    with torch.autocast(wave.device.type, enabled=False):
        padded = F.pad(wave.to(dtype), (config.padding, config.padding), mode="reflect")
        spectrum = torch.stft(
            padded, config.n_fft, config.hop, config.win, window, center=False, onesided=True, return_complex=True
        )
        magnitude = torch.sqrt(spectrum.real.square() + spectrum.imag.square() + MAGNITUDE_EPSILON)
        return torch.log(torch.clamp(filters @ magnitude, min=LOG_FLOOR))
