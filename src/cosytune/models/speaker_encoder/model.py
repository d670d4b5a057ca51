"""The speaker encoder: a network of CAM++'s design, trained by us."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cosytune.errors import InputError
from cosytune.models.layers.masks import length_mask
from cosytune.models.speaker_encoder.config import SpeakerEncoderConfig

__all__ = ["SpeakerEncoder"]

VARIANCE_FLOOR = 1e-7
"""Keeps the gradient of a standard deviation finite where a channel is constant (a single frame, dead channels)."""


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over the valid frames only; what it returns is zero in the padding.

    Plain batch normalisation would count the padding, so that the statistics learned, and with them every speaker
    vector, would depend on how utterances happened to be batched.
    """

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise `input` [B, C, F] or [B, C, M, F]; `mask` [B, F] is True at valid frames, None if all are."""
        if mask is None:
            return super().forward(input.flatten(2)).view_as(input)
        if not self.training:
            return super().forward(input.flatten(2)).view_as(input) * _over_time(mask, input)
        frames = input.movedim(-1, 1)  # [B, F, C, ...]
        normalised = super().forward(frames[mask])
        return (
            frames.new_zeros(frames.shape, dtype=normalised.dtype)
            .masked_scatter(mask.view(*mask.shape, *[1] * (frames.dim() - 2)), normalised)
            .movedim(1, -1)
        )


class FrontBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, [B, C, M, F] -> [B, C', M / stride, F] (He et al., arXiv 1512.03385)."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, stride=(stride, 1), padding=1, bias=False)
        self.first_norm = MaskedBatchNorm(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second_norm = MaskedBatchNorm(channels)
        self.shortcut = nn.Conv2d(channels, channels, 1, stride=(stride, 1), bias=False) if stride > 1 else None
        self.shortcut_norm = MaskedBatchNorm(channels) if stride > 1 else None

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = torch.relu(self.first_norm(self.first(x), mask))
        y = self.second_norm(self.second(y), mask)
        if self.shortcut is not None and self.shortcut_norm is not None:
            x = self.shortcut_norm(self.shortcut(x), mask)
        return torch.relu(x + y)


class FrontEnd(nn.Module):
    """2-D convolutions that shrink the frequency axis and leave time alone: [B, M, F] -> [B, C * M / reduction, F]."""

    def __init__(self, config: SpeakerEncoderConfig) -> None:
        super().__init__()
        channels = config.front_channels
        self.first = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.first_norm = MaskedBatchNorm(channels)
        self.blocks = nn.ModuleList(
            FrontBlock(channels, stride=2 if index == 0 else 1)
            for count in config.front_blocks
            for index in range(count)
        )
        self.last = nn.Conv2d(channels, channels, 3, stride=(2, 1), padding=1, bias=False)
        self.last_norm = MaskedBatchNorm(channels)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = torch.relu(self.first_norm(self.first(x[:, None]), mask))
        for block in self.blocks:
            x = block(x, mask)
        return torch.relu(self.last_norm(self.last(x), mask)).flatten(1, 2)


class DenseLayer(nn.Module):
    """One densely connected TDNN layer with context-aware masking (arXiv 2303.00332, section 2.2).

    The local convolution's output is multiplied by a gate in (0, 1) computed from the mean over the whole utterance
    plus the mean over the segment the frame lies in.
    """

    def __init__(self, config: SpeakerEncoderConfig, channels: int, dilation: int) -> None:
        super().__init__()
        inner = config.bottleneck
        self.input_norm = MaskedBatchNorm(channels)
        self.squeeze = nn.Conv1d(channels, inner, 1, bias=False)
        self.inner_norm = MaskedBatchNorm(inner)
        padding = dilation * (config.kernel // 2)
        self.local = nn.Conv1d(inner, config.growth, config.kernel, padding=padding, dilation=dilation, bias=False)
        self.context = nn.Conv1d(inner, inner // 2, 1)
        self.gate = nn.Conv1d(inner // 2, config.growth, 1)
        self.segment = config.segment

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Frames [B, C, F] to the new channels [B, growth, F]; padding in must be zero."""
        x = self.squeeze(torch.relu(self.input_norm(x, mask)))
        x = torch.relu(self.inner_norm(x, mask))
        context = torch.relu(self.context(self._context(x, mask)))
        # The gate is constant inside a segment: compute it per segment and spread it, 100 times less work.
        gate = torch.sigmoid(self.gate(context)).repeat_interleave(self.segment, dim=-1)[..., : x.shape[-1]]
        return self.local(x) * gate

    def _context(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Utterance mean + segment means of valid frames, [B, C, number of segments]."""
        if mask is None:
            return x.mean(-1, keepdim=True) + F.avg_pool1d(x, self.segment, self.segment, ceil_mode=True)
        weight = mask[:, None].to(x.dtype)  # x is already zero where the mask is
        whole = x.sum(-1, keepdim=True) / weight.sum(-1, keepdim=True)
        parts = F.avg_pool1d(x, self.segment, self.segment, ceil_mode=True)
        share = F.avg_pool1d(weight, self.segment, self.segment, ceil_mode=True)
        return whole + parts / share.clamp_min(1 / (2 * self.segment))


class DenseBlock(nn.Module):
    """Dense layers, each of which sees the channels of all before it, then a transit layer that halves the channels."""

    def __init__(self, config: SpeakerEncoderConfig, channels: int, layers: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DenseLayer(config, channels + index * config.growth, dilation) for index in range(layers)
        )
        channels += layers * config.growth
        self.channels = channels // 2
        self.transit_norm = MaskedBatchNorm(channels)
        self.transit = nn.Conv1d(channels, self.channels, 1, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x, mask)], dim=1)
        return self.transit(torch.relu(self.transit_norm(x, mask)))


class SpeakerEncoder(nn.Module):
    """Filter bank of an utterance to a speaker vector, a densely connected TDNN after CAM++ (arXiv 2303.00332).

    Compare vectors by their cosine: the length of the raw vector means nothing.
    """

    def __init__(self, config: SpeakerEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.front = FrontEnd(config)
        channels = config.tdnn_channels
        front_width = config.front_channels * config.bins // config.front_reduction
        self.tdnn = nn.Conv1d(front_width, channels, 5, stride=2, padding=2, bias=False)
        self.tdnn_norm = MaskedBatchNorm(channels)
        self.blocks = nn.ModuleList()
        for layers, dilation in zip(config.blocks, config.dilations, strict=True):
            block = DenseBlock(config, channels, layers, dilation)
            self.blocks.append(block)
            channels = block.channels
        self.last_norm = MaskedBatchNorm(channels)
        self.embedding = nn.Linear(2 * channels, config.speaker_width, bias=False)
        # No affine part: the loss looks at directions only, and centred directions separate speakers better.
        self.embedding_norm = nn.BatchNorm1d(config.speaker_width, affine=False)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Speaker vectors [B, E] of filter-bank features.

        Args:
            features: [B, F, bins] at 100 Hz, mean-normalised per utterance; the padding may hold anything.
            lengths: [B] valid frames, each from 1 to F.

        Raises:
            InputError: wrong shapes or lengths, or one single utterance in training mode.
        """
        self._check(features, lengths)
        # Equal lengths (training crops) need no masks, and run faster without.
        padded = bool((lengths < features.shape[1]).any())
        mask = length_mask(lengths, features.shape[1]) if padded else None
        x = features.transpose(1, 2)
        if mask is not None:
            x = x.masked_fill(~mask[:, None], 0.0)
        x = self.tdnn(self.front(x, mask))
        mask = length_mask((lengths + 1) // 2, x.shape[-1]) if padded else None
        x = torch.relu(self.tdnn_norm(x, mask))
        for block in self.blocks:
            x = block(x, mask)
        statistics = pooled_statistics(torch.relu(self.last_norm(x, mask)), mask)
        return self.embedding_norm(self.embedding(statistics).float())

    def _check(self, features: Tensor, lengths: Tensor) -> None:
        bins = self.config.bins
        if features.dim() != 3 or features.shape[2] != bins:
            raise InputError(
                f"the speaker encoder got features of shape {list(features.shape)}; give [batch, frames, {bins}]"
            )
        if lengths.shape != features.shape[:1]:
            raise InputError(
                f"lengths has shape {list(lengths.shape)} for {features.shape[0]} utterances; give one length each"
            )
        if bool(((lengths < 1) | (lengths > features.shape[1])).any()):
            raise InputError(
                f"lengths {lengths.tolist()} must lie between 1 and the {features.shape[1]} frames given; "
                "leave empty utterances out"
            )
        if self.training and features.shape[0] == 1:
            raise InputError(
                "one utterance alone cannot be batch-normalised in training; give at least two, or call eval() first"
            )


def pooled_statistics(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean and standard deviation over valid frames, [B, C, F] -> [B, 2C] (x-vector pooling, Snyder et al. 2018)."""
    x = x.float()  # a variance of bfloat16 numbers has two digits
    weight = x.new_ones(x.shape[0], 1, x.shape[2]) if mask is None else mask[:, None].float()
    count = weight.sum(-1)
    mean = (x * weight).sum(-1) / count
    variance = ((x - mean[..., None]).square() * weight).sum(-1) / count
    return torch.cat([mean, variance.clamp_min(VARIANCE_FLOOR).sqrt()], dim=1)


def _over_time(mask: Tensor, like: Tensor) -> Tensor:
    """Mask [B, F] in a shape that multiplies `like` [B, C, ..., F]."""
    return mask.view(mask.shape[0], *[1] * (like.dim() - 2), mask.shape[1])
