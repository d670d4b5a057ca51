"""From noise to mel: steps along the velocity with a cosine schedule and classifier-free guidance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cosytune.errors import InputError
from cosytune.models.flow.model import Flow
from cosytune.models.flow.regulator import speech_segments
from cosytune.models.layers.masks import length_mask
from cosytune.models.layers.noise import NoiseTape

__all__ = ["DEFAULT_SOLVER", "SolverConfig", "integrate", "starting_noise", "synthesise", "time_steps"]

METHODS = ("euler", "midpoint")


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise InputError(f"the solver was asked for {steps} steps; give 1 or more (10 is the usual number)")


@dataclass(frozen=True)
class SolverConfig:
    """How a mel is made from noise; the defaults are the reference's way.

    Attributes:
        steps: steps from noise to mel.
        method: `euler` (first order), or `midpoint` (second order, two velocities per step: half as many steps cost the
            same and come much closer to the solution).
        guidance: weight w of classifier-free guidance; None takes the flow's own, 0 computes half as much.
        guidance_until: time in [0, 1] from which on steps are not guided any more, and cost half.
    """

    steps: int = 10
    method: Literal["euler", "midpoint"] = "euler"
    guidance: float | None = None
    guidance_until: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot be computed.

        Raises:
            InputError: fewer than one step, an unknown method or guidance out of range.
        """
        _check_steps(self.steps)
        if self.method not in METHODS:
            raise InputError(f"there is no solver {self.method!r}; methods are {', '.join(METHODS)}")
        if self.guidance is not None and not 0.0 <= self.guidance < math.inf:
            raise InputError(f"guidance was set to {self.guidance}; give 0 (none) or more, 0.7 is usual")
        if not 0.0 <= self.guidance_until <= 1.0:
            raise InputError(f"guidance was asked for until time {self.guidance_until}; give 0 (never) to 1 (always)")


DEFAULT_SOLVER = SolverConfig()
"""Ten guided Euler steps."""


def time_steps(steps: int) -> Tensor:
    """Times [steps + 1] from 0 to 1, dense at the beginning: 1 - cos(k / steps * pi / 2).

    Raises:
        InputError: fewer than one step.
    """
    _check_steps(steps)
    return 1.0 - torch.cos(torch.linspace(0.0, 1.0, steps + 1) * (0.5 * math.pi))


