"""The U-Net that predicts the velocity: residual convolutions and attention at falling and rising frame rates."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosytune.models.flow.config import NORM_GROUPS, EstimatorConfig
from cosytune.models.flow.norm import FrameGroupNorm
from cosytune.models.layers.dropout import Dropout

__all__ = ["Estimator", "VelocityField"]

VelocityField = Callable[[Tensor, int, bool], Tensor]
"""Velocity at point [B, M, F] and time number k: [B, M, F], or [2 B, M, F] with the rows that know nothing behind."""

TIME_SCALE = 1000.0
"""The flow's time in [0, 1] is read as 0..1000 by the sinusoids, the range of diffusion steps they were made for."""


class TimeEmbedding(nn.Module):
    """Sinusoids of 1000 t (Vaswani et al. 2017) through a two-layer perceptron: [B] -> [B, output]."""

    def __init__(self, width: int, output: int) -> None:
        super().__init__()
        self.frequencies = width // 2
        self.input = nn.Linear(width, output)
        self.output = nn.Linear(output, output)

    def forward(self, t: Tensor) -> Tensor:
        """t [B] in [0, 1] -> [B, output]."""
        steps = torch.arange(self.frequencies, device=t.device, dtype=torch.float32)
        # The exponent runs over 0..1 inclusive, hence the - 1.
        frequency = torch.exp(steps * (-math.log(10_000.0) / max(self.frequencies - 1, 1)))
        angle = TIME_SCALE * t.float()[:, None] * frequency
        return self.output(F.silu(self.input(torch.cat([angle.sin(), angle.cos()], dim=1))))


