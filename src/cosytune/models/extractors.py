"""The frozen analysis networks of a model at work: waves in, speech tokens, speaker vectors and mel out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cosytune.audio.fbank import kaldi_fbank_batch, mean_normalised
from cosytune.audio.mel import flow_mel
from cosytune.audio.whisper import whisper_mel_batch
from cosytune.errors import InputError
from cosytune.models.folder import Model
from cosytune.units import FEATURE_SAMPLE_RATE, Clock, samples_of_seconds

__all__ = ["SHORTEST_SECONDS", "FrontEnds"]

SHORTEST_SECONDS = 0.1
"""Shorter waves have no whole analysis frame left after the networks' strides."""


class FrontEnds:
    """Speech tokenizer, speaker encoder and mel of one model, without gradients.

    Attributes:
        sample_rate: Hz of the waves that `mel` takes; the other two take 16 kHz.
        hash: identity of everything extracted; features with another hash belong to another model.
        frames_per_token: whole mel frames per token, or None where the ratio is not a whole number.
    """

    def __init__(self, model: Model) -> None:
        """Take the networks of `model`, in evaluation mode.

        Raises:
            ModelError: the model lacks its speech tokenizer or speaker encoder.
        """
        self._tokenizer = model.part("speech_tokenizer").eval()
        self._encoder = model.part("speaker_encoder").eval()
        self._mel = model.mel
        self._bins = self._tokenizer.config.bins
        self.clock: Clock = model.clock
        self.sample_rate = model.clock.sample_rate
        self.hash = model.extractor_hash()
        ratio = model.clock.frames_per_token
        self.frames_per_token = int(ratio) if ratio == int(ratio) else None

    @torch.inference_mode()
    def tokens(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Speech tokens int64 [T] of each 16 kHz wave [N]."""
        features, lengths = whisper_mel_batch(_tensors(waves), self._bins)
        codes, counts = self._tokenizer.encode(features, lengths)
        return [row[:count].numpy() for row, count in zip(codes, counts.tolist(), strict=True)]

    @torch.inference_mode()
    def embedding(self, waves: Sequence[np.ndarray]) -> np.ndarray:
        """Speaker vectors float32 [B, E] of 16 kHz waves [N]; not normalised, the networks do that inside."""
        features, lengths = kaldi_fbank_batch(_tensors(waves))
        return self._encoder(mean_normalised(features, lengths), lengths).numpy()

    @torch.inference_mode()
    def mel(self, wave: np.ndarray) -> np.ndarray:
        """Log-mel float32 [M, F] of a wave [N] at the model's own rate."""
        return flow_mel(torch.from_numpy(wave)[None], self._mel)[0].numpy()


def _tensors(waves: Sequence[np.ndarray]) -> list[Tensor]:
    shortest = samples_of_seconds(SHORTEST_SECONDS, FEATURE_SAMPLE_RATE)
    for wave in waves:
        if len(wave) < shortest:
            raise InputError(
                f"a recording of {len(wave) / FEATURE_SAMPLE_RATE:.3f} s is too short to analyse; "
                f"give at least {SHORTEST_SECONDS} s"
            )
    return [torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float32)) for wave in waves]
