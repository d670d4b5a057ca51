"""HiFT vocoder: log-mel to wave."""

from __future__ import annotations

from cosytune.models.vocoder.config import DiscriminatorConfig, VocoderConfig
from cosytune.models.vocoder.model import Vocoder

__all__ = ["DiscriminatorConfig", "Vocoder", "VocoderConfig"]
