"""Pre-norm transformer encoder with relative positions, bidirectional or causal, whole or step by step."""

from __future__ import annotations

import math
from typing import Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cosytune.models.layers.attention import RelativeAttention, sinusoid_table
from cosytune.models.layers.config import PartConfig
from cosytune.models.layers.masks import chunk_mask

__all__ = ["EncoderCache", "EncoderConfig", "RelativeEncoder"]

LAYER_NORM_EPS = 1e-12
"""Inside the layers; the norms of the input and of the output keep 1e-5."""

FIRST_CAPACITY = 256
"""Positions that a cache makes room for at first; it doubles from there."""


class EncoderConfig(PartConfig):
    """Sizes of a `RelativeEncoder`.

    Attributes:
        input: width of the vectors that come in.
        width: width D of the layers and of the output.
        heads: attention heads H, a divisor of the width.
        feed_forward: hidden width of the feed-forward parts.
        layers: number of layers.
        activation: of the feed-forward parts.
        input_relu: a ReLU after the input's layer norm.
        chunk: 0 sees everything, 1 is causal, c sees the past and its own block of c positions.
        dropout: on the input, inside the feed-forward parts and on what each residual branch adds.
        position_dropout: on the scaled input and on the sinusoids.
        attention_dropout: on the attention weights.
    """

    input: int = Field(ge=1)
    width: int = Field(ge=2)
    heads: int = Field(ge=1)
    feed_forward: int = Field(ge=1)
    layers: int = Field(ge=1)
    activation: Literal["silu", "relu"] = "silu"
    input_relu: bool = False
    chunk: int = Field(default=0, ge=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    position_dropout: float = Field(default=0.1, ge=0, lt=1)
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> EncoderConfig:
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"width {self.width} must be even and a multiple of heads ({self.heads})")
        return self


