"""Sizes of the speech tokenizer and of its two quantisers as data."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator
from typing_extensions import Self

from cosytune.models.layers.config import PartConfig
from cosytune.units import FEATURE_FRAME_RATE

__all__ = ["FSQConfig", "SpeechTokenizerConfig", "VQConfig"]


class FSQConfig(PartConfig):
    """Finite scalar quantiser: each of a few numbers is rounded to one of its levels (arXiv 2309.15505).

    Attributes:
        levels: levels of each number, odd so that zero is one of them; the codebook is their product.
    """

    kind: Literal["fsq"] = "fsq"
    levels: tuple[int, ...] = Field(default=(3,) * 8, min_length=1)

    @field_validator("levels")
    @classmethod
    def _odd(cls, levels: tuple[int, ...]) -> tuple[int, ...]:
        if any(level < 3 or level % 2 == 0 for level in levels):
            raise ValueError(f"levels {list(levels)} must all be odd and at least 3, for example [3, 3, 3, 3, 3, 3, 3]")
        return levels

    @property
    def codebook_size(self) -> int:
        """Number of different codes."""
        return math.prod(self.levels)


class VQConfig(PartConfig):
    """Vector quantiser with a table of directions, the nearest by cosine wins (arXiv 1711.00937, 2110.04627).

    Attributes:
        codes: rows of the table.
        code_width: width of a row; vectors are projected to it first.
        commitment: weight of the term that holds the encoder to its codes.
        usage_decay: decay per training step of the running usage of each code.
        dead_below: share of a fair usage (1 / codes) under which a code counts as dead and may be revived.
    """

    kind: Literal["vq"] = "vq"
    codes: int = Field(default=4096, ge=2)
    code_width: PositiveInt = 1280
    commitment: PositiveFloat = 0.25
    usage_decay: float = Field(default=0.99, gt=0.0, lt=1.0)
    dead_below: float = Field(default=0.03, gt=0.0, lt=1.0)

    @property
    def codebook_size(self) -> int:
        """Number of different codes."""
        return self.codes


class SpeechTokenizerConfig(PartConfig):
    """A supervised speech tokenizer; the defaults are the full size of the second version's encoder.

    Attributes:
        symbols: text symbols that the CTC head reads out (C); the blank is symbol number C.
        bins: bands of the Whisper log-mel, 100 frames per second.
        strides: stride of each front convolution, 1 or 2; their product divides 100 Hz down to the token rate.
        width: D.
        heads: attention heads; width / heads must be even.
        feed_forward: inner width of each feed-forward layer.
        layers_before: blocks before the quantiser: all that is needed to make tokens.
        layers_after: blocks between the quantiser and the CTC head, used in training only.
        memory_kernel: frames of the depthwise convolution beside each attention (odd).
        dropout: on the output of attention and feed-forward layers.
        quantiser: `FSQConfig` or `VQConfig`.
    """

    symbols: PositiveInt
    bins: PositiveInt = 128
    strides: tuple[Literal[1, 2], ...] = Field(default=(2, 2), min_length=1)
    width: PositiveInt = 1280
    heads: PositiveInt = 20
    feed_forward: PositiveInt = 5120
    layers_before: PositiveInt = 6
    layers_after: int = Field(default=6, ge=0)
    memory_kernel: PositiveInt = 31
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    quantiser: Annotated[FSQConfig | VQConfig, Field(discriminator="kind")] = FSQConfig()

    @property
    def stride(self) -> int:
        """Feature frames per token."""
        return math.prod(self.strides)

    @property
    def token_rate(self) -> int:
        """Tokens per second."""
        return FEATURE_FRAME_RATE // self.stride

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if FEATURE_FRAME_RATE % self.stride:
            raise ValueError(
                f"strides {list(self.strides)} multiply to {self.stride}, which does not divide "
                f"{FEATURE_FRAME_RATE} Hz; allowed are products 1, 2 and 4, for example [2, 2] for 25 Hz"
            )
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(
                f"width {self.width} does not give {self.heads} heads an even width each "
                "(rotary positions turn pairs); change width or heads"
            )
        if self.memory_kernel % 2 == 0:
            raise ValueError(
                f"memory_kernel {self.memory_kernel} is even; an odd kernel keeps the number of frames, use 15 or 31"
            )
        return self
