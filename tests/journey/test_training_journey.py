"""What only real processes can show: a child that is killed, and parts that are trained side by side."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cosytune.data.corpus import Corpus
from cosytune.errors import DataError, TrainingError
from cosytune.training.jobs import PartJob, run_job, run_jobs
from tests.unit.toy import Quiet, same, toy_job

ROOT = Path(__file__).parents[2]

# The child sleeps a little after each update, so that the signal finds it at work.
CHILD = """
import sys, time
from pathlib import Path
from cosytune.data.corpus import Corpus
from cosytune.training.jobs import run_job
from tests.unit.toy import toy_job
model, corpus, folder = map(Path, sys.argv[1:])
run_job(toy_job("lm", model, Corpus(corpus), folder, steps=60), lambda step: time.sleep(0.03))
"""


def test_a_killed_process_costs_time_and_nothing_else(toy_model: Path, toy_corpus: Corpus, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    places = [str(toy_model), str(toy_corpus.path), str(folder)]
    child = subprocess.Popen([sys.executable, "-c", CHILD, *places], cwd=ROOT, env=environment)
    limit = time.monotonic() + 60
    while time.monotonic() < limit and not list(folder.glob("checkpoints/step-*[1-9]?.sha256")):
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert not (folder / "result.json").exists()

    steps: list[int] = []
    run_job(toy_job("lm", toy_model, toy_corpus, folder, steps=60), steps.append)
    run_job(toy_job("lm", toy_model, toy_corpus, tmp_path / "whole", steps=60))
    assert 2 < steps[0] < 60, "it did not go on from a checkpoint"
    assert same(folder, tmp_path / "whole")


def jobs(model: Path, corpus: Corpus, folder: Path, **changes: object) -> list[PartJob]:
    return [toy_job(part, model, corpus, folder / part, **changes) for part in ("lm", "flow")]


def test_two_workers_train_what_one_trains(toy_model: Path, toy_corpus: Corpus, tmp_path: Path) -> None:
    reporter = Quiet()
    together = run_jobs(jobs(toy_model, toy_corpus, tmp_path / "two"), 2, reporter)
    alone = run_jobs(jobs(toy_model, toy_corpus, tmp_path / "one"), 1, Quiet())
    assert together == alone
    assert [result.part for result in together] == ["lm", "flow"]
    assert all(same(tmp_path / "two" / part, tmp_path / "one" / part) for part in ("lm", "flow"))
    assert reporter.started == reporter.moved == {"lm": 6, "flow": 6}


def test_an_error_in_a_child_reaches_the_parent(toy_model: Path, toy_corpus: Corpus, tmp_path: Path) -> None:
    wrong = [toy_job("lm", toy_model, toy_corpus, tmp_path / "lm"), toy_job("flow", toy_model, toy_corpus, tmp_path)]
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(TrainingError, match="holds a run with other settings"):
        run_jobs(wrong, 2, Quiet())
    with pytest.raises(DataError, match="is not a finished corpus"):
        run_jobs(
            [PartJob(**{**vars(job), "corpus": tmp_path}) for job in jobs(toy_model, toy_corpus, tmp_path)], 2, Quiet()
        )


class Killer(Quiet):
    """Kills the children as soon as one of them has trained a while."""

    def move(self, name: str, done: int) -> None:
        if done >= 10:
            for process in multiprocessing.active_children():
                assert process.pid is not None
                with contextlib.suppress(ProcessLookupError):  # the first kill makes the pool end the others
                    os.kill(process.pid, signal.SIGKILL)


def test_a_killed_child_is_told_in_words_and_the_same_call_goes_on(
    toy_model: Path, toy_corpus: Corpus, tmp_path: Path
) -> None:
    long = jobs(toy_model, toy_corpus, tmp_path / "killed", steps=200, validate_every=100, checkpoint_every=50)
    with pytest.raises(TrainingError) as error:
        run_jobs(long, 2, Killer())
    assert "a training process was killed (most often for want of memory); the same command goes on" in str(error.value)
    results = run_jobs(long, 1, Quiet())
    assert [result.steps for result in results] == [200, 200]
