"""What is asked for follows from what was given; contradictions are told before a model is touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cosytune.errors import InputError
from cosytune.synthesis.requests import Piece, Request, Speech

WAVE = np.zeros(16_000, np.float32)


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ({"text": "so", "voice": "ada"}, "voice"),
        ({"text": "so", "prompt_wave": WAVE, "prompt_text": "hello"}, "zero-shot"),
        ({"text": "so", "prompt_wave": WAVE}, "cross-lingual"),
        ({"text": "so", "voice": "ada", "instruct": "slowly"}, "instruct"),
        ({"text": "so", "prompt_wave": WAVE, "instruct": "slowly"}, "instruct"),
        ({"text": "slowly<endofprompt>so", "voice": "ada"}, "instruct"),
        ({"text": "slowly<|endofprompt|>so", "voice": "ada"}, "instruct"),
        ({"source_wave": WAVE, "voice": "ada"}, "conversion"),
        ({"source_wave": WAVE, "prompt_wave": WAVE}, "conversion"),
    ],
)
def test_the_mode_follows_from_what_was_given(given: dict[str, Any], mode: str) -> None:
    assert Request(**given).mode == mode


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"text": None, "voice": "ada"}, "line 3: the text is a NoneType; give a string"),
        ({"text": "so"}, "line 3: give either a voice or a prompt recording"),
        ({"text": "so", "voice": "ada", "prompt_wave": WAVE}, "give either a voice or a prompt recording"),
        ({"text": "so", "voice": "ada", "prompt_text": "hello"}, "give that recording, not the voice 'ada'"),
        ({"text": "so", "voice": "ada", "speed": 2.5}, "speed 2.5 is outside 0.5 to 2; 1 is unchanged"),
        ({"text": "so", "voice": "ada", "speed": float("nan")}, "speed nan is outside"),
        ({"text": "so", "voice": "ada", "language": "English"}, "'English' is no language code; give two or three"),
        ({"text": "so", "voice": "ada", "language": ""}, "'' is no language code"),
        ({"text": "so", "voice": "ada", "language": "en us"}, "'en us' is no language code"),
        ({"text": "so", "voice": "ada", "source_wave": WAVE}, "a recording to convert brings its own words"),
        ({"voice": "ada", "source_wave": WAVE, "instruct": "slowly"}, "a recording to convert brings its own words"),
        ({"text": "so", "prompt_wave": WAVE, "prompt_text": "a", "instruct": "b"}, "leave one of the two out"),
        ({"text": "a<endofprompt>so", "voice": "ada", "instruct": "b"}, "another one stands in the text"),
    ],
)
def test_contradictions(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        _ = Request(name="line 3", **given).mode


@pytest.mark.parametrize("code", [None, "en", "EN", "yue", "zh-CN", "zh_Hant_TW", "de-1996"])
def test_language_codes_that_are_taken(code: str | None) -> None:
    assert Request("so", "ada", language=code).mode == "voice"


@pytest.mark.parametrize("mark", ["<endofprompt>", "<|endofprompt|>"])
def test_an_instruction_in_front_of_the_text_is_taken_out_of_it(mark: str) -> None:
    request = Request(f"Sound tired. {mark}Good night.", "ada")
    assert request.instruction == "Sound tired."
    assert request.words == "Good night."
    given = Request("Good night.", "ada", instruct=f"Sound tired.{mark}")
    assert given.instruction == "Sound tired.", "people paste the mark along"
    assert given.words == "Good night."
    assert Request("Good night.", "ada").instruction is None


def test_a_speech_tells_what_happened_to_it() -> None:
    pieces = [
        Piece("one.", [1, 2], True, None, 0, 0.0, 0.4),
        Piece("two.", [3], False, "it did not end by itself", 2, 0.4, 0.6),
    ]
    speech = Speech(np.zeros(16_000, np.float32), 16_000, "voice", pieces, {"lm": 0.5, "flow": 1.5})
    assert (speech.seconds, speech.tokens, speech.retries) == (1.0, 3, 2)
    assert speech.problems == ["'two.' at 0.4 s: it did not end by itself"]
    assert speech.real_time_factor == 2.0
    assert speech.real_time_factors == {"lm": 0.5, "flow": 1.5}
    nothing = Speech(np.zeros(0, np.float32), 16_000, "voice", [], {"lm": 0.5})
    assert nothing.real_time_factor == nothing.real_time_factors["lm"] == float("inf")
