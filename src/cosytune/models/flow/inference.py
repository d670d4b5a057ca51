"""The flow prepared for speaking: the same numbers from the same weights, laid out for the processor.

Everything runs on frames [B, F, D] without a transpose: a convolution over three frames is one product of packed
weights with neighbouring frames, the three projections of an attention are one product, sums and GELU happen inside the
products, and what does not change along the path (all time embeddings, the first layer's answer to mu, speaker and
condition) is computed once. Padding is left out by looking at each row's own frames, never by masks inside the kernels.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosytune.errors import InputError
from cosytune.models.flow.estimator import DoubleRate, Estimator, HalfRate, Stage, VelocityField
from cosytune.models.flow.model import Flow
from cosytune.models.flow.prepared import (
    FrameConv,
    Frames,
    PreparedConvBlock,
    PreparedStage,
    doubling,
    frame_conv,
    packed,
)
from cosytune.models.layers.packed import PackedLinear, pack_linears

__all__ = ["PreparedEstimator", "for_inference"]


def for_inference(flow: Flow, dtype: torch.dtype = torch.float32) -> Flow:
    """A copy that computes the same mel faster; it cannot be trained, and the given flow is untouched.

    Args:
        flow: a trained network.
        dtype: type of weights and products. The small length regulator, time embeddings, the statistics of norms and
            softmax and the solver's state stay in float32.

    Raises:
        InputError: a type other than float32 and bfloat16.
    """
    if dtype not in (torch.float32, torch.bfloat16):
        raise InputError(f"the flow was asked to compute in {dtype}; give torch.float32 or torch.bfloat16")
    # The memo tells deepcopy that the estimator is copied already, so its weights are not held twice.
    prepared = copy.deepcopy(flow, {id(flow.estimator): PreparedEstimator(flow.estimator, dtype)})
    pack_linears(prepared.encoder, dtype)
    return prepared.eval().requires_grad_(False)


@dataclass(frozen=True)
class Known:
    """What the estimator is told about a batch, and what follows from it for every point of the path.

    Attributes:
        levels: valid frames at each frame rate, from the full one down.
        conv: [B, F, O] what the first convolution makes of mu, speaker and condition, with its bias.
        shortcut: [B, F, O] the same of the first shortcut.
    """

    levels: tuple[Frames, ...]
    conv: Tensor
    shortcut: Tensor


class PreparedEstimator(nn.Module):
    """What `Estimator` computes, from a trained one; padded rows count their own frames only, in every norm."""

    def __init__(self, estimator: Estimator, dtype: torch.dtype) -> None:
        super().__init__()
        stages = [cast(Stage, stage) for part in (estimator.down, estimator.middle, estimator.up) for stage in part]
        first = stages[0].residual
        bins = estimator.output.out_channels
        self.dtype = dtype
        self.time = copy.deepcopy(estimator.time)
        self.shift_weight = torch.cat([stage.residual.time.weight.detach() for stage in stages])
        self.shift_bias = torch.cat([stage.residual.time.bias.detach() for stage in stages])
        self.widths = [stage.residual.time.out_features for stage in stages]
        # The first layer is linear in x and in what is known, so each gets its columns of the weights.
        conv, shortcut = first.block1.conv, first.shortcut
        self.point_conv = FrameConv(conv.weight[:, :bins], None, dtype)
        self.point_shortcut = PackedLinear(shortcut.weight[:, :bins, 0], None, dtype)
        self.known_conv = FrameConv(conv.weight[:, bins:], conv.bias, dtype)
        self.known_shortcut = PackedLinear(shortcut.weight[:, bins:, 0], shortcut.bias, dtype)
        self.stages = nn.ModuleList(
            PreparedStage(stage, dtype, first=number > 0) for number, stage in enumerate(stages)
        )
        self.shrink = nn.ModuleList(_rate_change(layer, dtype) for layer in estimator.shrink)
        self.grow = nn.ModuleList(_rate_change(layer, dtype) for layer in estimator.grow)
        self.final = PreparedConvBlock(estimator.final, dtype)
        self.output = packed(estimator.output, dtype)

    def forward(self, x: Tensor, mask: Tensor, mu: Tensor, t: Tensor, speaker: Tensor, condition: Tensor) -> Tensor:
        """Predict the velocity; arguments and result as in `Estimator.forward`.

        Raises:
            InputError: a mask with valid frames behind padded ones.
        """
        return self._velocity(x, self._known(mask, mu, speaker, condition), self._shifts(t))

    def field(self, mask: Tensor, mu: Tensor, speaker: Tensor, condition: Tensor, times: Tensor) -> VelocityField:
        """The velocity along one path; arguments and result as in `Estimator.field`.

        Raises:
            InputError: a mask with valid frames behind padded ones.
        """
        told = self._known(mask, mu, speaker, condition)
        both = self._with_free(told, mask)
        shifts = self._shifts(times)

        def velocity(x: Tensor, index: int, guided: bool) -> Tensor:
            return self._velocity(x, both if guided else told, [shift[index : index + 1] for shift in shifts])

        return velocity

    def _shifts(self, t: Tensor) -> list[Tensor]:
        """What time t [K] adds in each stage: a list of [K, 1, O]."""
        shifts = F.linear(F.mish(self.time(t)), self.shift_weight, self.shift_bias)
        return list(shifts.to(self.dtype)[:, None].split(self.widths, dim=-1))

    def _known(self, mask: Tensor, mu: Tensor, speaker: Tensor, condition: Tensor) -> Known:
        levels = self._levels(mask)
        known = torch.cat([mu, speaker[:, :, None].expand_as(mu), condition], dim=1).transpose(1, 2).to(self.dtype)
        known = levels[0].clean(known)
        return Known(levels, self.known_conv(known), self.known_shortcut(known))

    def _with_free(self, told: Known, mask: Tensor) -> Known:
        """The same rows twice, the second time knowing nothing: of zeros, biases remain."""
        conv, shortcut = (torch.zeros_like(part) for part in (told.conv, told.shortcut))
        if self.known_conv.product.bias is not None:
            conv += self.known_conv.product.bias
        if self.known_shortcut.bias is not None:
            shortcut += self.known_shortcut.bias
        levels = self._levels(torch.cat([mask, mask]))
        return Known(levels, torch.cat([told.conv, conv]), torch.cat([told.shortcut, shortcut]))

    def _levels(self, mask: Tensor) -> tuple[Frames, ...]:
        lengths, size = mask.sum(dim=1).tolist(), mask.shape[1]
        if any(not bool(row[:length].all()) for row, length in zip(mask, lengths, strict=True)):
            raise InputError("the prepared flow reads rows that are padded at their end only; put the speech in front")
        levels = [Frames.of(lengths, size, self.shift_weight.new_empty(0, dtype=self.dtype))]
        for _ in self.shrink[1:]:
            lengths, size = [(length + 1) // 2 for length in lengths], (size + 1) // 2
            levels.append(Frames.of(lengths, size, self.shift_weight.new_empty(0, dtype=self.dtype)))
        return tuple(levels)

    def _velocity(self, x: Tensor, known: Known, shifts: list[Tensor]) -> Tensor:
        """x [B, M, F] and, for each stage, [B or 1, 1, O] -> [B, M, F]; with twice the rows known, [2 B, M, F]."""
        levels, depth = known.levels, len(known.levels)
        point = x.transpose(1, 2).to(self.dtype).repeat(known.conv.shape[0] // x.shape[0], 1, 1)
        point = levels[0].clean(point)
        stages = iter(zip(cast(Iterable[PreparedStage], self.stages), shifts, strict=True))
        stage, shift = next(stages)
        hidden = stage.go_on(
            self.point_conv(point, known.conv), self.point_shortcut(point, known.shortcut), levels[0], shift
        )
        skips = [hidden]
        for level in range(1, depth):
            stage, shift = next(stages)
            hidden = stage(self.shrink[level - 1](hidden), levels[level], shift)
            skips.append(hidden)
        hidden = self.shrink[-1](hidden)
        for _ in range(len(self.stages) - 2 * depth):
            stage, shift = next(stages)
            hidden = stage(hidden, levels[-1], shift)
        for level, grow in zip(reversed(range(depth)), self.grow, strict=True):
            stage, shift = next(stages)
            frames = levels[level]
            hidden = grow(stage(torch.cat([hidden[:, : frames.size], skips.pop()], dim=-1), frames, shift))
        # The last convolution of the way up has filled the padding again.
        velocity = self.output(self.final(levels[0].clean(hidden), levels[0]))
        return levels[0].clean(velocity).float().transpose(1, 2)


def _rate_change(layer: nn.Module, dtype: torch.dtype) -> FrameConv:
    """What follows a stage of the way down or up: half, twice or the same frame rate."""
    if isinstance(layer, DoubleRate):
        return doubling(layer.conv, dtype)
    return frame_conv(layer.conv if isinstance(layer, HalfRate) else cast(nn.Conv1d, layer), dtype)
