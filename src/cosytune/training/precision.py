"""Which precision a run computes in when nobody asked for one."""

from __future__ import annotations

from typing import Literal

import torch

__all__ = ["default_precision", "fast_bfloat16"]

_LEARNED_IN_BFLOAT16 = ("lm", "flow")
"""The others have losses that nobody has compared between precisions: spectra, code books, margins."""


def fast_bfloat16() -> bool:
    """Whether this machine multiplies in bfloat16 faster than in float32: its GPU if it has one, else its processor."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Older torch does not tell what the processor can; it is then taken for one without.
    known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def default_precision(part: str, *, large: bool, fast: bool) -> tuple[Literal["float32", "bfloat16"], str]:
    """Precision of the products of one part, and the reason in words.

    Args:
        part: network to train.
        large: whether it is of a released size, where the products of matrices take most of the time.
        fast: `fast_bfloat16` of the machine.
    """
    if part not in _LEARNED_IN_BFLOAT16:
        return "float32", f"float32, because nobody has compared the losses of a {part} in bfloat16"
    if not large:
        return "float32", "float32, because a network so small gains little from bfloat16"
    if not fast:
        return "float32", "float32, because this machine does not multiply faster in bfloat16"
    return "bfloat16", "products in bfloat16, which this machine multiplies faster"
