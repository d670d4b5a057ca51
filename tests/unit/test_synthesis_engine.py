"""Many requests at once sound as each alone; what goes wrong is tried again, and not for ever."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cosytune.models.flow.solver import SolverConfig
from cosytune.models.lm.generate import Decoding, Generated, Job
from cosytune.synthesis import Request, Speech, Synthesiser
from cosytune.synthesis import engine as module
from cosytune.synthesis.guards import GuardConfig
from cosytune.synthesis.rendering import Renderer
from cosytune.synthesis.requests import Failure
from tests.unit.model_examples import tiny_model, tone

RATE = 16_000
FAST = SolverConfig(steps=1)
CLOSE = 5e-6
"""Rows differ by rounding, 1e-7; another row's phases or noise move this model's waves by 4e-5 and more."""
MODEL = tiny_model("ada", "bob")
TEXTS = ("hello", "you", "how are you this morning", "there. " * 12)

requests = st.builds(
    Request,
    text=st.sampled_from(TEXTS),
    voice=st.sampled_from(["ada", "bob"]),
    seed=st.integers(0, 3),
    speed=st.sampled_from([1.0, 1.5]),
    instruct=st.sampled_from([None, None, "hello"]),
)


def speech_of(result: Speech | Failure) -> Speech:
    assert isinstance(result, Speech)
    return result


@settings(max_examples=3, deadline=None)
@given(together=st.lists(requests, min_size=2, max_size=4), rows=st.integers(1, 5))
@example(together=[Request("hello", "ada", seed=1), Request("hello", "ada", seed=2)], rows=2)
def test_a_request_does_not_depend_on_its_neighbours(together: list[Request], rows: int) -> None:
    many, alone = (Synthesiser(MODEL, solver=FAST, rows=count) for count in (rows, 1))
    found = {outcome.number: speech_of(outcome.result) for outcome in many.speak_all(together)}
    assert sorted(found) == list(range(len(together)))
    for number, request in enumerate(together):
        expected = alone.speak(request)
        assert [piece.tokens for piece in found[number].pieces] == [piece.tokens for piece in expected.pieces]
        np.testing.assert_allclose(found[number].wave, expected.wave, atol=CLOSE)


def test_all_modes_go_together() -> None:
    wave = tone(0.8, RATE)
    mixed = [
        Request("hello", "ada"),
        Request("hello", prompt_wave=wave, prompt_rate=RATE, prompt_text="you"),
        Request("hello", prompt_wave=wave, prompt_rate=RATE),
        Request("hello", "bob", instruct="you"),
        Request(voice="bob", source_wave=wave, source_rate=RATE),
    ]
    synthesiser = Synthesiser(MODEL, solver=FAST)
    found = {outcome.number: speech_of(outcome.result) for outcome in synthesiser.speak_all(mixed)}
    assert [found[number].mode for number in range(5)] == [
        "voice", "zero-shot", "cross-lingual", "instruct", "conversion",
    ]  # fmt: skip
    for number, request in enumerate(mixed):
        np.testing.assert_allclose(found[number].wave, synthesiser.speak(request).wave, atol=CLOSE)


def test_a_bad_request_does_not_stop_the_others() -> None:
    mixed = [Request("hello", "ada"), Request("hello", "eve"), Request("", "ada"), Request("you", "ada")]
    found = {outcome.number: outcome.result for outcome in Synthesiser(MODEL, solver=FAST).speak_all(mixed)}
    assert [isinstance(found[number], Failure) for number in range(4)] == [False, True, True, False]
    assert "no voice 'eve'" in str(found[1].error)  # type: ignore[union-attr]


def test_requests_are_read_as_there_is_room_for_them() -> None:
    read: list[int] = []

    def endless() -> Iterator[Request]:
        for number in range(1000):
            read.append(number)
            yield Request("hello", "ada", seed=number)

    outcomes = Synthesiser(MODEL, solver=FAST, rows=2).speak_all(endless())
    next(outcomes)
    assert len(read) < 30


def test_the_mode_of_inference_does_not_leak() -> None:
    for _ in Synthesiser(MODEL, solver=FAST).speak_all([Request("hello", "ada"), Request("you", "ada")]):
        assert not torch.is_inference_mode_enabled()


def scripted(monkeypatch: pytest.MonkeyPatch, script: Sequence[Generated]) -> list[Job]:
    """Let the LM say what the script says, one entry per job in the order they enter."""
    seen: list[Job] = []
    coming = iter(script)
    waiting: list[Job] = []

    def enter(self: Decoding, jobs: Sequence[Job]) -> None:
        seen.extend(jobs)
        waiting.extend(jobs)

    def advance(self: Decoding) -> list[tuple[Job, Generated]]:
        done = [(job, next(coming)) for job in waiting]
        waiting.clear()
        return done

    monkeypatch.setattr(Decoding, "enter", enter)
    monkeypatch.setattr(Decoding, "advance", advance)
    monkeypatch.setattr(Decoding, "jobs", property(lambda self: list(waiting)))
    monkeypatch.setattr(Decoding, "__len__", lambda self: len(waiting))
    return seen


GOOD = Generated(list(range(20)), "end")
LIMIT = Generated(list(range(40)), "limit")
LOOP = Generated([*range(10), *[7, 8] * 25], "stop")
NOTHING = Generated([], "end")


@pytest.mark.parametrize(
    ("script", "retries", "problem", "tokens"),
    [
        ([GOOD], 0, None, GOOD.tokens),
        ([LIMIT, GOOD], 1, None, GOOD.tokens),
        ([LOOP, NOTHING, GOOD], 2, None, GOOD.tokens),
        ([LIMIT, LOOP, NOTHING], 2, "began to repeat itself and was cut off after 0.5 s", [*range(10), 7, 8]),
        ([LIMIT, LIMIT, LIMIT], 2, "did not end by itself and was cut off after 1.6 s", LIMIT.tokens),
        ([NOTHING, LIMIT, NOTHING], 2, "did not end by itself", LIMIT.tokens),
    ],
)
def test_what_goes_wrong_is_tried_again_and_the_best_is_kept(
    monkeypatch: pytest.MonkeyPatch, script: list[Generated], retries: int, problem: str | None, tokens: list[int]
) -> None:
    seen = scripted(monkeypatch, script)
    speech = Synthesiser(MODEL, solver=FAST).speak(Request("hello", "ada"))
    piece = speech.pieces[0]
    assert piece.retries == speech.retries == retries
    assert piece.tokens == tokens
    assert (piece.problem is None) if problem is None else (problem in (piece.problem or ""))
    assert len({job.seed for job in seen}) == len(seen) == retries + 1, "each try has its own random numbers"
    assert speech.problems == [] or speech.problems[0].startswith("'hello.' at 0.0 s: ")


def test_a_model_that_says_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [NOTHING] * 3)
    speech = Synthesiser(MODEL, solver=FAST).speak(Request("hello", "ada"))
    assert speech.seconds == 0
    assert speech.problems == ["'hello.' at 0.0 s: the model ended it before it said anything"]


def test_silence_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [GOOD, GOOD])
    said = iter(["a pause of 3.0 s", None])
    monkeypatch.setattr(module, "sound_problem", lambda *_: next(said))
    speech = Synthesiser(MODEL, solver=FAST).speak(Request("hello", "ada"))
    assert (speech.retries, speech.problems) == (1, [])


def test_the_first_of_equally_bad_tries_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [LIMIT, LIMIT])
    monkeypatch.setattr(module, "sound_problem", lambda *_: "nothing but silence")
    speech = Synthesiser(MODEL, solver=FAST, guards=GuardConfig(retries=1)).speak(Request("hello", "ada"))
    assert speech.retries == 1
    assert "did not end by itself" in speech.problems[0]


def test_a_try_that_was_put_aside_is_heard_after_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last try is silent, so the least bad one is a try that was never rendered."""
    scripted(monkeypatch, [LOOP, LIMIT, GOOD])
    said = iter(["nothing but silence", None])
    monkeypatch.setattr(module, "sound_problem", lambda *_: next(said))
    speech = Synthesiser(MODEL, solver=FAST).speak(Request("hello", "ada"))
    assert speech.seconds > 0
    assert "repeat itself" in speech.problems[0]
    assert speech.retries == 2


