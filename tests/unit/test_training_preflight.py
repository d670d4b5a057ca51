"""The minute before a run: checks that pass, fail, or cannot tell, and leave nothing behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cosytune.data.batch import Batch
from cosytune.data.corpus import Corpus
from cosytune.errors import TrainingError
from cosytune.models.flow.model import FlowOutput
from cosytune.models.folder import read_model, write_model
from cosytune.models.lm.model import IGNORED, LMOutput
from cosytune.training import preflight as preflight_module
from cosytune.training import stages as stages_module
from cosytune.training.few_clips import few_clips
from cosytune.training.jobs import PartJob
from cosytune.training.label_checks import alignment_check, label_check
from cosytune.training.plan_results import PreflightCheck, PreflightResult
from cosytune.training.preflight import RECORD, preflight, preflight_once
from cosytune.training.stages import StagePlan, run_stage
from tests.unit.toy import LOOPS, Quiet, same, toy_job

CODES, STEP = 11, 3


def here(function: Callable[..., Any], *arguments: Any) -> Any:
    """Another process, for tests: this one."""
    return function(*arguments)


# Labels of the LM


class Counting(nn.Module):
    """Predicts the token before plus three, which is right for `counted`.

    Args:
        sees: which token a prediction is made from: -1 the one before, 0 the label itself, -2 the one before that.
        late: labels begin so many tokens late.
        sure: how sure it is.
    """

    def __init__(self, sees: int = -1, late: int = 0, sure: float = 8.0) -> None:
        super().__init__()
        self.config, self.end_token = SimpleNamespace(speech_codebook=CODES), CODES
        self.sees, self.late, self.sure = sees, late, sure

    def forward(self, text: Tensor, text_lengths: Tensor, speech: Tensor, lengths: Tensor, speaker: Tensor) -> Any:
        seen = speech.roll(-self.sees, dims=1)
        guess = (seen - STEP * self.sees) % CODES
        logits = nn.functional.one_hot(guess, CODES + 1).float() * self.sure
        logits = torch.cat((logits, torch.zeros(len(speech), 1, CODES + 1)), dim=1)
        ends = torch.full((len(speech), 1), CODES)
        targets = torch.cat((speech[:, self.late :], ends, ends.new_full((len(speech), self.late), IGNORED)), dim=1)
        return LMOutput(logits, targets)


def counted(rows: int = 2, length: int = 60) -> Batch:
    speech = (torch.arange(length) * STEP + torch.arange(rows)[:, None]) % CODES
    lengths = torch.full((rows,), length)
    text = torch.zeros(rows, 1, dtype=torch.int64)
    names = tuple(str(row) for row in range(rows))
    return Batch(names, text, torch.ones(rows), speech, lengths, speaker_vectors=torch.ones(rows, 2))


def test_true_labels_are_better() -> None:
    check = label_check(Counting(), counted(), "base")  # type: ignore[arg-type]
    assert check.outcome == "passed"
    # The first token has none before it and is guessed wrongly.
    assert check.numbers["true"] < 0.2
    assert check.numbers["later"] > 7.0
    assert check.words.startswith("true 0.1")


@pytest.mark.parametrize("network", [Counting(sees=0), Counting(sees=-2), Counting(late=1)])
def test_shifted_labels_are_found_without_trained_weights(network: Counting) -> None:
    check = label_check(network, counted(), "untrained")  # type: ignore[arg-type]
    assert check.outcome == "failed"
    assert check.words.startswith("labels are shifted: a prediction must see all tokens before its label and not")


def test_a_start_that_prefers_later_labels_would_unlearn() -> None:
    network = Counting()
    network.forward = lambda *inputs: _later(Counting(), *inputs)  # type: ignore[method-assign]
    check = label_check(network, counted(), "base")  # type: ignore[arg-type]
    assert check.outcome == "failed"
    assert check.words.endswith("shifted ones fit better, so training would un-learn what the start knows")


def _later(network: Counting, *inputs: Any) -> LMOutput:
    """What `network` says of each token, said of the one before it: it skips one."""
    output = network(*inputs)
    return LMOutput(output.logits.roll(STEP, dims=2), output.targets)


def test_a_start_that_knows_nothing_cannot_tell() -> None:
    for kind, remark in (("untrained", False), ("sft", True)):
        check = label_check(Counting(sure=1e-3), counted(), kind)  # type: ignore[arg-type]
        assert check.outcome == "cannot tell"
        assert ("are its speech tokenizer and networks of one and the same model?" in check.words) == remark


def test_clips_without_tokens_are_a_fault() -> None:
    with pytest.raises(ValueError, match="they come from an incomplete extraction"):
        label_check(Counting(), replace(counted(), speech_tokens=None), "base")  # type: ignore[arg-type]


# Mel and tokens of the flow

RATE = 50.0


class Telling(nn.Module):
    """Expects of each token a mel of its own, `late` frames late; `sure` 0 expects nothing."""

    def __init__(self, late: int = 0, sure: float = 1.0) -> None:
        super().__init__()
        self.late, self.sure = late, sure

    def forward(self, tokens: Tensor, counts: Tensor, mel: Tensor, lengths: Tensor, speaker: Tensor, draws: Any) -> Any:
        expected = self.sure * mels_of(tokens).roll(self.late, dims=2)
        mask = torch.arange(mel.shape[2]) < lengths[:, None]
        return FlowOutput(expected - draws.noise, mel - draws.noise, expected, mel, mask)


def mels_of(tokens: Tensor) -> Tensor:
    return (tokens.repeat_interleave(2, dim=1)[:, None].float() - CODES / 2).expand(-1, 4, -1)


def spoken() -> Batch:
    speech = torch.from_numpy(np.random.default_rng(0).integers(0, CODES, (3, 80)))
    lengths = torch.full((3,), 80)
    mel = mels_of(speech)
    text = torch.zeros(3, 1, dtype=torch.int64)
    return Batch(("a", "b", "c"), text, torch.ones(3), speech, lengths, mel, 2 * lengths, torch.ones(3, 2))


@pytest.mark.parametrize(
    ("network", "outcome"),
    [
        (Telling(), "passed"),
        (Telling(late=10), "failed"),
        (Telling(late=-10), "failed"),
        (Telling(sure=0.0), "cannot tell"),
    ],
)
def test_mel_and_tokens(network: Telling, outcome: str) -> None:
    assert alignment_check(network, spoken(), RATE, "base").outcome == outcome  # type: ignore[arg-type]


# All of it, on the toy family


@pytest.fixture
def jobs(toy_model: Path, toy_corpus: Corpus, tmp_path: Path) -> list[PartJob]:
    made = [toy_job(part, toy_model, toy_corpus, tmp_path / "run" / part) for part in ("lm", "flow")]
    return [replace(job, stage="tune") for job in made]


def outcomes(result: PreflightResult) -> dict[tuple[str, str], str]:
    return {(check.name, check.part): check.outcome for check in result.checks}


def test_a_sound_start(jobs: list[PartJob], toy_corpus: Corpus, tmp_path: Path) -> None:
    before = sorted(toy_corpus.path.rglob("*"))
    state = torch.get_rng_state()
    result = preflight(jobs, call=here)
    found = outcomes(result)
    assert {found["update", part] for part in ("lm", "flow")} == {"passed"}
    assert {found["reload", part] for part in ("lm", "flow")} == {"passed"}
    assert found["labels", "lm"] == "cannot tell"
    assert found["speak", ""] in ("passed", "cannot tell")
    assert not result.failed
    assert result.spoken_seconds is not None
    assert result.feature_seconds is None, "the features were there"
    assert torch.equal(state, torch.get_rng_state())
    assert sorted(toy_corpus.path.rglob("*")) == before
    assert not (tmp_path / "run").exists()
    assert PreflightResult.from_json(result.to_json()) == result


def test_a_second_of_audio_costs_what_the_quickest_try_took(
    monkeypatch: pytest.MonkeyPatch, toy_model: Path, toy_corpus: Corpus, tmp_path: Path
) -> None:
    took = iter([9.0, 5.0, 0.5, 7.0, 0.25, 3.0])
    clock = [0.0]

    def now() -> float:
        began.append(len(began))
        clock[0] += next(took) if len(began) % 2 == 0 else 0.0
        return clock[0]

    began: list[int] = []
    clips = few_clips(toy_corpus, read_model(toy_model), tmp_path)
    monkeypatch.setattr(preflight_module.time, "perf_counter", now)
    each = preflight_module._analysing(read_model(toy_model), clips)
    assert each == pytest.approx(0.25 / clips.train[0].seconds)


def test_without_features_a_few_are_made_elsewhere(toy_model: Path, toy_corpus: Corpus, tmp_path: Path) -> None:
    corpus = Corpus(shutil.copytree(toy_corpus.path, tmp_path / "corpus", ignore=shutil.ignore_patterns("features")))
    result = preflight([replace(toy_job("lm", toy_model, corpus, tmp_path / "run"), stage="tune")], call=here)
    assert outcomes(result)["reload", "lm"] == "passed"
    assert result.feature_seconds is not None
    assert result.feature_seconds > 0
    assert not (corpus.path / "features").exists()


def test_clips_with_transcripts_and_of_usual_length_are_taken(
    toy_model: Path, toy_corpus: Corpus, tmp_path: Path
) -> None:
    clips = few_clips(toy_corpus, read_model(toy_model), tmp_path)
    assert len(clips.train) == 3
    assert all(clip.text for clip in (*clips.train, *clips.validation))
    assert not clips.made


@pytest.mark.parametrize("change", [{"lora_rank": 2}, {"average": 0.9}])
def test_adapters_and_averages_are_saved_too(jobs: list[PartJob], change: dict[str, Any]) -> None:
    job = replace(jobs[0], settings=jobs[0].settings.model_copy(update=change))
    assert outcomes(preflight([job], call=here))["reload", "lm"] == "passed"


def test_numbers_that_are_none_fail(jobs: list[PartJob], tmp_path: Path) -> None:
    model = read_model(jobs[0].model)
    model.part("lm").head.bias.data.fill_(float("nan"))
    write_model(model, tmp_path / "broken")
    result = preflight([replace(jobs[0], model=tmp_path / "broken")], call=here)
    assert outcomes(result)["update", "lm"] == "failed"
    assert "the loss or its gradient is not finite" in result.failed[0].words or "weight" in result.failed[0].words
    assert ("reload", "lm") not in outcomes(result)


def test_a_batch_that_does_not_fit_fails(jobs: list[PartJob], monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*arguments: Any, **options: Any) -> None:
        raise TrainingError("memory is too small for the lm with clip a alone")

    monkeypatch.setattr(preflight_module, "train", short)
    result = preflight(jobs[:1], call=here)
    assert result.failed[0].words == "memory is too small for the lm with clip a alone"


def test_weights_that_changed_on_the_way_fail(jobs: list[PartJob]) -> None:
    def forgetful(function: Any, *arguments: Any) -> Any:
        found = function(*arguments)
        if function is preflight_module._train:
            found.values["lm"]["cross_entropy"] += 1.0
        return found

    result = preflight(jobs[:1], call=forgetful)
    assert outcomes(result)["reload", "lm"] == "failed"
    assert "when saved" in result.failed[0].words


def test_a_model_that_cannot_be_read_or_speak_fails(jobs: list[PartJob]) -> None:
    def deleting(function: Any, *arguments: Any) -> Any:
        if function is preflight_module._reload:
            (arguments[1] / "model" / lost).unlink()
        return function(*arguments)

    lost = "flow.safetensors"
    result = preflight(jobs[:1], call=deleting)
    assert outcomes(result)["reload", ""] == "failed"
    assert "flow.safetensors" in result.failed[0].words

    silent = replace(read_model(jobs[0].model), parts={})
    check, seconds = preflight_module._speak(
        silent, few_clips(Corpus(jobs[0].corpus), read_model(jobs[0].model), Path())
    )
    assert (check.outcome, seconds) == ("failed", None)
    assert "has no lm" in check.words


def test_a_killed_process_is_told(jobs: list[PartJob]) -> None:
    def killed(function: Any, *arguments: Any) -> Any:
        raise BrokenProcessPool("gone")

    result = preflight(jobs, call=killed)
    assert result.failed[0].in_words() == (
        "update: failed: the process was killed, most often for want of memory; see `cosytune plan` for what is needed"
    )


# Once a run

GOOD = PreflightResult((PreflightCheck("speak", "", "passed", "fine"),), 1.0)
BAD = PreflightResult((PreflightCheck("labels", "lm", "failed", "labels are shifted"),), 1.0)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[PreflightResult]:
    """What the next preflights find; taken away one by one."""
    results: list[PreflightResult] = []
    monkeypatch.setattr(preflight_module, "preflight", lambda jobs, call: results.pop(0))
    return results


def test_a_resumed_run_does_not_repeat_it(made: list[PreflightResult], tmp_path: Path) -> None:
    made.append(GOOD)
    reporter = Quiet()
    assert preflight_once([], tmp_path, reporter, force=False) == GOOD
    assert reporter.lines[-1] == "preflight: speak: passed: fine"
    assert preflight_once([], tmp_path, reporter, force=False) == GOOD
    assert not made


def test_a_failed_one_stops_the_run_until_it_is_mended_or_forced(made: list[PreflightResult], tmp_path: Path) -> None:
    made += [BAD, BAD, GOOD]
    for _ in range(2):
        with pytest.raises(TrainingError) as error:
            preflight_once([], tmp_path, Quiet(), force=False)
        assert str(error.value).startswith(
            "the preflight failed: labels of the lm: failed: labels are shifted; nothing"
        )
        assert "give --force to train all the same" in str(error.value)
        assert (tmp_path / RECORD).is_file()
    assert preflight_once([], tmp_path, Quiet(), force=True) == BAD
    assert preflight_once([], tmp_path, Quiet(), force=False) == GOOD


# In a run


def test_a_run_is_the_same_with_it_and_is_stopped_by_it(
    toy_model: Path, toy_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops = {"lm": {**LOOPS["lm"], "steps": 2, "checkpoint_every": 1}}
    plan = StagePlan("tune", toy_model, toy_corpus.path, tmp_path / "plain", ("lm",), loops, workers=1)
    checked = replace(plan, output=tmp_path / "checked", preflight=True)
    monkeypatch.setattr(stages_module, "threads_for", lambda workers: 1)
    monkeypatch.setattr(stages_module, "preflight_once", partial(preflight_once, call=here))
    for each in (plan, checked):
        run_stage(each, Quiet())
    assert same(plan.run_folder / "lm", checked.run_folder / "lm")
    assert not (plan.run_folder / RECORD).exists()
    assert not PreflightResult.from_json(json.loads((checked.run_folder / RECORD).read_text())).failed

    monkeypatch.setattr(preflight_module, "preflight", lambda jobs, call: BAD)
    stopped = replace(checked, output=tmp_path / "stopped")
    with pytest.raises(TrainingError, match="the preflight failed: labels of the lm"):
        run_stage(stopped, Quiet())
    assert not (stopped.run_folder / "lm").exists()
    assert not stopped.output.exists()
