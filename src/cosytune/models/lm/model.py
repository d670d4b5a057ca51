"""The language model: text tokens and a speaker vector in, speech tokens out, one after the other.

Positions of a sequence, in training and in decoding:

    [start: 1][speaker: 1, may be absent][text: S][task: 1][speech: T]
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosytune.models.layers.encoder import RelativeEncoder
from cosytune.models.layers.masks import length_mask
from cosytune.models.lm.config import LMConfig

__all__ = ["IGNORED", "LM", "LMOutput"]

IGNORED = -1
"""Target of a position that predicts nothing."""

PADDING = -1.0
"""What fills a packed row behind its end. No valid position ever sees it; the recorded numbers were made with it."""

START, TASK = 0, 1
"""Rows of the mark embedding."""


class LMOutput(NamedTuple):
    """Teacher-forced predictions.

    Attributes:
        logits: [B, P, V + 1], the last class is the end of speech.
        targets: int64 [B, P], `IGNORED` where nothing is predicted.
    """

    logits: Tensor
    targets: Tensor


class LM(nn.Module):
    """Autoregressive transformer over [start, speaker, text, task, speech]."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.config = config
        width = config.decoder.input
        self.text_embedding = nn.Embedding(config.text_vocabulary, config.text_encoder.input)
        self.text_encoder = RelativeEncoder(config.text_encoder)
        self.text_projection = nn.Linear(config.text_encoder.width, width)
        self.mark_embedding = nn.Embedding(2, width)
        self.speaker_projection = nn.Linear(config.speaker_width, width)
        self.speech_embedding = nn.Embedding(config.speech_codebook, width)
        self.decoder = RelativeEncoder(config.decoder)
        self.head = nn.Linear(config.decoder.width, config.speech_codebook + 1)

    @property
    def end_token(self) -> int:
        """Class of the end of speech, one past the codebook."""
        return self.config.speech_codebook

    def forward(
        self,
        text: Tensor,
        text_lengths: Tensor,
        speech: Tensor,
        speech_lengths: Tensor,
        speaker: Tensor | None,
        instructed: Tensor | None = None,
    ) -> LMOutput:
        """Predict each next speech token from the true ones before it.

        Args:
            text: int64 [B, S], right-padded with anything.
            text_lengths: [B].
            speech: int64 [B, T], right-padded with anything.
            speech_lengths: [B].
            speaker: [B, E] of any length, or None: then the position does not exist.
            instructed: bool [B], rows whose text begins with an instruction: the position does not exist in these (the
                released instruct model was trained so; specification, 4.7).
        """
        text_mask = length_mask(text_lengths, text.shape[1])
        speech_mask = length_mask(speech_lengths, speech.shape[1])
        encoded = self.encode_text(text.masked_fill(~text_mask, 0), text_mask)
        head = self._head(encoded, speaker)
        spoken = self.embed_speech(speech.masked_fill(~speech_mask, 0))
        heads = torch.full_like(text_lengths, head.shape[1])
        if speaker is not None and instructed is not None:
            heads = heads - instructed.to(heads.dtype)
        packing = _packing(heads, head.shape[1], text.shape[1], text_lengths, speech_lengths)
        parts = torch.cat((head, encoded, self._mark(TASK, encoded), spoken.to(encoded.dtype)), dim=1)
        index = packing.source.clamp(max=parts.shape[1] - 1).unsqueeze(-1).expand(-1, -1, parts.shape[-1])
        packed = parts.gather(1, index).masked_fill(~packing.mask.unsqueeze(-1), PADDING)
        logits = self.head(self.decoder(packed, packing.mask))
        return LMOutput(logits, self._targets(speech, speech_lengths, packing.step))

    def encode_text(self, text: Tensor, mask: Tensor | None = None) -> Tensor:
        """Text ids int64 [B, S] as the decoder sees them, [B, S, D]; mask bool [B, S]."""
        return self.text_projection(self.text_encoder(self.text_embedding(text), mask))

    def embed_speech(self, tokens: Tensor) -> Tensor:
        """Speech tokens int64 [B, n] as the decoder sees them, [B, n, D]."""
        return self.speech_embedding(tokens)

    def prefix(self, encoded: Tensor, speaker: Tensor | None, prompt_speech: Tensor) -> Tensor:
        """Everything before the first token to decode.

        Args:
            encoded: [B, S, D] from `encode_text`, prompt text and text together, not padded.
            speaker: [B, E] or None.
            prompt_speech: int64 [B, T], T may be 0.

        Returns:
            [B, P, D].
        """
        spoken = self.embed_speech(prompt_speech).to(encoded.dtype)
        return torch.cat((self._head(encoded, speaker), encoded, self._mark(TASK, encoded), spoken), dim=1)

    def _head(self, encoded: Tensor, speaker: Tensor | None) -> Tensor:
        start = self._mark(START, encoded)
        if speaker is None:
            return start
        projected = self.speaker_projection(F.normalize(speaker, dim=1)).unsqueeze(1)
        return torch.cat((start, projected.to(encoded.dtype)), dim=1)

    def _mark(self, row: int, like: Tensor) -> Tensor:
        rows = torch.full((like.shape[0], 1), row, device=like.device)
        return self.mark_embedding(rows).to(like.dtype)

    def _targets(self, speech: Tensor, lengths: Tensor, step: Tensor) -> Tensor:
        """Targets [B, P]: position with step k predicts token k, the last one the end of speech."""
        tokens = F.pad(speech, (0, 1))
        targets = tokens.gather(1, step.clamp(0, speech.shape[1]))
        targets = targets.masked_fill(step == lengths.unsqueeze(1), self.end_token)
        return targets.masked_fill((step < 0) | (step > lengths.unsqueeze(1)), IGNORED)


class _Packing(NamedTuple):
    """Where each packed position comes from: source index into the padded parts, validity and decoding step, [B, P]."""

    source: Tensor
    mask: Tensor
    step: Tensor


def _packing(heads: Tensor, head_size: int, text_size: int, text_lengths: Tensor, speech_lengths: Tensor) -> _Packing:
    """Close the gaps that an absent speaker and padded text leave: everything behind them moves to the left.

    `heads` [B] is 2 where the start mark is followed by the speaker, and 1 where it is not.
    """
    totals = heads + text_lengths + 1 + speech_lengths
    positions = torch.arange(int(totals.max()), device=totals.device).unsqueeze(0)
    step = positions - (heads + text_lengths).unsqueeze(1)
    source = positions + (positions > 0) * (head_size - heads).unsqueeze(1)
    source = source + (step >= 0) * (text_size - text_lengths).unsqueeze(1)
    return _Packing(source.long(), positions < totals.unsqueeze(1), step.long())
