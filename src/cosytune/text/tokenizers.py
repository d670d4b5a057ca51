"""Text to ids and back: the Whisper vocabulary of the released models, and a small one that is trained on a corpus."""

from __future__ import annotations

import base64
import binascii
import importlib.util
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import tiktoken

from cosytune.errors import InputError, MissingPackageError
from cosytune.text.small_tokenizer import SmallTokenizer, check_ids
from cosytune.text.whisper_vocabulary import PATTERN, RANKS, VOCABULARY_SIZE, special_tokens

__all__ = ["SmallTokenizer", "TextTokenizer", "WhisperTokenizer", "load_tokenizer"]


_SPECIAL = special_tokens()
# Looks behind a tag that is part of a longer one ("<|en<|zh|>") for the inner one.
_TAG = re.compile(r"<\|[^<>|]+\|>")


class TextTokenizer(Protocol):
    """What the rest of the package asks of a text tokenizer."""

    @property
    def kind(self) -> str:
        """The name `load_tokenizer` knows it by."""

    @property
    def vocabulary_size(self) -> int:
        """Number of ids; every id is below it."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text; special tokens written in it become their ids; nothing is added at the ends."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; bytes that are no UTF-8 become U+FFFD."""


class WhisperTokenizer:
    """The tokenizer of the released 300M models: Whisper-multilingual byte pairs, 51866 ids (section 2.5)."""

    kind = "whisper"
    vocabulary_size = VOCABULARY_SIZE

    def __init__(self, vocabulary: Path | None = None) -> None:
        """Read a `multilingual.tiktoken` file, by default that of the installed openai-whisper package.

        Raises:
            MissingPackageError: no file is given and openai-whisper is not installed.
            InputError: the file cannot be read or is not the multilingual vocabulary.
        """
        path = _installed_vocabulary() if vocabulary is None else Path(vocabulary)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"the vocabulary file {path} cannot be read ({error.strerror}): check the path") from error
        self._encoding = _whisper_encoding(data)

    @classmethod
    def from_bytes(cls, data: bytes) -> WhisperTokenizer:
        """The tokenizer of the content of a `multilingual.tiktoken` file.

        Raises:
            InputError: it is not the multilingual vocabulary.
        """
        tokenizer = cls.__new__(cls)
        tokenizer._encoding = _whisper_encoding(data)
        return tokenizer

    def encode(self, text: str) -> list[int]:
        """Ids of a text; `<|en|>` and all other special tokens written in it become their ids."""
        # tiktoken copies the set of allowed tokens in each call, a third of a millisecond for all of them
        written = {tag for tag in _TAG.findall(text) if tag in _SPECIAL}
        if not written:
            return self._encoding.encode_ordinary(text)
        return self._encoding.encode(text, allowed_special=written, disallowed_special=())

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids.

        Raises:
            InputError: an id is outside 0..51865.
        """
        check_ids(ids, VOCABULARY_SIZE)
        return self._encoding.decode(list(ids))


def _installed_vocabulary() -> Path:
    # find_spec looks the package up without running it: importing whisper would import torch
    found = importlib.util.find_spec("whisper")
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder) / "assets" / "multilingual.tiktoken"
        if path.is_file():
            return path
    raise MissingPackageError(
        "the Whisper vocabulary is needed and openai-whisper is not installed: pip install 'cosytune[whisper]',"
        " or give the path of a multilingual.tiktoken file"
    )


@lru_cache(maxsize=2)
def _whisper_encoding(data: bytes) -> tiktoken.Encoding:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            token, rank = line.split()
            # the file's last token is empty and written as a lone padding sign
            ranks[b"" if token == b"=" else base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise InputError(
                f"the vocabulary file is damaged in line {number} ({line[:40]!r}); each line must be a base64 token and"
                " its rank: fetch multilingual.tiktoken again"
            ) from error
    bytes_missing = any(bytes([value]) not in ranks for value in range(256))
    if sorted(ranks.values()) != list(range(RANKS)) or bytes_missing:
        raise InputError(
            f"the vocabulary file holds {len(ranks)} different tokens, not the ranks 0 to {RANKS - 1} of"
            " Whisper-multilingual: give the multilingual.tiktoken file of openai-whisper"
        )
    return tiktoken.Encoding(
        name="whisper-multilingual",
        pat_str=PATTERN,
        mergeable_ranks=ranks,
        special_tokens=_SPECIAL,
        explicit_n_vocab=VOCABULARY_SIZE,
    )


def load_tokenizer(kind: str, data: bytes | None) -> TextTokenizer:
    """The tokenizer of a model folder: `small` from its file, `whisper` from its vocabulary file or the installed one.

    Raises:
        InputError: the kind is unknown, a small tokenizer comes without data, or the file is damaged.
        MissingPackageError: Whisper's vocabulary is neither given nor installed.
    """
    if kind == WhisperTokenizer.kind:
        return WhisperTokenizer() if data is None else WhisperTokenizer.from_bytes(data)
    if kind != SmallTokenizer.kind:
        raise InputError(f"there is no text tokenizer of kind {kind!r}: the kinds are 'small' and 'whisper'")
    if data is None:
        raise InputError("a text tokenizer of kind 'small' needs its file: the model folder lacks it, copy it there")
    return SmallTokenizer.from_bytes(data)
