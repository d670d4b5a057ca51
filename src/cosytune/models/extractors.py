"""The frozen analysis networks of a model at work: waves in, speech tokens, speaker vectors and mel out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from cosytune.audio.fbank import kaldi_fbank_batch, mean_normalised
from cosytune.audio.mel import flow_mel
from cosytune.audio.whisper import whisper_mel_batch
from cosytune.errors import InputError, ModelError
from cosytune.models.folder import Model, read_front_ends
from cosytune.models.onnx_front_ends import SECONDS_TOGETHER, OnnxSpeakerEncoder, OnnxSpeechTokenizer
from cosytune.models.onnx_session import OnnxPrecision
from cosytune.models.speaker_encoder.model import SpeakerEncoder
from cosytune.models.speech_tokenizer.model import SpeechTokenizer
from cosytune.units import FEATURE_SAMPLE_RATE, Clock, feature_frames, samples_of_seconds

__all__ = ["SHORTEST_SECONDS", "FrontEnds"]

OWN_SECONDS_TOGETHER = 24.0
"""Audio, padding counted, that our own networks are given at once: larger batches fall out of a processor's cache and
are slower (benchmarks/features.py)."""

SHORTEST_SECONDS = 0.1
"""Shorter waves have no whole analysis frame left after the networks' strides."""


class _Tokens(Protocol):
    def tokens(self, waves: Sequence[Tensor]) -> list[np.ndarray]: ...


class _Embedding(Protocol):
    def embedding(self, waves: Sequence[Tensor]) -> np.ndarray: ...


class _OwnSpeechTokenizer:
    """Our network behind the seam that the ONNX one has."""

    def __init__(self, network: SpeechTokenizer) -> None:
        self._network = network.eval()

    def tokens(self, waves: Sequence[Tensor]) -> list[np.ndarray]:
        features, lengths = whisper_mel_batch(waves, self._network.config.bins)
        codes, counts = self._network.encode(features, lengths)
        return [row[:count].numpy() for row, count in zip(codes, counts.tolist(), strict=True)]


class _OwnSpeakerEncoder:
    """Our network behind the seam that the ONNX one has."""

    def __init__(self, network: SpeakerEncoder) -> None:
        self._network = network.eval()

    def embedding(self, waves: Sequence[Tensor]) -> np.ndarray:
        features, lengths = kaldi_fbank_batch(waves)
        return self._network(mean_normalised(features, lengths), lengths).numpy()