@torch.no_grad()
def integrate(
    flow: Flow,
    noise: Tensor,
    mask: Tensor,
    mu: Tensor,
    speaker: Tensor,
    condition: Tensor,
    solver: SolverConfig = DEFAULT_SOLVER,
) -> Tensor:
    """Follow the velocity from t = 0 to t = 1.

    A step of `midpoint` moves along the velocity half a step ahead (Hairer, Norsett & Wanner 1993, section II.1).

    Guidance (Ho & Salimans 2022): v = (1 + w) v_conditioned - w v_free, where the free half of one batch of 2B sees mu,
    speaker and condition as zeros. w = 0 computes the conditioned half only.

    Args:
        flow: the network; only its estimator is used.
        noise: [B, M, F] start.
        mask: [B, F] bool, True = valid frame.
        mu: [B, M, F].
        speaker: [B, M] projected.
        condition: [B, M, F].
        solver: steps, method and guidance.

    Returns:
        [B, M, F] float32.
    """
    weight = flow.config.guidance if solver.guidance is None else solver.guidance
    times, lengths = _times_and_lengths(solver.steps)
    halves = 2 if solver.method == "midpoint" else 1
    asked = [t + part * length / 2 for t, length in zip(times, lengths, strict=True) for part in range(halves)]
    field = flow.estimator.field(mask, mu, speaker, condition, torch.tensor(asked, device=noise.device))
    rows = noise.shape[0]

    def velocity(x: Tensor, index: int) -> Tensor:
        # By the step's beginning, so that both halves of a step follow the same field.
        if not weight or times[index // halves] >= solver.guidance_until:
            return field(x, index, False).float()
        both = field(x, index, True).float()
        return (1.0 + weight) * both[:rows] - weight * both[rows:]

    x = noise.float()
    for step, length in enumerate(lengths):
        slope = velocity(x, step * halves)
        if solver.method == "midpoint":
            slope = velocity(x + 0.5 * length * slope, step * halves + 1)
        x = x + length * slope
    return x


def _times_and_lengths(steps: int) -> tuple[list[float], list[float]]:
    """Where each of the steps begins and how long it is.

    The time is accumulated in float32 and the next step measured from it, so that rounding is made up for at the
    following time.
    """
    grid = time_steps(steps)
    t, times, lengths = grid[0], [], []
    for end in grid[1:]:
        times.append(t.item())
        lengths.append((end - t).item())
        t = t + (end - t)
    return times, lengths


def starting_noise(frame_lengths: Sequence[int], tapes: Sequence[NoiseTape]) -> Tensor:
    """Standard normal noise [B, M, F] float32, each row the next frames of its own tape, zero in the padding.

    A row's noise depends neither on the batch it is in nor on how its frames are cut into pieces.

    Raises:
        InputError: the number of tapes is not the number of rows, or tapes differ in width.
    """
    widths = {tape.width for tape in tapes}
    if len(tapes) != len(frame_lengths) or len(widths) != 1:
        raise InputError(
            f"{len(tapes)} noise tapes of widths {sorted(widths)} for {len(frame_lengths)} utterances: give each "
            "utterance one, all as wide as the mel"
        )
    noise = torch.zeros(len(tapes), widths.pop(), max(frame_lengths))
    for row, (frames, tape) in enumerate(zip(frame_lengths, tapes, strict=True)):
        noise[row, :, :frames] = tape.take(frames).T
    return noise


@torch.no_grad()
def synthesise(
    flow: Flow,
    tokens: Tensor,
    prompt_tokens: Tensor,
    prompt_mel: Tensor,
    speaker: Tensor,
    frames: int | Tensor,
    *,
    frames_per_token: float,
    noise: Tensor,
    solver: SolverConfig = DEFAULT_SOLVER,
    token_lengths: Tensor | None = None,
    prompt_token_lengths: Tensor | None = None,
    prompt_frame_lengths: Tensor | None = None,
) -> Tensor:
    """Mel of `tokens`, spoken by `speaker` as a continuation of the prompt.

    Rows may differ in every length; then the lengths are given, and each row is what it would be alone.

    Args:
        flow: the network (put it into eval mode first).
        tokens: [B, T] int64.
        prompt_tokens: [B, T'] int64; [B, 0] without a prompt.
        prompt_mel: [B, M, F']; [B, M, 0] without a prompt.
        speaker: [B, E] speaker vectors.
        frames: mel frames to make, one number for all or [B] (`Clock.frames_of_tokens`).
        frames_per_token: natural ratio (`Clock.frames_per_token`) that the ends of long speech keep.
        noise: [B, M, F] start for prompt and speech together (`starting_noise`).
        solver: steps, method and guidance.
        token_lengths: [B], default T.
        prompt_token_lengths: [B], default T'.
        prompt_frame_lengths: [B], default F'.

    Returns:
        [B, M, frames] float32 (the largest number of frames; zero after the end of shorter rows).

    Raises:
        InputError: a row without speech tokens or frames, a prompt mel without prompt tokens, or noise of another
            shape.
    """
    spoken = _lengths(token_lengths, tokens, 1)
    prompted = _lengths(prompt_token_lengths, prompt_tokens, 1)
    prompt_frames = _lengths(prompt_frame_lengths, prompt_mel, 2)
    spoken_frames = _lengths(torch.full_like(spoken, frames) if isinstance(frames, int) else frames, tokens, 1)
    _check_lengths(spoken, prompted, spoken_frames, prompt_frames)

    total = prompt_frames + spoken_frames
    size = int(total.max())
    mask = length_mask(total, size)
    encoded = flow.encode(_join(prompt_tokens, prompted, tokens, spoken), prompted + spoken)
    segments = speech_segments(prompted, prompt_frames, spoken, spoken_frames, frames_per_token)
    mu = flow.regulator(encoded, segments, mask)
    # A prompt padded beyond the whole is cut (a negative pad): what is cut is padding.
    condition = F.pad(prompt_mel, (0, size - prompt_mel.shape[2])) * length_mask(prompt_frames, size)[:, None]
    _check_noise(noise, (tokens.shape[0], flow.config.mel_bins, size))
    mel = integrate(flow, noise.to(mu.device), mask, mu, flow.project_speaker(speaker), condition, solver)
    return _tail(mel, prompt_frames, spoken_frames)


def _lengths(given: Tensor | None, padded: Tensor, dim: int) -> Tensor:
    if given is None:
        return torch.full((padded.shape[0],), padded.shape[dim], device=padded.device)
    return given.to(padded.device).long()


def _check_lengths(spoken: Tensor, prompted: Tensor, spoken_frames: Tensor, prompt_frames: Tensor) -> None:
    if bool(((spoken < 1) | (spoken_frames < 1)).any()):
        raise InputError(
            f"utterances of {spoken.tolist()} speech tokens and {spoken_frames.tolist()} mel frames: each needs at "
            "least one of both; leave empty utterances out"
        )
    if bool(((prompted < 1) & (prompt_frames > 0)).any()):
        raise InputError(
            f"prompts of {prompted.tolist()} speech tokens and {prompt_frames.tolist()} mel frames: a prompt mel needs "
            "the tokens of the same recording; give both or neither"
        )


def _check_noise(noise: Tensor, expected: tuple[int, int, int]) -> None:
    if tuple(noise.shape) != expected:
        raise InputError(f"the noise has shape {tuple(noise.shape)}; prompt and speech together need {expected}")


def _join(first: Tensor, first_lengths: Tensor, second: Tensor, second_lengths: Tensor) -> Tensor:
    """Put the valid parts of [B, P] and [B, Q] behind each other: [B, max(p + q)]."""
    width = int((first_lengths + second_lengths).max())
    index = torch.arange(width, device=first.device).expand(first.shape[0], width)
    behind = index - first_lengths[:, None]
    source = torch.where(behind >= 0, behind + first.shape[1], index)
    both = torch.cat([first, second], dim=1)
    return both.gather(1, source.clamp(max=both.shape[1] - 1))


def _tail(mel: Tensor, start: Tensor, count: Tensor) -> Tensor:
    """Frames start .. start + count of each row of [B, M, F]: [B, M, max(count)], zero after a row's end."""
    width = int(count.max())
    index = torch.arange(width, device=mel.device)[None] + start[:, None]
    index = index.clamp(max=mel.shape[2] - 1)[:, None].expand(-1, mel.shape[1], -1)
    return mel.gather(2, index) * length_mask(count, width)[:, None]
