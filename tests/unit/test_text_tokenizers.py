"""Text to ids and back: exact Whisper ids, the small tokenizer's promises, clear refusals."""

from __future__ import annotations

import base64
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.errors import InputError, MissingPackageError
from cosytune.text import SmallTokenizer, TextTokenizer, WhisperTokenizer, load_tokenizer
from cosytune.text.whisper_vocabulary import LANGUAGES, special_tokens

CORPUS = [
    "the quick brown fox jumps over the lazy dog",
    "The dog sleeps; the fox does not.",
    "你好，世界。你好吗？",
] * 5


@pytest.fixture(scope="module")
def whisper() -> WhisperTokenizer:
    return WhisperTokenizer()


@pytest.fixture(scope="module")
def small() -> SmallTokenizer:
    return SmallTokenizer.train(CORPUS, 150)


# --- Whisper ----------------------------------------------------------------------------------------------------------


def test_whisper_ids_of_the_reference(whisper: WhisperTokenizer, golden: Path) -> None:
    for entry in json.loads((golden / "text.json").read_text(encoding="utf-8")):
        assert whisper.encode(entry["text"]) == entry["token_ids"]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("<|zh|>你好", [50260, 26410]),
        ("<|en|>Hello world.", [50259, 15947, 1002, 13]),
        ("<laughter>", [27, 5330, 29]),
        ("[laughter]", [58, 5330, 60]),
        ("<strong>", [27, 28063, 29]),
        ("<endofprompt>", [27, 521, 2670, 28722, 662, 29]),
        ("<|endoftext|><|30.00|>", [50257, 51865]),
        ("", []),
    ],
)
def test_whisper_check_values(whisper: WhisperTokenizer, text: str, ids: list[int]) -> None:
    assert whisper.encode(text) == ids
    assert whisper.decode(ids) == text


def test_the_special_tokens_fill_the_vocabulary(whisper: WhisperTokenizer) -> None:
    table = special_tokens()
    assert len(LANGUAGES) == 100
    assert sorted(table.values()) == list(range(50257, 51866))
    known = {"endoftext": 50257, "startoftranscript": 50258, "en": 50259, "zh": 50260, "ko": 50264, "ja": 50266}
    known |= {"yue": 50358, "translate": 50359, "transcribe": 50360, "startoflm": 50361, "startofprev": 50362}
    known |= {"nospeech": 50363, "notimestamps": 50364, "0.00": 50365, "0.02": 50366, "30.00": 51865}
    assert {name: table[f"<|{name}|>"] for name in known} == known
    assert whisper.vocabulary_size == 51866
    for token, index in table.items():
        assert whisper.encode(token) == [index]


def test_whisper_tags_inside_other_brackets(whisper: WhisperTokenizer) -> None:
    assert whisper.encode("<|en<|zh|>|>") == [*whisper.encode("<|en"), 50260, *whisper.encode("|>")]
    assert 50260 not in whisper.encode("<|none|> <|zh |>")


