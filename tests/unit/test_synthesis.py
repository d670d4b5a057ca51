"""One request to one wave: every mode, the same seed gives the same speech, wrong requests are told the way out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosytune.audio.files import read_wave
from cosytune.errors import InputError, ModelError
from cosytune.models.flow.solver import SolverConfig
from cosytune.models.folder import add_voice, read_model, write_model
from cosytune.models.lm.generate import Decoding, Job
from cosytune.models.voices import Voice, VoicePrompt
from cosytune.synthesis import Request, Speech, Synthesiser
from cosytune.synthesis.requests import END_OF_PROMPT
from tests.unit.model_examples import tiny_model, tone

RATE = 16_000
FAST = SolverConfig(steps=2)


@pytest.fixture(scope="module")
def synthesiser() -> Synthesiser:
    return Synthesiser(tiny_model("ada", "bob"), solver=FAST)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """What the LM was asked, in order."""
    seen: list[Job] = []
    enter = Decoding.enter

    def listening(self: Decoding, jobs: Sequence[Job]) -> None:
        seen.extend(jobs)
        enter(self, jobs)

    monkeypatch.setattr(Decoding, "enter", listening)
    return seen


def prompted(**more: Any) -> Request:
    return replace(Request("so", prompt_wave=tone(0.8, RATE), prompt_rate=RATE, name="line 3"), **more)


def test_the_same_seed_gives_the_same_speech(synthesiser: Synthesiser) -> None:
    first = synthesiser.speak(Request("hello", "ada", seed=5))
    synthesiser.speak(Request("you", "bob", seed=9))
    torch.rand(7)
    again = synthesiser.speak(Request("hello", "ada", seed=5))
    other = synthesiser.speak(Request("hello", "ada", seed=6))
    assert first.pieces == again.pieces
    assert np.array_equal(first.wave, again.wave)
    assert first.pieces[0].tokens != other.pieces[0].tokens


def test_speech_is_as_long_as_its_tokens(synthesiser: Synthesiser) -> None:
    speech = synthesiser.speak(Request("hello", "ada"))
    assert speech.sample_rate == RATE == synthesiser.sample_rate
    assert speech.wave.dtype == np.float32
    assert np.abs(speech.wave).max() <= 1.0
    assert len(speech.wave) == 640 * speech.tokens
    assert speech.pieces[0].seconds == speech.seconds == len(speech.wave) / RATE
    assert set(speech.seconds_spent) == set(speech.real_time_factors) == {"prompt", "lm", "flow", "vocoder"}
    assert 0 < speech.real_time_factor < float("inf")


def test_a_voice_is_told_to_both_networks(synthesiser: Synthesiser, jobs: list[Job]) -> None:
    speech = synthesiser.speak(Request("there", "ada"))
    assert speech.mode == "voice"
    assert torch.equal(jobs[0].speaker, synthesiser.model.voices["ada"].vector)  # type: ignore[arg-type]
    assert len(jobs[0].prompt_text) == len(jobs[0].prompt_speech) == 0


def test_prompt_and_text_meet_as_ids(synthesiser: Synthesiser, jobs: list[Job]) -> None:
    assert synthesiser.speak(prompted(text="there", prompt_text="hello")).mode == "zero-shot"
    assert synthesiser.speak(prompted(text="there")).mode == "cross-lingual"
    encode = synthesiser._conditions._tokenizer.encode
    cloned, sound_only = jobs[0], next(job for job in jobs if not len(job.prompt_text))
    assert cloned.prompt_text.tolist() == encode("hello"), "the prompt's text gets no mark at its end"
    assert cloned.text.tolist() == encode("there.")
    assert cloned.prompt_speech.tolist() == synthesiser.front_ends.tokens([tone(0.8, RATE)])[0].tolist()
    assert cloned.speaker is not None and cloned.speaker.shape == (16,)
    assert len(sound_only.prompt_speech) == 0, "without a transcript only the sound is taken"
    assert sound_only.speaker is not None


@pytest.mark.parametrize(
    "request_",
    [Request("there", "ada", instruct="hello you"), Request(f"hello you{END_OF_PROMPT}there", "ada")],
    ids=["given", "in the text"],
)
def test_an_instruction_takes_the_place_of_speaker_and_prompt(
    synthesiser: Synthesiser, jobs: list[Job], request_: Request
) -> None:
    assert synthesiser.speak(request_).mode == "instruct"
    encode = synthesiser._conditions._tokenizer.encode
    assert jobs[0].speaker is None, "instruct models were trained without the speaker's position"
    assert jobs[0].prompt_text.tolist() == encode("hello you" + END_OF_PROMPT)
    assert jobs[0].text.tolist() == encode("there.")


def test_an_instruction_keeps_the_sound_of_a_prompt(synthesiser: Synthesiser) -> None:
    condition = synthesiser._conditions.of_request(prompted(instruct="hello"))
    assert condition.lm_vector is None
    assert len(condition.lm_speech) == 0
    assert condition.flow_mel.shape[1] == 2 * len(condition.flow_tokens) > 0


def test_a_recording_is_converted(synthesiser: Synthesiser, jobs: list[Job]) -> None:
    source = Request(voice="ada", source_wave=tone(1.0, 22_050), source_rate=22_050)
    speech = synthesiser.speak(source)
    assert speech.mode == "conversion"
    assert not jobs, "the LM has no part in it"
    assert speech.pieces[0].tokens == synthesiser._conditions.tokens_of(tone(1.0, 22_050), 22_050, "it").tolist()
    assert speech.seconds == 1.0
    other = synthesiser.speak(replace(source, voice=None, prompt_wave=tone(0.8, RATE), prompt_rate=RATE))
    assert other.pieces[0].tokens == speech.pieces[0].tokens
    assert not np.array_equal(other.wave, speech.wave)


def test_speed_changes_the_length_only(synthesiser: Synthesiser) -> None:
    normal, fast, slow = (synthesiser.speak(Request("hello", "ada", speed=speed)) for speed in (1.0, 2.0, 0.5))
    assert normal.pieces[0].tokens == fast.pieces[0].tokens == slow.pieces[0].tokens
    assert fast.seconds == pytest.approx(normal.seconds / 2, abs=0.05)
    assert slow.seconds == pytest.approx(normal.seconds * 2, abs=0.05)


def test_a_long_text_is_spoken_in_pieces(synthesiser: Synthesiser) -> None:
    seen: list[tuple[int, int]] = []
    sentence = "how are you this morning hello there how are you this morning hello there how are you. "
    speech = synthesiser.speak(Request(sentence * 4, "ada"), lambda done, total: seen.append((done, total)))
    count = len(speech.pieces)
    assert count > 1
    assert seen == [(done, count) for done in range(count + 1)]
    starts = [piece.start for piece in speech.pieces]
    assert starts == sorted(starts) and starts[0] == 0
    assert speech.pieces[-1].start + speech.pieces[-1].seconds == pytest.approx(speech.seconds)


@pytest.mark.parametrize("text", ["", "   ", "... !?", "\x00\x1b", "<br/>"])
def test_nothing_to_say(synthesiser: Synthesiser, text: str) -> None:
    with pytest.raises(InputError, match=r"request: .*nothing to"):
        synthesiser.speak(Request(text, "ada"))


@pytest.mark.parametrize(
    "text", ["a", "Hi 你好 how are you 今天", "<b>hello</b> *there*", "hello\x00there\x1b[31m", "\ufeffhello"]
)
def test_odd_texts_are_spoken(synthesiser: Synthesiser, text: str) -> None:
    assert synthesiser.speak(Request(text, "ada")).seconds > 0


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
        (prompted(prompt_rate=None), "needs its sample rate"),
        (prompted(prompt_rate=16_000.5), "the prompt recording has a sample rate of 16000.5; give a whole number"),
        (prompted(prompt_rate="16000"), "a sample rate of '16000'; give a whole number"),
        (prompted(prompt_rate=True), "a sample rate of True"),
        (Request(voice="ada", source_wave=tone(1, RATE), source_rate=1e4), "to convert has a sample rate of 10000.0"),
        (prompted(prompt_wave=tone(30.1, RATE)), r"line 3: the prompt recording has 30.1 s; at most 30 s"),
        (prompted(prompt_wave=tone(0.05, RATE)), "too short to analyse; give at least 0.1 s"),
        (prompted(prompt_wave=tone(0.0, RATE)), "too short to analyse"),
        (prompted(prompt_wave=np.zeros((2, RATE), np.float32)), "one channel of finite samples"),
        (prompted(prompt_wave=np.full(RATE, np.nan, np.float32)), "one channel of finite samples"),
        (prompted(prompt_wave=np.zeros(RATE, np.float32)), "line 3: the prompt recording holds nothing but silence"),
        (prompted(prompt_wave=np.zeros(RATE, np.int16)), "is of int16; give an array of float32 samples"),
        (prompted(prompt_wave=[0.0] * RATE), "is of list; give an array of float32 samples"),
        (prompted(prompt_wave=2e4 * tone(1, RATE)), r"has samples up to \S+; they lie between -1 and 1"),
        (prompted(prompt_text="?!"), "nothing to pronounce"),
        (Request("so", "ada", instruct="  "), "the instruction is empty"),
        (Request(voice="ada", source_wave=tone(1, RATE)), "a recording to convert needs its sample rate"),
        (Request(voice="ada", source_wave=tone(3600, 50), source_rate=50), "has 3600.0 s; at most 30 s"),
    ],
)
def test_requests_that_cannot_be_met(synthesiser: Synthesiser, request_: Request, words: str) -> None:
    with pytest.raises(InputError, match=words):
        synthesiser.speak(request_)


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_prompts_of_any_rate_and_level(synthesiser: Synthesiser, rate: int) -> None:
    clipped = np.clip(20 * tone(1.0, rate), -1, 1).astype(np.float32)
    assert synthesiser.speak(prompted(prompt_wave=clipped, prompt_rate=rate)).seconds > 0


def test_a_prompt_is_analysed_once(synthesiser: Synthesiser, monkeypatch: pytest.MonkeyPatch) -> None:
    analysed: list[int] = []
    original = type(synthesiser.front_ends).tokens

    def counting(self: Any, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        analysed.append(len(waves))
        return original(self, waves)

    monkeypatch.setattr(type(synthesiser.front_ends), "tokens", counting)
    wave = tone(0.9, RATE, seed=8)
    for text in ("hello", "you", "there"):
        synthesiser.speak(prompted(text=text, prompt_wave=wave, prompt_text="hello"))
    assert analysed == [1]


def test_front_ends_that_make_no_numbers_are_told(synthesiser: Synthesiser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(synthesiser.front_ends), "embedding", lambda *_: np.full((1, 16), np.nan, np.float32))
    with pytest.raises(ModelError, match="front ends of model tiny make numbers that are none of line 3: the prompt"):
        synthesiser.speak(prompted(prompt_wave=tone(0.9, RATE, seed=11)))


def test_a_prompt_changes_the_sound(synthesiser: Synthesiser) -> None:
    one = synthesiser.speak(prompted(prompt_text="hello"))
    two = synthesiser.speak(prompted(prompt_text="hello", prompt_wave=tone(0.8, RATE, seed=2)[::-1].copy()))
    again = synthesiser.speak(prompted(prompt_text="hello"))
    assert np.array_equal(one.wave, again.wave)
    assert not np.array_equal(one.wave, two.wave)


def test_a_cloned_voice_can_be_kept(tmp_path: Path) -> None:
    write_model(tiny_model("ada"), tmp_path / "model")
    first = Synthesiser(read_model(tmp_path / "model"), solver=FAST)
    wave = tone(0.8, RATE)
    cloned = first.speak(Request("so", prompt_wave=wave, prompt_rate=RATE, prompt_text="hello"))
    add_voice(tmp_path / "model", "eve", first.voice_of(wave, RATE, "hello"))
    model = read_model(tmp_path / "model")
    again = Synthesiser(model, solver=FAST).speak(Request("so", "eve"))
    assert sorted(model.voices) == ["ada", "eve"]
    assert again.mode == "voice"
    assert np.array_equal(again.wave, cloned.wave), "by name it sounds as it did from the recording"
    assert Synthesiser(model, solver=FAST).speak(Request("so", "eve", instruct="hello")).seconds > 0


def test_resynthesis(synthesiser: Synthesiser) -> None:
    wave = tone(1.0, 22_050)
    made = synthesiser.resynthesise(wave, 22_050)
    assert len(made) == 25 * 640
    assert np.array_equal(made, synthesiser.resynthesise(wave, 22_050))
    other = synthesiser.resynthesise(wave, 22_050, vector=synthesiser.model.voices["bob"].vector)
    assert not np.array_equal(made, other)
    with pytest.raises(ModelError, match="vector of 3 numbers was given, model tiny takes 16"):
        synthesiser.resynthesise(wave, 22_050, vector=torch.zeros(3))
    with pytest.raises(InputError, match="the recording has shape"):
        synthesiser.resynthesise(np.zeros((1, RATE), np.float32), RATE)


def test_parts_that_are_needed(synthesiser: Synthesiser) -> None:
    model = synthesiser.model
    with pytest.raises(ModelError, match="has no vocoder"):
        Synthesiser(replace(model, parts={name: part for name, part in model.parts.items() if name != "vocoder"}))
    deaf = Synthesiser(replace(model, parts={name: model.parts[name] for name in ("lm", "flow", "vocoder")}))
    assert len(deaf.speak(Request("so", "ada")).wave)
    with pytest.raises(ModelError, match="has no speech_tokenizer"):
        deaf.speak(prompted())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"precision": "float8"}, "there is no precision 'float8'; give float32 or bfloat16"),
        ({"rows": 0}, "0 pieces were to be decoded at once; give 1 or more"),
        ({"device": "warp"}, r"the device 'warp' cannot be used \(.*\); give cpu"),
    ],
)
def test_settings_that_cannot_be(synthesiser: Synthesiser, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Synthesiser(synthesiser.model, **wrong)


def test_bfloat16_speaks() -> None:
    speech = Synthesiser(tiny_model("ada"), precision="bfloat16", solver=FAST).speak(Request("hello there", "ada"))
    assert speech.wave.dtype == np.float32
    assert np.isfinite(speech.wave).all()


@pytest.mark.parametrize(
    ("voice", "words"),
    [
        (Voice(torch.zeros(3)), r"vector of voice 'eve' of model tiny has shape \(3,\), its networks take 16 numbers"),
        (Voice(torch.full((16,), torch.nan)), "not of finite numbers"),
        (
            Voice(torch.zeros(16), VoicePrompt(torch.tensor([1]), torch.tensor([81]), torch.zeros(80, 2))),
            "go from 81 to 81, its networks know 0 to 80",
        ),
    ],
)
def test_a_voice_put_into_the_table_by_hand_is_checked(voice: Voice, words: str) -> None:
    model = tiny_model("ada")
    synthesiser = Synthesiser(model, solver=FAST)
    model.voices["eve"] = voice
    with pytest.raises(ModelError, match=words):
        synthesiser.speak(Request("so", "eve"))
    outcomes = list(synthesiser.speak_all([Request("so", "eve"), Request("so", "ada")]))
    assert [isinstance(outcome.result, Speech) for outcome in outcomes] == [False, True]


def test_the_callers_code_does_not_run_in_inference_mode(synthesiser: Synthesiser) -> None:
    seen: dict[str, list[bool]] = {"progress": [], "requests": [], "between": []}
    synthesiser.speak(Request("so", "ada"), lambda *_: seen["progress"].append(torch.is_inference_mode_enabled()))

    def requests() -> Iterator[Request]:
        for seed in range(3):
            seen["requests"].append(torch.is_inference_mode_enabled())
            yield Request("so", "ada", seed=seed)

    for _ in synthesiser.speak_all(requests()):
        seen["between"].append(torch.is_inference_mode_enabled())
    assert seen == {"progress": [False] * 2, "requests": [False] * 3, "between": [False] * 3}


@pytest.mark.parametrize("part", ["flow", "vocoder"])
def test_damaged_weights_are_told(part: str) -> None:
    model = tiny_model("ada")
    for parameter in model.part(part).parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(ModelError, match="not numbers: their weights are damaged"):
        Synthesiser(model, solver=FAST).speak(Request("hello", "ada"))


def test_speech_is_saved(tmp_path: Path) -> None:
    speech = Speech(tone(0.2, RATE), RATE, "voice", [])
    assert speech.real_time_factor == 0
    speech.save(tmp_path / "out" / "a.flac")
    wave, rate = read_wave(tmp_path / "out" / "a.flac")
    assert rate == RATE
    np.testing.assert_allclose(wave, speech.wave, atol=1e-4)


def test_the_three_lines_of_the_readme(tmp_path: Path) -> None:
    """Names as plain strings, as people write them."""
    write_model(tiny_model("ada"), tmp_path / "model")
    speech = Synthesiser(read_model(str(tmp_path / "model"))).speak(Request("Hello there.", voice="ada"))
    speech.save(str(tmp_path / "hello.wav"))
    assert (tmp_path / "hello.wav").stat().st_size > 1000
