"""HiFT vocoder: log-mel to wave."""

from __future__ import annotations

from cosytune.models.vocoder.config import DiscriminatorConfig, VocoderConfig
from cosytune.models.vocoder.inference import InferenceVocoder, for_inference
from cosytune.models.vocoder.model import Vocoder
from cosytune.models.vocoder.stream import VocoderStream, vocode

__all__ = [
    "DiscriminatorConfig",
    "InferenceVocoder",
    "Vocoder",
    "VocoderConfig",
    "VocoderStream",
    "for_inference",
    "vocode",
]
