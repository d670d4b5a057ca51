"""Training loss of conditional flow matching, its random draws, and what a trivial predictor would reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cosytune.models.flow.config import FlowConfig

if TYPE_CHECKING:
    from cosytune.models.flow.model import Flow, FlowOutput

__all__ = ["FlowDraws", "FlowTerms", "draw", "flow_loss", "flow_terms", "gaussian_baseline"]

PROMPT_RATE = 0.5
"""Share of training utterances that show the beginning of their mel as a prompt."""

PROMPT_SHARE = 0.3
"""The longest prompt, as a share of the utterance."""


@dataclass(frozen=True)
class FlowDraws:
    """Everything random in one training step, so that the loss itself is a function.

    Attributes:
        t: [B] time, uniform in [0, 1).
        noise: [B, M, F] standard normal start of the path.
        keep_condition: [B] bool, False = mu, speaker and prompt of this utterance are hidden.
        prompt_frames: [B] int64, mel frames shown as a prompt.
    """

    t: Tensor
    noise: Tensor
    keep_condition: Tensor
    prompt_frames: Tensor


def draw(config: FlowConfig, frame_lengths: Tensor, size: int, generators: Sequence[torch.Generator]) -> FlowDraws:
    """Draw for utterances of `frame_lengths` [B] frames padded to `size`, each from its own generator.

    What an utterance draws depends on its generator and its own length alone; noise beyond it is zero. The condition is
    dropped with probability `config.drop_rate`. With probability 0.5 a prompt of k frames is shown, k uniform in
    0..int(0.3 frames) inclusive. Numbers are drawn on the generators' device, so that CPU generators give the same
    numbers on every machine, and returned on that of `frame_lengths`.
    """
    target, frames = frame_lengths.device, frame_lengths.tolist()
    noise = torch.zeros(len(frames), config.mel_bins, size)
    uniform = torch.empty(len(frames), 4)
    for row, (count, generator) in enumerate(zip(frames, generators, strict=True)):
        uniform[row] = torch.rand(4, generator=generator, device=generator.device)
        own = torch.randn(config.mel_bins, count, generator=generator, device=generator.device)
        noise[row, :, :count] = own
    t, keep, with_prompt, share = uniform.unbind(1)
    longest = (torch.tensor(frames).double() * PROMPT_SHARE).long()
    prompt = (share.double() * (longest + 1)).long().clamp(max=longest) * (with_prompt < PROMPT_RATE)
    return FlowDraws(t.to(target), noise.to(target), (keep >= config.drop_rate).to(target), prompt.to(target))


@dataclass(frozen=True)
class FlowTerms:
    """The two scalar terms of the loss.

    Attributes:
        velocity: mean squared error of the velocity over valid frames and bands.
        prior: mean |mu - mel| over valid frames and bands.
    """

    velocity: Tensor
    prior: Tensor


def flow_terms(output: FlowOutput) -> FlowTerms:
    """Both terms, computed in float32, from what `Flow.forward` returned."""
    frames = output.mask[:, None]  # [B, 1, F]
    count = frames.sum().clamp(min=1) * output.velocity.shape[1]
    error = (output.velocity.float() - output.target.float()) * frames
    distance = (output.mu.float() - output.mel.float()).abs() * frames
    return FlowTerms(velocity=error.square().sum() / count, prior=distance.sum() / count)


def flow_loss(
    flow: Flow,
    tokens: Tensor,
    token_lengths: Tensor,
    mel: Tensor,
    frame_lengths: Tensor,
    speaker: Tensor,
    draws: FlowDraws,
    prior_weight: float = 0.0,
) -> Tensor:
    """Conditional flow-matching loss (Lipman et al. 2023; the optimal-transport path of their section 4.1).

    y = (1 - (1 - sigma_min) t) z + t x1 is shown at time t and u = x1 - (1 - sigma_min) z is to be predicted; prompted
    frames count like all others. t is uniform: the cosine schedule belongs to synthesis only.

    Args:
        flow: the network, possibly wrapped (only its forward is called).
        tokens: [B, T] int64.
        token_lengths: [B].
        mel: [B, M, F] log-mel x1.
        frame_lengths: [B].
        speaker: [B, E] speaker vectors as the speaker encoder gives them.
        draws: see `draw`.
        prior_weight: weight of mean |mu - mel|, which pulls the regulated encoding itself towards the mel (the prior
            loss of Grad-TTS, Popov et al. 2021, with L1). 0 is the reference's loss; 1 helps small models, whose mu
            becomes intelligible long before the velocity does.

    Returns:
        scalar.
    """
    terms = flow_terms(flow(tokens, token_lengths, mel, frame_lengths, speaker, draws))
    if prior_weight == 0.0:
        return terms.velocity
    return terms.velocity + prior_weight * terms.prior


def gaussian_baseline(mel_variance: Tensor, sigma_min: float = 1e-6) -> float:
    """Expected velocity loss of the best predictor that knows only mean and variance of each mel band.

    For x1 ~ N(m, s^2), z ~ N(0, 1), c = 1 - sigma_min, y = (1 - ct) z + t x1 and u = x1 - c z the best guess E[u | y]
    is linear in y and leaves the error Var(u) - Cov(u, y)^2 / Var(y). Since (1 - ct) + ct = 1 this is
    s^2 / ((1 - ct)^2 + t^2 s^2), and with r = t / (1 - ct) its mean over t in [0, 1] is

        integral of s^2 / (1 + s^2 r^2) dr over [0, 1 / sigma_min] = s arctan(s / sigma_min),

    about s pi / 2. A network that has learned nothing but the average spectrum stands here.

    Args:
        mel_variance: [M] variance s^2 of each band over the training frames.
        sigma_min: as in `FlowConfig`.

    Returns:
        the mean over bands.
    """
    deviation = mel_variance.double().clamp(min=0).sqrt()
    return float((deviation * torch.atan2(deviation, torch.full_like(deviation, sigma_min))).mean())
