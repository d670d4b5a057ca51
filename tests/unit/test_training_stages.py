"""A stage from start folder to result folder, on the toy family."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cosytune.data.corpus import Corpus
from cosytune.data.features import FeatureStore
from cosytune.data.prepare import prepare_corpus
from cosytune.data.synthesised import make_voices, synthesise_corpus
from cosytune.errors import CosytuneError, DataError, InputError, ModelError, TrainingError
from cosytune.files import hash_json, lock
from cosytune.models.folder import Model, TokenizerFile, read_front_ends, read_model, write_model
from cosytune.models.model import hash_part
from cosytune.models.sizes import SIZES
from cosytune.text.tokenizers import SmallTokenizer, load_tokenizer
from cosytune.training import stages as stages_module
from cosytune.training import strategies as strategies_module
from cosytune.training import vocoder as vocoder_module
from cosytune.training.results import StageResult
from cosytune.training.run import RunOptions
from cosytune.training.settings import PARTS, PartName, StageName
from cosytune.training.stages import StagePlan, initial_model, read_stage_result, resolve_settings, run_stage
from tests.unit.toy import LOOPS, TOY, Quiet, same, toy_pitch

LM_FLOW: tuple[PartName, ...] = ("lm", "flow")


@pytest.fixture(autouse=True)
def small_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, as everywhere in these tests, and an F0 that nobody has to search for."""
    monkeypatch.setattr(stages_module, "threads_for", lambda workers: 1)
    monkeypatch.setattr(vocoder_module, "pitch", toy_pitch)


def plan_of(
    stage: StageName, start: Path, corpus: Corpus, output: Path, parts: tuple[PartName, ...], **changes: Any
) -> StagePlan:
    loops = {part: {**LOOPS[part], "steps": 2, "checkpoint_every": 1} for part in parts}
    return replace(StagePlan(stage, start, corpus.path, output, parts, loops, seed=1, workers=1), **changes)


