"""Checkpoints are heard by validation sentences of the voice that is taught; nothing of that is used by the verdict."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from cosytune.audio.files import write_wave
from cosytune.comparison.compose import listening as module
from cosytune.comparison.compose import material, retention, systems
from cosytune.comparison.compose.listening import ValidationListener
from cosytune.comparison.compose.material import file_name, said_all, sentences_of
from cosytune.comparison.compose.systems import SystemJob, run_system
from cosytune.data.corpus import Corpus
from cosytune.data.manifest import Utterance
from cosytune.data.prepare import prepare_corpus
from cosytune.data.sentences import sentences
from cosytune.errors import InputError, ModelError
from cosytune.evaluation.results import Score
from cosytune.models.folder import Model, read_model, write_model
from cosytune.models.voices import Voice
from cosytune.synthesis.requests import Failure, Outcome, Request, Speech
from tests.unit.model_examples import tiny_model, tone

RATE = 16_000


def spoken(wave: np.ndarray) -> Speech:
    return Speech(wave, RATE, "voice", [])


class Toneful:
    """Speaks a tone whose pitch depends on the voice and on a weight of the LM, and notes what it was asked for."""

    sample_rate = RATE
    asked: list[Request] = []  # noqa: RUF012 - of all instances

    def __init__(self, model: Model, **_: Any) -> None:
        self.shift = next(iter(model.part("lm").parameters())).flatten()[0].item()

    def speak(self, request: Request) -> Speech:
        Toneful.asked.append(request)
        pitch = 0.05 + 0.01 * len(request.voice or "") + self.shift
        return spoken(np.sin(np.arange(8000) * pitch).astype(np.float32))

    def speak_all(self, requests: Iterator[Request]) -> Iterator[Outcome]:
        for number, request in reversed(list(enumerate(requests))):
            yield Outcome(number, request, self.speak(request))


ERRORS = {"now": 0.1}


def score_system(system: str, items: Any, judges: Any, *, references: Any, pitch: bool = True) -> list[Score]:
    """Similar is what is equal to a reference."""
    metrics = {"runaway", "spoken", *(info.name for judge in judges for info in judge.metrics)}
    made = []
    for item in items:
        same = [float(np.array_equal(item.wave, other.wave)) for other in references]
        values = {
            "sim": max(same, default=0.0),
            "dnsmos_ovrl": 3.0,
            "cer": ERRORS["now"],
            "runaway": 0.0,
            "spoken": 1.0,
        }
        made += [Score(system, item.sentence, name, value, 0) for name, value in values.items() if name in metrics]
    return made


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for place in (module, retention, systems):
        monkeypatch.setattr(place, "score_system", score_system)
    for place in (module, systems):
        monkeypatch.setattr(place, "Synthesiser", Toneful)
    Toneful.asked.clear()
    module._known.cache_clear()
    yield
    module._known.cache_clear()


@pytest.fixture
def listener(toy_model: Path, toy_corpus: Corpus, tmp_path: Path) -> ValidationListener:
    """A start with an old voice."""
    model = read_model(toy_model)
    old = {"old": Voice(torch.ones(model.part("lm").config.speaker_width))}
    write_model(replace(model, voices=old), tmp_path / "start")
    return ValidationListener(tmp_path / "start", toy_corpus.path, 3)


def test_what_is_heard_is_the_network_in_training(listener: ValidationListener, toy_model: Path) -> None:
    network = read_model(toy_model).part("lm")
    untouched = listener("lm", network)
    assert untouched.values["retention"] == 1.0
    assert untouched.alarm == ""
    with torch.no_grad():
        next(iter(network.parameters())).add_(0.01)
    moved = listener("lm", network)
    assert moved.values["retention"] == 0.0
    assert moved.alarm.startswith("the start's own voices are going")
    assert listener("lm", network) == moved


def test_the_untouched_start_is_heard_once(listener: ValidationListener, toy_model: Path) -> None:
    network = read_model(toy_model).part("lm")
    first = listener("lm", network)
    asked = len(Toneful.asked)
    assert listener("lm", network) == first
    assert len(Toneful.asked) == asked
    with torch.no_grad():
        next(iter(network.parameters())).add_(0.01)
    assert listener("lm", network) != first
    new = len(sentences_of(Corpus(listener.corpus), 3, "validation"))
    assert len(Toneful.asked) == asked + new + min(2, new)


@pytest.mark.parametrize(("errors", "believed"), [(0.1, True), (0.39, True), (0.5, False)])
def test_a_recogniser_that_fails_on_the_recordings_is_not_asked(
    listener: ValidationListener, toy_model: Path, monkeypatch: pytest.MonkeyPatch, errors: float, believed: bool
) -> None:
    monkeypatch.setitem(ERRORS, "now", errors)
    heard = listener("lm", read_model(toy_model).part("lm"))
    assert ("cer" in heard.values) == believed
    expected = [0.5, heard.values["sim"], 1 - errors] if believed else [0.5, heard.values["sim"]]
    assert heard.score == pytest.approx(np.mean(expected))


def test_few_sentences_few_old_voices(listener: ValidationListener, toy_model: Path) -> None:
    model = read_model(listener.model)
    many = {f"old {number}": model.voices["old"] for number in range(9)}
    write_model(replace(model, voices=many), listener.model)
    for sentences_heard, voices in ((1, 1), (2, 1), (5, 2), (8, 4), (50, 4)):
        module._known.cache_clear()
        known = module._known(replace(listener, sentences=sentences_heard))
        assert len({request.voice for request in known.retention.requests["retention"]}) == voices


def test_other_parts_are_the_start_s(listener: ValidationListener, toy_model: Path) -> None:
    network = read_model(toy_model).part("flow")
    with torch.no_grad():
        next(iter(network.parameters())).add_(0.5)
    assert listener("flow", network).values["retention"] == 1.0


def test_people_can_hear_it_too(listener: ValidationListener, toy_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLES", 2)
    monkeypatch.setattr(module, "SAMPLE_SECONDS", 0.25)
    samples = listener("lm", read_model(toy_model).part("lm")).samples
    clips = sentences_of(Corpus(listener.corpus), 3, "validation")[:2]
    assert set(samples) == {f"{file_name(clip.id)}.{kind}" for clip in clips for kind in ("txt", "flac")}
    assert samples[f"{file_name(clips[0].id)}.txt"].decode() == clips[0].text
    wave, rate = soundfile.read(io.BytesIO(samples[f"{file_name(clips[-1].id)}.flac"]))
    assert (len(wave), rate) == (RATE // 4, RATE)
    assert wave.std() > 0.1


def test_a_start_is_asked_for_the_languages_that_the_recordings_lack(
    listener: ValidationListener, toy_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "rehearsal_languages", lambda start: ("zh", "en"))
    values = listener("lm", read_model(toy_model).part("lm")).values
    assert [name for name in values if name.startswith("language")] == ["language_zh"]


def test_it_travels_to_other_processes(listener: ValidationListener) -> None:
    assert pickle.loads(pickle.dumps(listener)) == listener  # noqa: S301 - our own, made a line before
    assert "3 validation sentences" in listener.identity


def test_what_cannot_be_heard_is_refused_before_training(listener: ValidationListener, tmp_path: Path) -> None:
    listener.check()
    with pytest.raises(InputError, match="0 sentences cannot be heard; give 1 or more"):
        replace(listener, sentences=0)
    for number in range(8):
        write_wave(tmp_path / "recordings" / "ada" / f"{number}.wav", tone(0.4, RATE, seed=number), RATE)
    silent = prepare_corpus(tmp_path / "recordings", tmp_path / "corpus", language="en", validation=0.3)
    with pytest.raises(
        InputError, match=r"validation side of .* has no transcribed clip .* without listening \(--listen"
    ):
        replace(listener, corpus=silent.path).check()


def test_what_cannot_be_said_is_none_and_keeps_its_place() -> None:
    class Choosy(Toneful):
        def __init__(self) -> None:
            self.broken = False

        def speak_all(self, requests: Iterator[Request]) -> Iterator[Outcome]:
            waves = {"a": np.ones(4, np.float32), "c": np.full(4, np.nan, np.float32), "d": np.zeros(0, np.float32)}
            for number, request in reversed(list(enumerate(requests))):
                wave = waves.get(request.text)
                result = Failure(InputError("it cannot")) if wave is None else spoken(wave)
                yield Outcome(number, request, result)
            if self.broken:
                raise ModelError("scores that are not numbers")

    synthesiser: Any = Choosy()
    asked = [Request(text, "ada") for text in "abcd"]
    waves = said_all(synthesiser, asked)
    assert [wave is not None for wave in waves] == [True, False, False, False]
    synthesiser.broken = True
    assert said_all(synthesiser, asked) == [None] * 4


@pytest.fixture
def two_voices(tmp_path: Path) -> Corpus:
    """Both speakers read the same sentences, so that a text could easily be on two sides."""
    for speaker in ("ada", "bob"):
        for number, sentence in enumerate(sentences(24)):
            path = tmp_path / "recordings" / speaker / f"{number}.wav"
            write_wave(path, tone(0.4, RATE, seed=number), RATE)
            path.with_suffix(".txt").write_text(sentence.text)
    return prepare_corpus(tmp_path / "recordings", tmp_path / "two", language="en", validation=0.25, test=0.25)


def test_what_selects_never_judges(two_voices: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No sentence, recording or random number is used both to choose a checkpoint and to judge it."""
    write_model(tiny_model("ada", "old"), tmp_path / "start")
    heard: list[str] = []

    def recorded(clip: Utterance) -> tuple[np.ndarray, int]:
        heard.append(clip.id)
        return np.ones(8000, np.float32), RATE

    for place in (module, material, systems):
        monkeypatch.setattr(place, "recorded", recorded)
    for place in (module, systems):
        monkeypatch.setattr(place, "with_voices", lambda model, corpus: model)

    def used() -> tuple[set[str], set[str], set[int]]:
        recordings, asked = set(heard), list(Toneful.asked)
        heard.clear()
        Toneful.asked.clear()
        return recordings, {request.text for request in asked}, {request.seed for request in asked}

    listener = ValidationListener(tmp_path / "start", two_voices.path, 8)
    listener("lm", read_model(tmp_path / "start").part("lm"))
    selecting = used()
    ids = tuple(clip.id for clip in sentences_of(two_voices, 20))
    for kind in ("recordings", "model"):
        folder = tmp_path / "systems" / kind
        job = SystemJob(kind, kind, tmp_path / "start", two_voices.path, folder, tuple(range(5)), ids)  # type: ignore[arg-type]
        run_system(replace(job, model=None) if kind == "recordings" else job)
    judging = used()
    for chosen, judged in zip(selecting, judging, strict=True):
        assert chosen and judged
        assert not chosen & judged
