"""Drawing the next speech token: nucleus sampling with a guard against repetition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from cosytune.errors import ModelError
from cosytune.models.layers.config import PartConfig

__all__ = ["GREEDY", "REFERENCE_SAMPLING", "SamplingConfig", "nucleus", "sample"]


class SamplingConfig(PartConfig):
    """How a token is drawn.

    Nucleus sampling (Holtzman et al. 2020, arXiv 1904.09751) takes the likeliest tokens until their probability reaches
    top_p, at most top_k of them. Repetition-aware sampling (VALL-E 2, arXiv 2406.05370) draws again, without the drawn
    token, when it makes up at least tau of the last `window` tokens.

    Attributes:
        top_p: probability that the nucleus must reach.
        top_k: largest size of the nucleus.
        window: tokens in which repetition is counted.
        tau: share of the window from which a token counts as repeated; 0.1 of 10 is a single occurrence.
        redraw: what the second draw may choose from: the `nucleus` of the remaining tokens, or the `full` remaining
            distribution as the reference does, which now and then lets a token through that the model holds for
            impossible (a click or a wrong sound).
        temperature: divides the logits; below 1 is sharper.
        greedy: take the likeliest token instead of drawing.
    """

    top_p: float = Field(default=0.8, gt=0, le=1)
    top_k: int = Field(default=25, ge=1)
    window: int = Field(default=10, ge=0)
    tau: float = Field(default=0.1, ge=0)
    redraw: Literal["nucleus", "full"] = "nucleus"
    temperature: float = Field(default=1.0, gt=0)
    greedy: bool = False


REFERENCE_SAMPLING = SamplingConfig(redraw="full")
"""Draws as the reference implementation does, its defect in the second draw included."""

GREEDY = SamplingConfig(greedy=True)
"""The likeliest token each time: no random numbers, no guard against repetition."""


def nucleus(logits: Tensor, top_p: float, top_k: int) -> tuple[Tensor, Tensor]:
    """The likeliest classes, likeliest first: the one that crosses top_p is the last, unless top_k comes before.

    Args:
        logits: [C].

    Returns:
        ids int64 [K] and their probabilities [K] in the whole distribution (they do not add up to 1).
    """
    # A stable sort, not topk: half-precision logits tie often, and the lower id must then come first everywhere.
    ordered = logits.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    probabilities, ids = ordered.values[:top_k], ordered.indices[:top_k]
    # A class is taken while what stands before it falls short of top_p.
    before = F.pad(probabilities.cumsum(dim=-1)[:-1], (1, 0))
    taken = before < top_p
    return ids[taken], probabilities[taken]


def sample(
    logits: Tensor,
    history: Sequence[int],
    config: SamplingConfig,
    generator: torch.Generator | None,
    forbid_end: bool,
) -> int:
    """Draw one token.

    Args:
        logits: [V + 1] of one position; the last class is the end of speech. Moved to the generator's device once, so
            the same seed gives the same tokens wherever the model ran.
        history: tokens decoded so far, the prompt's excluded.
        generator: source of randomness; None only for greedy choice.
        forbid_end: the end of speech may not be chosen.

    Returns:
        The token; V is the end of speech.

    Raises:
        ModelError: the logits are not numbers.
        ValueError: a draw without a generator.
    """
    device = generator.device if generator is not None else torch.device("cpu")
    row = logits.detach().to(device, torch.float32, copy=True)
    if bool(row.isnan().any()):
        raise ModelError("the language model computed not-a-number scores: its weights are damaged, load another start")
    if forbid_end:
        row[-1] = -torch.inf
    if config.greedy:
        return int(row.argmax())
    if generator is None:
        raise ValueError("drawing a token needs a torch.Generator: pass one, or sample with GREEDY")
    row /= config.temperature
    token = _draw(*nucleus(row, config.top_p, config.top_k), generator)
    if not _repeated(token, history, config):
        return token
    row[token] = -torch.inf
    if config.redraw == "full":
        return int(torch.multinomial(row.softmax(dim=-1), 1, generator=generator))
    return _draw(*nucleus(row, config.top_p, config.top_k), generator)


def _draw(ids: Tensor, weights: Tensor, generator: torch.Generator) -> int:
    return int(ids[torch.multinomial(weights, 1, generator=generator)])


def _repeated(token: int, history: Sequence[int], config: SamplingConfig) -> bool:
    if not config.window:
        return False
    return history[-config.window :].count(token) >= config.window * config.tau