@pytest.fixture(scope="module")
def tuning_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A fifth voice."""
    folder = tmp_path_factory.mktemp("tuning")
    voices = make_voices(5, seed=5)[4:]
    synthesise_corpus(folder / "recordings", voices=voices, minutes_per_voice=0.3, sample_rate=16_000, format="wav")
    return prepare_corpus(folder / "recordings", folder / "corpus", validation=0.4, test=0.1)


@pytest.fixture(scope="module")
def family(
    tmp_path_factory: pytest.TempPathFactory, toy_model: Path, toy_corpus: Corpus, tuning_corpus: Corpus
) -> dict[str, StagePlan]:
    """Base, sft and tuned, each from the one before."""
    folder = tmp_path_factory.mktemp("family")
    plans = {
        "base": plan_of("pretrain", toy_model, toy_corpus, folder / "base", PARTS),
        "sft": plan_of("sft", folder / "base", toy_corpus, folder / "sft", LM_FLOW),
        "tuned": plan_of("tune", folder / "sft", tuning_corpus, folder / "tuned", LM_FLOW),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages_module, "threads_for", lambda workers: 1)
        patch.setattr(vocoder_module, "pitch", toy_pitch)
        for plan in plans.values():
            run_stage(plan, Quiet())
    return plans


def test_the_whole_way(family: dict[str, StagePlan], toy_model: Path) -> None:
    start, base, tuned = read_model(toy_model), read_model(family["base"].output), read_model(family["tuned"].output)
    assert [model.stage for model in (start, base, tuned)] == ["initial", "pretrain", "tune"]
    assert all(hash_part(start.part(part)) != hash_part(base.part(part)) for part in PARTS)
    moved = {part for part in PARTS if hash_part(tuned.part(part)) != hash_part(base.part(part))}
    assert moved == set(LM_FLOW)
    assert tuned.tokenizer == start.tokenizer


def test_the_lineage_tells_every_stage_by_hash(
    family: dict[str, StagePlan], toy_model: Path, toy_corpus: Corpus, tuning_corpus: Corpus
) -> None:
    models = [read_model(path) for path in (toy_model, *(plan.output for plan in family.values()))]
    lineage = models[-1].lineage
    assert [entry["stage"] for entry in lineage] == ["pretrain", "sft", "tune"]
    assert [entry["start"] for entry in lineage] == ["toy-initial", "base", "sft"]
    assert [entry["start_hash"] for entry in lineage] == [model.hash() for model in models[:3]]
    assert [entry["result_hash"] for entry in lineage] == [model.hash() for model in models[1:]]
    assert [entry["corpus_hash"] for entry in lineage] == [toy_corpus.hash, toy_corpus.hash, tuning_corpus.hash]
    result = read_stage_result(family["tuned"].run_folder)
    assert lineage[-1]["settings"] == {part.part: part.settings for part in result.parts}
    assert lineage[-1]["languages"] == ["en"]
    assert lineage[-1]["settings_hash"] == hash_json([part.settings for part in result.parts])
    assert {(entry["seed"], tuple(entry["parts"])) for entry in lineage[1:]} == {(1, LM_FLOW)}


def test_voices_come_with_sft_and_stay(family: dict[str, StagePlan], toy_corpus: Corpus, tuning_corpus: Corpus) -> None:
    base, sft, tuned = (read_model(plan.output) for plan in family.values())
    speakers = {clip.speaker for clip in toy_corpus.utterances()}
    new = {clip.speaker for clip in tuning_corpus.utterances()}
    assert (set(base.voices), set(sft.voices), set(tuned.voices)) == (set(), speakers, speakers | new)
    assert len(new) == 1 and not new & speakers
    assert all(torch.equal(voice.vector, tuned.voices[name].vector) for name, voice in sft.voices.items())


def test_a_voice_that_is_taught_again_is_named_before_it_is_replaced(
    family: dict[str, StagePlan], toy_corpus: Corpus, tuning_corpus: Corpus, tmp_path: Path
) -> None:
    start, reporter = family["tuned"].output, Quiet()
    # The settings are refused after what the start and the corpus have to say to each other: nothing is trained here.
    plan = plan_of("tune", start, tuning_corpus, start, LM_FLOW)
    with pytest.raises(TrainingError, match="holds a run from another start"):
        run_stage(plan, reporter)
    (name,) = {clip.speaker for clip in tuning_corpus.utterances()}
    said = [line for line in reporter.lines if "has a voice of this name" in line]
    assert len(said) == 1 and said[0].startswith(f"{name}: tuned has a voice of this name, which is now taught again")


def test_more_processes_than_clips_are_told(
    family: dict[str, StagePlan], toy_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages_module, "joined", lambda: True)
    for processes, said in ((2, 0), (64, 1)):
        monkeypatch.setattr(stages_module, "size", lambda number=processes: number)
        reporter = Quiet()
        with pytest.raises(TrainingError, match="holds a run from another start"):
            run_stage(plan_of("sft", family["base"].output, toy_corpus, family["tuned"].output, ("lm",)), reporter)
        assert sum("is dealt to 64 processes" in line for line in reporter.lines) == said
    crops = plan_of("sft", family["base"].output, toy_corpus, family["tuned"].output, ("vocoder",))
    monkeypatch.setattr(stages_module, "size", lambda: 5)  # of 0.2 s, five go into a batch of 1 s
    reporter = Quiet()
    with pytest.raises(TrainingError, match="holds a run from another start"):
        run_stage(crops, reporter)
    assert not any("is dealt to" in line for line in reporter.lines)


def test_a_new_speaker_encoder_ends_the_old_voices(
    family: dict[str, StagePlan], toy_corpus: Corpus, tmp_path: Path
) -> None:
    plan = plan_of("pretrain", family["sft"].output, toy_corpus, tmp_path / "model", ("speaker_encoder",))
    run_stage(plan, Quiet())
    assert read_model(plan.output).voices == {}


def test_the_record_of_a_stage(family: dict[str, StagePlan], toy_model: Path, toy_corpus: Corpus) -> None:
    result = read_stage_result(family["base"].run_folder)
    assert (result.stage, result.start, result.seed) == ("pretrain", str(toy_model), 1)
    assert (result.start_hash, result.corpus_hash) == (read_model(toy_model).hash(), toy_corpus.hash)
    assert {part.part for part in result.parts} == set(PARTS)
    assert all(part.steps == 2 and part.settings["seed"] == 1 for part in result.parts)
    assert StageResult.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_lm_and_flow_learn_from_the_trained_front_ends(family: dict[str, StagePlan]) -> None:
    base, trained_on = read_model(family["base"].output), read_model(family["base"].run_folder / "front-ends")
    assert trained_on.extractor_hash() == base.extractor_hash()


def test_workers_find_the_front_ends_that_were_just_trained(
    toy_model: Path, toy_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features of a long corpus are made by processes that read the model's folder."""
    real, agreed = stages_module.corpus_features, list[bool]()

    def features(corpus: Corpus, model: Model, reporter: Quiet) -> FeatureStore:
        assert model.path is not None
        agreed.append(read_front_ends(model.path).extractor_hash() == model.extractor_hash())
        return real(corpus, model, reporter)

    monkeypatch.setattr(stages_module, "corpus_features", features)
    run_stage(plan_of("pretrain", toy_model, toy_corpus, tmp_path / "base", ("speaker_encoder", "flow")), Quiet())
    assert agreed == [True]


