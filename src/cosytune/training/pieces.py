"""Batches worked through in pieces, when memory is too small for the whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cosytune.training.settings import takes

__all__ = ["can_be_cut", "is_out_of_memory", "pieces_of"]

_NO_MEMORY_ON_PROCESSOR = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory")


def pieces_of(ids: Sequence[str], count: int) -> list[list[str]]:
    """`ids` in order, in at most `count` pieces whose sizes differ by one at most."""
    count = min(count, len(ids))
    return [list(ids[len(ids) * k // count : len(ids) * (k + 1) // count]) for k in range(count)]


def can_be_cut(part: str) -> bool:
    """Whether the loss of a part is a mean over items, so that pieces of a batch add up to the whole."""
    return takes(part, "accumulate")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch asked for memory that a GPU or the processor's allocator did not have."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(text in str(error) for text in _NO_MEMORY_ON_PROCESSOR)
