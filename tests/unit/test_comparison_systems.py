"""Scores of a system are read again only for the very same weights, sound, sentences and judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosytune.audio.files import write_wave
from cosytune.comparison.compose import comparing, starts
from cosytune.comparison.compose import systems as module
from cosytune.comparison.compose.hearing import run_systems
from cosytune.comparison.compose.material import file_name, sentences_of
from cosytune.comparison.compose.starts import initial_start, keep_apart
from cosytune.comparison.compose.systems import SystemJob, SystemScores, finished, run_system
from cosytune.comparison.plan import ComparisonPlan, Sample
from cosytune.data.corpus import Corpus
from cosytune.data.prepare import prepare_corpus
from cosytune.data.sentences import sentences
from cosytune.errors import InputError, ModelError
from cosytune.evaluation.judges.base import Recording
from cosytune.evaluation.judges.dnsmos import DnsmosJudge
from cosytune.evaluation.results import SIMILARITY, MetricInfo, Score
from cosytune.files import hash_json
from cosytune.models.folder import Model, read_model, write_model
from cosytune.synthesis.requests import Request
from cosytune.synthesis.synthesiser import Synthesiser
from cosytune.training.disk import DiskBudget
from cosytune.training.results import StageResult
from cosytune.training.run import RunOptions
from cosytune.training.stages import StagePlan
from tests.unit.model_examples import tiny_model, tone

RATE = 16_000


class Quiet:
    def start(self, name: str, total: int) -> None: ...

    def move(self, name: str, done: int) -> None: ...

    def say(self, line: str) -> None: ...


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    folder = tmp_path / "recordings"
    for number, sentence in enumerate(sentences(12)):
        path = folder / "ada" / f"{number}.wav"
        write_wave(path, tone(0.4, RATE, seed=number), RATE)
        path.with_suffix(".txt").write_text(sentence.text)
    return prepare_corpus(folder, tmp_path / "corpus", language="en", test=0.5)


@pytest.fixture
def job(corpus: Corpus, tmp_path: Path) -> SystemJob:
    write_model(tiny_model("ada"), tmp_path / "model")
    ids = tuple(clip.id for clip in sentences_of(corpus, 2))
    return SystemJob("tiny", "model", tmp_path / "model", corpus.path, tmp_path / "systems" / "tiny", (0,), ids)


def pretend(job: SystemJob) -> SystemScores:
    """Leave what a finished run of `job` would."""
    wave = job.folder / "a-0.flac"
    write_wave(wave, tone(0.2, RATE), RATE)
    scores = [Score(job.name, job.sentences[0], "spoken", 1.0, 0)]
    made = SystemScores(scores, [Sample(job.name, job.sentences[0], "words", 0, str(wave))], ["one failed"], {})
    corpus, _, judges = module._materials(job)
    module._write(job, module._identity(job, corpus, judges), made)
    return made


def test_the_same_job_is_read_again(job: SystemJob) -> None:
    assert finished(job) is None
    made = pretend(job)
    assert finished(job) == run_system(job) == made
    assert run_systems([job], 1, Quiet()) == {"tiny": made}


def test_a_moved_comparison_is_read_again(job: SystemJob, tmp_path: Path) -> None:
    pretend(job)
    job.folder.rename(tmp_path / "elsewhere")
    found = finished(replace(job, folder=tmp_path / "elsewhere"))
    assert found is not None
    assert found.samples[0].path == str(tmp_path / "elsewhere" / "a-0.flac")


def test_stale_scores_are_never_read(job: SystemJob, corpus: Corpus, tmp_path: Path) -> None:
    pretend(job)
    assert finished(replace(job, sentences=job.sentences[:1])) is None
    assert finished(replace(job, seeds=(1,))) is None
    assert finished(replace(job, name="other")) is None
    assert finished(replace(job, kind="copy")) is None
    assert job.model is not None
    write_model(tiny_model("ada", "bob"), job.model)
    assert finished(job) is None, "another model in the same place"
    pretend(job)
    assert finished(job) is not None
    write_wave(tmp_path / "recordings" / "ada" / "0.wav", tone(0.4, RATE, seed=99), RATE)
    prepare_corpus(tmp_path / "recordings", corpus.path, language="en", test=0.5)
    assert finished(job) is None, "another sound in the same corpus"


def test_scores_of_other_judges_are_not_read(job: SystemJob, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(job)
    monkeypatch.setattr(DnsmosJudge, "version", property(lambda _: "speechmos 99"))
    assert finished(job) is None


@pytest.mark.parametrize("identity", ["声" * 80, "声" * 200, "a" * 300, "a/../b c", "plain-1.0"])
def test_any_id_names_a_file(tmp_path: Path, identity: str) -> None:
    write_wave(tmp_path / f"{file_name(identity)}-0.flac", tone(0.1, RATE), RATE)
    assert len(list(tmp_path.iterdir())) == 1


def test_different_ids_name_different_files() -> None:
    ids = ["声" * 80, "声" * 81, "a b", "a_b", "a/b"]
    assert len({file_name(identity) for identity in ids}) == len(ids)
    assert file_name("ada-1.0") == "ada-1.0"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_damaged_scores_are_made_again(job: SystemJob, text: str) -> None:
    pretend(job)
    (job.folder / "scores.json").write_text(text)
    assert finished(job) is None


def test_scores_without_their_waves_are_made_again(job: SystemJob) -> None:
    pretend(job)
    (job.folder / "a-0.flac").unlink()
    assert finished(job) is None


def test_sentences_are_held_out_and_their_voice_can_be_learned(corpus: Corpus) -> None:
    chosen = sentences_of(corpus, 100)
    assert {clip.id for clip in chosen} <= {clip.id for clip in corpus.utterances("test")}
    assert sentences_of(corpus, 2) == chosen[:2]
    sides = corpus.path / "sides.jsonl"
    sides.write_text(sides.read_text().replace('"train"', '"test"'))
    with pytest.raises(InputError, match="no transcribed clip of a voice with training clips"):
        sentences_of(Corpus(corpus.path), 2)


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (InputError("too strange"), "too strange"),
        (ModelError("not a number"), "not a number"),
        (np.full(10, np.nan, np.float32), "samples that are not numbers"),
        (np.zeros(0, np.float32), "no samples came out"),
    ],
)
def test_a_sentence_that_fails_is_a_result(
    job: SystemJob, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, outcome: object, words: str
) -> None:
    class Broken:
        sample_rate = RATE

        def __init__(self, *_: object, **__: object) -> None: ...

        def speak(self, request: Request) -> object:
            if isinstance(outcome, Exception):
                raise outcome
            return type("Speech", (), {"wave": outcome})

    monkeypatch.setattr(module, "Synthesiser", Broken)
    monkeypatch.setattr(module, "with_voices", lambda model, _: model)
    clips = [clip for clip in corpus.utterances("test") if clip.id in job.sentences]
    items, failures = module._speak_all(job, corpus, clips)
    assert [item.wave for item in items["ada"]] == [None, None]
    assert [line.split(":")[0] for line in failures] == [f"tiny, {clip.id}, seed 0" for clip in clips]
    assert all(words in line for line in failures)


def test_waves_of_strange_ids_do_not_collide(tmp_path: Path) -> None:
    def item(identity: str) -> module.SpokenItem:
        return module.SpokenItem(identity, "words", tone(0.1, RATE), RATE, 0)

    ids = ["a/b", "a_b", "../../up", "嗨", "x" * 300]
    paths = [module._save(tmp_path / "waves", item(identity), tone(0.1, RATE)) for identity in ids]
    assert len(set(paths)) == len(ids)
    assert {path.parent for path in paths} == {tmp_path / "waves"}
    assert hash_json("a/b")[:8] in paths[0].name
    assert all(path.is_file() for path in paths)


def test_an_initial_start_follows_its_arguments(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(size: str, texts: list[str], seed: int) -> Model:
        assert texts == [clip.text for clip in corpus.utterances("train")]
        return tiny_model(f"voice {seed}")

    monkeypatch.setattr(starts, "initial_model", drawn)
    place = tmp_path / "base.initial"
    first = read_model(initial_start("nano", corpus, 0, place)).hash()
    written = (place / "model.json").stat().st_mtime_ns
    assert initial_start("nano", corpus, 0, place) == place
    assert (place / "model.json").stat().st_mtime_ns == written, "it was made again for nothing"
    assert read_model(initial_start("nano", corpus, 1, place)).hash() != first
    write_model(replace(tiny_model(), stage="sft"), place)
    with pytest.raises(InputError, match="holds a trained model"):
        initial_start("nano", corpus, 0, place)


def test_a_synthesiser_takes_the_model_of_the_job(job: SystemJob) -> None:
    assert job.model is not None
    assert Synthesiser(read_model(job.model)).model.voices.keys() == {"ada"}


def test_the_recogniser_hears_every_kind_of_english_and_nothing_else(corpus: Corpus) -> None:
    clips = corpus.utterances("test")
    for language, expected in (("en", True), ("en-GB", True), ("EN_us", True), ("zh", False), ("de", False)):
        judges = module.offline_judges(replace(clip, language=language) for clip in clips)
        assert ("pocketsphinx" in [judge.name for judge in judges]) == expected, language


def test_a_silent_recording_is_no_reference(corpus: Corpus, tmp_path: Path) -> None:
    train = corpus.utterances("train")
    assert len(module.references_of(corpus, "ada")) == len(train)
    write_wave(Path(train[0].audio), np.zeros(8000, np.float32), RATE)
    assert len(module.references_of(corpus, "ada")) == len(train) - 1


def test_nothing_is_spoken_into_the_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for output in (tmp_path, tmp_path / "out", Path("out/deeper")):
        with pytest.raises(InputError, match="would take the speech made there for recordings; give an --output"):
            keep_apart(Path(), output)
    keep_apart(tmp_path / "recordings", tmp_path / "recordings-compared")
    keep_apart(tmp_path / "a" / "recordings", tmp_path / "a")


def test_starts_are_tried_before_the_judges_and_both_before_anything_is_trained(
    job: SystemJob, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []

    def judge(jobs: Sequence[SystemJob], *_: object) -> None:
        happened.extend(job.kind for job in jobs)
        raise InputError("the judge is not there")

    monkeypatch.setattr(comparing, "run_systems", judge)
    monkeypatch.setattr(comparing, "_tune", lambda *_: happened.append("tuned"))
    assert job.model is not None
    mute = tiny_model("ada")
    del mute.parts["vocoder"]
    write_model(mute, tmp_path / "mute")
    plan = ComparisonPlan({"good": job.model, "mute": tmp_path / "mute"}, corpus.path, tmp_path / "out")
    with pytest.raises(ModelError, match="has no vocoder"):
        comparing.compare(plan, Quiet())
    assert happened == []
    with pytest.raises(InputError, match="the judge is not there"):
        comparing.compare(replace(plan, starts={"good": job.model, "again": job.model}), Quiet())
    assert happened == ["recordings"]


def arms_of(plan: ComparisonPlan, monkeypatch: pytest.MonkeyPatch) -> list[StagePlan]:
    """The stages that a comparison would run."""
    asked: list[StagePlan] = []

    class EnoughError(Exception):
        pass

    def note(stage: StagePlan, reporter: object) -> StageResult:
        asked.append(stage)
        return StageResult(stage.stage, str(stage.start), "", "", stage.seed, [])

    def stop(*_: object) -> None:
        raise EnoughError

    monkeypatch.setattr(comparing, "run_systems", lambda *_: {})
    monkeypatch.setattr(comparing, "run_stage", note)
    monkeypatch.setattr(comparing, "corpus_features", stop)
    with pytest.raises(EnoughError):
        comparing.compare(plan, Quiet())
    return asked


@pytest.mark.parametrize("listen", [0, 2])
def test_all_arms_listen_alike_and_obey_no_stop(
    job: SystemJob, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listen: int
) -> None:
    assert job.model is not None
    write_model(tiny_model("bob"), tmp_path / "other")
    starts = {"one": job.model, "two": tmp_path / "other"}
    overrides = {"lm": {"steps": 7}}
    disk = DiskBudget(tmp_path / "out" / "arms", 10**9)
    told: Any = {"listen": listen, "trackers": ("tensorboard",), "disk": disk}
    plan = ComparisonPlan(starts, corpus.path, tmp_path / "out", (0, 1), overrides, **told)
    stages = arms_of(plan, monkeypatch)
    assert all(stage.options == RunOptions(("tensorboard",), disk) for stage in stages)
    assert [(stage.start, stage.seed) for stage in stages] == [(s, seed) for seed in (0, 1) for s in starts.values()]
    expected = {"lm": {"steps": 7, "obey_stops": False}, "flow": {"obey_stops": False}}
    assert all(stage.overrides == expected for stage in stages)
    assert overrides == {"lm": {"steps": 7}}
    listeners = [stage.listener for stage in stages]
    if listen:
        assert [getattr(listener, "model", None) for listener in listeners] == [stage.start for stage in stages]
        assert len({listener.identity for listener in listeners if listener is not None}) == 1
    else:
        assert listeners == [None] * 4


def test_all_arms_learn_in_the_precision_of_the_machine_where_the_comparison_began(
    job: SystemJob, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert job.model is not None
    plan = ComparisonPlan({"one": job.model, "two": job.model}, corpus.path, tmp_path / "out")
    for here in (True, False):
        monkeypatch.setattr(comparing, "fast_bfloat16", lambda here=here: here)
        assert [stage.fast_bfloat16 for stage in arms_of(plan, monkeypatch)] == [True, True]


def test_a_comparison_lets_no_arm_end_early(job: SystemJob, corpus: Corpus, tmp_path: Path) -> None:
    assert job.model is not None
    starts = {"one": job.model, "two": job.model}
    plan = ComparisonPlan(starts, corpus.path, tmp_path, overrides={"flow": {"obey_stops": True}})
    with pytest.raises(InputError, match=r"settings ask the flow to obey stops, .* a comparison only records stops"):
        comparing.compare(plan, Quiet())


def test_recordings_are_also_measured_against_other_speakers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, speaker in enumerate(("ada", "bob")):
        for number, sentence in enumerate(sentences(12, seed=seed)):
            path = tmp_path / "recordings" / speaker / f"{number}.wav"
            write_wave(path, tone(0.4, RATE, seed=number), RATE)
            path.with_suffix(".txt").write_text(sentence.text)
    two = prepare_corpus(tmp_path / "recordings", tmp_path / "corpus", language="en", test=0.5)

    class Ear:
        name, version = "ear", "1"
        metrics = (MetricInfo("sim", SIMILARITY, True, "ear", "fake"),)

        def score(
            self, wave: np.ndarray, sample_rate: int, text: str, references: Sequence[Recording]
        ) -> dict[str, float]:
            return {"sim": 0.9}

    asked: list[str] = []
    real = module.references_of

    def noted(corpus: Corpus, speaker: str) -> list[Recording]:
        asked.append(speaker)
        return real(corpus, speaker)

    monkeypatch.setattr(module, "references_of", noted)
    monkeypatch.setattr(module, "offline_judges", lambda clips: [Ear()])
    ids = tuple(clip.id for clip in sentences_of(two, 4))
    folder = tmp_path / "systems" / "recordings"
    found = run_system(SystemJob("recordings", "recordings", None, two.path, folder, (0,), ids, damage=True))
    assert {score.metric for score in found.strangers} >= {"sim"}
    assert len([score for score in found.strangers if score.metric == "sim"]) == 4
    # Own references first, then each speaker's items against the other's.
    assert asked == ["ada", "bob", "bob", "ada"] or asked == ["bob", "ada", "bob", "ada"]
    again = run_system(SystemJob("recordings", "recordings", None, two.path, folder, (0,), ids, damage=True))
    assert again == found