class LayerCache:
    """What one layer remembers: keys, values [B, H, capacity, D / H] and projected positions [H, capacity, D / H]."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None
        self.positions: Tensor | None = None

    def append(self, key: Tensor, value: Tensor, start: int, capacity: int) -> tuple[Tensor, Tensor]:
        """Write [B, H, n, D / H] at position `start` and return views of everything so far."""
        self.keys = _with_room(self.keys, key, start, capacity)
        self.values = _with_room(self.values, value, start, capacity)
        end = start + key.shape[-2]
        self.keys[..., start:end, :] = key
        self.values[..., start:end, :] = value
        return self.keys[..., :end, :], self.values[..., :end, :]


class EncoderCache:
    """The state of one step-by-step run of a causal encoder; rows of a batch advance together.

    Attributes:
        length: positions seen so far.
        capacity: positions that fit before the buffers grow (they double).
    """

    def __init__(self, layers: int) -> None:
        self.length = 0
        self.capacity = 0
        self.layers = [LayerCache() for _ in range(layers)]


def _with_room(buffer: Tensor | None, new: Tensor, used: int, capacity: int) -> Tensor:
    if buffer is not None and buffer.shape[-2] >= capacity:
        return buffer
    larger = new.new_empty(*new.shape[:-2], capacity, new.shape[-1])
    if buffer is not None:
        larger[..., :used, :] = buffer[..., :used, :]
    return larger


class InputLayer(nn.Module):
    """Linear, layer norm, optional ReLU, then times sqrt(D)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.input, config.width)
        self.norm = nn.LayerNorm(config.width, eps=1e-5)
        self.relu = config.input_relu
        self.scale = math.sqrt(config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, input] -> [B, T, D]."""
        x = self.dropout(self.norm(self.linear(x)))
        if self.relu:
            x = x.relu()
        return x * self.scale


class FeedForward(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, config.feed_forward)
        self.activation = nn.SiLU() if config.activation == "silu" else nn.ReLU()
        self.dropout = nn.Dropout(config.dropout)
        self.down = nn.Linear(config.feed_forward, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        return self.down(self.dropout(self.activation(self.up(x))))


class EncoderLayer(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)
        self.attention = RelativeAttention(config.width, config.heads, config.attention_dropout)
        self.feed_forward_norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)
        self.feed_forward = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, table: Tensor, visible: Tensor | None) -> Tensor:
        """[B, T, D] -> [B, T, D]; table and visible as in `RelativeAttention.forward`."""
        x = x + self.dropout(self.attention(self.attention_norm(x), table, visible))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))

    def forward_cached(self, x: Tensor, slot: LayerCache, cache: EncoderCache, visible: Tensor | None) -> Tensor:
        """[B, n, D] -> [B, n, D] after the `cache.length` positions that the slot remembers."""
        query, key, value = self.attention.project(self.attention_norm(x))
        key, value = slot.append(key, value, cache.length, cache.capacity)
        assert slot.positions is not None  # the encoder made room before it called its layers
        positions = slot.positions[:, cache.capacity - key.shape[-2] :]
        x = x + self.dropout(self.attention.attend(query, key, value, positions, visible))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class RelativeEncoder(nn.Module):
    """Stack of pre-norm layers with relative attention and a final layer norm."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.input = InputLayer(config)
        self.position_dropout = nn.Dropout(config.position_dropout)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, eps=1e-5)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode whole sequences.

        Args:
            x: [B, T, input].
            mask: bool [B, T], True = valid; None where nothing is padded. Padded positions are never attended to; what
                comes out at them is meaningless.

        Returns:
            [B, T, D].
        """
        size = x.shape[1]
        chunk = min(self.config.chunk, size)
        look_ahead = chunk - 1 if chunk else size - 1
        x = self.position_dropout(self.input(x))
        table = self.position_dropout(sinusoid_table(size - 1, -look_ahead, self.config.width, x))
        visible = self._visible(size, mask, x.device)
        for layer in self.layers:
            x = layer(x, table, visible)
        return self.norm(x)

    def new_cache(self) -> EncoderCache:
        """An empty state for `forward_cached`.

        Raises:
            ValueError: this encoder looks ahead, so what it has said would change with what comes.
        """
        if self.config.chunk != 1:
            raise ValueError(
                f"only a causal encoder (chunk 1) runs step by step, this one has chunk {self.config.chunk}"
            )
        return EncoderCache(len(self.layers))

    @torch.no_grad()
    def forward_cached(self, x: Tensor, cache: EncoderCache) -> tuple[Tensor, EncoderCache]:
        """Encode the next n positions after those in the cache; equals `forward` over everything so far.

        The cache is written in place (no gradients flow) and returned.

        Args:
            x: [B, n, input].
            cache: from `new_cache`, used by this encoder only.

        Returns:
            [B, n, D] and the cache.
        """
        count = x.shape[1]
        end = cache.length + count
        x = self.position_dropout(self.input(x))
        self._make_room(cache, end, x)
        visible = None
        if count > 1:
            ones = torch.ones(count, end, dtype=torch.bool, device=x.device)
            visible = ones.tril(cache.length)
        for layer, slot in zip(self._stack(), cache.layers, strict=True):
            x = layer.forward_cached(x, slot, cache, visible)
        cache.length = end
        return self.norm(x), cache

    def _make_room(self, cache: EncoderCache, end: int, x: Tensor) -> None:
        # W PE(k) does not depend on the utterance: each layer projects an offset once per run, largest offset first, so
        # that the offsets of any length are the tail of what is there.
        if end <= cache.capacity:
            return
        capacity = max(FIRST_CAPACITY, 2 * cache.capacity, end)
        table = sinusoid_table(capacity - 1, cache.capacity, self.config.width, x)
        for layer, slot in zip(self._stack(), cache.layers, strict=True):
            new = layer.attention.project_positions(table)
            slot.positions = new if slot.positions is None else torch.cat((new, slot.positions), dim=1)
        cache.capacity = capacity

    def _stack(self) -> list[EncoderLayer]:
        return [cast(EncoderLayer, layer) for layer in self.layers]

    def _visible(self, size: int, mask: Tensor | None, device: torch.device) -> Tensor | None:
        chunk = self.config.chunk
        if mask is None:
            return chunk_mask(size, chunk, device) if chunk else None
        if not chunk:
            return mask[:, None, None, :]
        return mask[:, None, None, :] & chunk_mask(size, chunk, device)
