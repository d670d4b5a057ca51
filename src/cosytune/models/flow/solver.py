"""From noise to mel: Euler steps with a cosine schedule and classifier-free guidance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cosytune.errors import InputError
from cosytune.models.flow.model import Flow
from cosytune.models.flow.regulator import speech_segments
from cosytune.models.layers.masks import length_mask

__all__ = ["integrate", "starting_noise", "synthesise", "time_steps"]


def time_steps(steps: int, device: torch.device | str | None = None) -> Tensor:
    """Times [steps + 1] from 0 to 1, dense at the beginning: 1 - cos(k / steps * pi / 2).

    Raises:
        InputError: fewer than one step.
    """
    if steps < 1:
        raise InputError(f"the solver was asked for {steps} steps; give 1 or more (10 is the usual number)")
    return 1.0 - torch.cos(torch.linspace(0.0, 1.0, steps + 1, device=device) * (0.5 * math.pi))


@torch.no_grad()
def integrate(
    flow: Flow,
    noise: Tensor,
    mask: Tensor,
    mu: Tensor,
    speaker: Tensor,
    condition: Tensor,
    *,
    steps: int = 10,
    guidance: float | None = None,
) -> Tensor:
    """Follow the velocity from t = 0 to t = 1.

    Guidance (Ho & Salimans 2022): v = (1 + w) v_conditioned - w v_free, where the free half of one batch of 2B sees mu,
    speaker and condition as zeros. w = 0 computes the conditioned half only.

    Args:
        flow: the network; only its estimator is used.
        noise: [B, M, F] start.
        mask: [B, F] bool, True = valid frame.
        mu: [B, M, F].
        speaker: [B, M] projected.
        condition: [B, M, F].
        steps: Euler steps.
        guidance: w; None takes the configuration's.

    Returns:
        [B, M, F] float32.
    """
    weight = flow.config.guidance if guidance is None else guidance
    rows = noise.shape[0]
    if weight:
        mask = torch.cat([mask, mask])
        mu, speaker, condition = (torch.cat([part, torch.zeros_like(part)]) for part in (mu, speaker, condition))
    times = time_steps(steps, noise.device)
    x, t, step = noise.float(), times[0], times[1] - times[0]
    for index in range(1, steps + 1):
        point = torch.cat([x, x]) if weight else x
        velocity = flow.estimator(point, mask, mu, t.expand(point.shape[0]), speaker, condition).float()
        if weight:
            velocity = (1.0 + weight) * velocity[:rows] - weight * velocity[rows:]
        x = x + step * velocity
        # t is accumulated and the next step measured from it, so rounding is made up for at the following time.
        t = t + step
        if index < steps:
            step = times[index + 1] - t
    return x


def starting_noise(
    frame_lengths: Sequence[int], bins: int, generator: torch.Generator | Sequence[torch.Generator]
) -> Tensor:
    """Standard normal noise [B, M, F], drawn row by row at each row's own length, zero in the padding.

    With one generator per row, a row's noise does not depend on the batch it is in. Numbers are made on the generator's
    device.

    Raises:
        InputError: the number of generators is not the number of rows.
    """
    rows = len(frame_lengths)
    generators = [generator] * rows if isinstance(generator, torch.Generator) else list(generator)
    if len(generators) != rows:
        raise InputError(f"{len(generators)} generators for {rows} utterances: give one in all, or one per utterance")
    noise = torch.zeros(rows, bins, max(frame_lengths), device=generators[0].device)
    for row, (frames, source) in enumerate(zip(frame_lengths, generators, strict=True)):
        noise[row, :, :frames] = torch.randn(bins, frames, generator=source, device=source.device)
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
    noise: Tensor | None = None,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    steps: int = 10,
    guidance: float | None = None,
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
        noise: [B, M, F] start for prompt and speech together; or give `generator`.
        generator: one, or one per row, see `starting_noise`.
        steps: Euler steps.
        guidance: weight of classifier-free guidance; None takes the configuration's.
        token_lengths: [B], default T.
        prompt_token_lengths: [B], default T'.
        prompt_frame_lengths: [B], default F'.

    Returns:
        [B, M, frames] float32 (the largest number of frames; zero after the end of shorter rows).

    Raises:
        InputError: a row without speech tokens or frames, a prompt mel without prompt tokens, not exactly one of noise
            and generator, or noise of another shape.
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
    start = _start(noise, generator, total, flow.config.mel_bins).to(mu.device)
    voice = flow.project_speaker(speaker)
    mel = integrate(flow, start, mask, mu, voice, condition, steps=steps, guidance=guidance)
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


def _start(
    noise: Tensor | None, generator: torch.Generator | Sequence[torch.Generator] | None, total: Tensor, bins: int
) -> Tensor:
    if (noise is None) == (generator is None):
        raise InputError("synthesis starts from noise: give exactly one of `noise` and `generator`")
    if noise is None:
        assert generator is not None
        return starting_noise(total.tolist(), bins, generator)
    expected = (total.shape[0], bins, int(total.max()))
    if tuple(noise.shape) != expected:
        raise InputError(f"the noise has shape {tuple(noise.shape)}; prompt and speech together need {expected}")
    return noise


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
