"""Decoding speech tokens for one text."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cosytune.errors import InputError
from cosytune.models.lm.model import LM
from cosytune.models.lm.sampling import SamplingConfig, sample

__all__ = ["Generated", "generate"]


@dataclass(frozen=True)
class Generated:
    """What was decoded.

    Attributes:
        tokens: speech tokens, the prompt's and the end token excluded.
        stopped: True when the model ended the speech, False when the length limit did (it babbles or the limit is low).
    """

    tokens: list[int]
    stopped: bool


@torch.no_grad()
def generate(
    lm: LM,
    text: Tensor,
    speaker: Tensor | None,
    prompt_text: Tensor,
    prompt_speech: Tensor,
    *,
    sampling: SamplingConfig,
    generator: torch.Generator | None,
    min_ratio: float | None = None,
    max_ratio: float | None = None,
) -> Generated:
    """Decode token by token with remembered keys and values; dropout is off meanwhile.

    Args:
        text: int64 [S] to be spoken.
        speaker: [E] or None; without it the speaker's position does not exist.
        prompt_text: int64 [S'], what the prompt says; may be empty.
        prompt_speech: int64 [T'], how the prompt says it; may be empty.
        generator: source of randomness; None only for greedy sampling.
        min_ratio: fewest speech tokens per text token (without the prompt's) before the end may come; None takes the
            configuration's.
        max_ratio: most speech tokens per text token; None takes the configuration's.

    Raises:
        InputError: there is no text, or the ratios exclude each other.
        ModelError: the model computed not-a-number scores.
    """
    if not len(text):
        raise InputError("there is nothing to say: the text has no tokens, give at least one word")
    min_ratio = lm.config.min_ratio if min_ratio is None else min_ratio
    max_ratio = lm.config.max_ratio if max_ratio is None else max_ratio
    if not 0 <= min_ratio <= max_ratio:
        raise InputError(f"ratios must satisfy 0 <= min_ratio <= max_ratio, got {min_ratio} and {max_ratio}")
    training = lm.training
    lm.eval()
    try:
        whole = torch.cat((prompt_text, text)).unsqueeze(0)
        vector = None if speaker is None else speaker.unsqueeze(0)
        prefix = lm.prefix(whole, vector, prompt_speech.unsqueeze(0))
        shortest, longest = int(len(text) * min_ratio), int(len(text) * max_ratio)
        return _decode(lm, prefix, sampling, generator, shortest, longest)
    finally:
        lm.train(training)


def _decode(
    lm: LM, prefix: Tensor, sampling: SamplingConfig, generator: torch.Generator | None, shortest: int, longest: int
) -> Generated:
    cache = lm.new_cache()
    embedding = prefix
    tokens: list[int] = []
    while len(tokens) < longest:
        logits, cache = lm.step(embedding, cache)
        token = sample(logits[0], tokens, sampling, generator, forbid_end=len(tokens) < shortest)
        if token == lm.end_token:
            return Generated(tokens, stopped=True)
        tokens.append(token)
        embedding = lm.embed_speech(torch.tensor([[token]], device=prefix.device))
    return Generated(tokens, stopped=False)
