"""Do labels belong to what they are learned from?

The public case: a training script shifted its labels twice, so that "learning" un-learned, under healthy loss curves.
Two questions catch it. Which token does each prediction see last? That needs no trained weights. And does a start that
knows something find shifted labels worse?
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cosytune.data.batch import Batch
from cosytune.models.flow.loss import FlowDraws
from cosytune.models.flow.model import Flow, FlowOutput
from cosytune.models.lm.model import IGNORED, LM, LMOutput
from cosytune.training.plan_results import PreflightCheck

__all__ = ["alignment_check", "label_check"]

SHIFT_SECONDS = 0.2
"""Of the mel against its tokens: longer than a sound's transition, shorter than a word."""

BEGINNING = 0.0
"""Time on the flow's path at which nothing is seen of the mel, so that the tokens must tell it."""

ERRORS = 4.0
"""Standard errors by which shifted labels must be worse, or better, before anything is said."""

LEAST_NATS, LEAST_LOG = 0.05, 0.02
"""Differences that are too small to mean anything, however sure: nats, and of the logarithm of velocity errors."""

ROUNDING = 1e-5
"""Change of a prediction that may come from rounding."""

_TRAINED = ("base", "sft", "instruct", "fine-tuned")
_UNUSUAL = "; a trained start should tell: are its speech tokenizer and networks of one and the same model?"


@torch.no_grad()
def label_check(network: LM, batch: Batch, kind: str) -> PreflightCheck:
    """Each label is the token after the last one that its prediction sees, and a better one than the token after it.

    Labels moved the other way are the tokens that the predictions see: a network that expects sounds to go on would
    find those better, and be right. So whether a label is seen is asked by changing it.

    Args:
        network: of the untouched start.
        batch: real clips of two tokens and more.
        kind: what the start is (`models.identify.Kind`).

    Raises:
        ValueError: the clips have no speech tokens.
    """
    speech, lengths = _given(batch.speech_tokens, batch.speech_lengths)

    def predicted(tokens: Tensor) -> LMOutput:
        text = (batch.text_tokens, batch.text_lengths)
        return network.eval()(*text, tokens, lengths, batch.speaker_vectors)

    output = predicted(speech)
    middle = int(lengths[0]) // 2
    places = (output.targets[0] != IGNORED).nonzero().flatten()
    in_order = torch.equal(output.targets[0][places][: int(lengths[0])], speech[0, : int(lengths[0])])

    def change(token: int) -> float:
        """How much the prediction of the middle token changes when another token does."""
        other = speech.clone()
        other[0, token] = (other[0, token] + 1) % network.config.speech_codebook
        moved = predicted(other).logits[0, places[middle]] - output.logits[0, places[middle]]
        return float(moved.abs().max())

    numbers = {"seen_before": change(middle - 1), "seen_itself": change(middle)}
    if not in_order or numbers["seen_before"] <= ROUNDING or numbers["seen_itself"] > ROUNDING:
        words = (
            "labels are shifted: a prediction must see all tokens before its label and not the label itself "
            f"(in order: {in_order}; changed by the token before {numbers['seen_before']:.2g}, by the label "
            f"{numbers['seen_itself']:.2g}), so training would un-learn what the start knows"
        )
        return PreflightCheck("labels", "lm", "failed", words, numbers)
    return _judged("labels", "lm", *_nats(network, output), "nats", LEAST_NATS, kind)


