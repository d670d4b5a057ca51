"""Many requests at once: plan, decode, listen, try again, join.

Texts are cut into pieces; pieces of all requests are decoded beside each other, finished ones leave and waiting ones
enter; what is decoded is rendered in batches of like length; a piece that went wrong is decoded again with other random
numbers. Every random number belongs to a request, a piece and a try, so a request sounds as it would alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from cosytune.errors import CosytuneError, InputError, ModelError
from cosytune.models.lm.generate import Decoder, Generated, Job, token_limits
from cosytune.synthesis.conditions import Condition, Conditions
from cosytune.synthesis.guards import SILENT, GuardConfig, loop_length, sound_problem, token_guard
from cosytune.synthesis.pieces import TextPiece, cut_text, join
from cosytune.synthesis.rendering import Renderer, Rendering, derived_seed
from cosytune.synthesis.requests import Failure, Outcome, Piece, Request, Speech
from cosytune.synthesis.spending import Spending
from cosytune.units import Clock

__all__ = ["Engine", "Plan", "Try", "make_plan"]


@dataclass(frozen=True, eq=False)
class Plan:
    """A request made ready: what is decoded as whom.

    Attributes:
        request: the request.
        condition: who speaks.
        pieces: what is decoded at a time; one without text for a recording that is converted.
        ids: text tokens int64 [S] of each piece; none for a recording.
        source: speech tokens int64 [T] of a recording that is converted.
        spending: where the time goes.
    """

    request: Request
    condition: Condition
    pieces: list[TextPiece]
    ids: list[Tensor]
    source: Tensor | None
    spending: Spending

    def seed(self, piece: int, attempt: int) -> int:
        """The seed of one try of one piece."""
        return derived_seed(self.request.seed, piece, attempt)

    def job(self, piece: int, attempt: int, guards: GuardConfig, decoder: Decoder, clock: Clock) -> Job:
        """One try of one piece, for the LM."""
        shortest, longest = token_limits(decoder.config, len(self.ids[piece]))
        return Job(
            text=self.ids[piece],
            speaker=self.condition.lm_vector,
            prompt_text=self.condition.lm_text,
            prompt_speech=self.condition.lm_speech,
            shortest=shortest,
            longest=max(longest, round(guards.shortest_limit * clock.token_rate)),
            seed=derived_seed(self.seed(piece, attempt), "lm"),
            stop=token_guard(guards, clock.token_rate),
        )


def make_plan(request: Request, conditions: Conditions) -> Plan:
    """Analyse recordings, normalise and cut the text.

    Raises:
        InputError: nothing to say, a request that contradicts itself, an unknown voice, an unusable recording.
        ModelError: the model lacks what the mode needs.
    """
    spending = Spending()
    with Spending.shared([spending], "prompt"):
        condition = conditions.of_request(request)
        if request.mode == "conversion":
            if request.source_wave is None or request.source_rate is None:
                raise InputError(f"{request.name}: a recording to convert needs its sample rate")
            source = conditions.tokens_of(
                request.source_wave, request.source_rate, f"{request.name}: the recording to convert"
            )
            return Plan(request, condition, [TextPiece("", 0.0)], [], source, spending)
        try:
            pieces = cut_text(request.words, length=conditions.length, language=request.language)
        except InputError as error:
            raise InputError(f"{request.name}: {error}") from error
        return Plan(request, condition, pieces, [conditions.ids(piece.text) for piece in pieces], None, spending)


@dataclass(frozen=True, eq=False)
class Try:
    """One try of one piece.

    Attributes:
        tokens: speech tokens, a loop at their end cut off.
        ended: whether the LM ended it by itself.
        problem: what is wrong with it, in words, or None.
        badness: 0 for nothing wrong; of several tries the least bad is kept.
        wave: float32 [N] once it was rendered.
    """

    tokens: list[int]
    ended: bool
    problem: str | None = None
    badness: int = 0
    wave: np.ndarray | None = None


def judge_tokens(generated: Generated, guards: GuardConfig, clock: Clock) -> Try:
    """What the tokens alone tell about a try."""
    tokens = generated.tokens
    if not tokens:
        return Try([], True, "the model ended it before it said anything", 5)
    if generated.reason == "stop":
        kept = tokens[: len(tokens) - loop_length(tokens, round(guards.loop_seconds * clock.token_rate))]
        seconds = clock.seconds_of_tokens(len(kept))
        return Try(kept, False, f"it began to repeat itself and was cut off after {seconds:.1f} s", 2)
    if generated.reason == "limit":
        seconds = clock.seconds_of_tokens(len(tokens))
        return Try(tokens, False, f"it did not end by itself and was cut off after {seconds:.1f} s", 3)
    return Try(tokens, True)


@dataclass(eq=False)
class _Work:
    """One piece of one plan on its way.

    Attributes:
        open: the speech that it is a part of.
        piece: its number there.
        tries: finished tries; forgotten, with their waves, once one is kept.
        kept: the try that was chosen.
        retries: tries that were thrown away.
    """

    open: _Open
    piece: int
    tries: list[Try] = field(default_factory=list)
    kept: Try | None = None
    retries: int = 0

    def keep(self, attempt: Try) -> None:
        """Choose a try and let the others go."""
        self.kept, self.retries = attempt, len(self.tries) - 1
        self.tries = []


@dataclass(eq=False)
class _Open:
    """A request of which pieces are still missing."""

    number: int
    plan: Plan
    work: list[_Work] = field(default_factory=list)


Moved = Callable[[int, int], None]


class Engine:
    """One run over any number of requests."""

    def __init__(
        self, decoder: Decoder, renderer: Renderer, conditions: Conditions, guards: GuardConfig, rows: int
    ) -> None:
        self._decoder, self._renderer, self._conditions = decoder, renderer, conditions
        self._guards, self._rows = guards, rows
        self._clock = renderer.clock
        self._waiting: deque[_Work] = deque()
        self._at_work: dict[Job, _Work] = {}
        self._decoded: list[_Work] = []

    def run(self, requests: Iterable[Request], moved: Moved | None = None) -> Iterator[Outcome]:
        """Speak all requests; yields each as soon as it is complete, so not always in their order.

        Requests are read as there is room for them: a generator of a million texts does not fill the memory.

        Args:
            requests: to be spoken.
            moved: called with the pieces done and all pieces of a request, before its first and after each.

        Raises:
            ModelError: the LM computed not-a-number scores.
        """
        source = iter(enumerate(requests))
        decoding = self._decoder.begin(self._rows)
        drained = False
        while not (drained and not self._waiting and not len(decoding) and not self._decoded):
            while len(self._waiting) + len(self._decoded) < self._rows and not drained:
                following = next(source, None)
                if following is None:
                    drained = True
                elif failure := self._open(*following, moved):
                    yield failure
            newcomers = [
                self._job(self._waiting.popleft()) for _ in range(min(len(self._waiting), self._rows - len(decoding)))
            ]
            if newcomers:
                with Spending.shared(self._spendings(newcomers), "lm"):
                    decoding.enter(newcomers)
            if len(decoding):
                with Spending.shared(self._spendings(decoding.jobs), "lm"):
                    finished = decoding.advance()
                for job, generated in finished:
                    self._heard(self._at_work.pop(job), judge_tokens(generated, self._guards, self._clock))
            if len(self._decoded) >= min(self._renderer.rows, self._rows) or (self._decoded and not len(decoding)):
                yield from self._render(moved)

    def _spendings(self, jobs: Sequence[Job]) -> list[Spending]:
        return [self._at_work[job].open.plan.spending for job in jobs]

    def _open(self, number: int, request: Request, moved: Moved | None) -> Outcome | None:
        """Plan a request and put its pieces into the queue, or say why it cannot be met."""
        try:
            plan = make_plan(request, self._conditions)
        except CosytuneError as error:
            return Outcome(number, request, Failure(error))
        opened = _Open(number, plan)
        opened.work = [_Work(opened, piece) for piece in range(len(plan.pieces))]
        if plan.source is None:
            self._waiting += opened.work
        else:
            opened.work[0].tries.append(Try(plan.source.tolist(), True))
            self._decoded += opened.work
        if moved is not None:
            moved(0, len(opened.work))
        return None

    def _job(self, work: _Work) -> Job:
        plan = work.open.plan
        job = plan.job(work.piece, len(work.tries), self._guards, self._decoder, self._clock)
        self._at_work[job] = work
        return job

    def _heard(self, work: _Work, attempt: Try) -> None:
        """Take a finished try: to be rendered, or to be tried again."""
        work.tries.append(attempt)
        if attempt.badness and len(work.tries) <= self._guards.retries:
            self._waiting.appendleft(work)
        else:
            self._decoded.append(work)

    def _render(self, moved: Moved | None) -> Iterator[Outcome]:
        """Make the decoded pieces audible and listen to them; yields requests that are complete now."""
        batch, self._decoded = self._decoded, []
        chosen = [min(range(len(work.tries)), key=lambda index: _order(work.tries[index])) for work in batch]
        needed = [
            (work, index)
            for work, index in zip(batch, chosen, strict=True)
            if work.tries[index].tokens and work.tries[index].wave is None
        ]
        waves = self._renderer.render([self._rendering(work, index) for work, index in needed])
        for (work, index), wave in zip(needed, waves, strict=True):
            work.tries[index] = self._listened(work, work.tries[index], wave)
        for work, index in zip(batch, chosen, strict=True):
            if not self._settled(work, work.tries[index]):
                continue
            done = sum(each.kept is not None for each in work.open.work)
            if moved is not None:
                moved(done, len(work.open.work))
            if done == len(work.open.work):
                yield self._complete(work.open)

    def _settled(self, work: _Work, heard: Try) -> bool:
        """Keep a try of a piece, now that one was heard; False sends the piece round once more."""
        if heard.problem == _NOT_NUMBERS:
            work.keep(heard)
            return True
        if heard.badness and work.open.plan.source is None and len(work.tries) <= self._guards.retries:
            self._waiting.appendleft(work)
            return False
        best = min(work.tries, key=_order)
        if best.tokens and best.wave is None:
            # What was rendered turned out worse than a try that was put aside: that one is heard now.
            self._decoded.append(work)
            return False
        work.keep(best)
        return True

    def _rendering(self, work: _Work, index: int) -> Rendering:
        plan = work.open.plan
        tokens = torch.tensor(work.tries[index].tokens, dtype=torch.int64)
        return Rendering(tokens, plan.condition, plan.seed(work.piece, index), plan.request.speed, plan.spending)

    def _listened(self, work: _Work, attempt: Try, wave: np.ndarray) -> Try:
        if not np.isfinite(wave).all():
            return replace(attempt, problem=_NOT_NUMBERS, badness=9, wave=wave)
        speed = work.open.plan.request.speed
        problem = sound_problem(wave, self._renderer.sample_rate, self._guards, speed)
        if attempt.problem is None and problem is not None and work.open.plan.source is None:
            return replace(attempt, problem=problem, badness=4 if problem == SILENT else 1, wave=wave)
        return replace(attempt, wave=wave)

    def _complete(self, done: _Open) -> Outcome:
        plan = done.plan
        kept = [work.kept for work in done.work if work.kept is not None]
        if any(each.problem == _NOT_NUMBERS for each in kept):
            error = ModelError(
                f"{plan.request.name}: flow or vocoder computed samples that are not numbers: their weights are "
                "damaged (cosytune inspect MODEL --verify finds out which), load another start"
            )
            return Outcome(done.number, plan.request, Failure(error))
        silence = np.zeros(0, dtype=np.float32)
        rate = self._renderer.sample_rate
        waves = [silence if each.wave is None else each.wave for each in kept]
        wave, starts = join(waves, [piece.pause for piece in plan.pieces], rate)
        ends = [*starts[1:], len(wave)]
        pieces = [
            Piece(text.text, attempt.tokens, attempt.ended, attempt.problem, work.retries, start / rate,
                  (end - start) / rate)
            for text, attempt, work, start, end in zip(plan.pieces, kept, done.work, starts, ends, strict=True)
        ]  # fmt: skip
        speech = Speech(wave, rate, plan.request.mode, pieces, dict(plan.spending.seconds))
        return Outcome(done.number, plan.request, speech)


_NOT_NUMBERS = "samples that are not numbers"


def _order(attempt: Try) -> tuple[int, bool]:
    """The least bad try first, of equally bad ones one that was heard."""
    return attempt.badness, attempt.wave is None
