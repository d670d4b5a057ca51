"""The weights of a trained vocoder as speaking wants them: norms folded, Snake's scales moved into convolutions."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn

from cosytune.models.vocoder.filters import Filter, upsampling_weight
from cosytune.models.vocoder.model import ResidualBlock, Snake, Vocoder

__all__ = ["BlockWeights", "StageWeights", "StepWeights", "VocoderWeights"]

SMALLEST_ALPHA = 1e-6
"""Snake with a smaller alpha is computed with this one: x + alpha x^2 then differs from x by a millionth of x^2."""


class StepWeights:
    """One dilation of a residual block, both convolutions with their Snakes.

    With u = alpha x, x + sin^2(alpha x) / alpha = (u + sin^2 u) / alpha: the convolution before a Snake makes u and the
    one after it divides, at no cost. Only the first Snake of a step still multiplies, because its input is also added
    to the output.
    """

    def __init__(self, block: ResidualBlock, index: int, dtype: torch.dtype) -> None:
        first, second = (cast(nn.Conv1d, convs[index]) for convs in (block.convs1, block.convs2))
        outer, inner = (_alpha(snakes[index]) for snakes in (block.activations1, block.activations2))
        bias = cast(Tensor, first.bias).float() * inner
        scaled = first.weight.float() * inner.view(-1, 1, 1) / outer.view(1, -1, 1)
        self.alpha = outer
        self.first = Filter(scaled, bias, dtype, dilation=first.dilation[0])
        self.second = Filter(second.weight.float() / inner.view(1, -1, 1), second.bias, dtype)


class BlockWeights:
    """A residual block: its dilations in order."""

    def __init__(self, block: nn.Module, dtype: torch.dtype) -> None:
        block = cast(ResidualBlock, block)
        self.steps = [StepWeights(block, index, dtype) for index in range(len(block.convs1))]


class StageWeights:
    """One upsampling and what follows it."""

    def __init__(self, vocoder: Vocoder, stage: int, dtype: torch.dtype) -> None:
        up, down = cast(nn.ConvTranspose1d, vocoder.ups[stage]), cast(nn.Conv1d, vocoder.source_downs[stage])
        self.rate, self.trim = up.stride[0], cast(int, up.padding[0])
        bias = cast(Tensor, up.bias).repeat(self.rate)
        self.up = Filter(upsampling_weight(up.weight, self.rate), bias, dtype)
        self.down = Filter(down.weight, down.bias, dtype, stride=down.stride[0])
        self.down_padding = cast(int, down.padding[0])
        self.refine = BlockWeights(vocoder.source_resblocks[stage], dtype)
        parallel = len(vocoder.config.resblock_kernels)
        blocks = list(vocoder.resblocks)[stage * parallel : (stage + 1) * parallel]
        self.blocks = [BlockWeights(block, dtype) for block in blocks]


class VocoderWeights:
    """All of them. F0 predictor, spectra and the last convolution are float32, the others of the given type."""

    def __init__(self, vocoder: Vocoder, dtype: torch.dtype) -> None:
        config = vocoder.config
        self.f0 = [
            Filter(layer.weight, layer.bias, torch.float32)
            for layer in vocoder.f0_predictor.layers
            if isinstance(layer, nn.Conv1d)
        ]
        self.f0_output = deepcopy(vocoder.f0_predictor.output).to(torch.float32)
        self.pre = Filter(vocoder.conv_pre.weight, vocoder.conv_pre.bias, dtype)
        self.stages = [StageWeights(vocoder, stage, dtype) for stage in range(len(config.upsample_rates))]
        post = cast(nn.Conv1d, vocoder.conv_post)
        self.post = Filter(post.weight, post.bias, torch.float32)
        window = vocoder.window.to(torch.float32)
        self.analysis = _analysis_basis(window)
        self.synthesis = Filter(upsampling_weight(_synthesis_weight(window), config.istft_hop), None, torch.float32)


def _alpha(snake: nn.Module) -> Tensor:
    alpha = cast(Snake, snake).alpha.detach().float()
    return torch.where(alpha.abs() < SMALLEST_ALPHA, torch.full_like(alpha, SMALLEST_ALPHA), alpha)


def _angles(window: Tensor) -> Tensor:
    """2 pi k n / n_fft as float64 [n_fft, bins]."""
    size = len(window)
    bins = torch.arange(size // 2 + 1, device=window.device)
    samples = torch.arange(size, device=window.device)
    # Reduced in integers first: cosines of large angles would lose digits.
    return (samples.unsqueeze(1) * bins % size).to(torch.float64) * (2 * math.pi / size)


def _analysis_basis(window: Tensor) -> Tensor:
    """The windowed Fourier basis [n_fft, n_fft + 2], which makes real and imaginary parts of a frame."""
    angles = _angles(window)
    basis = torch.cat((angles.cos(), -angles.sin()), dim=1)
    return (basis * window.unsqueeze(1)).to(torch.float32)


def _synthesis_weight(window: Tensor) -> Tensor:
    """The inverse transform as a transposed convolution [n_fft + 3, 2, n_fft].

    Inputs: real parts, imaginary parts, and a one wherever there is a frame. Outputs: the overlapping windowed frames,
    and the overlapping squared windows by which they are to be divided.
    """
    size, angles = len(window), _angles(window)
    weights = torch.full((size // 2 + 1,), 2.0, dtype=torch.float64, device=window.device)
    weights[0] = weights[-1] = 1.0  # the other bins stand for their mirror images too
    frame = torch.cat((angles.cos() * weights, -angles.sin() * weights), dim=1).T * window / size
    result = torch.zeros(size + 3, 2, size, device=window.device)
    result[:-1, 0] = frame
    result[-1, 1] = window.square()
    return result
