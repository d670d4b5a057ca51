"""Pre-norm transformer encoder with relative positions, bidirectional or causal."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cosytune.models.layers.attention import RelativeAttention, sinusoid_table
from cosytune.models.layers.config import PartConfig
from cosytune.models.layers.dropout import Dropout
from cosytune.models.layers.masks import chunk_mask

__all__ = ["EncoderConfig", "RelativeEncoder"]

LAYER_NORM_EPS = 1e-12
"""Inside the layers; the norms of the input and of the output keep 1e-5."""


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


class InputLayer(nn.Module):
    """Linear, layer norm, optional ReLU, then times sqrt(D)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.input, config.width)
        self.norm = nn.LayerNorm(config.width, eps=1e-5)
        self.relu = config.input_relu
        self.scale = math.sqrt(config.width)
        self.dropout = Dropout(config.dropout)

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
        self.dropout = Dropout(config.dropout)
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
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, table: Tensor, visible: Tensor | None) -> Tensor:
        """[B, T, D] -> [B, T, D]; table and visible as in `RelativeAttention.forward`."""
        x = x + self.dropout(self.attention(self.attention_norm(x), table, visible))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class RelativeEncoder(nn.Module):
    """Stack of pre-norm layers with relative attention and a final layer norm."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.input = InputLayer(config)
        self.position_dropout = Dropout(config.position_dropout)
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

    def _visible(self, size: int, mask: Tensor | None, device: torch.device) -> Tensor | None:
        chunk = self.config.chunk
        if mask is None:
            return chunk_mask(size, chunk, device) if chunk else None
        if not chunk:
            return mask[:, None, None, :]
        return mask[:, None, None, :] & chunk_mask(size, chunk, device)
