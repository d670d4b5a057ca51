"""Training audio in memory: decoded once, kept as 16-bit samples up to a limit, decoded again beyond it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cosytune.audio.files import read_wave
from cosytune.data.manifest import Utterance

__all__ = ["Waves"]

LARGEST_BYTES = 2 << 30
_FULL_SCALE = 32767.0


class Waves:
    """Waves of a corpus at one sample rate, by utterance id."""

    def __init__(self, utterances: Iterable[Utterance], sample_rate: int, largest_bytes: int = LARGEST_BYTES) -> None:
        self.sample_rate = sample_rate
        self._utterances = {utterance.id: utterance for utterance in utterances}
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._room = largest_bytes

    def __getitem__(self, utterance_id: str) -> Tensor:
        """float32 [N] in [-1, 1]."""
        samples = self._kept.get(utterance_id)
        if samples is None:
            samples = self._decoded(self._utterances[utterance_id])
            self._keep(utterance_id, samples)
        else:
            self._kept.move_to_end(utterance_id)
        return torch.from_numpy(samples.astype(np.float32) / _FULL_SCALE)

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

    def _decoded(self, utterance: Utterance) -> np.ndarray:
        wave, _ = read_wave(Path(utterance.audio), self.sample_rate, utterance.start or 0.0, utterance.end)
        return np.round(np.clip(wave, -1.0, 1.0) * _FULL_SCALE).astype(np.int16)

    def _keep(self, utterance_id: str, samples: np.ndarray) -> None:
        self._kept[utterance_id] = samples
        self._room -= samples.nbytes
        while self._room < 0 and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._room += dropped.nbytes