class FrontEnds:
    """Speech tokenizer, speaker encoder and mel of one model, without gradients; opened when they are first used.

    Pickled, they are no more than the name of their folder and their precision: another process reads them from there,
    once.

    Attributes:
        sample_rate: Hz of the waves that `mel` takes; the other two take 16 kHz.
        hash: identity of everything extracted; features with another hash belong to another model.
        hashes: identity of each kind of feature, by its column.
        frames_per_token: whole mel frames per token, or None where the ratio is not a whole number.
        batch_seconds: longest clip times number of clips that are worth giving at once. A released tokenizer gains
            nothing from more, and smaller batches are dealt to workers more evenly.
    """

    def __init__(self, model: Model, onnx_precision: OnnxPrecision = "float32") -> None:
        """Take the networks of `model`, its own or the released ONNX ones.

        Args:
            model: whose front ends.
            onnx_precision: of the products of a released speech tokenizer; all else is in float32.

        Raises:
            ModelError: the model lacks its speech tokenizer or speaker encoder, or has no released tokenizer to run in
                bfloat16.
        """
        if onnx_precision != "float32" and "speech_tokenizer" not in model.onnx:
            raise ModelError(
                f"the speech tokenizer of {model.name} is no ONNX graph, and only those run in {onnx_precision}; leave "
                "--onnx-precision out"
            )
        self._model = model
        self._precision = onnx_precision
        self.clock: Clock = model.clock
        self.sample_rate = model.clock.sample_rate
        self.hash = model.extractor_hash(onnx_precision)
        self.hashes = model.extractor_hashes(onnx_precision)
        ratio = model.clock.frames_per_token
        self.frames_per_token = int(ratio) if ratio == int(ratio) else None
        self.batch_seconds = SECONDS_TOGETHER if "speech_tokenizer" in model.onnx else OWN_SECONDS_TOGETHER

    def __reduce__(self) -> tuple[Any, tuple[str, str, OnnxPrecision]]:
        if self._model.path is None:
            raise ModelError(f"model {self._model.name} lies in no folder, so no other process can read it: save it")
        return _front_ends_in, (str(self._model.path.absolute()), self.hash, self._precision)

    @cached_property
    def _tokenizer(self) -> _Tokens:
        if "speech_tokenizer" in self._model.onnx:
            return OnnxSpeechTokenizer(self._model.onnx["speech_tokenizer"], self._precision)
        return _OwnSpeechTokenizer(self._model.part("speech_tokenizer"))

    @cached_property
    def _encoder(self) -> _Embedding:
        if "speaker_encoder" in self._model.onnx:
            return OnnxSpeakerEncoder(self._model.onnx["speaker_encoder"])
        return _OwnSpeakerEncoder(self._model.part("speaker_encoder"))

    @torch.inference_mode()
    def tokens(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Speech tokens int64 [T] of each 16 kHz wave [N].

        Raises:
            InputError: a wave is too short, or too long for a released tokenizer.
            ModelError: the ONNX file cannot be used, or the tokenizer does not belong to this model (other codes or
                another rate).
        """
        found = self._tokenizer.tokens(_tensors(waves))
        codebook = self._model.speech_codebook()
        for wave, codes in zip(waves, found, strict=True):
            if codebook is not None and len(codes) and not 0 <= codes.min() <= codes.max() < codebook:
                raise ModelError(
                    f"the speech tokenizer of {self._model.name} makes codes up to {codes.max()}, its networks know "
                    f"{codebook}; put the tokenizer of this very model into the folder"
                )
            expected = self.clock.tokens_of_feature_frames(feature_frames(len(wave)))
            if abs(len(codes) - expected) > 1:
                raise ModelError(
                    f"the speech tokenizer of {self._model.name} makes {len(codes)} tokens where "
                    f"{self.clock.token_rate} a second give {expected}; put the tokenizer of this very model into the "
                    "folder"
                )
        return found

    @torch.inference_mode()
    def embedding(self, waves: Sequence[np.ndarray]) -> np.ndarray:
        """Speaker vectors float32 [B, E] of 16 kHz waves [N]; not normalised, the networks do that inside.

        Raises:
            InputError: a wave is too short.
            ModelError: the ONNX file cannot be used, or the vectors have another width than the model's networks take.
        """
        found = self._encoder.embedding(_tensors(waves))
        width = self._model.speaker_width()
        if width is not None and found.shape[1] != width:
            raise ModelError(
                f"the speaker encoder of {self._model.name} makes vectors of {found.shape[1]} numbers, its networks "
                f"take {width}; put the encoder of this very model into the folder"
            )
        return found

    @torch.inference_mode()
    def mel(self, wave: np.ndarray) -> np.ndarray:
        """Log-mel float32 [M, F] of a wave [N] at the model's own rate."""
        return flow_mel(torch.from_numpy(wave)[None], self._model.mel)[0].numpy()


@lru_cache(maxsize=2)
def _front_ends_in(path: str, hash: str, onnx_precision: OnnxPrecision) -> FrontEnds:
    """The front ends of a folder, read once for all batches that this process is given."""
    front_ends = FrontEnds(read_front_ends(Path(path)), onnx_precision)
    if front_ends.hash != hash:
        raise ModelError(f"the model in {path} was changed while it was at work; start again")
    return front_ends


def _tensors(waves: Sequence[np.ndarray]) -> list[Tensor]:
    shortest = samples_of_seconds(SHORTEST_SECONDS, FEATURE_SAMPLE_RATE)
    for wave in waves:
        if len(wave) < shortest:
            raise InputError(
                f"a recording of {len(wave) / FEATURE_SAMPLE_RATE:.3f} s is too short to analyse; "
                f"give at least {SHORTEST_SECONDS} s"
            )
    return [torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float32)) for wave in waves]
