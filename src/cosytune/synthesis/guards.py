"""Hearing that decoding has gone wrong: babble without end, the same thing over and over, silence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cosytune.audio.silence import longest_pause, speech_bounds
from cosytune.errors import InputError

__all__ = ["SILENT", "GuardConfig", "loop_length", "sound_problem", "token_guard"]

CHECK_EVERY = 5
"""Tokens between two looks for a loop: the look costs more than a token's share of a batched step."""

SILENT = "nothing but silence"
"""What `sound_problem` says of a piece without any sound; everything else it says is about a pause."""

REPEATS = 3
"""How often something must be said in a row to count as a loop."""


@dataclass(frozen=True)
class GuardConfig:
    """When to stop and try again.

    Attributes:
        retries: further tries for a piece that went wrong, each with other random numbers; the best one is kept.
        loop_seconds: how long the same tokens may repeat; a held vowel or a pause is shorter.
        longest_pause: seconds of silence inside a piece that are still taken for a pause.
        shortest_limit: seconds that even the shortest text may take: a released model's limit of 20 tokens per text
            token would cut a single word after 0.4 s.
    """

    retries: int = 2
    loop_seconds: float = 1.2
    longest_pause: float = 1.5
    shortest_limit: float = 3.0

    def __post_init__(self) -> None:
        """Refuse numbers that switch a guard into nonsense.

        Raises:
            InputError: a negative number of retries, or a duration that is not positive.
        """
        if self.retries < 0 or min(self.loop_seconds, self.longest_pause, self.shortest_limit) <= 0:
            raise InputError(f"guards need retries of 0 or more and durations above 0 s, not {self}")


def loop_length(tokens: Sequence[int], span: int) -> int:
    """Tokens at the end that only repeat what stands before them; 0 if they do so for less than `span` tokens.

    A loop of period p is the same p tokens at least three times in a row and for at least `span` tokens. The first
    round is not counted: without the loop's length the tokens say everything once.
    """
    tokens = list(tokens)
    if len(tokens) < span:
        return 0
    for period in range(1, min(span // (REPEATS - 1), len(tokens) // REPEATS) + 1):
        repeated = max(span, REPEATS * period) - period
        if tokens[-repeated:] != tokens[-repeated - period : -period]:
            continue
        while repeated + period < len(tokens) and tokens[-repeated - 1] == tokens[-repeated - 1 - period]:
            repeated += 1
        return repeated
    return 0


def token_guard(config: GuardConfig, token_rate: int) -> Callable[[Sequence[int]], bool]:
    """For `Job.stop`: whether the tokens so far end in a loop."""
    span = max(REPEATS, round(config.loop_seconds * token_rate))

    def loops(tokens: Sequence[int]) -> bool:
        return len(tokens) % CHECK_EVERY == 0 and loop_length(tokens, span) > 0

    return loops


def sound_problem(wave: np.ndarray, sample_rate: int, config: GuardConfig, speed: float = 1.0) -> str | None:
    """What is wrong with a spoken piece [N], in words, or None; pauses count as they were before the speed changed."""
    first, last = speech_bounds(wave, sample_rate)
    if first == last:
        return SILENT
    pause = longest_pause(wave, sample_rate) * speed
    return f"a pause of {pause:.1f} s" if pause > config.longest_pause else None
