"""Speech as integers: features of a recording in, 25 or 50 speech tokens per second out."""

from __future__ import annotations

from cosytune.models.speech_tokenizer.config import FSQConfig, SpeechTokenizerConfig, VQConfig
from cosytune.models.speech_tokenizer.loss import (
    ConstantBaseline,
    CTCLoss,
    constant_ctc_baseline,
    ctc_loss,
    greedy_ctc,
)
from cosytune.models.speech_tokenizer.model import SpeechTokenizer, Tokenized

__all__ = [
    "CTCLoss",
    "ConstantBaseline",
    "FSQConfig",
    "SpeechTokenizer",
    "SpeechTokenizerConfig",
    "Tokenized",
    "VQConfig",
    "constant_ctc_baseline",
    "ctc_loss",
    "greedy_ctc",
]
