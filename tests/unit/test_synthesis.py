"""From a request to a wave: the same seed gives the same speech, and every wrong request is told the way out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosytune.audio.files import read_wave
from cosytune.errors import InputError, ModelError
from cosytune.models.folder import read_model, write_model
from cosytune.models.lm.generate import Generated
from cosytune.synthesis import synthesiser as module
from cosytune.synthesis.requests import Request, Speech
from cosytune.synthesis.synthesiser import PAUSE_SECONDS, Synthesiser
from tests.unit.model_examples import tiny_model, tone

RATE = 16_000


@pytest.fixture(scope="module")
def synthesiser() -> Synthesiser:
    return Synthesiser(tiny_model("ada", "bob"), steps=2)


def prompted(**more: Any) -> Request:
    return replace(Request("so", prompt_wave=tone(0.8, RATE), prompt_rate=RATE, name="line 3"), **more)


def test_the_same_seed_gives_the_same_speech(synthesiser: Synthesiser) -> None:
    first = synthesiser.speak(Request("hello", "ada", seed=5))
    synthesiser.speak(Request("you", "bob", seed=9))
    torch.rand(7)
    again = synthesiser.speak(Request("hello", "ada", seed=5))
    other = synthesiser.speak(Request("hello", "ada", seed=6))
    assert first.tokens == again.tokens
    assert np.array_equal(first.wave, again.wave)
    assert first.tokens != other.tokens


def test_speech_is_as_long_as_its_tokens(synthesiser: Synthesiser) -> None:
    speech = synthesiser.speak(Request("hello", "ada"))
    assert speech.sample_rate == RATE == synthesiser.sample_rate
    assert speech.wave.dtype == np.float32
    assert np.abs(speech.wave).max() <= 1.0
    assert len(speech.wave) == 640 * len(speech.tokens[0])
    assert speech.seconds == len(speech.wave) / RATE
    assert set(speech.seconds_spent) == {"prompt", "lm", "flow", "vocoder"}
    assert 0 < speech.real_time_factor < float("inf")


def test_a_long_text_is_joined_with_pauses(synthesiser: Synthesiser, monkeypatch: pytest.MonkeyPatch) -> None:
    def five_tokens(*_: object, **__: object) -> Generated:
        return Generated([1, 2, 3, 4, 5], stopped=True)

    monkeypatch.setattr(module, "generate", five_tokens)
    seen: list[tuple[int, int]] = []
    sentence = "how are you this morning hello there how are you this morning hello there how are you. "
    speech = synthesiser.speak(Request(sentence * 4, "ada"), lambda done, total: seen.append((done, total)))
    count = len(speech.pieces)
    assert count > 1
    assert seen == [(done, count) for done in range(count + 1)]
    pause = round(PAUSE_SECONDS * RATE)
    assert len(speech.wave) == count * 5 * 640 + (count - 1) * pause
    assert not speech.wave[5 * 640 : 5 * 640 + pause].any()
    assert speech.wave[: 5 * 640].any()
    assert speech.ended == [True] * count


@pytest.mark.parametrize("text", ["", "   ", "... !?"])
def test_nothing_to_say(synthesiser: Synthesiser, text: str) -> None:
    with pytest.raises(InputError, match="nothing to"):
        synthesiser.speak(Request(text, "ada"))


def test_an_unknown_voice_lists_the_known_ones(synthesiser: Synthesiser) -> None:
    with pytest.raises(InputError, match=r"has no voice 'eve'; its voices: ada, bob; or give a prompt"):
        synthesiser.speak(Request("so", "eve"))
    nobody = Synthesiser(replace(synthesiser.model, voices={}))
    with pytest.raises(InputError, match="its voices: none"):
        nobody.speak(Request("so", "ada"))


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request("so"), "either a voice or a prompt"),
        (prompted(voice="ada"), "either a voice or a prompt"),
        (Request("so", "ada", prompt_text="hello"), "give that recording, not the voice 'ada'"),
        (prompted(prompt_rate=None), "needs its sample rate"),
        (prompted(prompt_wave=tone(30.1, RATE)), r"line 3: the prompt recording has 30.1 s; at most 30 s"),
        (prompted(prompt_wave=tone(0.05, RATE)), "too short to analyse; give at least 0.1 s"),
        (prompted(prompt_wave=np.zeros((2, RATE), np.float32)), "one channel of finite samples"),
        (prompted(prompt_wave=np.full(RATE, np.nan, np.float32)), "one channel of finite samples"),
        (prompted(prompt_text="?!"), "nothing to pronounce"),
    ],
)
def test_requests_that_cannot_be_met(synthesiser: Synthesiser, request_: Request, words: str) -> None:
    with pytest.raises(InputError, match=words):
        synthesiser.speak(request_)


def test_prompt_and_text_meet_as_ids(synthesiser: Synthesiser, monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[Sequence[torch.Tensor]] = []

    def listen(lm: object, text: torch.Tensor, speaker: torch.Tensor, *prompt: torch.Tensor, **_: object) -> Generated:
        handed.append((text, speaker, *prompt))
        return Generated([1, 2], stopped=True)

    monkeypatch.setattr(module, "generate", listen)
    synthesiser.speak(prompted(text="there", prompt_text="hello"))
    synthesiser.speak(prompted(text="there"))
    (text, speaker, prompt_text, prompt_speech), (_, _, no_text, no_speech) = handed
    encode = synthesiser._tokenizer.encode
    assert prompt_text.tolist() == encode("hello"), "the prompt's text gets no mark at its end and none of the text"
    assert text.tolist() == encode("there.")
    assert prompt_speech.tolist() == synthesiser.front_ends.tokens([tone(0.8, RATE)])[0].tolist()
    assert speaker.shape == (16,)
    assert len(no_text) == len(no_speech) == 0, "without a transcript only the sound is taken"


def test_a_prompt_changes_the_sound(synthesiser: Synthesiser) -> None:
    one = synthesiser.speak(prompted(prompt_text="hello"))
    two = synthesiser.speak(prompted(prompt_text="hello", prompt_wave=tone(0.8, RATE, seed=2)[::-1].copy()))
    again = synthesiser.speak(prompted(prompt_text="hello"))
    assert np.array_equal(one.wave, again.wave)
    assert not np.array_equal(one.wave, two.wave)


def test_resynthesis(synthesiser: Synthesiser) -> None:
    wave = tone(1.0, 22_050)
    made = synthesiser.resynthesise(wave, 22_050)
    assert len(made) == 25 * 640
    assert np.array_equal(made, synthesiser.resynthesise(wave, 22_050))
    other = synthesiser.resynthesise(wave, 22_050, vector=synthesiser.model.voices["bob"])
    assert not np.array_equal(made, other)
    with pytest.raises(ModelError, match="vector of 3 numbers was given, model tiny takes 16"):
        synthesiser.resynthesise(wave, 22_050, vector=torch.zeros(3))
    with pytest.raises(InputError, match="the recording has shape"):
        synthesiser.resynthesise(np.zeros((1, RATE), np.float32), RATE)


def test_parts_that_are_needed(synthesiser: Synthesiser) -> None:
    model = synthesiser.model
    with pytest.raises(ModelError, match="has no vocoder"):
        Synthesiser(replace(model, parts={name: part for name, part in model.parts.items() if name != "vocoder"}))
    deaf = Synthesiser(replace(model, parts={name: model.parts[name] for name in ("lm", "flow", "vocoder")}), steps=1)
    assert len(deaf.speak(Request("so", "ada")).wave)
    with pytest.raises(ModelError, match="has no speech_tokenizer"):
        deaf.speak(prompted())


def test_speech_is_saved(tmp_path: Path) -> None:
    speech = Speech(tone(0.2, RATE), RATE, ["a"], [[1]], [True])
    assert speech.real_time_factor == 0
    speech.save(tmp_path / "out" / "a.flac")
    wave, rate = read_wave(tmp_path / "out" / "a.flac")
    assert rate == RATE
    np.testing.assert_allclose(wave, speech.wave, atol=1e-4)
    assert Speech(np.zeros(0, np.float32), RATE, [], [], []).real_time_factor == float("inf")


def test_the_three_lines_of_the_readme(tmp_path: Path) -> None:
    """Names as plain strings, as people write them."""
    write_model(tiny_model("ada"), tmp_path / "model")
    speech = Synthesiser(read_model(str(tmp_path / "model"))).speak(Request("Hello there.", voice="ada"))
    speech.save(str(tmp_path / "hello.wav"))
    assert (tmp_path / "hello.wav").stat().st_size > 1000
