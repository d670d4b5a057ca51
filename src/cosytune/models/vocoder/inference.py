"""The vocoder for speaking: the same numbers as the trained one, faster, and along time."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from cosytune.models.vocoder.decoding import Decoding, PitchRun
from cosytune.models.vocoder.model import Vocoder
from cosytune.models.vocoder.runs import Analysis
from cosytune.models.vocoder.weights import VocoderWeights

__all__ = ["TILE_FRAMES", "InferenceVocoder", "for_inference"]

TILE_FRAMES = 256
"""Mel frames that at most pass through all layers at once on a processor: the widest layer of a 300M vocoder then fills
8 MiB and finds itself in the shared cache. For 430 frames, medians of three in turn: two tiles of 215 took 1.58 s,
tiles of 32 to 144 1.67 to 1.79 s (more calls, more waiting of the threads for each other), one of 430 2.03 s
(2026-11-24, two Zen 4 cores). Small tiles need less memory: with 64 the peak of 5 s was 270 MiB lower."""


def for_inference(vocoder: Vocoder, dtype: torch.dtype = torch.float32) -> InferenceVocoder:
    """A copy that speaks, on the device of `vocoder`.

    In float32 it agrees with the trained vocoder to 1e-4. In bfloat16 the convolutions are; the sums of the residual
    blocks, the F0 predictor, the excitation and the head stay float32.

    Raises:
        ValueError: dtype is neither float32 nor bfloat16.
    """
    if dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"the vocoder speaks in torch.float32 or torch.bfloat16, not in {dtype}: give one of them")
    with torch.no_grad():
        return InferenceVocoder(vocoder, dtype).eval()


class InferenceVocoder(Vocoder):
    """A vocoder that cannot learn or move; see `for_inference`.

    It carries all its layers through time in tiles that stay in the processor's cache. What a tile leaves to the next
    one is in runs, which belong to a call or to a stream: nothing is kept here.
    """

    def __init__(self, trained: Vocoder, dtype: torch.dtype) -> None:
        # Only the interface of the trained network is wanted, not its layers.
        nn.Module.__init__(self)
        self.config = trained.config
        self.harmonic_source = deepcopy(trained.harmonic_source).to(torch.float32).requires_grad_(False)
        self.weights = VocoderWeights(trained, dtype)

    @torch.no_grad()
    def predict_f0(self, mel: Tensor) -> Tensor:
        """F0 [B, F] in Hz of log-mel [B, M, F]."""
        return PitchRun(self.weights).push(mel.transpose(1, 2), final=True)

    @torch.no_grad()
    def decode(self, mel: Tensor, source: Tensor) -> Tensor:
        """Filter the excitation [B, 1, N] as log-mel [B, M, F] says: wave [B, N].

        Raises:
            ValueError: the excitation is not hop samples for each mel frame.
        """
        self.check_lengths(mel, source)
        hop, analysis, decoding = self.config.hop, self.analysis(), Decoding(self.config, self.weights)
        waves = []
        for start, end, last in self.tiles(*mel.shape[::2]):
            spectrum = analysis.push(source[:, 0, start * hop : end * hop].to(torch.float32), last)
            waves.append(decoding.push(mel[..., start:end].transpose(1, 2), spectrum, last))
        return torch.cat(waves, dim=1)

    def analysis(self) -> Analysis:
        """A run that takes an excitation and gives its spectrum."""
        return Analysis(self.weights.analysis, self.config.istft_hop)

    def tiles(self, batch: int, frames: int) -> list[tuple[int, int, bool]]:
        """Cut `frames` mel frames into (start, end, is the last) that are computed at once; at least one."""
        limit = max(1, TILE_FRAMES // batch) if self.weights.analysis.device.type == "cpu" else max(1, frames)
        tiles = max(1, -(-frames // limit))
        size = max(1, -(-frames // tiles))
        return [(start, min(start + size, frames), start + size >= frames) for start in range(0, max(1, frames), size)]

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> InferenceVocoder:
        raise RuntimeError(
            "a vocoder made by for_inference cannot be moved or converted: move the trained one and call it again"
        )
