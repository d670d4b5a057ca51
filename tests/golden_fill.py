"""The deterministic filling rule of the specification, section 11.1: weights and inputs without any file."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def uniform(name: str, count: int) -> np.ndarray:
    """`count` float64 numbers in [-0.5, 0.5) that depend only on `name`."""
    seed = np.uint64(zlib.crc32(name.encode("utf-8")))
    mask = np.uint64(0xFFFFFFFF)
    x = (np.arange(count, dtype=np.uint64) * np.uint64(2654435761) + seed) & mask
    x ^= x >> np.uint64(16)
    x = (x * np.uint64(2246822519)) & mask
    x ^= x >> np.uint64(13)
    x = (x * np.uint64(3266489917)) & mask
    x ^= x >> np.uint64(16)
    return x.astype(np.float64) / 2.0**32 - 0.5


def filled_input(name: str, shape: tuple[int, ...], scale: float = 2.0) -> Tensor:
    """X(name, shape, scale) of the specification."""
    return torch.from_numpy((uniform(name, int(np.prod(shape))) * scale).astype(np.float32)).reshape(shape)


def filled_weights(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with the same names and shapes (released names), filled by the rule."""
    return {
        name: torch.from_numpy(_weight(name, tuple(tensor.shape)).astype(np.float32)).reshape(tensor.shape)
        for name, tensor in released.items()
    }


def _weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(shape))
    u = uniform(name, count)
    if name == "conv_post.parametrizations.weight.original0":
        return 0.1 * (1 + 0.2 * u)
    if name.endswith((".original0", ".alpha")) or (len(shape) == 1 and name.endswith("weight")):
        return 1 + 0.2 * u
    if name.endswith("bias"):
        return 0.1 * u
    return u * np.sqrt(12 / (count / shape[0]))
