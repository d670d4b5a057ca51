"""Kaldi's log filter bank: what the speaker encoder listens to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cosytune.errors import InputError
from cosytune.units import FEATURE_FRAME_RATE, FEATURE_SAMPLE_RATE, exact_div

__all__ = ["kaldi_fbank", "kaldi_fbank_batch", "mean_normalised"]

WINDOW = 400
"""Samples of a frame: 25 ms."""
HOP = exact_div(FEATURE_SAMPLE_RATE, FEATURE_FRAME_RATE)
N_FFT = 512
PRE_EMPHASIS = 0.97
FMIN, FMAX = 20.0, 8000.0
LOG_FLOOR = torch.finfo(torch.float32).eps


def kaldi_fbank(wave: Tensor, bins: int = 80) -> Tensor:
    """Kaldi's log-mel filter bank of one utterance: whole frames only, no dither, no energy column.

    Args:
        wave: [N] at 16 kHz in [-1, 1] (not scaled to the 16-bit range).
        bins: bands M.

    Returns:
        [F, M] float32 with F = 1 + floor((N - 400) / 160); no gradient.

    Raises:
        InputError: fewer than 400 samples.
        ValueError: the wave is not [N].
    """
    return kaldi_fbank_batch([wave], bins)[0][0]


@torch.no_grad()
def kaldi_fbank_batch(waves: Sequence[Tensor], bins: int = 80) -> tuple[Tensor, Tensor]:
    """`kaldi_fbank` of several utterances at once, with the values that each has alone.

    A frame loses its mean, is pre-emphasised (0.97, its first sample taken as its own past), weighted by the Povey
    window (Hann ** 0.85) and zero-padded to 512; power spectrum, mel bands, natural logarithm (Kaldi, `feat/`).

    Args:
        waves: B waves [N_b] at 16 kHz on one device.
        bins: bands M.

    Returns:
        features [B, F, M] float32, zero beyond each utterance, and frame counts [B] int64.

    Raises:
        InputError: a wave of fewer than 400 samples.
        ValueError: no wave, or one that is not [N].
    """
    if not waves:
        raise ValueError("kaldi_fbank_batch needs at least one wave")
    for wave in waves:
        _check_wave(wave)
    device = waves[0].device
    window, filters = _window_and_filters(bins, device)
    lengths = torch.tensor([1 + (len(wave) - WINDOW) // HOP for wave in waves], device=device)
    with torch.autocast(device.type, enabled=False):
        frames = pad_sequence([wave.float() for wave in waves], batch_first=True).unfold(1, WINDOW, HOP)
        frames = frames - frames.mean(dim=-1, keepdim=True)
        past = F.pad(frames, (1, 0), mode="replicate")[..., :-1]
        spectrum = torch.fft.rfft((frames - PRE_EMPHASIS * past) * window, n=N_FFT)
        power = spectrum.real.square() + spectrum.imag.square()
        features = torch.log(torch.clamp(power @ filters, min=LOG_FLOOR))
    return features.masked_fill(~_valid(lengths, features.shape[1]), 0.0), lengths


def mean_normalised(features: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Subtract each utterance's mean over time from every band.

    Args:
        features: [F, M], or [B, F, M] padded at the end.
        lengths: [B] valid frames of a padded batch; None means that all frames are valid.

    Returns:
        The shape of `features`; frames beyond `lengths` are zero.
    """
    if lengths is None:
        return features - features.mean(dim=-2, keepdim=True)
    valid = _valid(lengths, features.shape[1])
    mean = features.masked_fill(~valid, 0.0).sum(dim=1, keepdim=True) / lengths[:, None, None]
    return (features - mean).masked_fill(~valid, 0.0)


def _valid(lengths: Tensor, frames: int) -> Tensor:
    """[B, F, 1] bool, True where a frame belongs to its utterance."""
    return (torch.arange(frames, device=lengths.device) < lengths[:, None])[..., None]


def _check_wave(wave: Tensor) -> None:
    if wave.ndim != 1:
        raise ValueError(f"kaldi_fbank takes one wave [N], got shape {list(wave.shape)}")
    if len(wave) < WINDOW:
        raise InputError(
            f"a wave of {len(wave)} samples is too short for the speaker encoder's features: "
            f"give at least {WINDOW} samples at 16 kHz (25 ms), or leave the recording out"
        )


@lru_cache(maxsize=16)
def _window_and_filters(bins: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The Povey window [400] and the bands [257, M], triangular on mel(f) = 1127 ln(1 + f / 700), made once.

    Kaldi leaves the bin at 8000 Hz out; the last triangle ends there, so its weight is zero anyway.
    """
    with torch.inference_mode(False):  # as in mel.py: usable outside of inference mode too
        window = torch.hann_window(WINDOW, periodic=False, dtype=torch.float32, device="cpu").pow(0.85)
        bottom, top = _kaldi_mel(torch.tensor([FMIN, FMAX], dtype=torch.float64, device="cpu")).tolist()
        edges = torch.linspace(bottom, top, bins + 2, dtype=torch.float64, device="cpu")
        low, centre, high = edges[:-2], edges[1:-1], edges[2:]
        frequencies = torch.arange(N_FFT // 2 + 1, dtype=torch.float64, device="cpu") * (FEATURE_SAMPLE_RATE / N_FFT)
        mels = _kaldi_mel(frequencies)[:, None]
        filters = torch.minimum((mels - low) / (centre - low), (high - mels) / (high - centre)).clamp(min=0.0)
        return window.to(device), filters.float().to(device)


def _kaldi_mel(frequency: Tensor) -> Tensor:
    return 1127.0 * torch.log1p(frequency / 700.0)
