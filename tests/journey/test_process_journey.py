"""Two processes on one machine (gloo) beside one: the same weights, also where one of them is short of memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from cosytune.data.corpus import Corpus
from cosytune.models.folder import read_model
from cosytune.training.features import corpus_features
from cosytune.training.settings import PARTS
from tests.unit.toy import Quiet, make_model, same

ROOT = Path(__file__).parents[2]
TOGETHER = [sys.executable, str(Path(__file__).with_name("together.py"))]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
COSYTUNE = [*TORCHRUN, "--no-python", "--", sys.executable, "-c", "from cosytune.cli.main import main; main()"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}

TOLERANCE = 0.005
"""Largest difference of a weight between one process and two, as a share of the largest way that a weight has gone.

Sums in another order differ in the last bits; Adam makes more of it where a gradient is next to nothing.
"""


@pytest.fixture(scope="module")
def model(toy_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy family without dropout, whose masks would be others in every process."""
    folder = make_model(tmp_path_factory.mktemp("still") / "model", toy_corpus, dropout=0.0)
    corpus_features(toy_corpus, read_model(folder), Quiet())
    return folder


def run(command: list[str], *arguments: object, status: int = 0) -> str:
    done = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=300, env=ENVIRONMENT, check=False
    )
    assert done.returncode == status, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def runs(model: Path, toy_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("together")
    for name, launcher in (("one", TOGETHER[:1]), ("two", TORCHRUN)):
        (folder / name).mkdir()
        run([*launcher, TOGETHER[1]], model, toy_corpus.path, folder / name)
    return {name: folder / name for name in ("one", "two")}


def found(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "found.json").read_text())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "weights.pt", weights_only=True)


def difference(first: Path, second: Path, start: dict[str, torch.Tensor]) -> float:
    """Largest difference of two weights, as a share of the largest way from the start."""
    one, two = weights(first), weights(second)
    moved = max(float((one[name] - start[name]).abs().max()) for name in one)
    return max(float((one[name] - two[name]).abs().max()) for name in one) / moved


@pytest.mark.parametrize("name", ["lm", "flow", "few", "heard", "lora"])
@pytest.mark.parametrize("kind", ["", "-split"])
def test_two_processes_train_what_one_trains(runs: dict[str, Path], model: Path, name: str, kind: str) -> None:
    """Also where a batch has one clip ("few"), and the other process can only do it again."""
    start = read_model(model).part("flow" if name == "flow" else "lm").state_dict()
    assert found(runs["one"])[name]["seconds"] == pytest.approx(found(runs["two"])[f"{name}{kind}"]["seconds"])
    assert difference(runs["one"] / name, runs["two"] / f"{name}{kind}", start) < TOLERANCE


@pytest.mark.parametrize("kind", ["heard", "heard-split"])
def test_the_leading_process_listens_for_all(runs: dict[str, Path], kind: str) -> None:
    one, two = found(runs["one"])["heard"], found(runs["two"])[kind]
    assert [step for step, _ in two["heard"]] == [0, 3, 6, 8]
    assert two["chosen"] == one["chosen"]
    assert [score for _, score in two["heard"]] == pytest.approx([score for _, score in one["heard"]], rel=1e-4)


@pytest.mark.parametrize("part", PARTS)
def test_every_part_trains_in_two_processes_that_agree(runs: dict[str, Path], part: str) -> None:
    assert found(runs["two"])[part]["result"] == 1
    assert weights(runs["two"] / part).keys() == weights(runs["one"] / part).keys()


@pytest.mark.parametrize("case", ["plain", "short", "poisoned"])
def test_a_fault_in_one_process_is_everybodys(runs: dict[str, Path], case: str) -> None:
    one, two = found(runs["one"])["plain"], found(runs["two"])[case]
    assert two["alike"], "the processes have other weights"
    if case == "poisoned":
        [[step, clips]] = two["skipped"]
        assert step == 3
        assert len(clips) == 8, "the clips of both processes are named"
    else:
        assert two["end"]["weight"] == pytest.approx(one["end"]["weight"], rel=1e-5)
        assert two["seconds"] == one["seconds"]


