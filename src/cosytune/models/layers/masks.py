"""Which positions are real and which may see which. True = valid / visible everywhere."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["chunk_mask", "length_mask"]


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """Mark the valid positions of padded rows.

    Args:
        lengths: [B] integers, valid positions per row.
        size: padded length.

    Returns:
        bool [B, size], True where the position index is below the row's length.
    """
    positions = torch.arange(size, device=lengths.device)
    return positions.unsqueeze(0) < lengths.unsqueeze(1)


def chunk_mask(size: int, chunk: int, device: torch.device | str | None = None) -> Tensor:
    """Mark which key (column) each query (row) may see when attention runs in chunks.

    Position i sees j when j < (floor(i / chunk) + 1) * chunk: all of the past and its own chunk. Chunk 1 is causal,
    chunk 0 has no limit.

    Returns:
        bool [size, size].

    Raises:
        ValueError: chunk is negative.
    """
    if chunk < 0:
        raise ValueError(f"a chunk has 0 (no limit) or more positions, not {chunk}")
    if chunk == 0:
        return torch.ones(size, size, dtype=torch.bool, device=device)
    positions = torch.arange(size, device=device)
    first_hidden = (positions // chunk + 1) * chunk
    return positions.unsqueeze(0) < first_hidden.unsqueeze(1)