def _nats(network: LM, output: LMOutput) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy of true labels and of those one position later, on the positions that have both."""
    logs = output.logits.float().log_softmax(dim=-1)
    true, later = output.targets, output.targets.roll(-1, dims=1)
    valid = torch.stack([(each != IGNORED) & (each < network.end_token) for each in (true, later)]).all(dim=0)
    nats = [-logs.gather(-1, each.clamp(min=0).unsqueeze(-1)).squeeze(-1)[valid] for each in (true, later)]
    return nats[0], {"later": nats[1]}


@torch.no_grad()
def alignment_check(network: Flow, batch: Batch, frame_rate: float, kind: str) -> PreflightCheck:
    """Velocity error with the true mel against the same mel moved by 0.2 s either way, under the same tokens.

    Args:
        network: of the untouched start.
        batch: real clips.
        frame_rate: mel frames a second.
        kind: what the start is.

    Raises:
        ValueError: the clips have no mel or no speech tokens.
    """
    mel, lengths = _given(batch.mel, batch.mel_lengths)
    tokens = _given(batch.speech_tokens, batch.speech_lengths)
    shift = max(1, round(SHIFT_SECONDS * frame_rate))
    rows = len(batch.ids)
    noise = torch.randn(mel.shape, generator=torch.Generator().manual_seed(0)).to(mel.device)
    draws = FlowDraws(
        t=torch.full((rows,), BEGINNING, device=mel.device),
        noise=noise,
        keep_condition=torch.ones(rows, dtype=torch.bool, device=mel.device),
        prompt_frames=torch.zeros(rows, dtype=torch.int64, device=mel.device),
    )

    def errors(by: int) -> Tensor:
        moved = mel.clone()
        for row, length in zip(moved, lengths.tolist(), strict=True):
            row[:, :length] = row[:, :length].roll(by, dims=1)
        output = network.eval()(*tokens, moved, lengths, batch.speaker_vectors, draws)
        return _blocks(output, shift)

    found = {"earlier": errors(-shift), "later": errors(shift)}
    return _judged("alignment", "flow", errors(0), found, "velocity", LEAST_LOG, kind, shown=math.exp)


def _given(*values: Tensor | None) -> list[Any]:
    if any(value is None for value in values):
        raise ValueError("the clips have no speech tokens or no mel; they come from an incomplete extraction")
    return list(values)


def _blocks(output: FlowOutput, size: int) -> Tensor:
    """Logarithms of the mean squared errors of blocks of `size` valid frames.

    Neighbouring frames are alike and not counted alone. As logarithms, because where speech begins a few blocks have
    errors a hundred times those of the others, and would drown them.
    """
    error = (output.velocity.float() - output.target.float()).square().mean(dim=1)
    means = [block.mean() for row, mask in zip(error, output.mask, strict=True) for block in row[mask].split(size)]
    return torch.stack(means).clamp(min=torch.finfo(torch.float32).tiny).log()


def _judged(
    name: str,
    part: str,
    true: Tensor,
    shifted: dict[str, Tensor],
    unit: str,
    least: float,
    kind: str,
    shown: Callable[[float], float] = float,
) -> PreflightCheck:
    """Compare position by position: worse under every shift, better under one way of shifting, or neither."""
    numbers = {way: shown(float(values.mean())) for way, values in {"true": true, **shifted}.items()}
    said = ", ".join(f"{way} {value:.3f}" for way, value in numbers.items()) + f" {unit}"
    best = min(shifted, key=numbers.__getitem__)
    # Better both ways is no shift: it is a network that has hardly learned anything.
    rivals = [true, *(values for way, values in shifted.items() if way != best)]
    if all(_worse(shifted[best], rival, least) for rival in rivals):
        words = f"{said}: shifted ones fit better, so training would un-learn what the start knows"
        return PreflightCheck(name, part, "failed", words, numbers)
    if all(_worse(true, values, least) for values in shifted.values()):
        return PreflightCheck(name, part, "passed", said, numbers)
    words = f"{said}: the start knows too little of speech to tell{_UNUSUAL if kind in _TRAINED else ''}"
    return PreflightCheck(name, part, "cannot tell", words, numbers)


def _worse(first: Tensor, second: Tensor, least: float) -> bool:
    """Whether the second is clearly larger, position by position."""
    difference = second - first
    return float(difference.mean()) > max(least, ERRORS * float(difference.std()) / len(difference) ** 0.5)
