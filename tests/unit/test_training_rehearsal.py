from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cosytune.data.corpus import Corpus
from cosytune.data.features import Features
from cosytune.data.manifest import Utterance, read_manifest
from cosytune.errors import DataError, InputError
from cosytune.models.folder import TokenizerFile, read_model, write_model
from cosytune.models.voices import Voice
from cosytune.synthesis.requests import Failure, Outcome, Piece, Request, Speech
from cosytune.training import rehearsal as rehearsal_module
from cosytune.training import stages as stages_module
from cosytune.training.jobs import run_job
from cosytune.training.rehearsal import (
    PREFIX,
    RehearsedFeatures,
    is_rehearsal,
    mixed,
    rehearsal_clips,
    rehearsal_languages,
    rehearsed_before,
    speak_rehearsal,
)
from cosytune.training.stages import StagePlan, run_stage
from tests.unit.model_examples import tiny_model
from tests.unit.toy import LOOPS, Quiet, make_corpus, outcome, same, toy_job

BEGUN = {"stage": "initial"}
CHINESE = {"stage": "pretrain", "languages": ["zh"]}


@pytest.mark.parametrize(
    ("kind", "lineage", "expected"),
    [
        ("small", [], ("en",)),
        ("small", [BEGUN, CHINESE], ("zh",)),
        ("small", [BEGUN, CHINESE, {"stage": "sft", "languages": ["de", "en", "zh"]}], ("zh", "en")),
        ("small", [BEGUN, {"stage": "pretrain", "languages": []}], ("en",)),
        ("small", [{"stage": "sft", "languages": 5}, {"stage": "tune", "languages": [["zh"], None]}], ("en",)),
        ("whisper", [], ("zh", "en")),
        ("whisper", [{"stage": "tune", "languages": ["en"]}], ("zh", "en")),
        ("whisper", [BEGUN, {"stage": "pretrain", "languages": ["en"]}], ("en",)),
    ],
)
def test_what_was_taught_is_rehearsed(kind: str, lineage: list[dict[str, Any]], expected: tuple[str, ...]) -> None:
    start = replace(tiny_model(), lineage=lineage, tokenizer=TokenizerFile(kind))
    assert rehearsal_languages(start) == expected


@given(st.floats(0, 0.9), st.integers(0, 3000))
def test_the_share_is_kept_at_every_moment(share: float, steps: int) -> None:
    held = sum(is_rehearsal(step, share) for step in range(steps))
    assert held == rehearsed_before(steps, share)
    assert held == pytest.approx(steps * share, abs=1.01)


@given(st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 0.9]), st.integers(0, 40))
def test_mixed_batches_go_on_where_they_were(share: float, start: int) -> None:
    def stream(kind: str, begun: int) -> Any:
        return ([f"{kind}{number}"] for number in count(begun))

    whole = list(islice(mixed(stream("new", 0), stream("old", 0), share, 0), 60))
    old = rehearsed_before(start, share)
    later = list(islice(mixed(stream("new", start - old), stream("old", old), share, start), 60 - start))
    assert later == whole[start:]
    for kind in ("new", "old"):
        own = [batch[0] for batch in whole if batch[0].startswith(kind)]
        assert own == [f"{kind}{number}" for number in range(len(own))], "one was left out or came twice"


@dataclass
class Store:
    rows: dict[str, Features]

    def read(self, ids: list[str]) -> list[Features]:
        return [self.rows[clip] for clip in ids]

    def __contains__(self, clip: object) -> bool:
        return clip in self.rows


def row(clip: str, speaker: str, value: float) -> Features:
    return Features(clip, "x", speaker, speaker_vector=np.full(3, value, np.float32))


def test_one_id_in_both_corpora_is_two_clips() -> None:
    new: Any = Store({"a": row("a", "ann", 1.0)})
    old: Any = Store({"a": row("a", "ann", 2.0), "b": row("b", "bob", 3.0)})
    clips = [Utterance(name, "none", "x", "ann", "en") for name in ("a", "b", "gone")]
    assert [(clip.id, clip.speaker) for clip in rehearsal_clips(clips, old)] == [
        ("rehearsal/a", "rehearsal/ann"),
        ("rehearsal/b", "rehearsal/ann"),
    ]
    store = RehearsedFeatures(new, old, {"ann": np.full(3, 9.0, np.float32)})
    found = [features.speaker_vector[0] for features in store.read([f"{PREFIX}b", "a", f"{PREFIX}a"])]  # type: ignore[index]
    assert found == [3.0, 1.0, 9.0], "a named voice is rehearsed with its own vector, another with the one heard"


class Speaker:
    """Speaks a tone; babbles and fails where it is told to."""

    def __init__(self, babbles: int = 10**9, fails: int = 10**9) -> None:
        self._babbles, self._fails = babbles, fails
        self.heard: list[Request] = []

    def __call__(self, model: Any) -> Speaker:
        return self

    def speak_all(self, requests: Any) -> Any:
        for number, request in enumerate(requests):
            self.heard.append(request)
            if number % self._fails == self._fails - 1:
                yield Outcome(number, request, Failure(InputError("no")))
                continue
            wave = 0.3 * np.sin(np.arange(16_000) * 0.05).astype(np.float32)
            problem = "it babbles" if number % self._babbles == self._babbles - 1 else None
            piece = replace(PIECE, problem=problem)
            yield Outcome(number, request, Speech(wave, 16_000, "voice", [piece]))


