"""Text: what is written becomes what is spoken, pieces of it, and ids. No torch, no audio."""

from __future__ import annotations

from cosytune.text.frontend import prepare_text
from cosytune.text.language import detect_language, is_chinese
from cosytune.text.normalise import normalise
from cosytune.text.options import DEFAULT, REFERENCE, FrontendOptions
from cosytune.text.split import SplitLimits, split_sentences
from cosytune.text.tokenizers import SmallTokenizer, TextTokenizer, WhisperTokenizer, load_tokenizer

__all__ = [
    "DEFAULT",
    "REFERENCE",
    "FrontendOptions",
    "SmallTokenizer",
    "SplitLimits",
    "TextTokenizer",
    "WhisperTokenizer",
    "detect_language",
    "is_chinese",
    "load_tokenizer",
    "normalise",
    "prepare_text",
    "split_sentences",
]
