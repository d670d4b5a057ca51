"""Pieces: parity with the reference, the cures of its defects, and properties that hold for any text."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.errors import InputError
from cosytune.text import DEFAULT, REFERENCE, SplitLimits, WhisperTokenizer, prepare_text, split_sentences


def words(text: str) -> int:
    """A stand-in for a tokenizer: four characters a token, at least one a word."""
    return sum((len(word) + 3) // 4 for word in text.split(" "))


def test_pieces_of_the_reference(golden: Path) -> None:
    tokenizer = WhisperTokenizer()
    options = dataclasses.replace(REFERENCE, read_numbers=False)
    entries = json.loads((golden / "text.json").read_text(encoding="utf-8"))
    assert len(entries) >= 17
    for entry in entries:
        pieces = prepare_text(entry["text"], length=lambda text: len(tokenizer.encode(text)), options=options)
        assert pieces == entry["pieces"]


def test_the_reference_returns_tagged_unnormalised_and_empty_text_whole() -> None:
    for text in ("<|zh|>" + "你好。" * 100, "", "a <| b |> c. d."):
        assert prepare_text(text, length=words, options=REFERENCE) == [text]
    assert prepare_text(" a. b. ", length=words, normalise=False, options=REFERENCE) == [" a. b. "]


@pytest.mark.parametrize("text", ["   ", '?"abc', "（ ", "。", '"', "A " * 50])
def test_the_reference_preset_does_not_repeat_the_crashes(text: str) -> None:
    assert isinstance(prepare_text(text, length=words, options=REFERENCE), list)


def test_unsplit_text_has_no_final_mark() -> None:
    assert prepare_text("希望你以后能够做得比我还好呦", length=words, split=False) == ["希望你以后能够做得比我还好呦"]
    assert prepare_text("A b", length=words, split=False, options=REFERENCE) == ["A b"]
    assert prepare_text("...", length=words, split=False, options=REFERENCE) == ["..."]
    assert prepare_text("<|en|> Hi 3", length=words, split=False) == ["<|en|>Hi three"]


@pytest.mark.parametrize("text", ["", "  ", "...", "！？", "\x00\u200b", "<|en|>", "<|en|> ... <|zh|>", "😀", "<br/>"])
@pytest.mark.parametrize("split", [True, False])
def test_silence_is_refused(text: str, split: bool) -> None:
    with pytest.raises(InputError, match="nothing to pronounce: give at least one letter or number"):
        prepare_text(text, length=words, split=split)


def test_tags_do_not_switch_the_front_end_off() -> None:
    pieces = prepare_text("<|zh|>" + "今天有3只猫在这里。" * 30, length=words)
    assert len(pieces) > 2
    assert all(piece.startswith("<|zh|>今天有三只猫") for piece in pieces)


def test_a_language_tag_holds_until_the_next_one_and_chooses_the_reader() -> None:
    text = "I see 3. <|de|> Tim hat 3. <|zh|> 有3只。<|notimestamps|>好3"
    assert prepare_text(text, length=words) == [
        "I see three.",
        "<|de|>Tim hat 3.",
        "<|zh|>有三只。",
        "<|zh|><|notimestamps|>好三。",
    ]


def test_an_instruction_is_repeated_and_not_normalised() -> None:
    text = "Speak 2 times slower.<|endofprompt|>" + "There are 3 cats here. " * 60
    pieces = prepare_text(text, length=words)
    assert len(pieces) > 1
    assert all(piece.startswith("Speak 2 times slower.<|endofprompt|>There are three cats") for piece in pieces)
    with pytest.raises(InputError, match="1001 characters and is repeated for each piece; at most 1000"):
        prepare_text("a" * 1001 + "<|endofprompt|>b", length=words)


def test_the_language_argument_reaches_the_reader() -> None:
    assert prepare_text("Tim 3", length=words, language="de") == ["Tim 3."]
    assert prepare_text("Tim 3", length=words) == ["Tim three."]
    assert prepare_text("Tim 3", length=words, normalise=False) == ["Tim 3."]


@pytest.mark.parametrize(
    "text",
    [
        "Mr. X is 3.5 at 10:30.",
        "J. K. wrote a.b.c, e.g. this.",
        "See example.com now.",
        "版本2.0很好。",
        "Really?! (Yes.)",
    ],
)
def test_inner_stops_end_no_sentence(text: str) -> None:
    limits = SplitLimits(maximum=200, minimum=0, merge_below=0)
    chinese = "版" in text
    apart = SplitLimits(maximum=len(text) // 2 + 4, minimum=0, merge_below=0)
    assert split_sentences(text, chinese=chinese, length=len, limits=limits) == [text]
    for piece in split_sentences(text, chinese=chinese, length=len, limits=apart)[:-1]:
        assert not piece.rstrip().endswith(("Mr.", "3.", "10:", "J.", "K.", "e.g.", "example.", "2."))


def test_marks_and_quotation_marks_stay_with_their_sentence() -> None:
    limits = SplitLimits(maximum=8, minimum=0, merge_below=0)
    assert split_sentences("“走吧！”然后走了…… 好吗？！", chinese=True, length=len, limits=limits) == [
        "“走吧！”",
        "然后走了……",
        " 好吗？！",
    ]
    assert split_sentences("...So? 'No.' Yes", chinese=False, length=len, limits=limits) == [
        "...So?",
        " 'No.'",
        " Yes.",
    ]


def test_long_sentences_are_cut_at_commas_then_spaces_then_anywhere() -> None:
    limits = SplitLimits(maximum=10, minimum=0, merge_below=0)
    cut = {"aaaa, bbbb, cccc": ["aaaa,", " bbbb,", " cccc."], "aaaa bbbb cccc": ["aaaa bbbb", " cccc."], "a" * 25: None}
    for text, pieces in cut.items():
        found = split_sentences(text, chinese=False, length=len, limits=limits)
        assert found == (pieces or ["a" * 10, "a" * 10, "aaaaa."])
    accents = split_sentences("e\u0301" * 15, chinese=False, length=len, limits=limits)
    assert not any(piece.startswith("\u0301") for piece in accents)


def test_short_pieces_are_glued() -> None:
    long = "字" * 78 + "。"
    assert split_sentences("嗯。" + long, chinese=True, length=len) == ["嗯。" + long]
    assert split_sentences(long + "好。", chinese=True, length=len) == [long + "好。"]


def test_impossible_limits_are_refused() -> None:
    for values in ((10, 20, 5), (0, 0, 0), (80, 60, 70), (80, 60, -1)):
        with pytest.raises(InputError, match="0 <= merge_below <= minimum <= maximum"):
            SplitLimits(*values)
    assert SplitLimits().hard_maximum == 100


@given(
    st.one_of(st.text(max_size=300), st.text(alphabet='ab 中。.,，!?"”\n1:', max_size=400)),
    st.booleans(),
    st.sampled_from([SplitLimits(), SplitLimits(12, 5, 3), SplitLimits(1, 0, 0)]),
)
@settings(max_examples=300, deadline=None)
def test_splitting_loses_nothing_and_keeps_the_limit(text: str, chinese: bool, limits: SplitLimits) -> None:
    pieces = split_sentences(text, chinese=chinese, length=len, limits=limits)
    joined = "".join(pieces)
    assert joined == text or joined[:-1] == text
    assert all(0 < len(piece) <= limits.hard_maximum for piece in pieces)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
@settings(max_examples=100, deadline=None)
def test_the_limit_holds_in_tokens(text: str) -> None:
    def length(piece: str) -> int:
        return len(piece.encode())

    limits = SplitLimits(16, 8, 4)
    for piece in split_sentences(text, chinese=False, length=length, limits=limits):
        assert length(piece) <= limits.hard_maximum or len(piece) == 1


@given(st.text(max_size=120), st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_text_gives_pieces_or_one_clear_refusal(text: str, normalise: bool) -> None:
    try:
        pieces = prepare_text(text, length=words, normalise=normalise)
    except InputError:
        return
    assert pieces
    assert all(any(character.isalnum() for character in piece) for piece in pieces)
    assert isinstance(prepare_text(text, length=words, options=REFERENCE), list)


@pytest.mark.parametrize(
    "part",
    ["x", "中", "a.", "I have 3 cats. ", "word ", ".", "<", "*a", "1", "1,", "1-", "a@", "<|en|>a", "½", "e\u0301"],
)
def test_forty_thousand_characters_are_no_trouble(part: str) -> None:
    tokenizer = WhisperTokenizer()
    text = (part * 40_000)[:40_000]
    start = time.perf_counter()
    try:
        pieces = prepare_text(text, length=lambda piece: len(tokenizer.encode(piece)), options=DEFAULT)
    except InputError as error:
        assert "nothing to pronounce" in str(error)
        pieces = []
    # quadratic code takes minutes; the room for slow machines is wide
    assert time.perf_counter() - start < 8
    if part != "<|en|>a":
        assert all(min(len(piece), len(tokenizer.encode(piece))) <= 100 for piece in pieces)
