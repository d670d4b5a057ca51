"""Sizes of the speaker encoder as data."""

from __future__ import annotations

from pydantic import Field, PositiveInt, model_validator
from typing_extensions import Self

from cosytune.models.layers.config import PartConfig

__all__ = ["SpeakerEncoderConfig"]


class SpeakerEncoderConfig(PartConfig):
    """A context-aware masking, densely connected TDNN; the defaults are the published full size (arXiv 2303.00332).

    Attributes:
        bins: bands of the Kaldi filter bank, 100 frames per second, mean-normalised per utterance.
        speaker_width: numbers in the speaker vector (E).
        front_channels: channels of the 2-D convolutional front end.
        front_blocks: residual blocks per front stage; each stage, and one convolution after them, halves the bands.
        tdnn_channels: channels after the first TDNN layer, which also halves the frame rate.
        growth: channels that each dense layer adds.
        bottleneck: channels inside a dense layer.
        blocks: dense layers per block; a transit layer that halves the channels follows each block.
        dilations: dilation of each block, in frames of 50 Hz.
        kernel: frames that a dense layer sees (odd).
        segment: frames (50 Hz) over which the local context of the mask is averaged.
    """

    bins: PositiveInt = 80
    speaker_width: PositiveInt = 192
    front_channels: PositiveInt = 32
    front_blocks: tuple[PositiveInt, ...] = (2, 2)
    tdnn_channels: PositiveInt = 128
    growth: PositiveInt = 32
    bottleneck: int = Field(default=128, ge=2)
    blocks: tuple[PositiveInt, ...] = Field(default=(12, 24, 16), min_length=1)
    dilations: tuple[PositiveInt, ...] = (1, 2, 2)
    kernel: PositiveInt = 3
    segment: PositiveInt = 100

    @property
    def front_reduction(self) -> int:
        """Input bands per band that leaves the front end."""
        return 2 ** (len(self.front_blocks) + 1)

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if len(self.dilations) != len(self.blocks):
            raise ValueError(
                f"dilations has {len(self.dilations)} entries for {len(self.blocks)} blocks; give one per block"
            )
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} is even; an odd kernel keeps the number of frames, use 3 or 5")
        if self.bins % self.front_reduction:
            raise ValueError(
                f"bins {self.bins} is not a multiple of {self.front_reduction}, the reduction of "
                f"{len(self.front_blocks)} front stages and one convolution; change bins or front_blocks"
            )
        return self
