"""Sizes of the vocoder: what is refused, and in which words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from cosytune.models.vocoder.config import DiscriminatorConfig, VocoderConfig


def tiny_config(**changes: Any) -> VocoderConfig:
    """16 kHz, hop 320 = 5 x 4 x 16: the geometry of the shipped family with very few channels."""
    sizes: dict[str, Any] = {
        "sample_rate": 16_000,
        "hop": 320,
        "base_channels": 16,
        "upsample_rates": (5, 4),
        "upsample_kernels": (11, 8),
        "istft_n_fft": 64,
        "istft_hop": 16,
        "f0_width": 16,
        "mel_bins": 20,
        "resblock_kernels": (3, 7),
        "resblock_dilations": ((1, 3), (1, 3)),
    }
    return VocoderConfig(**(sizes | changes))


def test_config_survives_json() -> None:
    config = tiny_config()
    assert VocoderConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hop": 256}, "hop 256 is not what the stages make: 5 x 4 x 16 = 320 samples per mel frame"),
        ({"upsample_rates": ()}, "upsample_rates is empty"),
        ({"upsample_rates": (20, 1)}, "upsample rate 1 lengthens nothing: use rates of at least 2"),
        ({"upsample_kernels": (11, 8, 4)}, "upsample_kernels has 3 entries for 2 upsample_rates"),
        ({"source_kernels": (7,)}, "source_kernels has 1 entries for 2 upsample_rates"),
        ({"source_dilations": ((1,),)}, "source_dilations has 1 entries for 2 upsample_rates"),
        ({"upsample_kernels": (10, 8)}, "upsample kernel 10 does not fit rate 5: .* for example 11"),
        ({"upsample_kernels": (11, 2)}, "upsample kernel 2 does not fit rate 4: .* for example 8"),
        ({"base_channels": 18}, "base_channels 18 cannot be halved 2 times: use a multiple of 4"),
        ({"resblock_kernels": (3,)}, "1 resblock_kernels and 2 resblock_dilations"),
        ({"resblock_kernels": (3, 4)}, "residual block kernel 4 is even"),
        ({"source_kernels": (7, 6)}, "residual block kernel 6 is even"),
        ({"resblock_dilations": ((1,), ())}, "a residual block has no dilations"),
        ({"istft_n_fft": 24}, "istft_n_fft 24 must be even and at least twice istft_hop 16"),
        ({"istft_n_fft": 63}, "istft_n_fft 63 must be even"),
        ({"istft_n_fft": 640}, "istft_n_fft 640 must be less than twice the hop 320"),
        ({"sample_rate": 0}, "greater than 0"),
        ({"hopp": 320}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_sizes_are_refused_in_words(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        tiny_config(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"periods": ()}, "need at least one entry each"),
        ({"resolutions": ((512, 0, 240),)}, "n_fft 512, hop 0, window 240: 0 < hop <= window <= n_fft"),
        ({"resolutions": ((512, 50, 600),)}, "n_fft 512, hop 50, window 600"),
    ],
)
def test_wrong_discriminator_sizes_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        DiscriminatorConfig(**changes)
