"""The vocoder's two networks along time: what `Vocoder` computes at once, in the pieces that come."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from cosytune.models.vocoder.config import VocoderConfig
from cosytune.models.vocoder.model import HEAD_KERNEL, MAGNITUDE_LIMIT
from cosytune.models.vocoder.runs import Convolution, Queue, ReflectedStart, Sum, Upsampling, copy, zero_tails
from cosytune.models.vocoder.weights import BlockWeights, StageWeights, StepWeights, VocoderWeights

__all__ = ["Decoding", "PitchRun"]

LAST_SLOPE = 0.01
"""Of the LeakyReLU before the last convolution; torch's default, which the reference left as it is."""

Lengths = Sequence[int] | None


class PitchRun:
    """F0 of one utterance as its mel comes."""

    def __init__(self, weights: VocoderWeights) -> None:
        self._output = weights.f0_output
        self._layers = [
            Convolution(filter, filter.span // 2, filter.span // 2, activation=elu if index else copy)
            for index, filter in enumerate(weights.f0)
        ]

    def push(self, mel: Tensor, final: bool) -> Tensor:
        """The next frames [B, n, M] -> F0 [B, m] in Hz of the next frames that are known."""
        x = mel
        for layer in self._layers:
            x = layer.push(x, final)
        return self._output(F.elu(x)).squeeze(-1).abs()


class Decoding:
    """Mel and the excitation's spectrum to wave."""

    def __init__(self, config: VocoderConfig, weights: VocoderWeights, lengths: Lengths = None) -> None:
        """A run at its beginning; `lengths` are the mel frames of each row of a batch, if they differ."""
        self._limit = config.audio_limit
        padding = HEAD_KERNEL // 2
        self._pre = Convolution(weights.pre, padding, padding, lengths=lengths)
        self._stages = []
        for index, stage in enumerate(weights.stages):
            last = index == len(weights.stages) - 1
            lengths = None if lengths is None else [length * stage.rate + last for length in lengths]
            self._stages.append(_Stage(stage, config.leaky_slope, last, lengths))
        self._post = Convolution(
            weights.post, padding, padding, activation=partial(leaky, slope=LAST_SLOPE), lengths=lengths
        )
        self._frames, self._made = lengths, 0
        self._overlap = Upsampling(weights.synthesis, config.istft_hop, config.istft_n_fft // 2, fewer=1)

    def push(self, mel: Tensor, spectrum: Tensor, final: bool) -> Tensor:
        """The next mel frames [B, n, M] and spectra [B, f, n_fft + 2] -> the next samples that are known [B, N].

        The two need not keep pace; `final` says that both are complete.
        """
        x = self._pre.push(mel, final)
        for stage in self._stages:
            x = stage.push(x, spectrum, final)
        parts = self._parts(self._post.push(x, final))
        zero_tails(parts, self._made, self._frames)
        self._made += parts.shape[1]
        wave, envelope = self._overlap.push(parts, final).unbind(-1)
        # Beyond a row's end both are 0.
        return (wave / envelope.clamp(min=1e-11)).clamp(-self._limit, self._limit)

    @staticmethod
    def _parts(x: Tensor) -> Tensor:
        """Log magnitudes and sines' arguments [B, f, n_fft + 2] to what `weights.synthesis` takes [B, f, n_fft + 3]."""
        log_magnitude, argument = x.chunk(2, dim=-1)
        magnitude = log_magnitude.clamp(max=math.log(MAGNITUDE_LIMIT)).exp()
        phase = argument.sin()
        frame = torch.ones_like(x[..., :1])
        return torch.cat((magnitude * phase.cos(), magnitude * phase.sin(), frame), dim=-1)


class _Stage:
    def __init__(self, weights: StageWeights, slope: float, last: bool, lengths: Lengths) -> None:
        # The reflected position is put in front afterwards.
        before = None if lengths is None else [length - last for length in lengths]
        activation = partial(leaky, slope=slope)
        self._up = Upsampling(weights.up, weights.rate, weights.trim, activation=activation, lengths=before)
        self._start = ReflectedStart() if last else None
        padding = weights.down_padding
        self._down = Convolution(weights.down, padding, padding, lengths=lengths)
        self._refine = _Block(weights.refine, lengths)
        self._joined = Sum(2)
        self._blocks = [_Block(block, lengths) for block in weights.blocks]
        self._mean = Sum(len(self._blocks))

    def push(self, x: Tensor, spectrum: Tensor, final: bool) -> Tensor:
        x = self._up.push(x, final).to(torch.float32)
        if self._start is not None:
            x = self._start.push(x)
        refined = self._refine.push(self._down.push(spectrum, final).to(torch.float32), final)
        x = self._joined.push(x, refined)
        total = self._mean.push(*(block.push(x, final) for block in self._blocks))
        return total.div_(len(self._blocks))


class _Block:
    def __init__(self, weights: BlockWeights, lengths: Lengths) -> None:
        self._steps = [_Step(step, lengths) for step in weights.steps]

    def push(self, x: Tensor, final: bool) -> Tensor:
        for step in self._steps:
            x = step.push(x, final)
        return x


class _Step:
    """x + conv(snake(dilated_conv(snake(x))))."""

    def __init__(self, weights: StepWeights, lengths: Lengths) -> None:
        outer = partial(scaled_snake, alpha=weights.alpha)
        left = weights.first.span // 2
        self._first = Convolution(weights.first, left, left, activation=outer, lengths=lengths)
        left = weights.second.span // 2
        self._second = Convolution(weights.second, left, left, activation=unit_snake, lengths=lengths)
        self._waiting = Queue()

    def push(self, x: Tensor, final: bool) -> Tensor:
        self._waiting.put(x)
        y = self._second.push(self._first.push(x, final), final)
        return self._waiting.add_to(y.to(torch.float32))


def leaky(x: Tensor, out: Tensor, slope: float) -> None:
    """LeakyReLU."""
    out.copy_(F.leaky_relu(x, slope))


def elu(x: Tensor, out: Tensor) -> None:
    """ELU."""
    out.copy_(F.elu(x))


def unit_snake(x: Tensor, out: Tensor) -> None:
    """x + sin^2 x."""
    sine = x.sin()
    torch.addcmul(x, sine, sine, out=out)


def scaled_snake(x: Tensor, out: Tensor, alpha: Tensor) -> None:
    """Snake times its alpha [D]: u + sin^2 u with u = alpha x."""
    unit_snake(x * alpha, out)
