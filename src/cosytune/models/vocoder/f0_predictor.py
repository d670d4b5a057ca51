"""Fundamental frequency from the mel spectrogram."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

__all__ = ["F0Predictor"]

LAYERS = 5

TYPICAL_HZ = 100.0
"""Where a fresh predictor begins."""


class F0Predictor(nn.Module):
    """Five convolutions over 11 frames and a linear read-out; the absolute value keeps it a frequency."""

    def __init__(self, mel_bins: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(LAYERS):
            layers += [weight_norm(nn.Conv1d(width if index else mel_bins, width, 3, padding=1)), nn.ELU()]
        self.layers = nn.Sequential(*layers)
        self.output = nn.Linear(width, 1)
        # Hz are large numbers: with an ordinary start the read-out needs thousands of steps to reach a voice at all.
        with torch.no_grad():
            self.output.weight.mul_(TYPICAL_HZ)
            self.output.bias.fill_(TYPICAL_HZ)

    def forward(self, mel: Tensor) -> Tensor:
        """Log-mel [B, M, F] to F0 [B, F] in Hz, never negative; near 0 where speech is unvoiced."""
        hidden = self.layers(mel).transpose(1, 2)
        return self.output(hidden).squeeze(-1).abs()
