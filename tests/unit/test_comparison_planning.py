"""A plan from corpus and starts to what a person reads; trials and preflight are replaced: they have own tests."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cosytune.cli.main import main
from cosytune.comparison.compose.budgets import (
    disk_of,
    listening_seconds,
    memory_of,
    part_seconds,
    whole_seconds,
)
from cosytune.comparison.compose.planning import PlanRequest, data_facts, make_plan, read_measured
from cosytune.comparison.results import Verdict
from cosytune.data.corpus import Corpus
from cosytune.data.manifest import Utterance
from cosytune.errors import DataError, InputError
from cosytune.models.folder import TokenizerFile, read_model, write_model
from cosytune.report.plan import plan_in_words
from cosytune.text.tokenizers import SmallTokenizer
from cosytune.training.plan_results import PartPlan, PreflightCheck, PreflightResult, Trial, minutes_in_words
from tests.unit.toy import Quiet

TRIAL = Trial(
    fits=True,
    words="the longest batch (3 clips of up to 5.1 s) takes 0.7 GB",
    peak_bytes=700_000_000,
    longest_clips=3,
    longest_seconds=5.1,
    step_seconds=2.0,
    validate_seconds=0.1,
    save_seconds=0.5,
    checkpoint_bytes=3_000_000,
    weights_bytes=1_000_000,
)
CHECKED = PreflightResult((PreflightCheck("speak", "", "passed", "3.0 s of 'ada'"),), 40.0, 1.5, 0.2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, toy_model: Path) -> Path:
    """The toy model as if it had been pre-trained."""
    folder = tmp_path_factory.mktemp("plan") / "base"
    lineage = [{"stage": "pretrain", "start": "initial", "start_hash": "1", "corpus_hash": "2", "parts": ["lm"]}]
    write_model(replace(read_model(toy_model), name="base", stage="pretrain", lineage=lineage), folder)
    return folder


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    folder = tmp_path_factory.mktemp("plan") / "sft"
    model = read_model(base)
    model.part("lm").head.bias.data += 0.1
    write_model(replace(model, name="sft", stage="sft", lineage=[*model.lineage, {"stage": "sft"}]), folder)
    return folder


def asked(corpus: Corpus, *starts: Path, **changes: Any) -> PlanRequest:
    return replace(PlanRequest("voices", corpus.path, Path("recordings"), starts), **changes)


def planned(request: PlanRequest, trial: Trial = TRIAL, found: PreflightResult = CHECKED) -> Any:
    return make_plan(request, Quiet(), trial=lambda job: trial, check=lambda jobs: found)


def test_the_facts_of_a_corpus(toy_corpus: Corpus) -> None:
    facts = data_facts(toy_corpus)
    train = toy_corpus.utterances("train")
    assert facts.clips == len(train)
    assert facts.minutes == pytest.approx(sum(clip.seconds for clip in train) / 60)
    assert len(facts.speakers) == 4
    assert 0.6 < facts.transcribed < 0.9
    assert (facts.sample_rate, facts.instructed, facts.languages) == (16_000, 0.0, ("en",))


def test_a_plan_has_everything(toy_corpus: Corpus, base: Path, sft: Path) -> None:
    before = sorted(toy_corpus.path.rglob("*"))
    plan = planned(asked(toy_corpus, sft, base))
    assert [start.name for start in plan.starts] == ["base", "sft"]
    assert plan.why.startswith("base (goal voices, ")
    assert plan.measured.startswith("nothing: no comparison")
    assert [part.part for part in plan.parts] == ["lm", "flow"]
    lm = plan.parts[0]
    assert lm.trainable == lm.parameters > 0
    assert lm.settings["steps"] == 150
    assert lm.audio_minutes == pytest.approx(40.0)
    assert lm.reason.startswith("advised: the start is base, so all weights move at the full rate")
    assert lm.seconds["updates"] == 300.0
    # Nine hearings of six sentences in a second and a half each; the start has no voices of its own.
    assert lm.seconds["listening"] == pytest.approx(9 * 6 * 1.5)
    assert plan.others["sft"][0].settings["learning_rate"] == pytest.approx(0.3 * lm.settings["learning_rate"])
    assert plan.seconds["features"] == 0, "the toy model's are made"
    assert plan.preflight == CHECKED
    assert plan.problems == ()
    assert plan.command == f"cosytune tune --data recordings --start {base} -o OUTPUT"
    assert sorted(toy_corpus.path.rglob("*")) == before
    assert json.loads(json.dumps(plan.to_json()))["problems"] == []


def test_what_people_read(toy_corpus: Corpus, base: Path, sft: Path) -> None:
    options = ("--settings", "my numbers.json")
    text = plan_in_words(planned(asked(toy_corpus, base, sft, strategy="lora", parts=("lm",), options=options)))
    lines = text.splitlines()
    assert lines[0].startswith("data: corpus: ")
    assert lines[1].startswith("start: base (goal voices, ")
    assert any(line.startswith("  lm: 0.0 M parameters, 0.0 M move; 150 steps of 16 s") for line in lines)
    assert any("lora_rank 16" in line for line in lines)
    assert "    memory: the longest batch (3 clips of up to 5.1 s) takes 0.7 GB" in lines
    assert "  speak: passed: 3.0 s of 'ada'" in lines
    assert "sft instead:" in lines
    assert lines[-1].startswith("next: cosytune tune --data recordings ")
    assert lines[-1].endswith("--strategy lora --parts lm --settings 'my numbers.json'")


def test_adapters_alone_move_with_lora(toy_corpus: Corpus, base: Path) -> None:
    part = planned(asked(toy_corpus, base, strategy="lora", overrides={"lm": {"lora_rank": 1}})).parts[0]
    assert 0 < part.trainable < part.parameters


def test_quick_tries_nothing(toy_corpus: Corpus, base: Path) -> None:
    def never(*arguments: Any) -> Any:
        raise AssertionError("something was tried")

    plan = make_plan(asked(toy_corpus, base, trials=False), Quiet(), trial=never, check=never)
    assert plan.preflight is None
    assert plan.seconds == plan.disk == {}
    assert plan.memory["needed"] is None
    assert "preflight: not made" in plan_in_words(plan)


def test_the_verb(
    toy_corpus: Corpus, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plan", "--data", toy_corpus.path, "--start", base, "--goal", "voices", "--quick", "--replay", 0.2]
    monkeypatch.setattr(sys, "argv", ["cosytune", *map(str, words), "-o", str(tmp_path / "plan.json"), "--json"])
    with pytest.raises(SystemExit) as stop:
        main()
    said = json.loads(capsys.readouterr().out)
    assert stop.value.code == 0
    assert said == json.loads((tmp_path / "plan.json").read_text())
    assert said["parts"][0]["settings"]["replay"] == 0.2
    assert [start["name"] for start in said["starts"]] == ["base"]


def test_what_does_not_fit_is_a_problem(toy_corpus: Corpus, base: Path) -> None:
    plan = planned(asked(toy_corpus, base, parts=("lm",)), trial=Trial(fits=False, words="does not fit: too long"))
    assert plan.problems == ("lm: does not fit: too long",)
    assert plan.preflight is None
    assert "PROBLEM: lm: does not fit: too long" in plan_in_words(plan)


def test_problems_of_memory_disk_and_preflight(toy_corpus: Corpus, base: Path) -> None:
    plan = planned(asked(toy_corpus, base))
    short = replace(plan, memory={"free": 10**9, "needed": 2 * 10**9})
    assert short.problems[0].startswith(
        "the parts together need 2.0 GB of memory and 1.0 GB are free; give --workers 1"
    )
    full = replace(plan, disk={"free": 10**9, "needed": 3 * 10**9})
    assert full.problems[0].startswith("the run needs 3.0 GB of disk and 1.0 GB are free; free some")
    bad = PreflightResult((PreflightCheck("labels", "lm", "failed", "labels are shifted"),), 1.0)
    assert replace(plan, preflight=bad).problems == ("labels of the lm: failed: labels are shifted",)


def test_bad_combinations_are_refused(toy_corpus: Corpus, base: Path, toy_model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--goal voice with 4 speakers"):
        planned(asked(toy_corpus, base, goal="voice"))
    with pytest.raises(DataError, match="% of the audio of corpus has no transcript, and a language"):
        planned(asked(toy_corpus, base, goal="language"))
    with pytest.raises(InputError, match="its weights are random: run cosytune pretrain first"):
        planned(asked(toy_corpus, toy_model))
    with pytest.raises(InputError, match="two starts have the same folder name"):
        planned(asked(toy_corpus, base, base))
    chinese = SmallTokenizer.train(["你好世界", "再见世界"], 60)
    foreign = replace(read_model(base), tokenizer=TokenizerFile("small", chinese.to_bytes()))
    write_model(foreign, tmp_path / "foreign")
    with pytest.raises(InputError, match=r"its text tokenizer has no token for 100% of the letters .*\(en\)"):
        planned(asked(toy_corpus, tmp_path / "foreign"))


def test_a_start_without_front_ends_cannot_be_tuned(toy_corpus: Corpus, base: Path, tmp_path: Path) -> None:
    model = read_model(base)
    deaf = replace(model, parts={name: part for name, part in model.parts.items() if name != "speaker_encoder"})
    write_model(deaf, tmp_path / "deaf")
    with pytest.raises(InputError, match=r"deaf: it cannot be fine-tuned \(missing: speaker_encoder\)"):
        planned(asked(toy_corpus, tmp_path / "deaf"))


def test_an_earlier_comparison_goes_first(toy_corpus: Corpus, base: Path, sft: Path, tmp_path: Path) -> None:
    from cosytune.comparison.results import PairVerdict

    pair = PairVerdict("base tuned", "sft tuned", 3, 0.95, (), "sft tuned", "sft tuned did better than base tuned.")
    arms = [{"start": path.name, "result": {"start_hash": read_model(path).hash()}} for path in (base, sft)]
    verdict = Verdict((pair,), (), "sft tuned", ()).to_json()
    result = {"arms": arms, "verdict": verdict, "corpus": "mine", "corpus_hash": toy_corpus.hash}
    (tmp_path / "result.json").write_text(json.dumps(result))
    plan = planned(asked(toy_corpus, base, sft, measured=read_measured(tmp_path)))
    assert plan.starts[0].name == "sft"
    assert plan.measured == "on these very recordings: sft tuned did better than base tuned."


def test_what_is_no_comparison_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no .*result.json; give the folder that cosytune compare wrote"):
        read_measured(tmp_path)
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        read_measured(tmp_path)
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(InputError, match="is no result of a comparison"):
        read_measured(tmp_path / "result.json")


# Budgets

SETTINGS = {"steps": 100, "validate_every": 30, "checkpoint_every": 50, "score_every": 25, "keep_best": 3}
PART = PartPlan("lm", SETTINGS, "", 1_000_000, 500_000, 10.0, trial=TRIAL)


def test_seconds_of_a_part() -> None:
    held_out = [Utterance(str(n), "", "", "", "", seconds=10.0) for n in range(3)]
    assert part_seconds(PART, TRIAL, held_out, 7.0) == pytest.approx(
        # Start, end and steps 30, 60, 90; checkpoints at the start and step 50.
        {"updates": 200.0, "validation": 5 * 30.0 * 0.1, "checkpoints": 2 * 0.5, "listening": 7.0}
    )
    many = [Utterance(str(n), "", "", "", "", seconds=1.0) for n in range(1000)]
    parts = {name: part_seconds(replace(PART, part=name), TRIAL, many, 0.0)["validation"] for name in ("lm", "vocoder")}
    assert parts == pytest.approx({"lm": 5 * 256 * 0.1, "vocoder": 5 * 16 * 0.1})
    assert listening_seconds(PART, 6, 9, 2.0) == 5 * (6 + 2 * 3) * 2.0
    assert listening_seconds(PART, 20, 9, 2.0) == 5 * (20 + 2 * 4) * 2.0
    assert listening_seconds(PART, 6, 1, 2.0) == 5 * (6 + 2 * 1) * 2.0
    assert listening_seconds(PART, 1, 9, 2.0) == 5 * (1 + 1 * 1) * 2.0
    assert listening_seconds(PART, 0, 9, 2.0) == listening_seconds(PART, 6, 9, None) == 0.0


def test_parts_side_by_side_take_as_long_as_the_slowest() -> None:
    parts = [replace(PART, seconds={"updates": seconds}) for seconds in (10.0, 30.0, 20.0)]
    assert whole_seconds(parts, 1, 5.0, CHECKED)["all"] == 5.0 + 40.0 + 60.0
    assert whole_seconds(parts, 2, None, CHECKED)["training"] == 30.0 + 10.0
    assert whole_seconds(parts, 2, None, None) == whole_seconds([PART], 2, None, CHECKED) == {}


def test_memory_and_disk(base: Path, toy_corpus: Corpus) -> None:
    outline = read_model(base, weights=False)
    model = 4 * sum(outline.parameters().values())
    parts = [PART, PART]
    assert memory_of(parts, outline, 1, 9, listens=False) == {"free": 9, "needed": 700_000_000 + model}
    assert memory_of(parts, outline, 2, 9, listens=True)["needed"] == 2 * 700_000_000 + 3 * model
    assert memory_of([PART, replace(PART, trial=None)], outline, 2, 9, listens=True)["needed"] is None
    disk = disk_of(parts, outline, toy_corpus, 10**9, with_features=False)
    assert disk["checkpoints"] == 2 * 3 * 3_000_000
    assert disk["best"] == 2 * 4 * 1_000_000
    assert disk["weights"] == 8_000_000
    assert disk["needed"] == sum(disk[name] for name in ("checkpoints", "best", "weights", "model", "features"))
    assert disk_of(parts, outline, toy_corpus, 10**9, with_features=True)["features"] > 4 * 20 * 50
    assert disk_of([replace(PART, trial=None)], outline, toy_corpus, 1, with_features=True) == {}


def test_durations_in_words() -> None:
    assert [minutes_in_words(s) for s in (4.6, 89, 600, 7200)] == ["5 s", "89 s", "10 min", "2.0 h"]
