"""Sizes of the flow-matching network as data."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from cosytune.models.layers.config import PartConfig
from cosytune.models.layers.encoder import EncoderConfig

__all__ = ["NORM_GROUPS", "EstimatorConfig", "FlowConfig"]

NORM_GROUPS = 8
"""Groups of every GroupNorm inside the estimator."""


class EstimatorConfig(PartConfig):
    """Sizes of the U-Net that predicts the velocity.

    Attributes:
        channels: width of each level, from the full frame rate down; every further level halves the frame rate.
        blocks: transformer blocks after each residual block.
        mid_blocks: residual + transformer stages at the lowest frame rate.
        heads: attention heads.
        head_width: channels per head; heads * head_width need not equal the level's width.
        dropout: probability after attention and inside the feed-forward layers.
    """

    channels: tuple[int, ...] = Field(min_length=1)
    blocks: int = Field(ge=0)
    mid_blocks: int = Field(ge=0)
    heads: int = Field(ge=1)
    head_width: int = Field(ge=1)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)

    @field_validator("channels")
    @classmethod
    def _channels_form_groups(cls, channels: tuple[int, ...]) -> tuple[int, ...]:
        wrong = [width for width in channels if width <= 0 or width % NORM_GROUPS]
        if wrong:
            near = max(round(wrong[0] / NORM_GROUPS), 1) * NORM_GROUPS
            raise ValueError(
                f"channels {wrong} cannot be normalised in {NORM_GROUPS} groups; "
                f"use positive multiples of {NORM_GROUPS}, for example {near}"
            )
        return channels


class FlowConfig(PartConfig):
    """Sizes and constants of the part that turns speech tokens into a mel spectrogram.

    Attributes:
        speech_codebook: number of different speech tokens.
        token_width: width of a token's embedding, the encoder's input.
        mel_bins: mel bands M.
        speaker_width: width E of the speaker vector.
        encoder: the token encoder (bidirectional: chunk 0).
        regulator_layers: convolutions with normalisation in the length regulator, before its last 1x1 convolution.
        estimator: the U-Net.
        sigma_min: width of the path's end point (Lipman et al. 2023, eq. 22).
        drop_rate: probability that training hides all conditions of an utterance (classifier-free guidance).
        guidance: weight w of guidance at synthesis, v = (1 + w) v_conditioned - w v_free.
        reference_padding: False (default): an utterance's numbers do not depend on its neighbours in the batch.
            True: do as the reference does in training, namely stretch the padded token axis as a whole to the longest
            mel and count padded frames in every group statistic. Only to reproduce recorded training numbers.
    """

    speech_codebook: int = Field(ge=1)
    token_width: int = Field(ge=1)
    mel_bins: int = Field(ge=1)
    speaker_width: int = Field(ge=1)
    encoder: EncoderConfig
    regulator_layers: int = Field(default=4, ge=0)
    estimator: EstimatorConfig
    sigma_min: float = Field(default=1e-6, gt=0.0, lt=1.0)
    drop_rate: float = Field(default=0.2, ge=0.0, le=1.0)
    guidance: float = Field(default=0.7, ge=0.0)
    reference_padding: bool = False

    @model_validator(mode="after")
    def _encoder_reads_tokens(self) -> FlowConfig:
        if self.encoder.input != self.token_width:
            raise ValueError(
                f"the encoder reads {self.encoder.input} channels but tokens are embedded in {self.token_width}; "
                "set encoder.input equal to token_width"
            )
        return self
