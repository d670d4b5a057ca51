"""What the networks are told about who speaks: from a request to vectors, prompt tokens and prompt mel."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cosytune.audio.files import read_wave, wave_info
from cosytune.audio.resample import resample
from cosytune.audio.silence import speech_bounds
from cosytune.errors import InputError, ModelError
from cosytune.models.agreement import check_voice
from cosytune.models.extractors import FrontEnds
from cosytune.models.folder import Model
from cosytune.models.voices import Voice, VoicePrompt
from cosytune.synthesis.requests import END_OF_PROMPT, Request
from cosytune.text.frontend import prepare_text
from cosytune.text.tokenizers import TextTokenizer
from cosytune.units import FEATURE_SAMPLE_RATE

__all__ = ["Condition", "Conditions", "read_recording"]

LONGEST_SECONDS = 30.0
"""Of a recording: beyond it the released speech tokenizers have no positions."""

REMEMBERED = 32
"""Prompt recordings whose analysis is kept: a thousand sentences with one prompt analyse it once."""

LOUDEST = 10.0
"""Magnitude of a sample that is still taken for speech that is too loud; integers read as they are have 32,768."""

LONGEST_PROMPT_TEXT = 1000
"""Text tokens of an instruction or of what a prompt says; 30 s of speech have 100 to 400."""

_NO_IDS = torch.zeros(0, dtype=torch.int64)


@dataclass(frozen=True)
class Condition:
    """Who speaks, as LM and flow are told.

    Attributes:
        lm_vector: [E], or None where the speaker's position must be absent (instruct).
        lm_text, lm_speech: int64 [S] and [T], the prompt's text and tokens that the LM goes on from.
        flow_vector: [E].
        flow_tokens, flow_mel: int64 [T'] and float32 [M, F'], the prompt that the flow goes on from.
    """

    lm_vector: Tensor | None
    lm_text: Tensor
    lm_speech: Tensor
    flow_vector: Tensor
    flow_tokens: Tensor
    flow_mel: Tensor


class Conditions:
    """Makes conditions for one model; recordings are analysed once and remembered by their content."""

    def __init__(self, model: Model, tokenizer: TextTokenizer) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._front_ends: FrontEnds | None = None
        self._remembered: dict[str, Voice] = {}

    @property
    def front_ends(self) -> FrontEnds:
        """The model's own analysis networks, needed for recordings only.

        Raises:
            ModelError: the model folder does not contain them.
        """
        if self._front_ends is None:
            self._front_ends = FrontEnds(self._model)
        return self._front_ends

    def of_request(self, request: Request) -> Condition:
        """The condition of a request, by its mode.

        Raises:
            InputError: the request contradicts itself, an unknown voice, or an unusable recording.
            ModelError: the model lacks what the mode needs.
        """
        mode = request.mode
        condition = _of_voice(self._voice(request), self._model.mel.bins)
        if mode == "instruct":
            # Released instruct models were trained without the speaker's position (specification, 4.7).
            return replace(condition, lm_vector=None, lm_text=self._instruction(request), lm_speech=_NO_IDS)
        return condition

    def of_vector(self, vector: Tensor) -> Condition:
        """The condition of a bare speaker vector [E].

        Raises:
            ModelError: the vector has another width than the networks take.
        """
        width = self._model.speaker_width()
        if vector.numel() != width:
            raise ModelError(
                f"a speaker vector of {vector.numel()} numbers was given, model {self._model.name} takes {width}; use "
                "a vector made by this model"
            )
        return _of_voice(Voice(vector.reshape(-1).float()), self._model.mel.bins)

    def voice_of(self, wave: np.ndarray, rate: int, text: str | None, what: str) -> Voice:
        """The voice of a recording.

        Args:
            wave: float32 [N] at `rate` Hz.
            text: what is said in it; None takes only its sound.
            what: the recording's name in messages.

        Raises:
            InputError: the recording or its text cannot be used.
            ModelError: the model lacks its front ends.
        """
        _check_recording(wave, rate, what)
        key = hashlib.sha256(np.ascontiguousarray(wave).tobytes() + str(rate).encode()).hexdigest()
        if key not in self._remembered:
            while len(self._remembered) >= REMEMBERED:
                self._remembered.pop(next(iter(self._remembered)))
            self._remembered[key] = self._analysed(wave, rate, what)
        voice = self._remembered[key]
        assert voice.prompt is not None
        # Prompt and text meet as ids, not as strings: tokens must not grow together across the seam.
        ids = _NO_IDS if text is None else self._prompt_ids("".join(self._unsplit(text)), f"the text of {what}")
        return replace(voice, prompt=replace(voice.prompt, text=ids))

    def tokens_of(self, wave: np.ndarray, rate: int, what: str) -> Tensor:
        """Speech tokens int64 [T] of a recording [N].

        Raises:
            InputError: the recording cannot be used.
            ModelError: the model lacks its speech tokenizer.
        """
        _check_recording(wave, rate, what)
        return torch.from_numpy(self.front_ends.tokens([resample(wave, rate, FEATURE_SAMPLE_RATE)])[0])

    def vector_of(self, wave: np.ndarray, rate: int, what: str) -> Tensor:
        """Speaker vector [E] of a recording [N]; raises as `tokens_of`."""
        _check_recording(wave, rate, what)
        return torch.from_numpy(self.front_ends.embedding([resample(wave, rate, FEATURE_SAMPLE_RATE)])[0])

    def ids(self, text: str) -> Tensor:
        """Text tokens int64 [S].

        Raises:
            ModelError: the LM does not know one of them.
        """
        ids = self._tokenizer.encode(text)
        known = self._model.part("lm").config.text_vocabulary
        if ids and max(ids) >= known:
            raise ModelError(
                f"{text[:40]!r} has the text token {max(ids)}, but the LM of {self._model.name} knows {known} of them: "
                f"the {self._model.tokenizer.kind} tokenizer is not what it was trained with, so it cannot speak this"
            )
        return torch.tensor(ids, dtype=torch.int64)

    def length(self, text: str) -> int:
        """Number of text tokens."""
        return len(self._tokenizer.encode(text))

    def _voice(self, request: Request) -> Voice:
        if request.voice is None:
            wave, rate = request.prompt_wave, request.prompt_rate
            if wave is None or rate is None:
                raise InputError(f"{request.name}: a prompt recording needs its sample rate")
            return self.voice_of(wave, rate, request.prompt_text, f"{request.name}: the prompt recording")
        if request.voice not in self._model.voices:
            known = ", ".join(sorted(self._model.voices)) or "none"
            raise InputError(
                f"{request.name}: model {self._model.name} has no voice {request.voice!r}; its voices: {known}; "
                "or give a prompt recording"
            )
        voice = self._model.voices[request.voice]
        # Voices of a folder were compared when it was read; anybody may have put others into the table since.
        check_voice(self._model, request.voice, voice)
        return voice

    def _instruction(self, request: Request) -> Tensor:
        instruction = request.instruction or ""
        if not instruction:
            raise InputError(f"{request.name}: the instruction is empty; say in words how the text is to be spoken")
        return self._prompt_ids("".join(self._unsplit(instruction)) + END_OF_PROMPT, f"{request.name}: the instruction")

    def _prompt_ids(self, text: str, what: str) -> Tensor:
        ids = self.ids(text)
        if len(ids) > LONGEST_PROMPT_TEXT:
            raise InputError(f"{what} has {len(ids)} text tokens; at most {LONGEST_PROMPT_TEXT} are taken, shorten it")
        return ids

    def _unsplit(self, text: str) -> list[str]:
        return prepare_text(text, length=self.length, split=False)

    def _analysed(self, wave: np.ndarray, rate: int, what: str) -> Voice:
        listened = resample(wave, rate, FEATURE_SAMPLE_RATE)
        tokens = torch.from_numpy(self.front_ends.tokens([listened])[0])
        if not any(speech_bounds(listened, FEATURE_SAMPLE_RATE)):
            raise InputError(f"{what} holds nothing but silence, so there is no voice in it; give one with speech")
        vector = torch.from_numpy(self.front_ends.embedding([listened])[0])
        mel = torch.from_numpy(self.front_ends.mel(resample(wave, rate, self.front_ends.sample_rate)))
        if (ratio := self.front_ends.frames_per_token) is not None:
            count = min(len(tokens), mel.shape[1] // ratio)
            tokens, mel = tokens[:count], mel[:, : count * ratio]
        if not (bool(vector.isfinite().all()) and bool(mel.isfinite().all())):
            raise ModelError(
                f"the front ends of model {self._model.name} make numbers that are none of {what}; their weights are "
                "damaged (cosytune inspect MODEL --verify finds out which)"
            )
        return Voice(vector, VoicePrompt(_NO_IDS, tokens, mel))


def _of_voice(voice: Voice, bins: int) -> Condition:
    """The condition of a voice; without a prompt recording it gets an empty one of `bins` mel bands."""
    prompt = voice.prompt
    if prompt is None:
        empty = torch.zeros(bins, 0)
        return Condition(voice.vector, _NO_IDS, _NO_IDS, voice.vector, _NO_IDS, empty)
    # Without its words the LM cannot tell where the prompt's speech ends in the text: it gets neither (cross-lingual).
    speech = prompt.tokens if len(prompt.text) else _NO_IDS
    return Condition(voice.vector, prompt.text, speech, voice.vector, prompt.tokens, prompt.mel)


def read_recording(path: Path) -> tuple[np.ndarray, int]:
    """A prompt or a recording to convert: one channel [N] and its rate; an hour is refused before it is read.

    Raises:
        InputError: the file cannot be read or is too long.
    """
    seconds = wave_info(path).seconds
    if seconds > LONGEST_SECONDS:
        raise _too_long(str(path), seconds)
    return read_wave(path)


def _too_long(what: str, seconds: float) -> InputError:
    return InputError(
        f"{what} has {seconds:.1f} s; at most {LONGEST_SECONDS:.0f} s are understood, 5 to 13 s work best; cut it"
    )


def _check_recording(wave: np.ndarray, rate: int, what: str) -> None:
    if isinstance(rate, bool) or not isinstance(rate, (int, np.integer)):
        raise InputError(f"{what} has a sample rate of {rate!r}; give a whole number of samples a second, like 16000")
    if not isinstance(wave, np.ndarray) or not np.issubdtype(wave.dtype, np.floating):
        kind = wave.dtype if isinstance(wave, np.ndarray) else type(wave).__name__
        raise InputError(f"{what} is of {kind}; give an array of float32 samples between -1 and 1")
    if wave.ndim != 1 or rate <= 0 or not np.isfinite(wave).all():
        raise InputError(
            f"{what} has shape {list(wave.shape)} at {rate} Hz; give one channel of finite samples and its rate"
        )
    if (loudest := float(np.abs(wave).max(initial=0.0))) > LOUDEST:
        raise InputError(f"{what} has samples up to {loudest:.3g}; they lie between -1 and 1, export it again")
    if len(wave) > LONGEST_SECONDS * rate:
        raise _too_long(what, len(wave) / rate)
