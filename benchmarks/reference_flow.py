"""The flow as the reference computes it, with our weights: the baseline that `flow.py` measures against.

Written from the specification (section 6), as data flows there: one utterance, a batch of 2 for guidance filled anew at
every step, inputs concatenated at every step, additive masks [2, 1, T, T] of 0 and -1e10 for every attention although
nothing is padded, masks multiplied before and after every convolution, an encoder that projects the positions of all
2 T - 1 offsets in every layer, and plain torch layers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cosytune.models.flow.model import Flow

__all__ = ["reference_synthesise"]

STEPS = 10
EDGE_TOKENS = 20
HIDDEN = -1.0e10


@torch.inference_mode()
def reference_synthesise(
    flow: Flow, tokens: Tensor, prompt_tokens: Tensor, prompt_mel: Tensor, speaker: Tensor, frames: int, ratio: float,
    noise: Tensor,
) -> Tensor:  # fmt: skip
    """Mel [1, M, frames] of one utterance; arguments as in `cosytune.models.flow.synthesise`, noise [1, M, F]."""
    encoded = encode(flow, torch.cat([prompt_tokens, tokens], dim=1))
    prompt, prompt_frames = prompt_tokens.shape[1], prompt_mel.shape[2]
    mu = regulate(flow, encoded[:, :prompt], encoded[:, prompt:], prompt_frames, frames, ratio)
    condition = torch.zeros_like(mu)
    condition[:, :, :prompt_frames] = prompt_mel
    voice = flow.speaker(F.normalize(speaker, dim=1))
    return solve(flow, noise, mu, voice, condition)[:, :, prompt_frames:]


def encode(flow: Flow, tokens: Tensor) -> Tensor:
    """tokens [1, T] -> [1, T, M]."""
    encoder: Any = flow.encoder
    mask = torch.ones(tokens.shape, dtype=torch.bool)
    x = flow.embedding(tokens.clamp(min=0)) * mask[:, :, None]
    width, count = encoder.config.width, tokens.shape[1]
    x = encoder.input.norm(encoder.input.linear(x)) * math.sqrt(width)
    offsets = torch.arange(count - 1, -count, -1.0)[:, None]
    angles = offsets * torch.exp(torch.arange(0, width, 2.0) * (-math.log(10_000.0) / width))
    positions = torch.zeros(1, 2 * count - 1, width)
    positions[0, :, 0::2], positions[0, :, 1::2] = angles.sin(), angles.cos()
    for layer in encoder.layers:
        x = x + relative_attention(layer.attention, layer.attention_norm(x), positions, mask)
        x = x + layer.feed_forward.down(F.silu(layer.feed_forward.up(layer.feed_forward_norm(x))))
    return flow.projection(encoder.norm(x))


def relative_attention(layer: Any, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
    """x [1, T, D], positions [1, 2 T - 1, D] -> [1, T, D]."""
    heads = layer.heads

    def split(y: Tensor) -> Tensor:
        return y.unflatten(-1, (heads, -1)).transpose(1, 2)

    query, key, value = split(layer.query(x)), split(layer.key(x)), split(layer.value(x))
    table = split(layer.position(positions))
    by_offset = torch.matmul(query + layer.position_bias[:, None], table.transpose(-2, -1))
    rows, columns = by_offset.shape[-2:]
    shifted = torch.cat([torch.zeros(*by_offset.shape[:3], 1), by_offset], dim=-1)
    shifted = shifted.view(1, heads, columns + 1, rows)[:, :, 1:].view_as(by_offset)[..., :rows]
    scores = torch.matmul(query + layer.content_bias[:, None], key.transpose(-2, -1)) + shifted
    scores = (scores / math.sqrt(query.shape[-1])).masked_fill(~mask[:, None, None], -float("inf"))
    weights = torch.softmax(scores, dim=-1).masked_fill(~mask[:, None, None], 0.0)
    return layer.output(torch.matmul(weights, value).transpose(1, 2).contiguous().flatten(2))


def regulate(flow: Flow, prompt: Tensor, speech: Tensor, prompt_frames: int, frames: int, ratio: float) -> Tensor:
    """Encoded prompt [1, T', M] and speech [1, T, M] -> mu [1, M, F]."""
    pieces = [(prompt, prompt_frames)] if prompt_frames else []
    if speech.shape[1] > 2 * EDGE_TOKENS:
        edge = int(EDGE_TOKENS * ratio)
        pieces += [
            (speech[:, :EDGE_TOKENS], edge),
            (speech[:, EDGE_TOKENS:-EDGE_TOKENS], frames - 2 * edge),
            (speech[:, -EDGE_TOKENS:], edge),
        ]
    else:
        pieces.append((speech, frames))
    x = torch.cat([F.interpolate(part.transpose(1, 2), size=size, mode="linear") for part, size in pieces], dim=2)
    *layers, output = flow.regulator.stack
    for conv, norm in zip(layers[0::3], layers[1::3], strict=True):
        x = F.mish(group_norm(norm, conv(x)))
    return output(x)


def solve(flow: Flow, noise: Tensor, mu: Tensor, speaker: Tensor, condition: Tensor) -> Tensor:
    """Ten guided Euler steps, [1, M, F]."""
    times = 1.0 - torch.cos(torch.linspace(0.0, 1.0, STEPS + 1) * 0.5 * math.pi)
    frames, bins = mu.shape[2], mu.shape[1]
    x, t, step, weight = noise, times[0], times[1] - times[0], flow.config.guidance
    # The work tensors of both halves; the second half's conditions stay zero.
    point, known, place = torch.zeros(2, bins, frames), torch.zeros(2, bins, frames), torch.zeros(2, bins, frames)
    voice, moment, mask = torch.zeros(2, bins), torch.zeros(2), torch.ones(2, 1, frames)
    for index in range(1, STEPS + 1):
        point[:], moment[:] = x, t
        known[0], voice[0], place[0] = mu[0], speaker[0], condition[0]
        told, free = velocity(flow, point, mask, known, moment, voice, place).split(1)
        x = x + step * ((1.0 + weight) * told - weight * free)
        t = t + step
        if index < STEPS:
            step = times[index + 1] - t
    return x


def velocity(flow: Flow, x: Tensor, mask: Tensor, mu: Tensor, t: Tensor, speaker: Tensor, condition: Tensor) -> Tensor:
    """The U-Net, [2, M, F] -> [2, M, F]."""
    net: Any = flow.estimator
    time = net.time(t)
    x = torch.cat([x, mu, speaker[:, :, None].expand_as(x), condition], dim=1)
    skips, masks = [], [mask]
    for stage, shrink in zip(net.down, net.shrink, strict=True):
        x = run_stage(stage, x, masks[-1], time)
        skips.append(x)
        x = shrink(x * masks[-1])
        masks.append(masks[-1][:, :, ::2])
    masks.pop()
    for stage in net.middle:
        x = run_stage(stage, x, masks[-1], time)
    for stage, grow in zip(net.up, net.grow, strict=True):
        skip, level = skips.pop(), masks.pop()
        x = torch.cat([x[:, :, : skip.shape[2]], skip], dim=1)
        x = grow(run_stage(stage, x, level, time) * level)
    return net.output(conv_block(net.final, x, mask) * mask) * mask


def run_stage(stage: Any, x: Tensor, mask: Tensor, time: Tensor) -> Tensor:
    """[2, I, F] -> [2, O, F]: residual block, then transformer blocks between two transposes."""
    residual = stage.residual
    hidden = conv_block(residual.block1, x, mask) + residual.time(F.mish(time))[:, :, None]
    x = conv_block(residual.block2, hidden, mask) + residual.shortcut(x * mask)
    x = x.transpose(1, 2).contiguous()
    # [2, 1, F] becomes one number per query and key of each row.
    hidden_keys = (1.0 - mask.repeat(1, x.shape[1], 1)) * HIDDEN
    for block in stage.blocks:
        x = x + attention(block.attention, block.norm1(x), hidden_keys)
        x = x + block.contract(F.gelu(block.expand(block.norm2(x))))
    return x.transpose(1, 2).contiguous()


def conv_block(block: Any, x: Tensor, mask: Tensor) -> Tensor:
    """[2, I, F] -> [2, O, F]."""
    return F.mish(group_norm(block.norm, block.conv(x * mask))) * mask


def group_norm(norm: Any, x: Tensor) -> Tensor:
    """torch's own, which counts padding."""
    return F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)


def attention(layer: Any, x: Tensor, bias: Tensor) -> Tensor:
    """x [2, F, D] with an additive mask [2, F, F] -> [2, F, D]."""
    query, key, value = (
        projection(x).unflatten(-1, (layer.heads, -1)).transpose(1, 2)
        for projection in (layer.query, layer.key, layer.value)
    )
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias[:, None])
    return layer.output(mixed.transpose(1, 2).flatten(2))
