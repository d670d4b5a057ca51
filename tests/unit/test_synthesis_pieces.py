"""Long texts: paragraphs, sentences, and the silence between them."""

from __future__ import annotations

import numpy as np
import pytest

from cosytune.errors import InputError
from cosytune.synthesis.pieces import (
    CLAUSE_PAUSE,
    EDGE,
    LONGEST_TAIL,
    PARAGRAPH_PAUSE,
    SENTENCE_PAUSE,
    cut_text,
    join,
)
from tests.unit.model_examples import tone

RATE = 16_000


def words(text: str) -> int:
    return len(text.split())


def test_pauses_follow_the_marks() -> None:
    sentence = "One two three four five six seven eight nine ten. "
    long = " ".join(["word"] * 70) + ", " + " ".join(["word"] * 70) + ". "
    pieces = cut_text(sentence * 9 + long + "\n\n" + "A new paragraph.", length=words)
    assert len(pieces) >= 4
    assert pieces[-1].text == "A new paragraph."
    assert [piece.pause for piece in pieces[-2:]] == [PARAGRAPH_PAUSE, PARAGRAPH_PAUSE]
    by_mark = {piece.text.rstrip()[-1]: piece.pause for piece in pieces[:-2]}
    assert by_mark == {".": SENTENCE_PAUSE, ",": CLAUSE_PAUSE}


def test_a_paragraph_that_says_nothing_is_left_out() -> None:
    pieces = cut_text("Chapter one.\n\n* * *\n\nIt was night.", length=words)
    assert [piece.text for piece in pieces] == ["Chapter one.", "It was night."]


@pytest.mark.parametrize("line_end", ["\r\n", "\r"])
def test_paragraphs_of_other_systems(line_end: str) -> None:
    text = "Chapter one.\n \nIt was night,\nand late."
    assert cut_text(text.replace("\n", line_end), length=words) == cut_text(text, length=words)


@pytest.mark.parametrize("text", ["", "  \n\n ", "...", "* * *\n\n- - -", "\u200b\u200b"])
def test_nothing_to_say(text: str) -> None:
    with pytest.raises(InputError, match="nothing to"):
        cut_text(text, length=words)


def test_a_language_tag_holds_across_paragraphs() -> None:
    pieces = cut_text("<|en|>One.\n\nTwo.", length=words)
    assert all(piece.text.startswith("<|en|>") for piece in pieces)


@pytest.mark.parametrize(
    "text",
    [
        "word " * 20_000,
        "长" * 100_000,
        "a" * 100_000,
        "Hello 世界! مرحبا. Привет, мир? " * 3_000,
        "<b>bold</b> & *stars* [link](http://example.com) " * 2_000,
        "\x00\x07bell\x1b[31m " * 5_000,
    ],
    ids=["words", "han", "one word", "mixed", "markup", "control"],
)
def test_a_hundred_thousand_characters(text: str) -> None:
    pieces = cut_text(text, length=len)
    assert all(0 < len(piece.text) <= 120 for piece in pieces)
    assert not any(character < " " for piece in pieces for character in piece.text)


def test_pieces_are_joined_with_exactly_the_pause() -> None:
    speech, silence = tone(0.5, RATE), np.zeros(RATE // 2, np.float32)
    padded = np.concatenate([silence, speech, silence])
    wave, starts = join([padded, padded], [0.35, 0.7], RATE)
    loud = np.flatnonzero(np.abs(wave) > 1e-3)
    gaps = np.diff(loud)
    pause = gaps.max() / RATE
    assert pause == pytest.approx(0.35, abs=0.025), "speech ends and begins somewhere in a frame of 10 ms"
    assert starts[0] == 0 and abs(starts[1] / RATE - (0.5 + 0.5 - EDGE + 0.35)) < 0.03
    assert len(wave) / RATE <= 2 * (0.5 + LONGEST_TAIL) + 0.35 + 2 * EDGE + 0.05


def test_a_single_piece_keeps_its_sound() -> None:
    speech = tone(0.5, RATE)
    wave, starts = join([speech], [0.35], RATE)
    assert np.array_equal(wave, speech)
    assert starts == [0]


def test_endless_silence_at_the_end_is_cut() -> None:
    wave, _ = join([np.concatenate([tone(0.5, RATE), np.zeros(5 * RATE, np.float32)])], [0.0], RATE)
    assert len(wave) / RATE < 0.5 + LONGEST_TAIL + 0.05


def test_silent_and_empty_pieces_take_little_room() -> None:
    wave, starts = join([np.zeros(0, np.float32), np.zeros(3 * RATE, np.float32), tone(0.2, RATE)], [0.1] * 3, RATE)
    assert len(wave) / RATE < 0.2 + 0.2 + 3 * LONGEST_TAIL
    assert len(starts) == 3
