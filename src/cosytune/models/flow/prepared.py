"""Layers of the prepared flow (inference.py): frames [B, F, D] throughout, packed weights, no masks inside kernels."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosytune.models.flow.estimator import ConvBlock, Stage, TransformerBlock
from cosytune.models.layers.masks import length_mask
from cosytune.models.layers.packed import PackedLinear

__all__ = ["FrameConv", "Frames", "PreparedConvBlock", "PreparedStage", "doubling", "frame_conv", "packed"]

VECTOR = 32
"""Numbers of two bytes in a 512-bit register."""

SCORES_AT_ONCE = 1 << 21
"""Attention weights of all rows and heads that are in memory together where they are written out: 4 MiB."""


@dataclass(frozen=True)
class Frames:
    """Which frames of a batch [B, size] are speech at one frame rate: the first ones of every row.

    Attributes:
        size: frames of a row with its padding.
        runs: neighbouring rows of equal length: (first row, row after the last, length).
        mask: [B, size, 1], 1 = speech; None where nothing is padded.
        spaces: memory for attention by products, made when it is first needed and used again by all layers and steps.
    """

    size: int
    runs: tuple[tuple[int, int, int], ...]
    mask: Tensor | None
    spaces: dict[tuple[int, ...], AttentionSpace] = field(default_factory=dict)

    @classmethod
    def of(cls, lengths: list[int], size: int, like: Tensor) -> Frames:
        """Frames of rows of these lengths; the mask takes `like`'s device and type."""
        edges = [row for row in range(1, len(lengths)) if lengths[row] != lengths[row - 1]]
        spans = zip([0, *edges], [*edges, len(lengths)], strict=True)
        runs = tuple((first, end, lengths[first]) for first, end in spans)
        padded = any(length < size for length in lengths)
        mask = length_mask(torch.tensor(lengths, device=like.device), size)[:, :, None].to(like.dtype)
        return cls(size, runs, mask if padded else None)

    def clean(self, x: Tensor) -> Tensor:
        """x [B, size, D] with zeros in the padding."""
        return x if self.mask is None else x * self.mask

    def space(self, projected: Tensor, heads: int) -> AttentionSpace:
        """Memory for the attention of `projected` [rows, F, 3 W]."""
        key = (*projected.shape, heads)
        if key not in self.spaces:
            self.spaces[key] = AttentionSpace(projected, heads)
        return self.spaces[key]

    def pieces(self, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Views of each run's speech, [rows, length, D], of every tensor [B, size, D]."""
        for first, end, length in self.runs:
            if length:
                yield tuple(x[first:end, :length] for x in tensors)


class FrameConv(nn.Module):
    """Conv1d over three frames with zeros outside: [B, F, I] -> [B, ceil(F / stride), O]."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, *, stride: int = 1, doubles: bool = False
    ) -> None:
        """Copy `weight` [O, I, 3]; with `doubles`, [2 O, I, 3] makes two frames of each."""
        super().__init__()
        self.stride, self.doubles = stride, doubles
        # Frame by frame, as neighbouring frames lie in memory.
        self.product = PackedLinear(weight.detach().transpose(1, 2).flatten(1), bias, dtype)

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """x [B, F, I] of the layer's type, and `add` on top of the result: [B, ceil(F / stride) or 2 F, O]."""
        padded = F.pad(x, (0, 0, 1, 1))
        rows, frames, width = padded.shape
        count = (frames - 3) // self.stride + 1
        near = padded.as_strided((rows, count, 3 * width), (frames * width, self.stride * width, 1))
        y = self.product(near.contiguous(), add)
        return y.reshape(rows, 2 * count, -1) if self.doubles else y


def doubling(conv: nn.ConvTranspose1d, dtype: torch.dtype) -> FrameConv:
    """ConvTranspose1d(4, stride 2, padding 1) as a convolution that makes an even and an odd frame of each.

    Of taps 0..3, frame 2 j of the result takes tap 3 from frame j - 1 and tap 1 from j; frame 2 j + 1 takes tap 2 from
    j and tap 0 from j + 1. The result [B, F, 2 O] read as [B, 2 F, O] is in order.
    """
    taps = conv.weight.detach().transpose(0, 1).unbind(-1)  # four of [O, I]
    nothing = torch.zeros_like(taps[0])
    even = torch.stack([taps[3], taps[1], nothing], dim=-1)
    odd = torch.stack([nothing, taps[2], taps[0]], dim=-1)
    bias = None if conv.bias is None else torch.cat([conv.bias, conv.bias])
    return FrameConv(torch.cat([even, odd]), bias, dtype, doubles=True)


def frame_conv(conv: nn.Conv1d, dtype: torch.dtype) -> FrameConv:
    """A trained Conv1d(3) of any stride."""
    return FrameConv(conv.weight, conv.bias, dtype, stride=conv.stride[0])


def packed(layer: nn.Linear | nn.Conv1d, dtype: torch.dtype) -> PackedLinear:
    """A trained linear layer, or a convolution over one frame, which is one."""
    return PackedLinear(layer.weight.flatten(1), layer.bias, dtype)


def mish(x: Tensor) -> Tensor:
    """x tanh(ln(1 + e^x)) (Misra 2019) as x n / (n + 2) with n = e^x (e^x + 2): one exponential, in float32.

    Twice as fast as torch's kernel, which computes three functions. From 20 on the quotient is 1 in float32.
    """
    power = x.float().clamp(max=20.0).exp_()
    ratio = power.mul_(power + 2.0)
    return x * ratio.div_(ratio + 2.0).to(x.dtype)


Norm = TypeVar("Norm", nn.GroupNorm, nn.LayerNorm)


def own_norm(norm: Norm, dtype: torch.dtype) -> Norm:
    """A copy for inputs of type `dtype`: kept in float32 on the processor, whose kernels alone mix the two types."""
    kept = copy.deepcopy(norm)
    return kept if kept.weight.device.type == "cpu" else kept.to(dtype)


class GroupNormMish(nn.Module):
    """GroupNorm over each row's own frames, then Mish; zero in the padding."""

    def __init__(self, norm: nn.GroupNorm, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm = own_norm(norm, dtype)

    def forward(self, x: Tensor, frames: Frames) -> Tensor:
        """[B, F, D] -> [B, F, D]."""
        if frames.mask is None:
            return mish(self._normal(x))
        result = torch.zeros_like(x)
        for part, place in frames.pieces(x, result):
            place.copy_(self._normal(part))
        return mish(result)

    def _normal(self, x: Tensor) -> Tensor:
        # As a picture of one line, [B, F, D] is what torch calls channels last, and has a kernel of its own. Its
        # sums are in float32 whatever the type.
        norm = self.norm
        picture = x.transpose(1, 2).unsqueeze(2)
        normal = torch.group_norm(picture, norm.num_groups, norm.weight, norm.bias, norm.eps)
        return normal.squeeze(2).transpose(1, 2)


class PreparedBlock(nn.Module):
    """A transformer block: two products with a sum inside, one with GELU inside, one for query, key and value."""

    def __init__(self, block: TransformerBlock, dtype: torch.dtype) -> None:
        super().__init__()
        attention = block.attention
        self.heads = attention.heads
        self.norm1, self.norm2 = own_norm(block.norm1, dtype), own_norm(block.norm2, dtype)
        scale = (attention.query.out_features // attention.heads) ** -0.5
        # The scale of the scores is put into the query's weights.
        weights = (attention.query.weight * scale, attention.key.weight, attention.value.weight)
        self.project = PackedLinear(torch.cat(weights), None, dtype)
        self.output = packed(attention.output, dtype)
        self.expand = PackedLinear(block.expand.weight, block.expand.bias, dtype, "gelu")
        self.contract = packed(block.contract, dtype)

    def forward(self, x: Tensor, frames: Frames) -> Tensor:
        """[B, F, D] -> [B, F, D]; padded frames hold finite numbers of no meaning."""
        projected = self.project(self.norm1(x))
        x = self.output(self._attend(projected, frames), x)
        return self.contract(self.expand(self.norm2(x)), x)

    def _attend(self, projected: Tensor, frames: Frames) -> Tensor:
        """Queries, keys and values [B, F, 3 W] side by side -> [B, F, W]."""
        if frames.mask is None:
            return self._attend_all(projected, frames)
        result = projected.new_zeros(*projected.shape[:2], projected.shape[2] // 3)
        for part, place in frames.pieces(projected, result):
            place.copy_(self._attend_all(part, frames))
        return result

    def _attend_all(self, projected: Tensor, frames: Frames) -> Tensor:
        if projected.dtype == torch.bfloat16 and projected.device.type == "cpu":
            return frames.space(projected, self.heads).attend(projected)
        return attend(projected, self.heads)


def attend(projected: Tensor, heads: int) -> Tensor:
    """Attention of all frames to all frames: scaled queries, keys and values [B, F, 3 W] -> [B, F, W]."""
    query, key, value = projected.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(query, key, value, scale=1.0).transpose(1, 2).flatten(2)


class AttentionSpace:
    """`attend` by plain products, many queries at a time, in memory that is kept and suits the vector units.

    In bfloat16 on a processor this beats the fused kernel (two Zen 4 cores, torch 2.13, 2026-11-24): 0.9 and 1.6 ms for
    2 x 8 x 215 x 64, 3.5 and 6.4 ms for 430 frames. In float32 it loses.
    """

    def __init__(self, like: Tensor, heads: int) -> None:
        """Memory for tensors of the shape and type of `like` [B, F, 3 W]."""
        rows, self._frames, width = like.shape
        room = -(-self._frames // VECTOR) * VECTOR
        pieces = -(-rows * heads * room * room // SCORES_AT_ONCE)
        self._at_once = -(-room // pieces)
        # Frames beyond F: queries and values stay zero, keys do not count.
        self._parts = like.new_zeros(3, rows, heads, room, width // (3 * heads))
        self._scores = like.new_empty(rows * heads, self._at_once, room)
        self._mixed = like.new_empty(rows * heads, room, width // (3 * heads))

    def attend(self, projected: Tensor) -> Tensor:
        """[B, F, 3 W] -> [B, F, W]."""
        parts, frames = self._parts, self._frames
        rows, heads = parts.shape[1:3]
        parts[..., :frames, :] = projected.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.flatten(1, 2)  # each [B H, room, W / H]
        for some, place in zip(query.split(self._at_once, 1), self._mixed.split(self._at_once, 1), strict=True):
            scores = self._scores[:, : some.shape[1]]
            torch.bmm(some, key.transpose(1, 2), out=scores)
            scores[..., frames:] = -torch.inf
            torch.softmax(scores, dim=-1, out=scores)
            torch.bmm(scores, value, out=place)
        return self._mixed[:, :frames].unflatten(0, (rows, heads)).transpose(1, 2).flatten(2)


class PreparedStage(nn.Module):
    """A residual block and its transformer blocks; without a first convolution where that is computed elsewhere."""

    def __init__(self, stage: Stage, dtype: torch.dtype, *, first: bool = True) -> None:
        super().__init__()
        residual = stage.residual
        self.conv1 = frame_conv(residual.block1.conv, dtype) if first else None
        self.shortcut = packed(residual.shortcut, dtype) if first else None
        self.norm1 = GroupNormMish(residual.block1.norm, dtype)
        self.conv2 = frame_conv(residual.block2.conv, dtype)
        self.norm2 = GroupNormMish(residual.block2.norm, dtype)
        self.blocks = nn.ModuleList(PreparedBlock(cast(TransformerBlock, block), dtype) for block in stage.blocks)

    def forward(self, x: Tensor, frames: Frames, shift: Tensor) -> Tensor:
        """x [B, F, I], shift [B or 1, 1, O], the projected time -> [B, F, O]; zero in the padding."""
        assert self.conv1 is not None and self.shortcut is not None  # the caller passes `go_on` what replaces them
        x = frames.clean(x)
        return self.go_on(self.conv1(x), self.shortcut(x), frames, shift)

    def go_on(self, hidden: Tensor, shortcut: Tensor, frames: Frames, shift: Tensor) -> Tensor:
        """The rest, from the first convolution's output and the shortcut's, both [B, F, O]."""
        hidden = frames.clean(self.norm1(hidden, frames).add_(shift))
        x = self.norm2(self.conv2(hidden), frames).add_(shortcut)
        for block in self.blocks:
            x = block(x, frames)
        return frames.clean(x)


class PreparedConvBlock(nn.Module):
    """Convolution, GroupNorm, Mish."""

    def __init__(self, block: ConvBlock, dtype: torch.dtype) -> None:
        super().__init__()
        self.conv = frame_conv(block.conv, dtype)
        self.norm = GroupNormMish(block.norm, dtype)

    def forward(self, x: Tensor, frames: Frames) -> Tensor:
        """[B, F, I], zero in the padding -> [B, F, O], zero in the padding."""
        return self.norm(self.conv(x), frames)
