"""Facts about the Whisper-multilingual vocabulary: languages, special tokens, how text is cut before merging."""

from __future__ import annotations

__all__ = ["LANGUAGES", "PATTERN", "RANKS", "VOCABULARY_SIZE", "special_tokens"]

_CODES = (
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt"
    " la mi ml cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be"
    " tg sd gu am yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su yue"
)
LANGUAGES = _CODES.split()
"""Language codes in the order of their ids, from 50259 on."""

RANKS = 50257
"""Byte-pair ranks, ids 0 to 50256."""

VOCABULARY_SIZE = 51866
"""Ranks and special tokens together."""

# GPT-2's word pattern: English contractions, letters, numbers and other signs with a leading space, white space.
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

_LAST_TIMESTAMP = 1500  # in steps of 0.02 s: 30 s


def special_tokens() -> dict[str, int]:
    """Special tokens and their ids, 50257 to 51865."""
    names = ["endoftext", "startoftranscript", *LANGUAGES]
    names += ["translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"]
    names += [f"{step * 2 / 100:.2f}" for step in range(_LAST_TIMESTAMP + 1)]
    return {f"<|{name}|>": RANKS + index for index, name in enumerate(names)}
