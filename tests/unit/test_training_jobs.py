from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from cosytune.errors import DataError, StoppedError, TrainingError
from cosytune.models.folder import read_model
from cosytune.training import jobs as jobs_module
from cosytune.training.jobs import PartJob, default_workers, following, run_jobs, threads_for
from cosytune.training.results import PartResult
from cosytune.training.run import NOTES
from cosytune.training.stopping import StopRequest
from tests.unit.toy import Quiet, toy_settings


def job(label: str, folder: Path) -> PartJob:
    return PartJob(label, "lm", "tune", folder, folder, folder / label, toy_settings("lm"), 1)


def future(error: Exception | None) -> concurrent.futures.Future[PartResult]:
    made: concurrent.futures.Future[PartResult] = concurrent.futures.Future()
    if error is None:
        made.set_result(PartResult("lm", 1, 1.0, {}, {}, {}, ""))
    else:
        made.set_exception(error)
    return made


def watch(errors: list[Exception | None], folder: Path) -> Quiet:
    reporter = Quiet()
    jobs_module._watch([job("a", folder)], [future(error) for error in errors], reporter, StopRequest())
    return reporter


def test_what_a_child_raises_on_purpose_is_passed_on(tmp_path: Path) -> None:
    error = DataError("no clips")
    with pytest.raises(DataError, match="no clips") as raised:
        watch([None, error], tmp_path)
    assert raised.value is error and error.__cause__ is None
    with pytest.raises(BrokenProcessPool):
        watch([BrokenProcessPool("gone")], tmp_path)


def test_what_a_child_raises_by_mistake_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as raised:
        watch([KeyError("x")], tmp_path)
    assert str(raised.value).startswith(
        "training stopped unexpectedly (KeyError: 'x'); the same command with --workers"
    )


def test_progress_is_read_from_the_curves(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    line = '{"part": "lm", "step": 40, "side": "train", "name": "loss", "value": 1.0}\n'
    (tmp_path / "a" / "metrics.jsonl").write_text(line + line[:20])
    assert watch([None], tmp_path).moved == {"a": 40}


def test_sigterm_ends_the_watch(tmp_path: Path) -> None:
    never: concurrent.futures.Future[PartResult] = concurrent.futures.Future()
    with pytest.raises(StoppedError, match="stopped by SIGTERM; the parts in training are saved"):
        jobs_module._watch([job("a", tmp_path)], [never], Quiet(), StopRequest(came=True))


def test_one_worker_trains_here_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def run_job(job: PartJob, watch: object) -> PartResult:
        done.append(job.label)
        return PartResult(job.label, 6, 1.0, {}, {}, {}, "")

    monkeypatch.setattr(jobs_module, "run_job", run_job)
    reporter = Quiet()
    results = run_jobs([job("b", tmp_path), job("a", tmp_path)], 1, reporter)
    assert done == [result.part for result in results] == ["b", "a"]
    assert reporter.started == reporter.moved == {"a": 6, "b": 6}


def test_what_a_run_notes_is_said_once_and_also_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = tmp_path / "a" / NOTES
    notes.parent.mkdir()
    notes.write_text("said by an earlier command\n")

    def run_job(job: PartJob, watch: Callable[[int], None]) -> PartResult:
        for done, text in enumerate(("dropped one\ndropped an", "other\n", "", "no room\n")):
            with notes.open("a") as out:
                out.write(text)
            if done < 3:
                watch(done)
        raise TrainingError("ended")

    monkeypatch.setattr(jobs_module, "run_job", run_job)
    reporter = Quiet()
    with pytest.raises(TrainingError, match="ended"):
        run_jobs([job("a", tmp_path)], 1, reporter)
    assert reporter.lines == ["a: dropped one", "a: dropped another", "a: no room"]


def test_jobs_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "usable_cores", lambda: 8)
    monkeypatch.setattr(jobs_module.torch.cuda, "is_available", lambda: False)
    assert (threads_for(1), threads_for(3), threads_for(20), default_workers()) == (8, 2, 1, 2)
    monkeypatch.setattr(jobs_module.torch.cuda, "is_available", lambda: True)
    assert default_workers() == 1


def test_large_networks_train_one_after_the_other_where_memory_is_small(
    toy_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(jobs_module, "usable_cores", lambda: 2)
    needed = jobs_module._side_by_side(read_model(toy_model))
    for whole, expected in ((2 * needed, 2), (needed, 1)):
        monkeypatch.setattr(jobs_module, "whole_memory", lambda whole=whole: whole)
        assert default_workers(toy_model) == expected
    assert default_workers() == 2


def test_a_process_whose_leader_has_gone_ends_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(value: object) -> object:
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(jobs_module.processes, "leads", lambda: False)
    monkeypatch.setattr(jobs_module.processes, "share", closed)
    with pytest.raises(TrainingError, match="ends because the leading process has"), following():
        pytest.fail("it has nothing to do here")
