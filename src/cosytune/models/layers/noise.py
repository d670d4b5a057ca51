"""Random numbers along time that do not depend on how time is cut into pieces."""

from __future__ import annotations

import torch
from torch import Tensor

from cosytune.errors import InputError

__all__ = ["NoiseTape"]

BLOCK = 1024
"""Vectors drawn at once; part of what a seed means, so that it must not change."""


class NoiseTape:
    """A row of standard normal vectors without an end, read from the front.

    Whoever takes 30 and then 70 vectors gets what another gets who takes 100 at once: speech that is made in chunks
    starts from the same noise as speech that is made whole, and a row of a batch from the same as alone.
    """

    def __init__(self, width: int, seed: int) -> None:
        """A tape of vectors with `width` numbers."""
        self.width = width
        self._generator = torch.Generator().manual_seed(seed)
        self._rest = torch.zeros(0, width)

    def take(self, count: int) -> Tensor:
        """The next `count` vectors, float32 [count, width] on the processor.

        Raises:
            InputError: a negative count.
        """
        if count < 0:
            raise InputError(f"a noise tape was asked for {count} vectors; give 0 or more")
        pieces, have = [self._rest], len(self._rest)
        while have < count:
            pieces.append(torch.randn(BLOCK, self.width, generator=self._generator))
            have += BLOCK
        whole = torch.cat(pieces)
        self._rest = whole[count:]
        return whole[:count]
