"""The excitation of the neural source filter: harmonics of F0 where voiced, noise where not."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["HarmonicSource", "SourceOutput"]

PHASE_BITS = 40
"""One turn is 2**40 steps: float32 increments down to a third of a hertz are kept exactly."""


class SourceOutput(NamedTuple):
    """What a source makes.

    Attributes:
        excitation: [B, 1, N].
        voiced: bool [B, 1, N].
        turns: where the fundamental's phase stands after the last sample, int64 [B, 1] in steps of 2**-40 turns.
    """

    excitation: Tensor
    voiced: Tensor
    turns: Tensor


class HarmonicSource(nn.Module):
    """Sines at F0 and its multiples with running phase, mixed to one channel (Wang et al. 2019, arXiv:1904.12088).

    For component h = 1..H+1: s_h[n] = a sin(2 pi h phi[n] + p_h) with phi[n] = sum of f0/sample_rate up to n, in turns;
    excitation = tanh(mix(s voiced + noise)), where the noise has standard deviation `noise_std` where voiced and a/3
    elsewhere.

    The phase is summed in fixed point. Integer sums are exact in any order, so the phase does not drift on long audio
    and is the same on every device, and the phase of a harmonic is an exact multiple of the fundamental's.

    The sines carry no gradient to F0: the predictor learns from measured pitch.
    """

    harmonic_numbers: Tensor

    def __init__(
        self, sample_rate: int, harmonics: int, sine_amplitude: float, noise_std: float, voiced_threshold: float
    ) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.sine_amplitude = sine_amplitude
        self.noise_std = noise_std
        self.voiced_threshold = voiced_threshold
        self.components = harmonics + 1
        self.mix = nn.Linear(self.components, 1)
        self.register_buffer("harmonic_numbers", torch.arange(1, self.components + 1), persistent=False)

    def forward(
        self,
        f0: Tensor,
        generator: torch.Generator | None = None,
        *,
        phases: Tensor | None = None,
        noise: Tensor | None = None,
        turns: Tensor | None = None,
    ) -> SourceOutput:
        """Excitation for F0 [B, N] in Hz at the sample rate.

        Args:
            f0: one value per sample, 0 where unvoiced.
            generator: draws what is not given below.
            phases: initial phase of each component [B, H+1] in radians.
            noise: standard normal numbers [B, N, H+1].
            turns: what the source returned for the samples before these, if they go on from others.

        Raises:
            ValueError: random numbers are needed and no generator is given, or a given tensor has another shape.
        """
        batch, samples = f0.shape
        if phases is None:
            phases = self.draw_phases(batch, _needed(generator, "phases"), f0.device)
        if noise is None:
            noise = self.draw_noise(batch, samples, _needed(generator, "noise"), f0.device)
        _check_shape("phases", phases, (batch, self.components))
        _check_shape("noise", noise, (batch, samples, self.components))
        voiced = (f0 > self.voiced_threshold).unsqueeze(-1)
        spread = torch.where(voiced, self.noise_std, self.sine_amplitude / 3)
        running = self.running_turns(f0, turns)
        components = self._sines_at(running[:, 1:], phases) * voiced + spread * noise.to(torch.float32)
        mixed = self.mix(components.to(self.mix.weight.dtype))
        return SourceOutput(torch.tanh(mixed).transpose(1, 2), voiced.transpose(1, 2), running[:, -1:])

    def sines(self, f0: Tensor, phases: Tensor) -> Tensor:
        """Sines [B, N, H+1] in float32 for F0 [B, N] in Hz and initial phases [B, H+1] in radians."""
        return self._sines_at(self.running_turns(f0)[:, 1:], phases)

    @torch.no_grad()
    def running_turns(self, f0: Tensor, turns: Tensor | None = None) -> Tensor:
        """The fundamental's phase before the first and after every sample of F0 [B, N] in Hz.

        Returns:
            int64 [B, N + 1] in steps of 2**-40 turns, whole turns left out.
        """
        turn = 1 << PHASE_BITS
        increments = (torch.remainder(f0.to(torch.float32) / self.sample_rate, 1.0) * turn).to(torch.int64)
        start = increments.new_zeros(len(f0), 1) if turns is None else turns
        return torch.cat((start, increments), dim=1).cumsum(dim=-1) & (turn - 1)

    @torch.no_grad()
    def _sines_at(self, turns: Tensor, phases: Tensor) -> Tensor:
        turn = 1 << PHASE_BITS
        steps = turns.unsqueeze(-1) * self.harmonic_numbers
        angles = (steps & (turn - 1)).to(torch.float32) * (2 * math.pi / turn)
        return self.sine_amplitude * torch.sin(angles + phases.to(torch.float32).unsqueeze(1))

    def draw_phases(self, batch: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """Initial phases [B, H+1] uniform in (-pi, pi); 0 for the fundamental."""
        phases = torch.rand(batch, self.components, generator=generator, device=generator.device)
        phases = (2 * phases - 1) * math.pi
        phases[:, 0] = 0.0
        return phases.to(device)

    def draw_noise(self, batch: int, samples: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """Standard normal numbers [B, N, H+1], drawn where the generator lives."""
        return torch.randn(batch, samples, self.components, generator=generator, device=generator.device).to(device)


def _needed(generator: torch.Generator | None, what: str) -> torch.Generator:
    if generator is None:
        raise ValueError(f"the source needs a torch.Generator, or the tensor {what}: it never uses the global seed")
    return generator


def _check_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, the source expects {shape}")
