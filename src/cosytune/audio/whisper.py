"""Whisper's log-mel spectrogram: what the speech tokenizer listens to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cosytune.audio.mel import MelConfig, window_and_filters
from cosytune.errors import InputError
from cosytune.units import FEATURE_FRAME_RATE, FEATURE_SAMPLE_RATE, exact_div, feature_frames

__all__ = ["whisper_mel", "whisper_mel_batch"]

N_FFT = 400
HOP = exact_div(FEATURE_SAMPLE_RATE, FEATURE_FRAME_RATE)
HALF = N_FFT // 2
DYNAMIC_RANGE = 8.0
"""Decades kept below the loudest band of an utterance."""


def whisper_mel(wave: Tensor, bins: int = 128) -> Tensor:
    """Whisper's log-mel of one utterance, without padding to 30 s (the released tokenizers take at most 30 s).

    Args:
        wave: [N] at 16 kHz in [-1, 1].
        bins: bands M (128 for CosyVoice, 80 for the smaller Whispers).

    Returns:
        [M, F] float32 with F = floor(N / 160), 100 frames a second; no gradient.

    Raises:
        InputError: 200 samples or fewer.
        ValueError: the wave is not [N].
    """
    return whisper_mel_batch([wave], bins)[0][0]


@torch.no_grad()
def whisper_mel_batch(waves: Sequence[Tensor], bins: int = 128) -> tuple[Tensor, Tensor]:
    """`whisper_mel` of several utterances at once, with the values that each has alone.

    y = log10(max(filters @ |STFT|^2, 1e-10)); (max(y, max(y) - 8) + 4) / 4, the maximum over the utterance's own
    frames: over a padded batch it would depend on the neighbours (Radford et al. 2022, their published front end).

    Args:
        waves: B waves [N_b] at 16 kHz on one device.
        bins: bands M.

    Returns:
        features [B, M, F] float32, zero beyond each utterance, and frame counts [B] int64.

    Raises:
        InputError: a wave of 200 samples or fewer.
        ValueError: no wave, or one that is not [N].
    """
    if not waves:
        raise ValueError("whisper_mel_batch needs at least one wave")
    for wave in waves:
        _check_wave(wave)
    device = waves[0].device
    config = MelConfig(FEATURE_SAMPLE_RATE, N_FFT, N_FFT, HOP, bins, 0.0, FEATURE_SAMPLE_RATE / 2)
    window, filters = window_and_filters(config, torch.float32, device)
    lengths = torch.tensor([feature_frames(len(wave)) for wave in waves], device=device)
    frames = int(lengths.max())
    with torch.autocast(device.type, enabled=False):
        # Each utterance is reflected at its own ends, so its frames never reach the padding behind it.
        padded = [F.pad(wave.float()[None], (HALF, HALF), mode="reflect")[0] for wave in waves]
        batch = pad_sequence(padded, batch_first=True)
        spectrum = torch.stft(batch, N_FFT, HOP, N_FFT, window, center=False, return_complex=True)[..., :frames]
        bands = filters @ (spectrum.real.square() + spectrum.imag.square())
    log = torch.log10(torch.clamp(bands, min=1e-10))
    valid = (torch.arange(frames, device=device) < lengths[:, None])[:, None, :]
    loudest = log.masked_fill(~valid, -torch.inf).amax(dim=(1, 2), keepdim=True)
    features = (torch.maximum(log, loudest - DYNAMIC_RANGE) + 4.0) / 4.0
    return features.masked_fill(~valid, 0.0), lengths


def _check_wave(wave: Tensor) -> None:
    if wave.ndim != 1:
        raise ValueError(f"whisper_mel takes one wave [N], got shape {list(wave.shape)}")
    if len(wave) <= HALF:
        raise InputError(
            f"a wave of {len(wave)} samples is too short for the speech tokenizer's features: "
            f"give more than {HALF} samples at 16 kHz, or leave the recording out"
        )