def test_a_clip_too_large_for_one_process_ends_all(runs: dict[str, Path]) -> None:
    assert "memory is too small for the lm with clip" in found(runs["two"])["none"]["error"]


def test_weights_that_few_use_move_in_all_processes_and_others_in_none(runs: dict[str, Path]) -> None:
    """A gradient of zero would let AdamW's decay take weights that no batch has used."""
    one, two = found(runs["one"])["seldom"], found(runs["two"])["seldom"]
    assert one == {"never": [1.0], "second": [1.0]}
    assert two["never"] == [1.0, 1.0]
    assert two["second"][0] == two["second"][1] < 1


def test_statistics_are_shared(runs: dict[str, Path]) -> None:
    """Means of what all counted, weights as each has them; then both as the leading process has them."""
    assert found(runs["one"])["statistics"]["last"] == [1.0, 1.0, 1.0, 1.0]
    assert found(runs["two"])["statistics"]["last"] == [1.5, 2.0, 1.0, 1.0]


def tune(model: Path, corpus: Corpus, output: Path) -> list[object]:
    settings = output.with_name("settings.json")
    values = {"steps": 60, "batch_seconds": 12.0, "checkpoint_every": 2, "validate_every": 20}
    settings.write_text(json.dumps({"lm": values}))
    return [
        "tune", "--data", corpus.path, "--start", model, "-o", output, "--parts", "lm", "--settings", settings,
        "--listen", 0, "--force", "--strategy", "full",
    ]  # fmt: skip


def test_what_the_leading_process_refuses_is_one_sentence_of_each(model: Path, tmp_path: Path) -> None:
    asked = ["tune", "--data", tmp_path / "none", "--start", model, "-o", tmp_path / "voice"]
    command = [*COSYTUNE, *map(str, asked)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=ENVIRONMENT, check=False)
    assert done.returncode == 1
    assert "cosytune: there is no folder" in done.stderr
    assert "[rank1]: Traceback" not in done.stderr


def wait_for_checkpoint(output: Path) -> None:
    """Until ten updates are done."""
    limit = time.monotonic() + 120
    checkpoints = output.with_name("voice.run") / "lm" / "checkpoints"
    while time.monotonic() < limit and not list(checkpoints.glob("step-*[1-9]?.sha256")):
        time.sleep(0.005)


def test_two_processes_that_are_killed_go_on_as_if_they_had_not_been(
    model: Path, toy_corpus: Corpus, tmp_path: Path
) -> None:
    killed = tmp_path / "killed" / "voice"
    killed.parent.mkdir()
    command = [*COSYTUNE, *map(str, tune(model, toy_corpus, killed))]
    child = subprocess.Popen(command, env=ENVIRONMENT, start_new_session=True)
    wait_for_checkpoint(killed)
    os.killpg(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not killed.exists(), "it ended before it could be killed"

    run(COSYTUNE, *tune(model, toy_corpus, killed), "--json")
    whole = tmp_path / "whole" / "voice"
    whole.parent.mkdir()
    printed = run(COSYTUNE, *tune(model, toy_corpus, whole), "--json")
    assert json.loads(printed)["model"] == str(whole), "only the leading process prints"
    assert same(killed.with_name("voice.run") / "lm", whole.with_name("voice.run") / "lm")


def test_sigterm_makes_all_processes_save(model: Path, toy_corpus: Corpus, tmp_path: Path) -> None:
    output = tmp_path / "voice"
    child = subprocess.Popen(
        [*COSYTUNE, *map(str, tune(model, toy_corpus, output))], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )
    wait_for_checkpoint(output)
    child.send_signal(signal.SIGTERM)
    _, errors = child.communicate(timeout=120)
    assert child.returncode != 0
    assert "stopped by SIGTERM after update" in errors
    # Split weights go on where whole ones stopped.
    run(COSYTUNE, *tune(model, toy_corpus, output), "--shard")
    assert (output / "model.json").exists()
