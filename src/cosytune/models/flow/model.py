"""Speech tokens to a mel spectrogram by conditional flow matching."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosytune.models.flow.config import FlowConfig
from cosytune.models.flow.estimator import Estimator
from cosytune.models.flow.loss import FlowDraws
from cosytune.models.flow.regulator import LengthRegulator, Segments
from cosytune.models.layers.encoder import RelativeEncoder
from cosytune.models.layers.masks import length_mask

__all__ = ["Flow", "FlowOutput"]


@dataclass(frozen=True)
class FlowOutput:
    """One training step's prediction beside what it should be.

    Attributes:
        velocity: [B, M, F] predicted.
        target: [B, M, F] true velocity.
        mu: [B, M, F] regulated token encoding.
        mel: [B, M, F] the true mel.
        mask: [B, F] bool, True = valid frame.
    """

    velocity: Tensor
    target: Tensor
    mu: Tensor
    mel: Tensor
    mask: Tensor


class Flow(nn.Module):
    """Token encoder, length regulator and velocity estimator."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.speech_codebook, config.token_width)
        self.encoder = RelativeEncoder(config.encoder)
        self.projection = nn.Linear(config.encoder.width, config.mel_bins)
        self.speaker = nn.Linear(config.speaker_width, config.mel_bins)
        self.regulator = LengthRegulator(config.mel_bins, config.regulator_layers, config.reference_padding)
        self.estimator = Estimator(config.estimator, config.mel_bins, config.reference_padding)

    def encode(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """tokens [B, T] int64 (anything in the padding), lengths [B] -> [B, T, M]; padded positions have no meaning."""
        mask = length_mask(lengths, tokens.shape[1])
        embedded = self.embedding(tokens.clamp(min=0) * mask) * mask[:, :, None]
        return self.projection(self.encoder(embedded, mask))

    def regulate(self, encoded: Tensor, token_lengths: Tensor, frame_lengths: Tensor, size: int) -> Tensor:
        """Stretch each utterance as a whole: encoded [B, T, M], lengths [B] and [B] -> mu [B, M, size]."""
        if self.config.reference_padding:
            token_count = torch.full_like(token_lengths, encoded.shape[1])
            segments = Segments.whole(token_count, torch.full_like(frame_lengths, size))
        else:
            segments = Segments.whole(token_lengths, frame_lengths)
        return self.regulator(encoded, segments, length_mask(frame_lengths, size))

    def project_speaker(self, vector: Tensor) -> Tensor:
        """Speaker vectors [B, E] of any length -> [B, M]."""
        return self.speaker(F.normalize(vector, dim=1))

    def forward(
        self,
        tokens: Tensor,
        token_lengths: Tensor,
        mel: Tensor,
        frame_lengths: Tensor,
        speaker: Tensor,
        draws: FlowDraws,
    ) -> FlowOutput:
        """Predict the velocity at the drawn point of the path; arguments as in `loss.flow_loss`."""
        size, frame = mel.shape[2], torch.arange(mel.shape[2], device=mel.device)
        mask = length_mask(frame_lengths, size)
        mu = self.regulate(self.encode(tokens, token_lengths), token_lengths, frame_lengths, size)

        start_share = 1.0 - self.config.sigma_min
        t = draws.t[:, None, None]
        point = (1.0 - start_share * t) * draws.noise + t * mel
        target = mel - start_share * draws.noise

        keep = draws.keep_condition.bool()[:, None, None]
        condition = mel * (frame < draws.prompt_frames[:, None])[:, None]
        velocity = self.estimator(
            point, mask, mu * keep, draws.t, self.project_speaker(speaker) * keep[:, 0], condition * keep
        )
        return FlowOutput(velocity, target, mu, mel, mask)