@given(st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_whisper_keeps_every_text(text: str) -> None:
    tokenizer = WhisperTokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_whisper_from_a_file_and_from_bytes(whisper: WhisperTokenizer, tmp_path: Path) -> None:
    found = importlib.util.find_spec("whisper")
    assert found is not None
    assert found.origin is not None
    data = (Path(found.origin).parent / "assets" / "multilingual.tiktoken").read_bytes()
    path = tmp_path / "mine.tiktoken"
    path.write_bytes(data)
    for tokenizer in (WhisperTokenizer(path), load_tokenizer("whisper", data), load_tokenizer("whisper", None)):
        assert tokenizer.encode("Hello 你好") == whisper.encode("Hello 你好")


def test_a_bad_whisper_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read \(No such file"):
        WhisperTokenizer(tmp_path / "none.tiktoken")
    for damaged in (b"not base64! 3\n", b"QQ==\n", b"QQ== x\n", "QQ== é\n".encode(), b"\x00\xff 1"):
        path = tmp_path / "damaged.tiktoken"
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="damaged in line 1"):
            WhisperTokenizer(path)
    other = b"".join(base64.b64encode(bytes([value])) + f" {value}\n".encode() for value in range(256))
    for short in (b"", other):
        path.write_bytes(short)
        with pytest.raises(InputError, match="not the ranks 0 to 50256 of Whisper-multilingual"):
            WhisperTokenizer(path)


def test_a_missing_whisper_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'cosytune\[whisper\]', or give the path"):
        WhisperTokenizer()


# --- small ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [60, 100, 256, 1000, 4000])
def test_small_sizes(size: int) -> None:
    texts = [*CORPUS, *(f"sentence number {index} of {index * 7} about topic {index % 13}" for index in range(300))]
    texts += ["".join(chr(0x4E00 + (index * 37 + place * 11) % 900) for place in range(20)) for index in range(100)]
    tokenizer = SmallTokenizer.train(texts, size)
    assert tokenizer.vocabulary_size <= size
    assert tokenizer.vocabulary_size == size or size > 1000
    for text in [*CORPUS[:3], "Ωmega – 龘 😀 \t\n \ue005"]:
        ids = tokenizer.encode(text)
        assert all(0 <= index < tokenizer.vocabulary_size for index in ids)
        assert tokenizer.decode(ids) == text


def test_more_ids_make_shorter_texts() -> None:
    lengths = [len(SmallTokenizer.train(CORPUS, size).encode(CORPUS[0])) for size in (70, 90, 130)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[-1]


@given(st.text(max_size=60))
@settings(max_examples=150, deadline=None)
def test_small_keeps_every_text(small: SmallTokenizer, text: str) -> None:
    assert small.decode(small.encode(text)) == text


def test_small_language_tags_are_single_tokens(small: SmallTokenizer) -> None:
    assert small.encode("<|en|>") == [0]
    assert small.encode("<|zh|>你好<|en|>") == [1, *small.encode("你好"), 0]
    marked = SmallTokenizer.train(CORPUS, 100, languages=("en",), marks=("[laughter]", "<strong>"))
    assert marked.encode("[laughter]<|en|>") == [1, 0]
    assert SmallTokenizer.train(CORPUS, 100, languages=()).encode("<|en|>") != [0]


def test_small_training_and_file_are_deterministic(small: SmallTokenizer) -> None:
    data = small.to_bytes()
    for _ in range(3):
        assert SmallTokenizer.train(iter(CORPUS), 150).to_bytes() == data
    loaded = load_tokenizer("small", data)
    assert isinstance(loaded, SmallTokenizer)
    assert loaded.to_bytes() == data
    assert loaded.vocabulary_size == small.vocabulary_size
    assert loaded.encode("The fox, 狐狸!") == small.encode("The fox, 狐狸!")


def test_case_is_kept_unless_the_file_says_otherwise(small: SmallTokenizer) -> None:
    assert small.decode(small.encode("The FOX")) == "The FOX"
    lowering = SmallTokenizer.train(CORPUS, 100, lower_case=True)
    assert lowering.decode(lowering.encode("<|en|>The FOX")) == "<|en|>the fox"
    again = SmallTokenizer.from_bytes(lowering.to_bytes())
    assert again.lower_case
    assert again.encode("The FOX") == again.encode("the fox")


def test_lone_surrogates_become_replacement_characters(small: SmallTokenizer, whisper: WhisperTokenizer) -> None:
    tokenizers: Sequence[TextTokenizer] = (small, whisper)
    for tokenizer in tokenizers:
        assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"


def test_bad_ids_are_refused(small: SmallTokenizer, whisper: WhisperTokenizer) -> None:
    tokenizers: Sequence[TextTokenizer] = (small, whisper)
    for tokenizer in tokenizers:
        for index in (-1, tokenizer.vocabulary_size):
            with pytest.raises(InputError, match="outside this tokenizer's 0 to"):
                tokenizer.decode([0, index])


def test_bad_training_is_refused() -> None:
    with pytest.raises(InputError, match="no room for characters beside 5 special tokens and 16 half bytes"):
        SmallTokenizer.train(CORPUS, 21)
    with pytest.raises(InputError, match="all texts are empty"):
        SmallTokenizer.train(["", " ", "<|en|>"], 100)


def changed(data: bytes, **values: Any) -> bytes:
    return json.dumps({**json.loads(data), **values}).encode()


def test_a_damaged_small_tokenizer_is_refused(small: SmallTokenizer) -> None:
    data = small.to_bytes()
    for broken in (b"", b"\xff", b"[]", b"{}", data[:-20], changed(data, version=2), changed(data, merges=[["a"]])):
        with pytest.raises(InputError, match="not a small tokenizer of this version"):
            SmallTokenizer.from_bytes(broken)
    with pytest.raises(InputError, match="not both tokens"):
        SmallTokenizer.from_bytes(changed(data, merges=[["q", "QQQ"]]))
    with pytest.raises(InputError, match="twice or empty"):
        SmallTokenizer.from_bytes(changed(data, alphabet=["a", "a"]))
    with pytest.raises(InputError, match="lacks the half bytes"):
        SmallTokenizer.from_bytes(changed(data, alphabet=["a"], merges=[]))


def test_unknown_kinds_are_refused(small: SmallTokenizer) -> None:
    with pytest.raises(InputError, match="no text tokenizer of kind 'qwen': the kinds are 'small' and 'whisper'"):
        load_tokenizer("qwen", None)
    with pytest.raises(InputError, match="'small' needs its file"):
        load_tokenizer("small", None)
