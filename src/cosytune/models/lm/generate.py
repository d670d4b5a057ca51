"""Decoding speech tokens for many texts at once: rows that end leave, waiting ones enter."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cosytune.errors import InputError
from cosytune.models.layers.decoding import StepwiseEncoder
from cosytune.models.layers.masks import length_mask
from cosytune.models.layers.packed import PackedLinear, pack_linears
from cosytune.models.lm.config import LMConfig
from cosytune.models.lm.model import LM
from cosytune.models.lm.sampling import SamplingConfig, sample

__all__ = ["Decoder", "Decoding", "Generated", "Job", "decode_all", "generate", "token_limits"]

PREFIX_POSITIONS = 2048
"""Positions of prefixes that are taken in at once, padding included: the more, the more memory for attention."""


@dataclass(frozen=True, eq=False)
class Job:
    """One text to be decoded; its result does not depend on what is decoded beside it.

    Attributes:
        text: int64 [S] to be spoken.
        speaker: [E] or None; without it the speaker's position does not exist.
        prompt_text: int64 [S'], what the prompt says; may be empty.
        prompt_speech: int64 [T'], how the prompt says it; may be empty.
        shortest: speech tokens before the end may come.
        longest: speech tokens after which it is cut off.
        seed: of this job's own random numbers.
        stop: called with the tokens so far after each one; True cuts it off. Guards against babble hang in here.
    """

    text: Tensor
    speaker: Tensor | None
    prompt_text: Tensor
    prompt_speech: Tensor
    shortest: int
    longest: int
    seed: int = 0
    stop: Callable[[Sequence[int]], bool] | None = None

    def __post_init__(self) -> None:
        """Check what would otherwise fail in the middle of other jobs.

        Raises:
            InputError: there is no text, or the limits exclude each other.
        """
        if not len(self.text):
            raise InputError("there is nothing to say: the text has no tokens, give at least one word")
        if not 0 <= self.shortest <= self.longest or self.longest < 1:
            raise InputError(
                f"a text of {len(self.text)} tokens was to become at least {self.shortest} and at most {self.longest} "
                "speech tokens; give limits with 0 <= shortest <= longest and longest at least 1"
            )


@dataclass(frozen=True)
class Generated:
    """What was decoded.

    Attributes:
        tokens: speech tokens, the prompt's and the end token excluded.
        reason: "end" when the model ended the speech, "limit" when the length did, "stop" when the job's guard did.
    """

    tokens: list[int]
    reason: Literal["end", "limit", "stop"]


def token_limits(config: LMConfig, text_tokens: int) -> tuple[int, int]:
    """Fewest and most speech tokens for a text of so many tokens (the prompt's do not count), by the model's ratios."""
    return int(text_tokens * config.min_ratio), int(text_tokens * config.max_ratio)


class Decoder:
    """A language model made ready to speak: its weights copied and laid out for the products that decoding needs.

    The text is encoded in `dtype`. Behind it only the products are computed in `dtype`; norms, softmax, the residual
    stream and the scores of the tokens in float32.
    """

    def __init__(self, lm: LM, *, dtype: torch.dtype = torch.float32, sampling: SamplingConfig | None = None) -> None:
        """Copy the weights of the encoders and the head of `lm`; embeddings and projections are shared.

        `lm` stays as it is. After its weights have changed, make a new decoder.
        """
        self.sampling = sampling or SamplingConfig()
        self.dtype = dtype
        self.device = lm.head.weight.device
        self._lm = lm
        self._text_encoder = copy.deepcopy(lm.text_encoder).eval().to(dtype)
        pack_linears(self._text_encoder, dtype)
        self._stack = StepwiseEncoder(lm.decoder, dtype)
        # In bfloat16 many scores would tie, and the nucleus would be cut at random.
        self._head = PackedLinear(lm.head.weight, lm.head.bias, torch.float32)

    @property
    def config(self) -> LMConfig:
        """Sizes of the language model."""
        return self._lm.config

    @property
    def end_token(self) -> int:
        """Class of the end of speech."""
        return self._lm.end_token

    @torch.no_grad()
    def prefixes(self, jobs: Sequence[Job]) -> list[Tensor]:
        """Everything before the first token to decode, float32 [P_i, D] of each job."""
        lm = self._lm
        texts = [torch.cat((job.prompt_text, job.text)) for job in jobs]
        lengths = torch.tensor([len(text) for text in texts], device=self.device)
        size = int(lengths.max())
        padded = torch.stack([F.pad(text, (0, size - len(text))) for text in texts]).to(self.device)
        mask = length_mask(lengths, size)
        encoded = self._text_encoder(lm.text_embedding(padded).to(self.dtype), mask).float()
        encoded = lm.text_projection(encoded)
        return [
            lm.prefix(
                row[None, : len(text)],
                None if job.speaker is None else job.speaker[None].to(self.device),
                job.prompt_speech[None].to(self.device),
            )[0].float()
            for row, text, job in zip(encoded, texts, jobs, strict=True)
        ]

    def begin(self, rows: int) -> Decoding:
        """An empty run with room for `rows` jobs at once."""
        return Decoding(self, self._stack, self._head, rows)

    @torch.no_grad()
    def embed(self, tokens: Sequence[int]) -> Tensor:
        """[R, D] of one speech token per row."""
        return self._lm.embed_speech(torch.tensor(tokens, device=self.device))


@dataclass(eq=False)
class _Row:
    """A job at work."""

    job: Job
    generator: torch.Generator
    tokens: list[int] = field(default_factory=list)


class Decoding:
    """The state of one run: which jobs are at work, what they have said and what the model remembers of it.

    Attributes:
        scores: float32 [R, V + 1] of the token that each of `jobs` says next.
    """

    def __init__(self, decoder: Decoder, stack: StepwiseEncoder, head: PackedLinear, rows: int) -> None:
        self._decoder = decoder
        self._stack = stack
        self._head = head
        self._cache = stack.new_cache(rows)
        self._rows: list[_Row] = []
        self.scores = torch.zeros(0, decoder.end_token + 1)

    def __len__(self) -> int:
        """Jobs at work."""
        return len(self._rows)

    @property
    def jobs(self) -> list[Job]:
        """Jobs at work."""
        return [row.job for row in self._rows]

    def spoken(self, job: Job) -> list[int]:
        """Tokens so far of a job at work.

        Raises:
            ValueError: it is not at work.
        """
        for row in self._rows:
            if row.job is job:
                return row.tokens
        raise ValueError("this job is not at work: it has not entered, or has ended")

    def enter(self, jobs: Sequence[Job]) -> None:
        """Take jobs in; they say their first token at the next `advance`."""
        prefixes = self._decoder.prefixes(jobs) if jobs else []
        for group in _groups([len(prefix) for prefix in prefixes]):
            hidden = self._stack.enter([prefixes[index] for index in group], self._cache)
            self.scores = torch.cat((self.scores, self._head(hidden).cpu()))
            for index in group:
                generator = torch.Generator().manual_seed(jobs[index].seed)
                self._rows.append(_Row(jobs[index], generator))

    def advance(self) -> list[tuple[Job, Generated]]:
        """Say one token in each row; returns the jobs that are done with it, which have left.

        Raises:
            ModelError: the model computed not-a-number scores.
        """
        if not self._rows:
            return []
        rows = self._rows
        tokens = sample(
            self.scores,
            [row.tokens for row in rows],
            self._decoder.sampling,
            [row.generator for row in rows],
            [len(row.tokens) < row.job.shortest for row in rows],
        )
        done = [(row, result) for row, token in zip(rows, tokens, strict=True) if (result := self._say(row, token))]
        self._leave({row for row, _ in done})
        if self._rows:
            newest = self._decoder.embed([row.tokens[-1] for row in self._rows])
            self.scores = self._head(self._stack.step(newest, self._cache)).cpu()
        return [(row.job, result) for row, result in done]

    def _say(self, row: _Row, token: int) -> Generated | None:
        if token == self._decoder.end_token:
            return Generated(row.tokens, "end")
        row.tokens.append(token)
        if len(row.tokens) >= row.job.longest:
            return Generated(row.tokens, "limit")
        if row.job.stop is not None and row.job.stop(row.tokens):
            return Generated(row.tokens, "stop")
        return None

    def _leave(self, gone: set[_Row]) -> None:
        """Drop rows the way the cache does: the last row takes the place of one that leaves."""
        numbers = list(range(len(self._rows)))
        for index in reversed(range(len(numbers))):
            if self._rows[index] in gone:
                self._cache.drop(index)
                self._rows[index] = self._rows[-1]
                numbers[index] = numbers[-1]
                self._rows.pop()
                numbers.pop()
        self.scores = self.scores[numbers]


def _groups(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Neighbours in length, so many at once that padded together they stay within `PREFIX_POSITIONS`."""
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if group and (len(group) + 1) * lengths[group[0]] > PREFIX_POSITIONS:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def decode_all(decoder: Decoder, waiting: deque[Job], rows: int) -> Iterator[tuple[Job, Generated]]:
    """Decode until nobody waits, at most `rows` jobs at a time; yields each job as it ends.

    Jobs may be added to `waiting` while this runs: a second try enters beside the first tries of others.

    Raises:
        InputError: fewer than one row.
        ModelError: the model computed not-a-number scores.
    """
    if rows < 1:
        raise InputError(f"{rows} texts were to be decoded at once; give 1 or more (16 is a good number)")
    decoding = decoder.begin(rows)
    while waiting or len(decoding):
        newcomers = [waiting.popleft() for _ in range(min(len(waiting), rows - len(decoding)))]
        if newcomers:
            decoding.enter(newcomers)
        yield from decoding.advance()


def generate(decoder: Decoder, job: Job) -> Generated:
    """Decode one job alone."""
    return next(decode_all(decoder, deque([job]), rows=1))[1]
