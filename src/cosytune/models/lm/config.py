"""Sizes of the language model."""

from __future__ import annotations

from pydantic import Field, model_validator

from cosytune.models.layers.config import PartConfig
from cosytune.models.layers.encoder import EncoderConfig

__all__ = ["LMConfig"]

LARGEST_RATIO = 100.0
"""Speech tokens per text token: a letter of two seconds at 50 tokens a second. More would only let a hostile
configuration decode without end."""


class LMConfig(PartConfig):
    """Sizes of an `LM`.

    Attributes:
        text_vocabulary: number of text token ids.
        speech_codebook: number of speech token ids V; id V is the end of speech.
        speaker_width: width E of the speaker vector.
        text_encoder: causal encoder of the text; its input width is that of the text embedding.
        decoder: causal encoder of the whole sequence; its input width is that of everything packed into it.
        min_ratio: fewest speech tokens per text token when decoding; a matter of token rate and text vocabulary.
        max_ratio: most speech tokens per text token when decoding.
    """

    text_vocabulary: int = Field(ge=1)
    speech_codebook: int = Field(ge=2)
    speaker_width: int = Field(ge=1)
    text_encoder: EncoderConfig
    decoder: EncoderConfig
    min_ratio: float = Field(default=2.0, ge=0)
    max_ratio: float = Field(default=20.0, gt=0, le=LARGEST_RATIO)

    @model_validator(mode="after")
    def _decoder_is_causal(self) -> LMConfig:
        if self.decoder.chunk != 1:
            raise ValueError(f"the decoder must be causal (chunk 1), not chunk {self.decoder.chunk}")
        return self

    @model_validator(mode="after")
    def _ratios_are_in_order(self) -> LMConfig:
        if not self.min_ratio <= self.max_ratio:
            raise ValueError(
                f"min_ratio {self.min_ratio:g} is above max_ratio {self.max_ratio:g}: no number of speech tokens is "
                "both enough and allowed"
            )
        return self
