from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosytune.comparison.compose import listening as module
from cosytune.comparison.compose.listening import ValidationListener, score_of
from cosytune.data.corpus import Corpus
from cosytune.errors import InputError
from cosytune.models.folder import read_model, write_model
from cosytune.models.voices import Voice

GOOD = {"sim": 0.8, "dnsmos_ovrl": 3.0, "cer": 0.2, "runaway": 0.0, "retention": 0.9}


def test_the_score_is_the_mean_of_what_may_be_believed() -> None:
    assert score_of(GOOD, True) == pytest.approx((0.8 + 0.5 + 0.8) / 3)
    assert score_of(GOOD, False) == pytest.approx((0.8 + 0.5) / 2)
    assert score_of({**GOOD, "cer": 3.0}, True) == pytest.approx((0.8 + 0.5) / 3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"runaway": 0.33}, ""),
        ({"runaway": 0.5}, "speech runs away in 50% of the sentences, the start's in 0%"),
        ({"retention": 0.76}, ""),
        ({"retention": 0.7}, "the start's own voices are going: their similarity is 0.70, untouched it was 0.90"),
    ],
)
def test_alarms(changes: dict[str, float], words: str) -> None:
    assert module._alarm({**GOOD, **changes}, GOOD) == words


def test_no_old_voices_no_alarm_about_them() -> None:
    start = {name: value for name, value in GOOD.items() if name != "retention"}
    assert module._alarm(start, start) == ""


class Toneful:
    """Speaks a tone whose pitch depends on the voice and on a weight of the LM."""

    sample_rate = 16_000

    def __init__(self, model: Any) -> None:
        self.shift = float(next(iter(model.part("lm").parameters())).flatten()[0])

    def speak(self, request: Any) -> Any:
        class Spoken:
            wave = np.sin(np.arange(8000) * (0.05 + 0.01 * len(request.voice) + self.shift)).astype(np.float32)

        return Spoken()


@pytest.fixture
def listener(toy_model: Path, toy_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A start with an old voice, tones for speech, and judges that compare tones."""
    model = read_model(toy_model)
    old = {"old": Voice(torch.ones(model.part("lm").config.speaker_width))}
    write_model(replace(model, voices=old), tmp_path / "start")

    def score_system(system: str, items: Any, judges: Any, *, references: Any, pitch: bool) -> list[Any]:
        from cosytune.evaluation.results import Score

        made = []
        for item in items:
            same = [float(np.array_equal(item.wave, other.wave)) for other in references]
            values = {"sim": max(same, default=0.0), "dnsmos_ovrl": 3.0, "cer": 0.1, "runaway": 0.0, "spoken": 1.0}
            made += [Score(system, item.sentence, name, value, 0) for name, value in values.items()]
        return made

    monkeypatch.setattr(module, "_synthesiser", Toneful)
    monkeypatch.setattr(module, "score_system", score_system)
    module._known.cache_clear()
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


def test_other_parts_are_the_start_s(listener: ValidationListener, toy_model: Path) -> None:
    network = read_model(toy_model).part("flow")
    with torch.no_grad():
        next(iter(network.parameters())).add_(0.5)
    assert listener("flow", network).values["retention"] == 1.0


def test_it_travels_to_other_processes(listener: ValidationListener) -> None:
    assert pickle.loads(pickle.dumps(listener)) == listener  # noqa: S301 - our own, made a line before
    assert "3 validation sentences" in listener.identity


def test_what_cannot_be_heard_is_refused_before_training(listener: ValidationListener, toy_corpus: Corpus) -> None:
    listener.check()
    with pytest.raises(InputError, match="0 sentences cannot be heard; give 1 or more"):
        replace(listener, sentences=0)


def test_a_sentence_that_fails_is_heard_as_silence(toy_corpus: Corpus) -> None:
    class Mute:
        sample_rate = 16_000

        def speak(self, request: Any) -> Any:
            raise InputError("it cannot")

    item = module._item(Mute(), toy_corpus.utterances("validation")[0])  # type: ignore[arg-type]
    assert item.wave is None
    assert module._old_speech(Mute(), "old", toy_corpus.utterances("validation"), 0) == []  # type: ignore[arg-type]