PIECE = Piece("x", [], True, None, 0, 0.0, 1.0)


@pytest.fixture
def voiced(toy_model: Path) -> Any:
    model = read_model(toy_model)
    vector = torch.ones(model.part("lm").config.speaker_width)
    return replace(model, voices={"ann": Voice(vector), "bob": Voice(-vector)})


def test_every_voice_rehearses_every_language(voiced: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speaker, reporter = Speaker(), Quiet()
    monkeypatch.setattr(rehearsal_module, "Synthesiser", speaker)
    speak_rehearsal(voiced, tmp_path / "r", ("zh", "en"), reporter, count=12, seed=3)
    clips = list(read_manifest(tmp_path / "r" / "manifest.jsonl"))
    assert len(clips) == len({clip.text for clip in clips}) == 12
    pairs = {(clip.speaker, clip.language) for clip in clips}
    assert pairs == {(voice, language) for voice in ("ann", "bob") for language in ("zh", "en")}
    assert len({request.seed for request in speaker.heard}) == 3
    assert reporter.lines == ["rehearsal by toy-initial: 12 of 12 sentences kept"]
    speak_rehearsal(voiced, tmp_path / "r", ("zh",), reporter)
    assert len(speaker.heard) == 12, "what is there is not spoken again"


def test_babble_is_not_rehearsed(voiced: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal_module, "Synthesiser", Speaker(babbles=3, fails=4))
    speak_rehearsal(voiced, tmp_path / "r", ("en",), Quiet(), count=12)
    kept = [clip.id for clip in read_manifest(tmp_path / "r" / "manifest.jsonl")]
    assert kept == [f"{number:05d}" for number in range(12) if (number + 1) % 3 and (number + 1) % 4]
    monkeypatch.setattr(rehearsal_module, "Synthesiser", Speaker(babbles=1))
    with pytest.raises(InputError, match="said none of 12 sentences without babbling"):
        speak_rehearsal(voiced, tmp_path / "none", ("en",), Quiet(), count=12)
    assert not (tmp_path / "none").exists()


def test_a_model_without_voices_cannot_rehearse(toy_model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no named voices that it could rehearse; .* \(--replay-data\)"):
        speak_rehearsal(read_model(toy_model), tmp_path / "r", ("en",), Quiet())


@pytest.fixture(scope="module")
def old_corpus(tmp_path_factory: pytest.TempPathFactory, toy_model: Path) -> Corpus:
    from cosytune.training.features import corpus_features

    corpus = make_corpus(tmp_path_factory.mktemp("old"), voices=2, minutes=0.15, seed=9)
    corpus_features(corpus, read_model(toy_model), Quiet())
    return corpus


@pytest.mark.parametrize("part", ["lm", "flow"])
def test_a_run_that_rehearses_goes_on_where_it_was(
    part: Any, toy_model: Path, toy_corpus: Corpus, old_corpus: Corpus, tmp_path: Path
) -> None:
    class StopHereError(Exception):
        pass

    def stop(step: int) -> None:
        if step == 5:
            raise StopHereError

    def job(name: str, **changes: Any) -> Any:
        made = toy_job(part, toy_model, toy_corpus, tmp_path / name, **{"replay": 0.5, **changes})
        return replace(made, rehearsal=old_corpus.path)

    run_job(job("whole"))
    with pytest.raises(StopHereError):
        run_job(job("parts"), stop)
    run_job(job("parts"))
    assert same(tmp_path / "whole", tmp_path / "parts")
    sides = {point.side for point in outcome(tmp_path / "whole")[1] if point.name == "loss"}
    assert sides == {"train", "rehearsal"}, "the two learn other speech: one mean would be of neither"
    run_job(job("new only", replay=0.0))
    assert not same(tmp_path / "whole", tmp_path / "new only")
    with pytest.raises(DataError, match=r"is to rehearse in 50% of its updates, but has no corpus"):
        run_job(replace(job("none"), rehearsal=None))


def test_a_stage_lets_its_start_speak_and_rehearses_that(
    voiced: Any, toy_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages_module, "threads_for", lambda workers: 1)
    speaker = Speaker()
    monkeypatch.setattr(rehearsal_module, "Synthesiser", speaker)
    write_model(voiced, tmp_path / "start")
    loops: Any = {"lm": {**LOOPS["lm"], "steps": 4, "checkpoint_every": 2, "replay": 0.5}}
    plan = StagePlan("tune", tmp_path / "start", toy_corpus.path, tmp_path / "out", ("lm",), loops, workers=1)
    run_stage(plan, Quiet())
    assert {request.voice for request in speaker.heard} == {"ann", "bob"}
    assert (plan.run_folder / "rehearsal.corpus" / "corpus.json").is_file()
    tuned = read_model(plan.output)
    assert set(tuned.voices) >= {"ann", "bob"}
    assert not any(voice.startswith(PREFIX) for voice in tuned.voices)
