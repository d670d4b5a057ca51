"""A causal encoder position by position, for many sequences of different lengths at once.

All sequences share one time axis and end at the same column of it, wherever they began:

    row 0   . . . . p p p p p t t t|        p prefix, t decoded positions, . nothing of this row
    row 1   p p p p p p p t t t t t|        the newest position of every row stands at the end
    row 2   . . . . . . . . . p p p|        a row that has just come in: its prefix was written in front of the end

So the distance from the newest position to a column is the same for all rows, and the projected relative positions
(`RelativeAttention`) are one table that is read once for all of them. A row that leaves hands its place to the last.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosytune.models.layers.attention import RelativeAttention, align_offsets, sinusoid_table
from cosytune.models.layers.encoder import EncoderLayer, RelativeEncoder
from cosytune.models.layers.packed import Activation, PackedLinear

__all__ = ["DecodingCache", "StepwiseEncoder"]

FIRST_CAPACITY = 512
"""Columns that a cache has room for at first; it doubles from there."""


class DecodingCache:
    """Keys and values of rows that advance together, [layer, row, H, column, D / H] in buffers made beforehand.

    Attributes:
        starts: first column of each row; its length is the number of rows.
        end: column behind the newest position, the same for all rows.
    """

    def __init__(self, layers: int, rows: int, heads: int, width: int, like: Tensor, capacity: int) -> None:
        """Room for `rows` rows of `capacity` columns; both grow when they must."""
        self.starts: list[int] = []
        self.end = 0
        shape = (layers, rows, heads, capacity, width)
        self.keys = like.new_empty(shape)
        # Zeros, because a column that a row does not own has weight 0 and 0 times whatever memory held may be NaN.
        self.values = like.new_zeros(shape)

    @property
    def first(self) -> int:
        """First column that belongs to any row."""
        return min(self.starts, default=self.end)

    def make_room(self, rows: int, before: int, after: int) -> None:
        """See to it that `rows` rows have `before` columns in front of the end and `after` behind it."""
        live = self.end - self.first
        width = max(live, before)
        if rows <= self.keys.shape[1] and width <= self.end and self.end + after <= self.keys.shape[3]:
            return
        capacity = self.keys.shape[3]
        # A third more than is needed: at most three columns are moved to the front per position, a step reads them all.
        while 3 * capacity < 4 * (width + after):
            capacity *= 2
        slots = max(rows, self.keys.shape[1])
        self.keys = self._moved(self.keys, slots, capacity, live, width)
        self.values = self._moved(self.values, slots, capacity, live, width)
        self.starts = [start - self.end + width for start in self.starts]
        self.end = width

    def _moved(self, old: Tensor, slots: int, capacity: int, live: int, end: int) -> Tensor:
        """The buffer, or a larger one, with the live columns right in front of `end`."""
        rows = len(self.starts)
        kept = old[:, :rows, :, self.end - live : self.end]
        if (slots, capacity) == (old.shape[1], old.shape[3]):
            new, kept = old, kept.clone()
        else:
            new = old.new_zeros(old.shape[0], slots, old.shape[2], capacity, old.shape[4])
        new[:, :rows, :, end - live : end] = kept
        return new

    def drop(self, row: int) -> None:
        """Forget a row; the last row takes its number."""
        last = len(self.starts) - 1
        if row != last:
            columns = slice(self.starts[last], self.end)
            for buffer in (self.keys, self.values):
                buffer[:, row, :, columns] = buffer[:, last, :, columns]
            self.starts[row] = self.starts[last]
        self.starts.pop()


@dataclass(frozen=True)
class _Layer:
    """One `EncoderLayer` as decoding wants it; everything but the products is float32.

    Attributes:
        qkv: queries (scaled, content bias added), keys and values in one product.
        to_position: [H, D / H], what turns a query for content into one for positions.
    """

    attention_norm: nn.LayerNorm
    qkv: PackedLinear
    to_position: Tensor
    output: PackedLinear
    feed_forward_norm: nn.LayerNorm
    up: PackedLinear
    down: PackedLinear


class StepwiseEncoder:
    """A causal `RelativeEncoder` that remembers keys and values; a copy of its weights, for decoding only.

    Neither changes with the other: after a training step, make a new one.
    The products are computed in `dtype`, norms, softmax and the residual stream in float32.
    """

    def __init__(self, encoder: RelativeEncoder, dtype: torch.dtype = torch.float32) -> None:
        """Copy and lay out the weights of `encoder`.

        Raises:
            ValueError: this encoder looks ahead, so what it has said would change with what comes.
        """
        config = encoder.config
        if config.chunk != 1:
            raise ValueError(f"only a causal encoder (chunk 1) runs step by step, this one has chunk {config.chunk}")
        self.config = config
        self.dtype = dtype
        layers = [cast(EncoderLayer, layer) for layer in encoder.layers]
        activation: Activation = "relu" if config.activation == "relu" else "swish"
        self._input = PackedLinear(encoder.input.linear.weight, encoder.input.linear.bias, dtype)
        self._input_norm, self._norm = _copied(encoder.input.norm), _copied(encoder.norm)
        self._scale = encoder.input.scale
        self._layers = [_prepared(layer, dtype, activation) for layer in layers]
        self._position_weights = [layer.attention.position.weight.detach().clone() for layer in layers]
        self._positions = self._projected(FIRST_CAPACITY)

    def new_cache(self, rows: int = 1) -> DecodingCache:
        """An empty state with room for `rows` rows of `FIRST_CAPACITY` positions; both grow when they must."""
        heads, width = self.config.heads, self.config.width // self.config.heads
        return DecodingCache(len(self._layers), rows, heads, width, self._positions, FIRST_CAPACITY)

    @torch.no_grad()
    def enter(self, prefixes: Sequence[Tensor], cache: DecodingCache) -> Tensor:
        """Take new rows in, behind the rows that are there.

        Args:
            prefixes: [P_i, input] of each new row, P_i at least 1.
            cache: of this encoder; changed.

        Returns:
            [n, D] float32, what comes out at the last position of each new row.
        """
        size, have = max(len(prefix) for prefix in prefixes), len(cache.starts)
        rows = slice(have, have + len(prefixes))
        cache.make_room(rows.stop, before=size, after=1)
        begin = cache.end - size
        padding = torch.tensor([size - len(prefix) for prefix in prefixes], device=prefixes[0].device)
        x = torch.stack([F.pad(prefix, (0, 0, size - len(prefix), 0)) for prefix in prefixes])
        x = self._embedded(x)
        place = torch.arange(size, device=x.device)
        visible = (place <= place[:, None]) & (place >= padding[:, None, None])  # [n, P, P]
        self._reach(size)
        for index, layer in enumerate(self._layers):
            query, key, value = self._project(layer, x)
            cache.keys[index, rows, :, begin : cache.end] = key
            cache.values[index, rows, :, begin : cache.end] = value
            x = x + _prefix_attention(layer, query, key, value, self._positions[index][:, -size:], visible[:, None])
            x = x + _feed_forward(layer, x)
        cache.starts += [begin + int(skipped) for skipped in padding]
        return self._norm(x[:, -1])

    @torch.no_grad()
    def step(self, x: Tensor, cache: DecodingCache) -> Tensor:
        """One more position for every row.

        Args:
            x: [R, input], one vector for each row of the cache.
            cache: of this encoder; changed.

        Returns:
            [R, D] float32.
        """
        rows = len(cache.starts)
        cache.make_room(rows, before=0, after=1)
        first, end = cache.first, cache.end + 1
        self._reach(end - first)
        hidden = None
        if any(start != first for start in cache.starts):
            starts = torch.tensor(cache.starts, device=x.device)[:, None]
            hidden = (torch.arange(first, end, device=x.device) < starts)[:, None]  # [R, 1, L]
        x = self._embedded(x)
        # Cut for all layers at once: with one row, naming a part of a buffer costs as much as a small product.
        seen = (buffer[:, :rows, :, first:end].flatten(1, 2) for buffer in (cache.keys, cache.values))
        seen_keys, seen_values = (buffer.unbind() for buffer in seen)  # [R H, L, D / H] of each layer
        new_keys, new_values = (buffer[:, :rows, :, cache.end].unbind() for buffer in (cache.keys, cache.values))
        positions = self._positions[:, :, first - end :].unbind()
        for index, layer in enumerate(self._layers):
            projected = layer.qkv(layer.attention_norm(x).to(self.dtype))
            query, key, value = projected.unflatten(1, (3, self.config.heads, -1)).unbind(1)
            new_keys[index].copy_(key)
            new_values[index].copy_(value)
            attended = _step_attention(layer, query, seen_keys[index], seen_values[index], positions[index], hidden)
            x = x + attended
            x = x + _feed_forward(layer, x)
        cache.end = end
        return self._norm(x)

    def _embedded(self, x: Tensor) -> Tensor:
        x = self._input_norm(self._input(x.to(self.dtype)).float())
        return (x.relu() if self.config.input_relu else x) * self._scale

    def _project(self, layer: _Layer, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [R, H, n, D / H] of x [R, n, D]."""
        projected = layer.qkv(layer.attention_norm(x).to(self.dtype))
        query, key, value = projected.unflatten(-1, (3, self.config.heads, -1)).permute(2, 0, 3, 1, 4)
        return query, key, value

    def _reach(self, columns: int) -> None:
        """Project the sinusoids of more offsets if there are fewer than `columns`."""
        have = self._positions.shape[2]
        if columns > have:
            self._positions = self._projected(max(columns, 2 * have))

    @torch.no_grad()
    def _projected(self, offsets: int) -> Tensor:
        """W PE of the offsets from the largest down to 0, [layer, H, offsets, D / H]: they depend on weights only."""
        table = sinusoid_table(offsets - 1, 0, self.config.width, self._position_weights[0])
        projected = torch.stack([F.linear(table, weight).to(self.dtype) for weight in self._position_weights])
        return projected.unflatten(-1, (self.config.heads, -1)).transpose(1, 2).contiguous()