def test_a_finished_stage_is_read_and_not_trained_again(
    family: dict[str, StagePlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("it trained again")

    monkeypatch.setattr(stages_module, "run_jobs", refuse)
    for plan in family.values():
        assert run_stage(plan, Quiet()) == read_stage_result(plan.run_folder)


def test_a_run_keeps_its_precision_where_a_new_one_would_get_another(
    family: dict[str, StagePlan], toy_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategies_module, "default_precision", lambda *given, **more: ("bfloat16", "it is fast"))
    start, begun = read_model(family["sft"].start), family["sft"]
    new = replace(begun, output=tmp_path / "new")
    for plan, expected in ((begun, "float32"), (new, "bfloat16")):
        settings = resolve_settings(plan, start, toy_corpus, Quiet())
        assert {chosen.precision for chosen in settings.values()} == {expected}


@pytest.mark.parametrize("fast", [True, False])
def test_what_the_machine_can_may_be_said(
    family: dict[str, StagePlan], toy_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    def follow(part: str, *, large: bool, fast: bool) -> tuple[str, str]:
        return ("bfloat16" if fast else "float32"), ""

    monkeypatch.setattr(strategies_module, "default_precision", follow)
    plan = replace(family["sft"], output=tmp_path / "new", fast_bfloat16=fast)
    settings = resolve_settings(plan, read_model(plan.start), toy_corpus, Quiet())
    assert {chosen.precision for chosen in settings.values()} == {"bfloat16" if fast else "float32"}


def test_a_lost_model_is_written_again_without_training(
    family: dict[str, StagePlan], toy_corpus: Corpus, tmp_path: Path
) -> None:
    plan = plan_of("sft", family["base"].output, toy_corpus, tmp_path / "model", LM_FLOW)
    first = run_stage(plan, Quiet())
    wanted = read_model(plan.output).hash()
    plan.output.rename(tmp_path / "elsewhere")
    reporter = Quiet()
    assert run_stage(plan, reporter) == first
    assert read_model(plan.output).hash() == wanted
    assert wanted == read_model(family["sft"].output).hash(), "the same plan elsewhere is the same model"


class StoppingReporter(Quiet):
    """Ends the run, as Ctrl-C would, when a job reports step 1."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def move(self, name: str, done: int) -> None:
        if name == self.name and done == 1:
            raise KeyboardInterrupt


def test_an_interrupted_stage_goes_on(family: dict[str, StagePlan], toy_corpus: Corpus, tmp_path: Path) -> None:
    plan = plan_of("sft", family["base"].output, toy_corpus, tmp_path / "model", LM_FLOW, label="sft")
    with pytest.raises(KeyboardInterrupt):
        run_stage(plan, StoppingReporter("sft flow"))
    assert not plan.output.exists()
    reporter = Quiet()
    result = run_stage(plan, reporter)
    assert read_model(plan.output).hash() == read_model(family["sft"].output).hash()
    assert result.parts == read_stage_result(family["sft"].run_folder).parts
    assert all(same(plan.run_folder / part, family["sft"].run_folder / part) for part in LM_FLOW)
    assert reporter.started["sft lm"] == reporter.moved["sft lm"] == reporter.moved["sft flow"] == 2
    assert "features of corpus" not in reporter.started, "they are there"
    assert [line.split(" ")[1] for line in reporter.lines if line.startswith("lm: ")] == ["full:", "cross_entropy"]


def test_a_folder_that_belongs_to_something_else_is_refused(
    family: dict[str, StagePlan], toy_corpus: Corpus, tmp_path: Path
) -> None:
    done = family["sft"]
    for changes in ({"seed": 2}, {"start": family["tuned"].output}, {"parts": ("lm",), "overrides": {}}):
        with pytest.raises(TrainingError) as error:
            run_stage(replace(done, **changes), Quiet())
        assert "sft.run holds a run from another start, corpus or settings; give another --output" in str(error.value)
    foreign = tmp_path / "mine"
    foreign.mkdir()
    with pytest.raises(TrainingError, match="mine exists and was not made by this run; give another --output"):
        run_stage(replace(done, output=foreign), Quiet())
    assert list(foreign.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"parts": ()}, InputError, "stage sft was given no parts; parts are lm, flow"),
        (
            {"overrides": {"vocoder": {}}},
            InputError,
            "settings are given for vocoder, which is not trained; parts are lm",
        ),
        (
            {"options": RunOptions(shard=True)},
            InputError,
            "--shard splits the weights over several processes",
        ),
        ({"overrides": {"lm": {"steps": -1}}}, InputError, "setting lm.steps = -1"),
        ({"overrides": {}, "parts": ("speaker_encoder",)}, InputError, "stage sft does not train the speaker_encoder"),
    ],
)
def test_plans_that_are_refused(
    family: dict[str, StagePlan], tmp_path: Path, changes: dict[str, Any], kind: type[CosytuneError], message: str
) -> None:
    plan = replace(family["sft"], output=tmp_path / "model", **changes)
    with pytest.raises(kind) as error:
        run_stage(plan, Quiet())
    assert message in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_start_without_the_part_is_refused(family: dict[str, StagePlan], toy_corpus: Corpus, tmp_path: Path) -> None:
    model = read_model(family["base"].output)
    del model.parts["flow"]
    write_model(model, tmp_path / "start")
    with pytest.raises(ModelError, match="has no flow"):
        run_stage(plan_of("sft", tmp_path / "start", toy_corpus, tmp_path / "model", LM_FLOW), Quiet())


def test_damaged_weights_are_named(family: dict[str, StagePlan], toy_corpus: Corpus, tmp_path: Path) -> None:
    plan = plan_of("sft", family["base"].output, toy_corpus, tmp_path / "model", ("lm",))
    run_stage(plan, Quiet())
    (plan.run_folder / "stage.json").unlink()
    (plan.run_folder / "lm" / "weights.pt").write_bytes(b"hello")
    with pytest.raises(ModelError, match=r"lm/weights.pt cannot be read as plain tensors"):
        run_stage(plan, Quiet())


def test_no_run_no_record(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no finished run; give a folder made by pretrain, sft or tune"):
        read_stage_result(tmp_path)


def test_a_model_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "toy", TOY)
    state = torch.get_rng_state()
    texts = ["Twelve cats.", "12 dogs!", "..."]
    first, again, other = (initial_model("toy", texts, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.hash() == again.hash() != other.hash()
    assert first.tokenizer == other.tokenizer and b'"1"' not in (first.tokenizer.data or b"")
    assert set(first.parts) == set(PARTS)
    for nothing in ([], ["..."]):
        with pytest.raises(DataError, match="size toy trains its own text tokenizer and the corpus has no transcripts"):
            initial_model("toy", nothing, 0)
    with pytest.raises(InputError, match="there is no size 'huge'"):
        initial_model("huge", texts, 0)


def test_two_commands_cannot_train_into_one_folder(
    family: dict[str, StagePlan], toy_corpus: Corpus, tmp_path: Path
) -> None:
    plan = plan_of("sft", family["base"].output, toy_corpus, tmp_path / "model", LM_FLOW)
    held = lock(plan.run_folder / ".lock", wait=False)
    with held, pytest.raises(TrainingError, match=r"another command is at work in .*model\.run; wait until it ends"):
        run_stage(plan, Quiet())
    assert not plan.output.exists() and not (plan.run_folder / "lm").exists()


def test_chinese_characters_have_text_tokens_of_their_own() -> None:
    """The speech tokenizer makes 25 tokens a second, and a second of Chinese has four to six characters."""
    text = "".join(chr(0x4E00 + 7 * place) for place in range(150))
    model = initial_model("nano", [text, text], 0)
    tokenizer = load_tokenizer(model.tokenizer.kind, model.tokenizer.data)
    assert len(tokenizer.encode(text)) <= len(text)
    assert len(tokenizer.encode("龘")) == 6, "what the corpus lacks is spelled in half bytes"
    assert model.part("lm").config.text_vocabulary == tokenizer.vocabulary_size
    english = initial_model("nano", ["The quick brown fox jumps over the lazy dog."] * 2, 0)
    assert english.part("lm").config.text_vocabulary <= 64
    assert model.part("lm").config.max_ratio > english.part("lm").config.max_ratio


def test_what_would_stop_a_later_part_stops_at_once(
    family: dict[str, StagePlan], tuning_corpus: Corpus, toy_corpus: Corpus, tmp_path: Path
) -> None:
    alone = plan_of("pretrain", family["base"].start, tuning_corpus, tmp_path / "one", ("speaker_encoder",))
    with pytest.raises(DataError, match="fewer than two speakers"):
        run_stage(alone, Quiet())
    mute = tmp_path / "mute"
    for index, clip in enumerate(toy_corpus.utterances()):
        copy = mute / clip.speaker / f"{index}.wav"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(Path(clip.audio).read_bytes())
    silent = prepare_corpus(mute, tmp_path / "mute.corpus", language="en", validation=0.3)
    with pytest.raises(DataError, match="and a speech tokenizer learns from transcripts"):
        run_stage(plan_of("pretrain", family["base"].output, silent, tmp_path / "two", ("speech_tokenizer",)), Quiet())
    with pytest.raises(DataError, match="an LM tuned on them forgets to read; add transcripts"):
        run_stage(plan_of("tune", family["base"].output, silent, tmp_path / "two", LM_FLOW), Quiet())
    wrong = plan_of("tune", family["base"].output, toy_corpus, tmp_path / "two", ("lm",))
    wrong = replace(wrong, overrides={"lm": {"freeze": ["no_such_module"]}})
    with pytest.raises(InputError, match="freeze names 'no_such_module', which this network does not have"):
        run_stage(wrong, Quiet())
    assert not (tmp_path / "two.run").exists()


def test_an_lm_of_another_text_tokenizer_is_refused_before_training(
    family: dict[str, StagePlan], toy_corpus: Corpus, tmp_path: Path
) -> None:
    model = read_model(family["base"].output)
    small = SmallTokenizer.train(["a b"], 30)
    write_model(replace(model, tokenizer=TokenizerFile("small", small.to_bytes())), tmp_path / "start")
    with pytest.raises(ModelError, match="trained with another text tokenizer"):
        run_stage(plan_of("sft", tmp_path / "start", toy_corpus, tmp_path / "model", ("lm",)), Quiet())
