"""The mean of what one run kept, on the toy LM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from cosytune.cli.main import app
from cosytune.data.corpus import Corpus
from cosytune.errors import InputError, ModelError
from cosytune.models.folder import read_model, write_model
from cosytune.training.kept import average_kept
from cosytune.training.selection import Heard
from cosytune.training.stages import StagePlan, run_stage
from tests.unit.toy import LOOPS, Quiet


class Ear:
    """Likes what moved the most."""

    identity = "the longer the better"

    def __init__(self) -> None:
        self.heard: list[dict[str, torch.Tensor]] = []

    def __call__(self, part: str, network: nn.Module) -> Heard:
        self.heard.append({name: value.clone() for name, value in network.state_dict().items()})
        return Heard(float(len(self.heard)))


def run_of(start: Path, corpus: Corpus, output: Path, **changes: Any) -> list[dict[str, torch.Tensor]]:
    """What was heard of a run of three updates, of which the last two checkpoints are kept."""
    ear = Ear()
    loop = {**LOOPS["lm"], "steps": 3, "score_every": 1, "keep_best": 2, "learning_rate": 1e-2, **changes}
    plan = StagePlan("pretrain", start, corpus.path, output, ("lm",), {"lm": loop}, force=True, listener=ear, workers=1)
    run_stage(plan, Quiet())
    return ear.heard


def is_mean(network: nn.Module, states: list[dict[str, torch.Tensor]]) -> bool:
    return all(
        torch.allclose(value.double(), torch.stack([state[name].double() for state in states]).mean(0), atol=1e-6)
        for name, value in network.state_dict().items()
    )


def test_the_mean_of_what_a_run_kept(toy_model: Path, toy_corpus: Corpus, tmp_path: Path) -> None:
    heard = run_of(toy_model, toy_corpus, tmp_path / "tuned", freeze=["text_embedding"], average=0.5)
    tuned = read_model(tmp_path / "tuned")
    answer = CliRunner().invoke(app, ["average", str(tmp_path / "tuned.run"), "-o", str(tmp_path / "mean")])
    assert answer.exit_code == 0, answer.output
    assert "mean: lm: mean of steps 2, 3" in answer.output.replace("\n", "")
    mixed = read_model(tmp_path / "mean")
    assert is_mean(mixed.part("lm"), heard[-2:]) and not is_mean(tuned.part("lm"), heard[-2:])
    entry = mixed.lineage[-1]
    assert (entry["start_hash"], entry["result_hash"]) == (tuned.hash(), mixed.hash())
    assert (entry["average_of_steps"], mixed.stage) == ({"lm": [2, 3]}, tuned.stage)

    one = average_kept(tmp_path / "tuned.run", {"lm": [2]})
    assert is_mean(one.part("lm"), heard[2:3])
    with pytest.raises(InputError, match="kept no checkpoint of step 1 of the lm; those it kept are: 2, 3"):
        average_kept(tmp_path / "tuned.run", {"lm": [1]})
    with pytest.raises(InputError, match="kept no checkpoint of step 1 of the flow; those it kept are: none"):
        average_kept(tmp_path / "tuned.run", {"flow": [1]})
    # As of a run whose last checkpoint was not among the best: it may be taken, and is in no mean.
    (tmp_path / "tuned.run" / "lm" / "last").mkdir()
    (tmp_path / "tuned.run" / "lm" / "best" / "step-00000003.pt").rename(
        tmp_path / "tuned.run" / "lm" / "last" / "step-00000003.pt"
    )
    assert is_mean(average_kept(tmp_path / "tuned.run", {"lm": [3]}).part("lm"), heard[3:])
    with pytest.raises(InputError, match="kept two checkpoints or more, so there is nothing to average"):
        average_kept(tmp_path / "tuned.run")


def test_the_mean_of_adapters_is_that_of_what_they_made(toy_model: Path, toy_corpus: Corpus, tmp_path: Path) -> None:
    start = tmp_path / "start"
    write_model(read_model(toy_model), start)
    heard = run_of(start, toy_corpus, tmp_path / "tuned", lora_rank=2)
    assert is_mean(average_kept(tmp_path / "tuned.run").part("lm"), heard[-2:])
    write_model(read_model(tmp_path / "tuned"), start)
    with pytest.raises(ModelError, match="is no longer the model that the adapters of this run were trained on"):
        average_kept(tmp_path / "tuned.run")


def test_steps_that_cannot_be_chosen(toy_model: Path, tmp_path: Path) -> None:
    run = tmp_path / "tuned.run"
    run.mkdir()
    (run / "stage.json").touch()
    for arguments, said in [
        ([str(run), "--step", "lm:2"], "--step 'lm:2' is not PART=STEP, such as lm=38"),
        ([str(run / "lm" / "best")], "averaged by themselves; give " + str(run) + " alone, and --step PART=STEP"),
        ([str(run), str(toy_model)], "averaged by themselves; give " + str(run) + " alone"),
        ([str(toy_model), "--step", "lm=2"], "--step chooses among the checkpoints of one run"),
    ]:
        answer = CliRunner().invoke(app, ["average", *arguments, "-o", str(tmp_path / "mean")])
        assert isinstance(answer.exception, InputError) and said in str(answer.exception)