def test_not_a_number_is_never_hidden_by_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [LIMIT, GOOD])
    monkeypatch.setattr(Renderer, "render", lambda self, each: [np.full(100, np.nan, np.float32) for _ in each])
    (outcome,) = Synthesiser(MODEL, solver=FAST).speak_all([Request("hello", "ada")])
    assert isinstance(outcome.result, Failure)
    assert "not numbers" in str(outcome.result.error)


def test_hostile_prompts_do_not_touch_the_others() -> None:
    loud = np.full(RATE, 1e30, np.float32)
    mixed = [
        Request("hello", "ada"),
        Request("hello", prompt_wave=loud, prompt_rate=RATE),
        Request("hello", "ada", instruct="hello " * 5000),
        Request("hello", prompt_wave=tone(0.8, RATE), prompt_rate=RATE, prompt_text="hello " * 5000),
    ]
    found = {outcome.number: outcome.result for outcome in Synthesiser(MODEL, solver=FAST).speak_all(mixed)}
    assert isinstance(found[0], Speech)
    errors = [str(found[number].error) for number in (1, 2, 3)]  # type: ignore[union-attr]
    assert "has samples up to 1e+30; they lie between -1 and 1" in errors[0]
    assert all("text tokens; at most 1000 are taken" in error for error in errors[1:])


def test_pauses_are_judged_as_they_were_before_the_speed_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [GOOD] * 3)
    speeds: list[float] = []
    monkeypatch.setattr(module, "sound_problem", lambda wave, rate, config, speed: speeds.append(speed))
    Synthesiser(MODEL, solver=FAST).speak(Request("hello", "ada", speed=0.5))
    assert speeds == [0.5]


def test_the_given_networks_stay_in_their_mode() -> None:
    model = tiny_model("ada")
    for part in model.parts.values():
        part.train()
    Synthesiser(model, solver=FAST).speak(Request("hello", "ada"))
    assert all(model.part(part).training for part in ("lm", "flow", "vocoder"))


def test_seeds_are_numbers_whatever_their_type() -> None:
    speaker = Synthesiser(MODEL, solver=FAST)
    plain, numpy = (speaker.speak(Request("hello", "ada", seed=seed)) for seed in (3, np.int64(3)))
    assert np.array_equal(plain.wave, numpy.wave)


def test_tries_are_bounded_by_the_guards(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = scripted(monkeypatch, [LIMIT] * 9)
    Synthesiser(MODEL, solver=FAST, guards=GuardConfig(retries=0)).speak(Request("hello", "ada"))
    assert len(seen) == 1


def test_the_shortest_text_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = scripted(monkeypatch, [GOOD])
    Synthesiser(MODEL, solver=FAST).speak(Request("a", "ada"))
    assert seen[0].longest == 3 * 25
    assert seen[0].shortest <= 2
