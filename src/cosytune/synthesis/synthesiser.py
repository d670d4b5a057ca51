"""One model that speaks: a request, a thousand requests, or a stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cosytune.errors import InputError
from cosytune.models.agreement import check_text_tokens
from cosytune.models.extractors import FrontEnds
from cosytune.models.flow.solver import SolverConfig
from cosytune.models.folder import Model
from cosytune.models.lm.generate import Decoder
from cosytune.models.lm.sampling import SamplingConfig
from cosytune.models.voices import Voice
from cosytune.synthesis.conditions import Conditions
from cosytune.synthesis.engine import Engine, make_plan
from cosytune.synthesis.guards import GuardConfig
from cosytune.synthesis.rendering import Renderer, Rendering
from cosytune.synthesis.requests import Failure, Outcome, Request, Speech
from cosytune.synthesis.spending import Spending
from cosytune.synthesis.streaming import SpeechStream, StreamConfig
from cosytune.text.tokenizers import load_tokenizer

__all__ = ["PRECISIONS", "Precision", "Synthesiser"]

Precision = Literal["float32", "bfloat16"]
PRECISIONS: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}

RENDERED_TOGETHER = 8
"""Most pieces in one batch of flow and vocoder."""


class Synthesiser:
    """Speaks with one model.

    Requests do not influence each other: every request has its own random numbers, and in float32 it has the same
    tokens whatever is decoded beside it.
    """

    def __init__(
        self,
        model: Model,
        *,
        precision: Precision = "float32",
        device: str | torch.device = "cpu",
        sampling: SamplingConfig | None = None,
        solver: SolverConfig | None = None,
        guards: GuardConfig | None = None,
        rows: int = 16,
    ) -> None:
        """Make copies of the model's networks that are laid out for speaking.

        Args:
            model: from `read_model`; its LM, flow and vocoder are moved to `device`.
            precision: of the products; bfloat16 is faster on processors and GPUs that have it, and not quite the same.
            device: where the networks run; prompts are analysed on the processor.
            sampling: how speech tokens are drawn.
            solver: steps of the flow.
            guards: when a piece counts as gone wrong.
            rows: pieces that are decoded beside each other.

        Raises:
            InputError: an unknown precision, a device that is not there, or fewer than one row.
            ModelError: LM, flow or vocoder is missing, or the LM reads with a text tokenizer that cosytune lacks.
        """
        if precision not in PRECISIONS:
            raise InputError(f"there is no precision {precision!r}; give {' or '.join(PRECISIONS)}")
        if rows < 1:
            raise InputError(f"{rows} pieces were to be decoded at once; give 1 or more (16 is a good number)")
        self.model = model
        self.rows = rows
        self.guards = guards or GuardConfig()
        tokenizer = load_tokenizer(model.tokenizer.kind, model.tokenizer.data)
        self._conditions = Conditions(model, tokenizer)
        for part in ("lm", "flow", "vocoder"):
            model.part(part)
        check_text_tokens(model, tokenizer.vocabulary_size)
        _move(model, device)
        dtype = PRECISIONS[precision]
        self._decoder = Decoder(model.part("lm"), dtype=dtype, sampling=sampling)
        self._renderer = Renderer(model, dtype=dtype, solver=solver or SolverConfig(), rows=RENDERED_TOGETHER)

    @property
    def sample_rate(self) -> int:
        """Hz of the speech."""
        return self.model.clock.sample_rate

    @property
    def front_ends(self) -> FrontEnds:
        """The model's own analysis networks, needed for recordings only.

        Raises:
            ModelError: the model folder does not contain them.
        """
        return self._conditions.front_ends

    def speak(self, request: Request, progress: Callable[[int, int], None] | None = None) -> Speech:
        """Say one text; its pieces are decoded beside each other.

        Args:
            request: what, with which voice.
            progress: called with the pieces done and all pieces, before the first and after each.

        Raises:
            InputError: nothing to say, a request that contradicts itself, an unknown voice or an unusable recording.
            ModelError: the model's text tokenizer, voices or front ends do not fit its networks.
        """
        with torch.inference_mode():
            outcome = next(self._engine().run([request], None if progress is None else _ours(progress)))
        if isinstance(outcome.result, Failure):
            raise outcome.result.error
        return outcome.result

    def speak_all(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Say many texts at once; yields each as soon as it is complete, so not always in their order.

        A request that cannot be met becomes a `Failure` and does not stop the others. Requests are read as there is
        room for them.

        Raises:
            ModelError: the LM computed not-a-number scores.
        """
        running = self._engine().run(_theirs(requests))
        while True:
            # Not around the whole loop: the mode would leak into the caller's code between two outcomes.
            with torch.inference_mode():
                outcome = next(running, None)
            if outcome is None:
                return
            yield outcome

    def stream(self, request: Request, config: StreamConfig | None = None) -> SpeechStream:
        """Say one text piece by piece as it is made; see `SpeechStream`.

        Raises:
            InputError, ModelError: as `speak`; also a speed other than 1.
        """
        began = time.perf_counter()
        plan = make_plan(request, self._conditions)
        return SpeechStream(plan, self._decoder, self._renderer, self.guards, config or StreamConfig(), began)

    def voice_of(self, wave: np.ndarray, sample_rate: int, text: str | None = None) -> Voice:
        """The voice of a recording, to be kept under a name (`Model.voices`, `add_voice`).

        Args:
            wave: float32 [N] at `sample_rate` Hz, at most 30 s, 5 to 13 s work best.
            text: what is said in it; with it the voice clones zero-shot, without it only its sound is taken.

        Raises:
            InputError: the recording or its text cannot be used.
            ModelError: the model folder does not contain the front ends.
        """
        return self._conditions.voice_of(wave, sample_rate, text, "the recording")

    def resynthesise(
        self, wave: np.ndarray, sample_rate: int, *, vector: Tensor | None = None, seed: int = 0
    ) -> np.ndarray:
        """Copy-synthesis: a recording's own tokens through flow and vocoder, the ceiling of what the LM could reach.

        Args:
            wave: float32 [N] at `sample_rate` Hz.
            vector: speaker vector [E]; the recording's own if not given.
            seed: of the flow's and the vocoder's noise.

        Raises:
            InputError: the recording is too short or cannot be used.
            ModelError: the model folder does not contain the front ends.
        """
        tokens = self._conditions.tokens_of(wave, sample_rate, "the recording")
        if vector is None:
            vector = self._conditions.vector_of(wave, sample_rate, "the recording")
        if self.model.clock.frames_of_tokens(len(tokens)) == 0:
            return np.zeros(0, dtype=np.float32)
        condition = self._conditions.of_vector(vector)
        return self._renderer.render([Rendering(tokens, condition, seed, 1.0, Spending())])[0]

    def _engine(self) -> Engine:
        return Engine(self._decoder, self._renderer, self._conditions, self.guards, self.rows)


def _ours(progress: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """The caller's code, which shall not notice that it is called in inference mode."""

    def moved(done: int, total: int) -> None:
        with torch.inference_mode(False):
            progress(done, total)

    return moved


def _theirs(requests: Iterable[Request]) -> Iterator[Request]:
    """Requests from the caller's code, which shall not notice it either."""
    source = iter(requests)
    while True:
        with torch.inference_mode(False):
            request = next(source, None)
        if request is None:
            return
        yield request


def _move(model: Model, device: str | torch.device) -> None:
    try:
        for part in ("lm", "flow", "vocoder"):
            model.part(part).to(device)
    except (RuntimeError, AssertionError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"the device {device!r} cannot be used ({first}); give cpu, or cuda where a GPU is") from error
