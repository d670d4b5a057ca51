"""How well the tokens spell the transcript: CTC loss, greedy reading, and what knowing nothing would cost."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cosytune.errors import InputError
from cosytune.models.layers.masks import length_mask
from cosytune.models.speech_tokenizer.model import Tokenized

__all__ = ["CTCLoss", "ConstantBaseline", "constant_ctc_baseline", "ctc_loss", "greedy_ctc"]

BLANK_GRID = torch.linspace(0.02, 0.98, 49).tolist()
"""Blank probabilities tried by the trivial baseline."""


class CTCLoss(NamedTuple):
    """CTC loss of a batch and what was left out of it.

    Attributes:
        loss: scalar, nats per text symbol over the utterances that can be aligned.
        too_short: scalar, share of utterances with fewer tokens than their transcript needs. Their loss would be
            infinite; they take no part in `loss`, and a training loop must show this share.
        symbols: scalar, text symbols of the utterances in `loss`: what batches must be averaged by.
    """

    loss: Tensor
    too_short: Tensor
    symbols: Tensor


class ConstantBaseline(NamedTuple):
    """The best loss without listening.

    Attributes:
        loss: nats per text symbol.
        blank: the blank's probability that gave it.
    """

    loss: float
    blank: float


def ctc_loss(tokenized: Tokenized, targets: Tensor, target_lengths: Tensor) -> CTCLoss:
    """Connectionist temporal classification (Graves et al., ICML 2006) of `ctc_logits`, computed in float32.

    Args:
        tokenized: of `SpeechTokenizer.forward`; the last of its C + 1 symbols is the blank.
        targets: [B, S] text symbols from 0 to C - 1; the padding may hold anything.
        target_lengths: [B] valid symbols, each from 0 to S.

    Raises:
        InputError: shapes that do not fit, lengths or symbols outside their range.
    """
    _check(targets, target_lengths, tokenized.lengths, tokenized.ctc_logits.shape[-1] - 1)
    with torch.autocast(tokenized.ctc_logits.device.type, enabled=False):
        log_probabilities = tokenized.ctc_logits.float().log_softmax(-1)
        return _per_symbol(log_probabilities, tokenized.lengths, targets, target_lengths)


def greedy_ctc(logits: Tensor, lengths: Tensor) -> list[list[int]]:
    """Best symbol of each frame of [B, T, C + 1], repeats merged, blanks (the last symbol) dropped."""
    blank = logits.shape[-1] - 1
    best = logits.argmax(-1)
    new = torch.ones_like(best, dtype=torch.bool)
    new[:, 1:] = best[:, 1:] != best[:, :-1]
    keep = new & (best != blank) & length_mask(lengths, best.shape[1])
    return [row[kept].tolist() for row, kept in zip(best, keep, strict=True)]


@torch.no_grad()
def constant_ctc_baseline(targets: Tensor, target_lengths: Tensor, lengths: Tensor, symbols: int) -> ConstantBaseline:
    """Loss of a model that gives every frame the same distribution: a blank and the frequencies of the symbols.

    A CTC model that has learned nothing but these sits at this loss, on a plateau that many runs never leave: a
    training loop prints it beside its own loss. The blank's probability is the best of a grid.

    Args:
        targets: [B, S] text symbols.
        target_lengths: [B].
        lengths: [B] tokens per utterance.
        symbols: C, size of the symbol set.

    Raises:
        InputError: as `ctc_loss`, or no symbol at all, or no utterance long enough for its transcript.
    """
    _check(targets, target_lengths, lengths, symbols)
    spoken = targets[length_mask(target_lengths, targets.shape[1])]
    if not len(spoken):
        raise InputError("a baseline needs text: all transcripts given are empty; give at least one symbol")
    unigram = torch.bincount(spoken, minlength=symbols).float() / len(spoken)
    shape = (len(targets), int(lengths.max()), symbols + 1)
    best = ConstantBaseline(float("inf"), 0.0)
    for blank in BLANK_GRID:
        frame = torch.cat([unigram * (1.0 - blank), unigram.new_tensor([blank])])
        # Symbols that never occur are never asked for; the floor only keeps the logarithm finite.
        log_probabilities = frame.clamp_min(1e-30).log().expand(shape)
        result = _per_symbol(log_probabilities, lengths, targets, target_lengths)
        if float(result.too_short) == 1.0:
            raise InputError(
                "every utterance has fewer tokens than its transcript needs, so there is no baseline; "
                "check that audio and text belong together, or use a higher token rate"
            )
        if float(result.loss) < best.loss:
            best = ConstantBaseline(float(result.loss), blank)
    return best


def _per_symbol(log_probabilities: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> CTCLoss:
    possible = lengths >= _frames_needed(targets, target_lengths)
    too_short = 1.0 - possible.float().mean()
    symbols = target_lengths[possible].sum()
    if not bool(possible.any()):
        # Stays part of the graph for data-parallel training.
        return CTCLoss(log_probabilities.sum() * 0.0, too_short, symbols)
    # Only rows that can be aligned are asked: an infinite loss among them is a fault, and must be seen.
    losses = F.ctc_loss(
        log_probabilities[possible].transpose(0, 1),
        targets[possible],
        lengths[possible],
        target_lengths[possible],
        blank=log_probabilities.shape[-1] - 1,
        reduction="none",
    )
    return CTCLoss(losses.sum() / symbols.clamp_min(1), too_short, symbols)


def _frames_needed(targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Tokens that CTC needs at least, [B]: one per symbol and a blank between equal neighbours."""
    doubled = (targets[:, 1:] == targets[:, :-1]) & length_mask(target_lengths, targets.shape[1])[:, 1:]
    return target_lengths + doubled.sum(-1)


def _check(targets: Tensor, target_lengths: Tensor, lengths: Tensor, symbols: int) -> None:
    if targets.dim() != 2 or target_lengths.shape != targets.shape[:1] or lengths.shape != targets.shape[:1]:
        raise InputError(
            f"targets {list(targets.shape)}, target lengths {list(target_lengths.shape)} and token lengths "
            f"{list(lengths.shape)} do not fit; give [batch, symbols], [batch] and [batch]"
        )
    if bool(((target_lengths < 0) | (target_lengths > targets.shape[1])).any()):
        raise InputError(
            f"target lengths {target_lengths.tolist()} must lie between 0 and the {targets.shape[1]} symbols given"
        )
    valid = targets[length_mask(target_lengths, targets.shape[1])]
    if len(valid) and not 0 <= int(valid.min()) <= int(valid.max()) < symbols:
        raise InputError(
            f"targets hold symbols from {int(valid.min())} to {int(valid.max())}; the head reads 0 to {symbols - 1}, "
            "so check that text tokenizer and speech tokenizer belong together"
        )
