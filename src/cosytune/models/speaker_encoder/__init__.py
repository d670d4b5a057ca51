"""A voice as one vector: features of a recording in, a speaker vector out."""

from __future__ import annotations

from cosytune.models.speaker_encoder.config import SpeakerEncoderConfig
from cosytune.models.speaker_encoder.loss import MarginSoftmax
from cosytune.models.speaker_encoder.model import SpeakerEncoder

__all__ = ["MarginSoftmax", "SpeakerEncoder", "SpeakerEncoderConfig"]