@torch.no_grad()
def _prepared(layer: EncoderLayer, dtype: torch.dtype, activation: Activation) -> _Layer:
    attention: RelativeAttention = layer.attention
    # The scale is a part of the query's weights, the content bias a part of its bias.
    scale = (attention.query.weight.shape[0] // attention.heads) ** -0.5
    content, position = attention.content_bias, attention.position_bias
    weight = torch.cat((attention.query.weight * scale, attention.key.weight, attention.value.weight))
    bias = torch.cat(((attention.query.bias + content.flatten()) * scale, attention.key.bias, attention.value.bias))
    up, down = layer.feed_forward.up, layer.feed_forward.down
    return _Layer(
        attention_norm=_copied(layer.attention_norm),
        qkv=PackedLinear(weight, bias, dtype),
        to_position=((position - content) * scale).to(dtype),
        output=PackedLinear(attention.output.weight, attention.output.bias, dtype),
        feed_forward_norm=_copied(layer.feed_forward_norm),
        up=PackedLinear(up.weight, up.bias, dtype, activation),
        down=PackedLinear(down.weight, down.bias, dtype),
    )


def _copied(norm: nn.LayerNorm) -> nn.LayerNorm:
    return copy.deepcopy(norm).float()


def _feed_forward(layer: _Layer, x: Tensor) -> Tensor:
    return layer.down(layer.up(layer.feed_forward_norm(x).to(layer.to_position.dtype)))


def _step_attention(
    layer: _Layer, query: Tensor, keys: Tensor, values: Tensor, positions: Tensor, hidden: Tensor | None
) -> Tensor:
    """Attention of one position per row: query [R, H, d], keys and values [R H, L, d], positions [H, L, d]."""
    (rows, heads, width), columns = query.shape, keys.shape[1]
    # Keys times query, not query times keys: that way round a product with one vector is a plain walk over the keys
    # (16 rows x 16 heads x 300 columns in bfloat16 on two cores: 26 ms for 14 layers, the other way 54 ms).
    content = torch.bmm(keys, query.flatten(0, 1).unsqueeze(-1)).view(rows, heads, columns)
    by_offset = torch.bmm(positions, (query + layer.to_position).permute(1, 2, 0))  # [H, L, R]
    scores = content + by_offset.permute(2, 0, 1)
    if hidden is not None:
        scores = scores.masked_fill(hidden, -torch.inf)
    # Inside, softmax computes in float32 whatever it is given.
    weights = F.softmax(scores, dim=-1)
    return layer.output(torch.bmm(weights.reshape(rows * heads, 1, columns), values).view(rows, heads * width))


def _prefix_attention(
    layer: _Layer, query: Tensor, key: Tensor, value: Tensor, positions: Tensor, visible: Tensor
) -> Tensor:
    """Attention inside prefixes: query, key, value [n, H, P, d], positions [H, P, d], visible [n, 1, P, P]."""
    size = key.shape[2]
    by_offset = torch.einsum("bhqd,hkd->bhqk", query + layer.to_position[:, None], positions)
    scores = torch.matmul(query, key.transpose(-2, -1)) + align_offsets(by_offset, size)
    # The lowest finite number, not -inf: a padded position sees nothing and must not become not-a-number.
    scores = scores.float().masked_fill(~visible, torch.finfo(torch.float32).min)
    weights = F.softmax(scores, dim=-1).to(value.dtype)
    return layer.output(torch.matmul(weights, value).transpose(1, 2).flatten(2))
