"""From a request to a wave: the only place where the five parts meet at run time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cosytune.audio.resample import resample
from cosytune.errors import InputError, ModelError
from cosytune.models.agreement import check_text_tokens
from cosytune.models.extractors import FrontEnds
from cosytune.models.flow.solver import synthesise
from cosytune.models.folder import Model
from cosytune.models.lm.generate import generate
from cosytune.models.lm.sampling import SamplingConfig
from cosytune.synthesis.requests import Request, Speech
from cosytune.text.frontend import prepare_text
from cosytune.text.tokenizers import load_tokenizer
from cosytune.units import FEATURE_SAMPLE_RATE, samples_of_seconds

__all__ = ["Synthesiser"]

PAUSE_SECONDS = 0.15
"""Silence between the sentences of one text."""

LONGEST_PROMPT_SECONDS = 30.0


@dataclass(frozen=True)
class _Condition:
    """What one request says about voice.

    Attributes:
        vector: speaker vector [1, E].
        lm_text, lm_speech: the prompt's text [S] and tokens [T] that the LM goes on from; empty without a transcript.
        flow_tokens, flow_mel: the prompt's tokens [1, T] and mel [1, M, F] that the flow goes on from.
    """

    vector: Tensor
    lm_text: Tensor
    lm_speech: Tensor
    flow_tokens: Tensor
    flow_mel: Tensor


class Synthesiser:
    """Speaks with one model.

    Requests do not influence each other: every request has its own random generator.
    """

    def __init__(self, model: Model, *, sampling: SamplingConfig | None = None, steps: int = 10) -> None:
        """Take the networks of `model` in evaluation mode.

        Raises:
            ModelError: LM, flow or vocoder is missing, or the LM reads with a text tokenizer that cosytune lacks.
        """
        self.model = model
        self.sampling = sampling or SamplingConfig()
        self.steps = steps
        self._lm = model.part("lm").eval()
        self._flow = model.part("flow").eval()
        self._vocoder = model.part("vocoder").eval()
        self._tokenizer = load_tokenizer(model.tokenizer.kind, model.tokenizer.data)
        self._front_ends: FrontEnds | None = None
        check_text_tokens(model, self._tokenizer.vocabulary_size)

    @property
    def sample_rate(self) -> int:
        """Hz of the speech."""
        return self.model.clock.sample_rate

    @property
    def front_ends(self) -> FrontEnds:
        """The model's own analysis networks, needed for prompts only.

        Raises:
            ModelError: the model folder does not contain them.
        """
        if self._front_ends is None:
            self._front_ends = FrontEnds(self.model)
        return self._front_ends

    @torch.inference_mode()
    def speak(self, request: Request, progress: Callable[[int, int], None] | None = None) -> Speech:
        """Say one text.

        Args:
            request: what, with which voice.
            progress: called with the sentences done and all sentences, before the first and after each.

        Raises:
            InputError: nothing to say, an unknown voice, neither or both of voice and prompt, or an unusable prompt.
            ModelError: the model's text tokenizer, voices or front ends do not fit its networks.
        """
        pieces = prepare_text(request.text, length=self._length, language=request.language)
        if not pieces:
            raise InputError(
                f"{request.name}: there is nothing to say in {request.text[:40]!r}; give text with words in it"
            )
        texts = [self._ids(piece) for piece in pieces]
        spent = {"prompt": 0.0, "lm": 0.0, "flow": 0.0, "vocoder": 0.0}
        with _timed(spent, "prompt"):
            condition = self._condition(request)
        generator = torch.Generator().manual_seed(request.seed)
        waves, tokens, ended = [], [], []
        for done, text in enumerate(texts):
            if progress is not None:
                progress(done, len(texts))
            with _timed(spent, "lm"):
                spoken = generate(
                    self._lm,
                    text,
                    condition.vector[0],
                    condition.lm_text,
                    condition.lm_speech,
                    sampling=self.sampling,
                    generator=generator,
                )
            tokens.append(spoken.tokens)
            ended.append(spoken.stopped)
            waves.append(self._render(torch.tensor([spoken.tokens], dtype=torch.int64), condition, generator, spent))
        if progress is not None:
            progress(len(texts), len(texts))
        return Speech(self._join(waves), self.sample_rate, pieces, tokens, ended, spent)

    @torch.inference_mode()
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
        _check_recording(wave, sample_rate, "the recording")
        listened = resample(wave, sample_rate, FEATURE_SAMPLE_RATE)
        tokens = torch.from_numpy(self.front_ends.tokens([listened])[0])[None]
        if vector is None:
            vector = torch.from_numpy(self.front_ends.embedding([listened])[0])
        condition = self._condition_of_vector(vector)
        return self._render(tokens, condition, torch.Generator().manual_seed(seed), {"flow": 0.0, "vocoder": 0.0})

    def _length(self, text: str) -> int:
        return len(self._tokenizer.encode(text))

    def _ids(self, text: str) -> Tensor:
        """Text tokens int64 [S]."""
        ids = self._tokenizer.encode(text)
        known = self._lm.config.text_vocabulary
        if ids and max(ids) >= known:
            raise ModelError(
                f"{text[:40]!r} has the text token {max(ids)}, but the LM of {self.model.name} knows {known} of them: "
                f"the {self.model.tokenizer.kind} tokenizer is not what it was trained with, so it cannot speak this"
            )
        return torch.tensor(ids, dtype=torch.int64)

    def _render(
        self, tokens: Tensor, condition: _Condition, generator: torch.Generator, spent: dict[str, float]
    ) -> np.ndarray:
        clock = self.model.clock
        frames = clock.frames_of_tokens(tokens.shape[1])
        if frames == 0:
            return np.zeros(0, dtype=np.float32)
        with _timed(spent, "flow"):
            mel = synthesise(
                self._flow,
                tokens,
                condition.flow_tokens,
                condition.flow_mel,
                condition.vector,
                frames=frames,
                frames_per_token=clock.frames_per_token,
                generator=generator,
                steps=self.steps,
            )
        with _timed(spent, "vocoder"):
            return self._vocoder(mel, generator=generator)[0].numpy()

    def _join(self, waves: list[np.ndarray]) -> np.ndarray:
        pause = np.zeros(samples_of_seconds(PAUSE_SECONDS, self.sample_rate), dtype=np.float32)
        joined = [waves[0]]
        for wave in waves[1:]:
            joined += [pause, wave]
        return np.concatenate(joined)

    def _condition(self, request: Request) -> _Condition:
        if (request.voice is None) == (request.prompt_wave is None):
            raise InputError(f"{request.name}: give either a voice or a prompt recording")
        if request.voice is None:
            return self._condition_of_prompt(request)
        if request.prompt_text is not None:
            raise InputError(
                f"{request.name}: a prompt text says what is said in a prompt recording; give that recording, not the "
                f"voice {request.voice!r}, or leave the prompt text out"
            )
        if request.voice not in self.model.voices:
            known = ", ".join(sorted(self.model.voices)) or "none"
            raise InputError(
                f"{request.name}: model {self.model.name} has no voice {request.voice!r}; its voices: {known}; "
                "or give a prompt recording"
            )
        return self._condition_of_vector(self.model.voices[request.voice])

    def _condition_of_vector(self, vector: Tensor) -> _Condition:
        width = self._lm.config.speaker_width
        if vector.numel() != width:
            raise ModelError(
                f"a speaker vector of {vector.numel()} numbers was given, model {self.model.name} takes {width}; use a "
                "vector made by this model"
            )
        return _Condition(
            vector.reshape(1, -1).float(),
            torch.zeros(0, dtype=torch.int64),
            torch.zeros(0, dtype=torch.int64),
            torch.zeros(1, 0, dtype=torch.int64),
            torch.zeros(1, self.model.mel.bins, 0),
        )

    def _condition_of_prompt(self, request: Request) -> _Condition:
        wave, rate = request.prompt_wave, request.prompt_rate
        if wave is None or rate is None:
            raise InputError(f"{request.name}: a prompt recording needs its sample rate")
        _check_recording(wave, rate, f"{request.name}: the prompt recording")
        if len(wave) > LONGEST_PROMPT_SECONDS * rate:
            raise InputError(
                f"{request.name}: the prompt recording has {len(wave) / rate:.1f} s; at most "
                f"{LONGEST_PROMPT_SECONDS:.0f} s are understood, 5 to 13 s work best; cut it"
            )
        listened = resample(wave, rate, FEATURE_SAMPLE_RATE)
        tokens = torch.from_numpy(self.front_ends.tokens([listened])[0])
        vector = torch.from_numpy(self.front_ends.embedding([listened]))
        mel = torch.from_numpy(self.front_ends.mel(resample(wave, rate, self.sample_rate)))[None]
        if (ratio := self.front_ends.frames_per_token) is not None:
            count = min(len(tokens), mel.shape[2] // ratio)
            tokens, mel = tokens[:count], mel[:, :, : count * ratio]
        empty = torch.zeros(0, dtype=torch.int64)
        if request.prompt_text is None:
            return _Condition(vector, empty, empty, tokens[None], mel)
        # Prompt and text meet as ids, not as strings: tokens must not grow together across the seam.
        said = prepare_text(request.prompt_text, length=self._length, split=False)
        return _Condition(vector, self._ids("".join(said)), tokens, tokens[None], mel)


def _check_recording(wave: np.ndarray, rate: int, what: str) -> None:
    if wave.ndim != 1 or rate <= 0 or not np.isfinite(wave).all():
        raise InputError(
            f"{what} has shape {list(wave.shape)} at {rate} Hz; give one channel of finite samples and its rate"
        )


@contextmanager
def _timed(spent: dict[str, float], part: str) -> Iterator[None]:
    began = time.perf_counter()
    try:
        yield
    finally:
        spent[part] += time.perf_counter() - began
