"""Training audio in memory: decoded once, kept as 16-bit samples up to a limit, decoded again beyond it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cosytune.audio.files import FULL_SCALE, pcm16, read_wave
from cosytune.training.clips import Catalogue

__all__ = ["Recent", "Waves"]

LARGEST_BYTES = 2 << 30


class Recent:
    """Arrays by id up to a number of bytes together: the one that was not asked for the longest goes first.

    Attributes:
        nbytes: of all that are kept.
    """

    def __init__(self, largest_bytes: int) -> None:
        self.nbytes = 0
        self._largest = largest_bytes
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()

    def get(self, name: str, make: Callable[[str], np.ndarray]) -> np.ndarray:
        """The array of a name, made if it is not there."""
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        made = self._kept[name] = make(name)
        self.nbytes += made.nbytes
        while self.nbytes > self._largest and len(self._kept) > 1:
            self.nbytes -= self._kept.popitem(last=False)[1].nbytes
        return made


class Waves:
    """Waves of clips at one sample rate, by utterance id."""

    def __init__(self, clips: Catalogue, sample_rate: int, largest_bytes: int = LARGEST_BYTES) -> None:
        self.sample_rate = sample_rate
        self._clips = clips
        self._kept = Recent(largest_bytes)

    def __getitem__(self, utterance_id: str) -> Tensor:
        """float32 [N] in [-1, 1]."""
        return torch.from_numpy(self._kept.get(utterance_id, self._decoded).astype(np.float32) / FULL_SCALE)

    def crops(
        self, ids: list[str], length: int, generators: Sequence[torch.Generator], align: int = 1
    ) -> tuple[Tensor, list[int]]:
        """Random pieces [B, N] of `length` samples and where each begins; short waves end in silence.

        Args:
            ids: whose waves.
            length: N, in samples.
            generators: one for each, which gives one number; the same one twice gives two.
            align: pieces begin at multiples of so many samples.
        """
        pieces, starts = [], []
        for utterance_id, generator in zip(ids, generators, strict=True):
            wave = self[utterance_id]
            places = max(0, len(wave) - length) // align + 1
            start = align * int(torch.randint(places, (1,), generator=generator))
            piece = wave[start : start + length]
            pieces.append(torch.nn.functional.pad(piece, (0, length - len(piece))))
            starts.append(start)
        return torch.stack(pieces), starts

    def _decoded(self, utterance_id: str) -> np.ndarray:
        clip = self._clips[utterance_id]
        wave, _ = read_wave(Path(clip.audio), self.sample_rate, clip.start or 0.0, clip.end)
        return pcm16(wave)
