"""Cross-entropy over the predicted speech tokens, with optional label smoothing."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cosytune.models.lm.model import IGNORED, LMOutput

__all__ = ["LMLoss", "divergence", "lm_loss"]


class LMLoss(NamedTuple):
    """Numbers of one batch, as tensors without a dimension (nothing waits for the device).

    Attributes:
        loss: nats; `loss * tokens` is the sum over the batch when the loss is length-normalised, which is what batches
            of different size must be averaged by.
        accuracy: fraction of predicting positions whose arg-max is the target.
        tokens: number of predicting positions, the end tokens included.
    """

    loss: Tensor
    accuracy: Tensor
    tokens: Tensor


def lm_loss(output: LMOutput, smoothing: float = 0.0, length_normalised: bool = True) -> LMLoss:
    """Loss of teacher-forced predictions.

    With smoothing s the target distribution is 1 - s on the label and s / (C - 1) on each other class, and the loss is
    the Kullback-Leibler divergence from it, so that a perfect model reaches 0 (label smoothing: Szegedy et al. 2016,
    arXiv 1512.00567, section 7). With s = 0 that is plain cross-entropy.

    Args:
        output: logits [B, P, C] and targets [B, P].
        smoothing: s in [0, 1).
        length_normalised: divide the sum by the number of predicting positions, otherwise by the batch size.

    Raises:
        ValueError: smoothing is out of range.
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"label smoothing must be at least 0 and below 1, not {smoothing}")
    logits, targets = output
    valid = targets != IGNORED
    tokens = valid.sum()
    if smoothing:
        total = _smoothed(logits, targets, valid, smoothing)
    else:
        flat = logits.flatten(0, 1).float()
        total = F.cross_entropy(flat, targets.flatten(), ignore_index=IGNORED, reduction="sum")
    hits = ((logits.argmax(dim=-1) == targets) & valid).sum()
    counted = tokens.clamp(min=1)
    return LMLoss(total / (counted if length_normalised else logits.shape[0]), hits / counted, tokens)


def divergence(start: LMOutput, output: LMOutput) -> Tensor:
    """Kullback-Leibler divergence KL(start || output) in nats per predicting position, a scalar.

    What learning without forgetting keeps small (Li and Hoiem 2016, arXiv 1606.09282, at temperature 1).

    Args:
        start: what the untouched network predicts for the same batch, logits [B, P, C].
        output: what the network in training predicts, logits [B, P, C].
    """
    valid = (output.targets != IGNORED).unsqueeze(-1)
    before, now = (each.logits.float().log_softmax(dim=-1) for each in (start, output))
    total = torch.where(valid, before.exp() * (before - now), 0.0).sum()
    return total / valid.sum().clamp(min=1)


def _smoothed(logits: Tensor, targets: Tensor, valid: Tensor, smoothing: float) -> Tensor:
    # sum_c t_c log t_c depends on the two levels of t only, and sum_c t_c log p_c needs no dense target.
    classes = logits.shape[-1]
    elsewhere = smoothing / (classes - 1)
    entropy = (1 - smoothing) * math.log(1 - smoothing) + smoothing * math.log(elsewhere)
    log_probabilities = logits.float().log_softmax(dim=-1)
    label = log_probabilities.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    cross = (1 - smoothing - elsewhere) * label + elsewhere * log_probabilities.sum(dim=-1)
    return torch.where(valid, entropy - cross, 0.0).sum()
