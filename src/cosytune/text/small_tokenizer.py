"""A byte-pair tokenizer over the characters of a corpus, for models that are trained from nothing on little text."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from cosytune.errors import InputError
from cosytune.text.whisper_vocabulary import PATTERN

__all__ = ["SmallTokenizer", "check_ids"]

# A byte of a character outside the alphabet is written as two of these sixteen private characters, one for each half.
_HALF_BYTES = [chr(0xE000 + value) for value in range(16)]
_ESCAPED = re.compile("[\ue000-\ue00f]+")
_FORMAT = "cosytune-small-tokenizer"


class SmallTokenizer:
    """A byte-pair tokenizer over the characters of a corpus, from about a hundred ids to many thousands.

    Nothing is unknown: a character outside the alphabet is spelled with the halves of its UTF-8 bytes, sixteen symbols
    that are always there. `decode(encode(text))` is the text (lower-cased if the tokenizer lower-cases, which is an
    option of its training, stored in its file and off by default).
    """

    kind = "small"

    def __init__(
        self,
        special: Sequence[str],
        alphabet: Sequence[str],
        merges: Sequence[tuple[str, str]],
        lower_case: bool = False,
    ) -> None:
        """Ids are given to the special tokens, the alphabet and the results of the merges, in this order.

        Raises:
            InputError: a token is empty or there twice, merges name unknown ones, or a half byte is missing.
        """
        self.special = tuple(special)
        self.alphabet = tuple(alphabet)
        self.merges = tuple(merges)
        self.lower_case = lower_case
        ids: dict[str, int] = {}
        for token in (*self.special, *self.alphabet):
            if not token or token in ids:
                raise InputError(
                    f"the small tokenizer holds {token!r} twice or empty: its file is damaged, train it again"
                )
            ids[token] = len(ids)
        for left, right in self.merges:
            if left not in ids or right not in ids:
                raise InputError(
                    f"the small tokenizer merges {left!r} and {right!r}, which are not both tokens: its file is"
                    " damaged, train it again"
                )
            ids.setdefault(left + right, len(ids))
        self._tokens = list(ids)
        self._ids = ids
        if missing := [hex(ord(half)) for half in _HALF_BYTES if half not in ids]:
            raise InputError(f"the small tokenizer lacks the half bytes {missing}: its file is damaged, train it again")
        self._known = frozenset(self.alphabet) - frozenset(_HALF_BYTES)
        self._special_pattern = _any_of(self.special)
        self._model = _byte_pairs(models.BPE(vocab=ids, merges=list(self.merges)))

    @property
    def vocabulary_size(self) -> int:
        """Number of ids."""
        return len(self._tokens)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocabulary_size: int,
        *,
        languages: Sequence[str] = ("en", "zh", "ja", "yue", "ko"),
        marks: Sequence[str] = (),
        lower_case: bool = False,
    ) -> SmallTokenizer:
        """Learn an alphabet and merges; the same texts give the same tokenizer, in any process.

        Args:
            texts: transcripts as the front end gives them.
            vocabulary_size: the most ids there may be; a small corpus can give fewer.
            languages: a special token `<|en|>` for each.
            marks: more special tokens, such as `[laughter]`.
            lower_case: the tokenizer lower-cases what it encodes.

        Raises:
            InputError: `vocabulary_size` leaves no room for characters, or the texts are empty.
        """
        special = list(dict.fromkeys([*(f"<|{language}|>" for language in languages), *marks]))
        pattern = _any_of(special)
        plain = [pattern.sub(" ", _form(text, lower_case)) for text in texts]
        room = vocabulary_size - len(special) - len(_HALF_BYTES)
        if room < 1:
            raise InputError(
                f"a small tokenizer of {vocabulary_size} ids has no room for characters beside {len(special)} special"
                f" tokens and {len(_HALF_BYTES)} half bytes: give at least {vocabulary_size - room + 1}, 100 are better"
            )
        counts = Counter(character for text in plain for character in text if character not in _HALF_BYTES)
        if not any(map(str.strip, counts)):
            raise InputError("no text to train a tokenizer on: all texts are empty; give transcripts")
        frequent = sorted(counts, key=lambda character: (-counts[character], character))[:room]
        alphabet = [*_HALF_BYTES, *sorted(frequent)]
        merges = _learn_merges((_escape(text, frozenset(frequent)) for text in plain), alphabet, room - len(frequent))
        return cls(special, alphabet, merges, lower_case)

    def encode(self, text: str) -> list[int]:
        """Ids of a text; special tokens written in it become their ids."""
        ids: list[int] = []
        for index, part in enumerate(self._special_pattern.split(text)):
            if index % 2:
                ids.append(self._ids[part])
            elif part:
                ids += self._model.encode(_escape(_form(part, self.lower_case), self._known)).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids.

        Raises:
            InputError: an id is outside the vocabulary.
        """
        check_ids(ids, self.vocabulary_size)
        return _ESCAPED.sub(lambda match: _unescape(match[0]), "".join(self._tokens[index] for index in ids))

    def to_bytes(self) -> bytes:
        """The tokenizer as JSON; equal tokenizers give equal bytes."""
        content = {
            "format": _FORMAT,
            "version": 1,
            "lower_case": self.lower_case,
            "special": self.special,
            "alphabet": self.alphabet,
            "merges": self.merges,
        }
        return (json.dumps(content, ensure_ascii=True, indent=None) + "\n").encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> SmallTokenizer:
        """The tokenizer that `to_bytes` wrote.

        Raises:
            InputError: the bytes are not that.
        """
        try:
            content: Any = json.loads(data)
            if content["format"] != _FORMAT or content["version"] != 1:
                raise ValueError(f"format {content['format']!r}, version {content['version']!r}")
            merges = [(str(left), str(right)) for left, right in content["merges"]]
            lists = [[str(token) for token in content[name]] for name in ("special", "alphabet")]
            lower_case = bool(content["lower_case"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"these bytes are not a small tokenizer of this version ({error}): give a file written by this program"
                " or train the tokenizer again"
            ) from error
        return cls(lists[0], lists[1], merges, lower_case)


def check_ids(ids: Sequence[int], size: int) -> None:
    """Refuse ids outside `0..size - 1`.

    Raises:
        InputError: one is.
    """
    for index in ids:
        if not 0 <= index < size:
            raise InputError(f"the token id {index} is outside this tokenizer's 0 to {size - 1}: use ids it gave")


def _any_of(special: Sequence[str]) -> re.Pattern[str]:
    """Matches each special token, the longest first, and nothing if there is none."""
    return re.compile(f"({'|'.join(map(re.escape, sorted(special, key=len, reverse=True))) or '(?!)'})")


def _form(text: str, lower_case: bool) -> str:
    """Text without lone surrogates, which no UTF-8 can hold, lower-cased if asked."""
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.lower() if lower_case else text


def _escape(text: str, known: frozenset[str]) -> str:
    return "".join(character if character in known else _half_bytes(character) for character in text)


def _half_bytes(character: str) -> str:
    return "".join(_HALF_BYTES[value >> 4] + _HALF_BYTES[value & 15] for value in character.encode("utf-8"))


def _unescape(halves: str) -> str:
    values = [ord(half) - 0xE000 for half in halves]
    return bytes(high << 4 | low for high, low in zip(values[::2], values[1::2], strict=False)).decode(
        "utf-8", "replace"
    )


def _byte_pairs(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated")
    return tokenizer


def _learn_merges(texts: Iterator[str], alphabet: Sequence[str], count: int) -> list[tuple[str, str]]:
    """At most `count` merges in the order they were learned."""
    if count < 1:
        return []
    tokenizer = _byte_pairs(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + count,
        min_frequency=2,
        initial_alphabet=list(alphabet),
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(left, right) for left, right in merges]