class ConvBlock(nn.Module):
    """Conv1d(3), GroupNorm, Mish with masked input and output: [B, I, F] -> [B, O, F]."""

    def __init__(self, channels_in: int, channels_out: int, reference_padding: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels_in, channels_out, 3, padding=1)
        self.norm = FrameGroupNorm(NORM_GROUPS, channels_out, reference_padding)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [B, I, F], mask [B, 1, F] bool -> [B, O, F]."""
        return F.mish(self.norm(self.conv(x * mask), mask)) * mask


class ResidualBlock(nn.Module):
    """Two convolution blocks with the time embedding added between them, and a 1x1 shortcut."""

    def __init__(self, channels_in: int, channels_out: int, time_width: int, reference_padding: bool) -> None:
        super().__init__()
        self.time = nn.Linear(time_width, channels_out)
        self.block1 = ConvBlock(channels_in, channels_out, reference_padding)
        self.block2 = ConvBlock(channels_out, channels_out, reference_padding)
        self.shortcut = nn.Conv1d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, mask: Tensor, time: Tensor) -> Tensor:
        """x [B, I, F], mask [B, 1, F] bool, time [B, W] -> [B, O, F]."""
        hidden = self.block1(x, mask) + self.time(F.mish(time))[:, :, None]
        return self.block2(hidden, mask) + self.shortcut(x * mask)


class Attention(nn.Module):
    """Multi-head self-attention without positions; the inner width is heads * head_width."""

    def __init__(self, width: int, heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, heads * head_width, bias=False)
        self.key = nn.Linear(width, heads * head_width, bias=False)
        self.value = nn.Linear(width, heads * head_width, bias=False)
        self.output = nn.Linear(heads * head_width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """x [B, F, D], keys [B, 1, 1, F] bool with at least one True per row -> [B, F, D]."""
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=keys)
        return self.dropout(self.output(mixed.transpose(1, 2).flatten(2)))


class TransformerBlock(nn.Module):
    """Pre-norm attention and a GELU feed-forward layer of four times the width."""

    def __init__(self, width: int, config: EstimatorConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, config.heads, config.head_width, config.dropout)
        self.norm2 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """x [B, F, D], keys [B, 1, 1, F] bool -> [B, F, D]."""
        x = x + self.attention(self.norm1(x), keys)
        return x + self.contract(self.dropout(F.gelu(self.expand(self.norm2(x)))))


class Stage(nn.Module):
    """One residual block followed by transformer blocks, at one frame rate."""

    def __init__(
        self, channels_in: int, channels_out: int, time_width: int, config: EstimatorConfig, reference_padding: bool
    ) -> None:
        super().__init__()
        self.residual = ResidualBlock(channels_in, channels_out, time_width, reference_padding)
        self.blocks = nn.ModuleList(TransformerBlock(channels_out, config) for _ in range(config.blocks))

    def forward(self, x: Tensor, mask: Tensor, time: Tensor) -> Tensor:
        """x [B, I, F], mask [B, 1, F] bool, time [B, W] -> [B, O, F]."""
        x = self.residual(x, mask, time).transpose(1, 2)
        # An utterance without any frame (batches padded to a fixed size) attends to its padding: finite, masked later.
        keys = (mask | ~mask.any(dim=-1, keepdim=True))[:, None]
        for block in self.blocks:
            x = block(x, keys)
        return x.transpose(1, 2)


class HalfRate(nn.Module):
    """Every second frame, by a convolution: [B, D, F] -> [B, D, ceil(F / 2)]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, F] -> [B, D, ceil(F / 2)]."""
        return self.conv(x)


class DoubleRate(nn.Module):
    """Twice as many frames, by a transposed convolution: [B, D, F] -> [B, D, 2 F]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(width, width, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, F] -> [B, D, 2 F]."""
        return self.conv(x)


class Estimator(nn.Module):
    """Velocity of the mel at time t, given what is known about the utterance (Matcha-TTS's U-Net).

    Levels 0..n-1 with widths `channels`: between two levels the frame rate is halved (stride-2 convolution) on the way
    down and doubled (transposed convolution) on the way up; the lowest level is crossed by `mid_blocks` stages.
    """

    def __init__(self, config: EstimatorConfig, mel_bins: int, reference_padding: bool = False) -> None:
        super().__init__()
        channels, levels = config.channels, len(config.channels)
        time_width = 4 * channels[0]
        inputs = 4 * mel_bins  # x, mu, speaker, condition
        self.time = TimeEmbedding(inputs, time_width)

        def stage(channels_in: int, channels_out: int) -> Stage:
            return Stage(channels_in, channels_out, time_width, config, reference_padding)

        self.down = nn.ModuleList(stage(*pair) for pair in zip((inputs, *channels), channels, strict=False))
        self.shrink = nn.ModuleList(
            HalfRate(width) if level < levels - 1 else nn.Conv1d(width, width, 3, padding=1)
            for level, width in enumerate(channels)
        )
        self.middle = nn.ModuleList(stage(channels[-1], channels[-1]) for _ in range(config.mid_blocks))
        # Going up, a level reads its own width twice (rising + skip) and writes the width of the level above.
        above = (channels[0], *channels)
        self.up = nn.ModuleList(stage(2 * channels[level], above[level]) for level in reversed(range(levels)))
        self.grow = nn.ModuleList(
            DoubleRate(above[level]) if level else nn.Conv1d(above[0], above[0], 3, padding=1)
            for level in reversed(range(levels))
        )
        self.final = ConvBlock(channels[0], channels[0], reference_padding)
        self.output = nn.Conv1d(channels[0], mel_bins, 1)
        self._initialise()

    def _initialise(self) -> None:
        """Kaiming normal weights and zero biases for Conv1d and Linear; transposed convolutions keep the default."""
        for module in self.modules():
            if isinstance(module, (nn.Conv1d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, mask: Tensor, mu: Tensor, t: Tensor, speaker: Tensor, condition: Tensor) -> Tensor:
        """Predict the velocity.

        Args:
            x: [B, M, F] the point on the path.
            mask: [B, F] bool, True = valid frame.
            mu: [B, M, F] the regulated token encoding.
            t: [B] time in [0, 1].
            speaker: [B, M] the projected speaker vector.
            condition: [B, M, F] known mel frames (the prompt), zero elsewhere.

        Returns:
            [B, M, F], zero in padded frames.
        """
        time = self.time(t)
        hidden = torch.cat([x, mu, speaker[:, :, None].expand_as(x), condition], dim=1)
        masks = [mask[:, None]]
        skips = []
        for level, (stage, shrink) in enumerate(zip(self.down, self.shrink, strict=True)):
            if level:
                masks.append(masks[-1][:, :, ::2])
            hidden = stage(hidden, masks[-1], time)
            skips.append(hidden)
            hidden = shrink(hidden * masks[-1])
        for stage in self.middle:
            hidden = stage(hidden, masks[-1], time)
        for stage, grow in zip(self.up, self.grow, strict=True):
            skip, level_mask = skips.pop(), masks.pop()
            # An odd number of frames comes back as one frame too many.
            hidden = torch.cat([hidden[:, :, : skip.shape[2]], skip], dim=1)
            hidden = grow(stage(hidden, level_mask, time) * level_mask)
        frames = mask[:, None]
        return self.output(self.final(hidden, frames) * frames) * frames

    def field(self, mask: Tensor, mu: Tensor, speaker: Tensor, condition: Tensor, times: Tensor) -> VelocityField:
        """The velocity along one path, as a function of the point, the time's number and whether to guide.

        Args:
            mask: [B, F] bool, True = valid frame.
            mu: [B, M, F].
            speaker: [B, M].
            condition: [B, M, F].
            times: [K], all times at which the velocity will be asked for.
        """
        told = (mask, mu, speaker, condition)
        both = (torch.cat([mask, mask]), *(torch.cat([part, torch.zeros_like(part)]) for part in told[1:]))

        def velocity(x: Tensor, index: int, guided: bool) -> Tensor:
            point = torch.cat([x, x]) if guided else x
            frames, *known = both if guided else told
            return self(point, frames, known[0], times[index].expand(point.shape[0]), *known[1:])

        return velocity
