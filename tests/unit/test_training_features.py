"""The door through which training gets its features: workers, progress, and the pace in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cosytune.data.corpus import Corpus
from cosytune.data.pace import Pace
from cosytune.errors import InputError
from cosytune.training import features
from cosytune.training.features import corpus_features
from tests.unit.model_examples import tiny_model
from tests.unit.test_data_extract import make_corpus, recorded
from tests.unit.toy import Quiet


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return make_corpus(tmp_path / "corpus", recorded(tmp_path / "in", range(8)))


def test_features_are_made_once_and_the_pace_is_told(corpus: Corpus) -> None:
    model, reporter = tiny_model(), Quiet()
    store = corpus_features(corpus, model, reporter)
    assert store.columns == ("speech_token", "utt_embedding", "mel", "spk_embedding")
    assert reporter.started == {"features of corpus": 8} and reporter.moved == {"features of corpus": 8}
    (line,) = reporter.lines
    assert line.startswith("features of 0.00 h of audio made in ")
    assert line.endswith(" hours of audio per hour")
    again = Quiet()
    assert corpus_features(corpus, model, again).ids == store.ids
    assert (again.started, again.moved, again.lines) == ({}, {}, []), "what is there needs no bar"


def test_another_mel_costs_the_mel_only(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    corpus_features(corpus, model, Quiet())

    def asked(*_: object) -> None:
        raise AssertionError("the tokenizer is not needed")

    monkeypatch.setattr(model.part("speech_tokenizer"), "encode", asked)
    changed = replace(model, mel=replace(model.mel, fmax=7000.0))
    assert len(corpus_features(corpus, changed, Quiet())) == 8


def test_the_pace_is_said_once_a_minute() -> None:
    reporter = Quiet()
    teller = features._Teller("features", reporter)
    for minute in (0.5, 0.9, 1.1, 1.5, 2.2):
        teller(Pace(1, 2, 7200.0 * minute, 60.0 * minute))
    assert reporter.lines == ["features: 120.0 hours of audio per hour"] * 2


def test_an_engine_that_is_not_there(corpus: Corpus) -> None:
    with pytest.raises(InputError, match="no engine 'cloud'"):
        corpus_features(corpus, tiny_model(), Quiet(), engine="cloud")  # type: ignore[arg-type]
