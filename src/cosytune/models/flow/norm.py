"""Group normalisation over time that can leave padded frames out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["FrameGroupNorm"]


class FrameGroupNorm(nn.GroupNorm):
    """GroupNorm (Wu & He 2018) whose mean and variance are taken over an utterance's own frames.

    Plain GroupNorm also counts the padding, so an utterance's result changes with its neighbours' lengths. With
    `count_padding` it does just that; for an utterance without padding both are the same function.
    """

    def __init__(self, groups: int, channels: int, count_padding: bool) -> None:
        super().__init__(groups, channels)
        self.count_padding = count_padding

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """Normalise x [B, C, F] with mask [B, 1, F] (True = valid); padded frames hold finite numbers of no meaning."""
        if self.count_padding:
            return super().forward(x)
        # Statistics in float32 whatever the autocast type: sums over thousands of frames lose bits in bfloat16.
        with torch.autocast(x.device.type, enabled=False):
            grouped = x.float().unflatten(1, (self.num_groups, -1))  # [B, G, C/G, F]
            valid = mask[:, None].float()  # [B, 1, 1, F]
            count = valid.sum(dim=-1, keepdim=True).clamp(min=1) * grouped.shape[2]  # [B, 1, 1, 1]
            mean = (grouped * valid).sum(dim=(2, 3), keepdim=True) / count
            centred = grouped - mean
            variance = (centred.square() * valid).sum(dim=(2, 3), keepdim=True) / count
            normal = (centred * torch.rsqrt(variance + self.eps)).flatten(1, 2)
            return normal * self.weight[:, None] + self.bias[:, None]
