from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cosytune.errors import InputError, MissingPackageError
from cosytune.training import trackers as trackers_module
from cosytune.training.results import MetricPoint
from cosytune.training.run import NOTES, PartRun, RunOptions
from cosytune.training.trackers import Trackers, parse_trackers, scalar_name

SETTINGS = {"part": "lm", "steps": 40}
CURVE = "lm/cross_entropy_nats_per_token"


@pytest.fixture(autouse=True)
def files_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Event files of one second are told apart by a number that a long test session would make two digits long."""
    from tensorboard.summary.writer import event_file_writer

    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


def run_of(folder: Path, *trackers: Any) -> PartRun:
    return PartRun(folder, SETTINGS, options=RunOptions(trackers=trackers))


def point(step: int, side: str, value: float, name: str = "cross_entropy") -> MetricPoint:
    return MetricPoint("lm", step, side, name, value, 3.0 * step)


def curves(folder: Path) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Side -> name -> (step, value), as TensorBoard shows them."""
    shown = {}
    for side in sorted((folder / "tensorboard").iterdir()):
        events = EventAccumulator(str(side))
        events.Reload()
        shown[side.name] = {
            tag: [(event.step, round(event.value, 4)) for event in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]
        }
    return shown


def first_twenty(run: PartRun) -> None:
    assert run.load() is None
    run.record([point(0, "validation", 5.0)])
    run.save(0, {})
    run.record([point(10, "train", 4.0)])
    run.record([point(10, "validation", 4.5)])
    run.save(10, {})
    run.record([point(20, "train", 3.0)])
    run.record([point(20, "validation", 3.5)])


def test_tensorboard_shows_both_sides_and_the_start_in_one_picture(tmp_path: Path) -> None:
    run = run_of(tmp_path, "tensorboard")
    first_twenty(run)
    run._trackers.close()
    assert curves(tmp_path) == {
        "start": {CURVE: [(0, 5.0), (10, 5.0), (20, 5.0)]},
        "train": {CURVE: [(10, 4.0), (20, 3.0)]},
        "validation": {CURVE: [(0, 5.0), (10, 4.5), (20, 3.5)]},
    }


def test_after_a_kill_no_point_is_there_twice_and_none_is_missing(tmp_path: Path) -> None:
    killed = run_of(tmp_path, "tensorboard")
    first_twenty(killed)
    killed._trackers.close()  # the worst case: what came after the checkpoint is on the disk
    run = run_of(tmp_path, "tensorboard")
    assert run.load() is not None
    run.record([point(20, "train", 2.9)])
    run.record([point(20, "validation", 3.4)])
    run._trackers.close()
    assert curves(tmp_path) == {
        "start": {CURVE: [(0, 5.0), (10, 5.0), (20, 5.0)]},
        "train": {CURVE: [(10, 4.0), (20, 2.9)]},
        "validation": {CURVE: [(0, 5.0), (10, 4.5), (20, 3.4)]},
    }


def test_what_a_checkpoint_knows_is_on_the_disk_before_it(tmp_path: Path) -> None:
    first_twenty(run_of(tmp_path, "tensorboard"))  # never closed: as after kill -9
    assert curves(tmp_path)["train"][CURVE][0] == (10, 4.0)


def test_a_rollback_goes_back_in_the_picture_too(tmp_path: Path) -> None:
    run = run_of(tmp_path, "tensorboard")
    first_twenty(run)
    run.load()
    run.record([point(20, "train", 2.5)])
    run._trackers.close()
    assert curves(tmp_path)["train"][CURVE] == [(10, 4.0), (20, 2.5)]


def test_what_is_heard_and_the_speed_have_pictures_of_their_own(tmp_path: Path) -> None:
    run = run_of(tmp_path, "tensorboard")
    run.load()
    run.record([point(0, "heard", 0.5, "score")])
    run.record([point(10, "heard", 0.6, "score")])
    run.record([point(10, "rehearsal", 4.0), point(10, "rehearsal", 9.0, "gradient_norm")])
    run._trackers.close()
    shown = curves(tmp_path)
    assert shown["heard"] == {"lm/heard_score": [(0, 0.5), (10, 0.6)]}
    assert shown["start"] == {"lm/heard_score": [(0, 0.5), (10, 0.5)]}
    assert shown["rehearsal"] == {CURVE: [(10, 4.0)], "lm/gradient_norm": [(10, 9.0)]}


def test_names_say_their_units() -> None:
    assert scalar_name("lm", "train", "loss") == "lm/loss_nats_per_token"
    assert scalar_name("flow", "validation", "velocity") == "flow/velocity_mean_squared_error"
    assert scalar_name("flow", "train", "loss") == "flow/loss"
    assert scalar_name("speaker_encoder", "train", "accuracy") == "speaker_encoder/accuracy_share"
    assert scalar_name("vocoder", "speed", "step_seconds") == "vocoder/speed_step_seconds"


def test_which_trackers_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers_module.importlib.util, "find_spec", lambda name: None if name == "wandb" else object())
    assert parse_trackers("none") == ()
    assert parse_trackers("mlflow, tensorboard") == ("tensorboard", "mlflow")
    for wrong in ("", ",", "tensorbored", "none,mlflow", "tensorboard,comet"):
        with pytest.raises(
            InputError, match=r"--track '.*' is not known; give none, or one or more of tensorboard, ml"
        ):
            parse_trackers(wrong)
    with pytest.raises(MissingPackageError, match="--track wandb: it is not installed; pip install wandb, or leave"):
        parse_trackers("tensorboard,wandb")


class Failing:
    failures: tuple[type[Exception], ...] = (OSError,)
    error: Exception = OSError("no route to host")

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.logged: list[tuple[str, int, dict[str, float]]] = []

    def log(self, side: str, step: int, values: Mapping[str, float]) -> None:
        if step:
            raise self.error
        self.logged.append((side, step, dict(values)))

    def go_back(self, step: int) -> None: ...

    flush = close = lambda self: None


def test_a_tracker_that_fails_is_named_once_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers_module, "_MLflow", Failing)
    run = run_of(tmp_path, "tensorboard", "mlflow")
    first_twenty(run)
    run._trackers.close()
    notes = (tmp_path / NOTES).read_text().splitlines()
    assert len(notes) == 1
    assert notes[0].startswith("mlflow failed (OSError: no route to host); training goes on without it, and all curves")
    assert notes[0].endswith(str(tmp_path / "metrics.jsonl"))
    assert len(curves(tmp_path)["train"][CURVE]) == 2, "the other one suffered"


def test_a_full_disk_does_not_stop_training(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("a file where a folder should be")
    run = run_of(tmp_path, "tensorboard")
    first_twenty(run)
    assert (tmp_path / NOTES).read_text().startswith("tensorboard failed (")


def test_mistakes_of_ours_are_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers_module, "_MLflow", Failing)
    monkeypatch.setattr(Failing, "error", KeyError("x"))
    with pytest.raises(KeyError):
        first_twenty(run_of(tmp_path, "mlflow"))


def test_a_broken_installation_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    first_twenty(run_of(tmp_path, "wandb"))
    assert (tmp_path / NOTES).read_text().startswith("wandb failed (ModuleNotFoundError: ")


def test_processes_that_train_along_track_nothing(tmp_path: Path) -> None:
    run = PartRun(tmp_path, SETTINGS, writes=False, options=RunOptions(trackers=("tensorboard",)))
    run.record([point(10, "train", 4.0)])
    assert list(tmp_path.iterdir()) == []


def fake_mlflow(calls: list[Any]) -> ModuleType:
    class Client:
        def get_experiment_by_name(self, name: str) -> Any:
            found = [call for call in calls if call[0] == "experiment"]
            return SimpleNamespace(experiment_id="7") if found else None

        def create_experiment(self, name: str) -> str:
            calls.append(("experiment", name))
            return "7"

        def create_run(self, experiment: str, run_name: str) -> Any:
            calls.append(("run", experiment, run_name))
            return SimpleNamespace(info=SimpleNamespace(run_id="r1"))

        def log_batch(self, run: str, metrics: Sequence[Any] = (), params: Sequence[Any] = ()) -> None:
            calls.extend(("param", run, *param) for param in params)
            calls.extend(("metric", run, *metric) for metric in metrics)

        def set_terminated(self, run: str) -> None:
            calls.append(("end", run))

    module: Any = ModuleType("mlflow")
    module.MlflowClient = Client
    module.exceptions = SimpleNamespace(MlflowException=RuntimeError)
    module.entities = SimpleNamespace(
        Metric=lambda key, value, timestamp, step: (key, value, step), Param=lambda key, value: (key, value)
    )
    return module


def test_mlflow_gets_one_run_that_a_resume_goes_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setitem(sys.modules, "mlflow", fake_mlflow(calls))
    folder = tmp_path / "anna.run" / "lm"
    run = run_of(folder, "mlflow")
    first_twenty(run)
    assert calls[:4] == [
        ("experiment", "cosytune"),
        ("run", "7", "anna.run/lm"),
        ("param", "r1", "part", '"lm"'),
        ("param", "r1", "steps", "40"),
    ]
    assert calls[4:7] == [
        ("metric", "r1", f"{CURVE}/validation", 5.0, 0),
        ("metric", "r1", f"{CURVE}/start", 5.0, 0),
        ("metric", "r1", f"{CURVE}/train", 4.0, 10),
    ]
    calls.clear()
    run = run_of(folder, "mlflow")
    run.load()
    run.record([point(20, "train", 3.0)])
    run._trackers.close()
    assert calls == [("metric", "r1", f"{CURVE}/train", 3.0, 20), ("end", "r1")]


def fake_wandb(calls: list[Any]) -> ModuleType:
    module: Any = ModuleType("wandb")

    def init(**options: Any) -> Any:
        calls.append(("init", options))
        return SimpleNamespace(
            id=options["id"] or "w1",
            log=lambda values, step, commit=None: calls.append(("log", values, step, commit)),
            define_metric=lambda name, step_metric: calls.append(("axis", name, step_metric)),
            finish=lambda: calls.append(("finish",)),
        )

    module.init = init
    module.errors = SimpleNamespace(Error=RuntimeError)
    return module


def test_wandb_gets_one_run_that_a_resume_goes_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb(calls))
    run = run_of(tmp_path, "wandb")
    first_twenty(run)
    assert calls[0][1] | {"name": ""} == {
        "project": "cosytune",
        "name": "",
        "id": None,
        "resume": None,
        "dir": str(tmp_path),
        "config": SETTINGS,
    }
    assert calls[1] == ("axis", "*", "update")
    assert calls[2] == ("log", {"update": 0, f"{CURVE}/validation": 5.0}, 0, None)
    calls.clear()
    run = run_of(tmp_path, "wandb")
    run.load()
    run.record([point(20, "train", 3.0)])
    run._trackers.close()
    assert (calls[0][1]["id"], calls[0][1]["resume"]) == ("w1", "allow")
    assert calls[2:] == [("log", {"update": 20, f"{CURVE}/train": 3.0}, 20, None), ("finish",)]


def test_what_a_checkpoint_knows_wandb_no_longer_holds_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sends a step when the next one comes, or when it is told to; after that it takes no more of that step."""
    calls: list[Any] = []
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb(calls))
    run = run_of(tmp_path, "wandb")
    run.load()
    run.record([point(10, "train", 4.0)])
    calls.clear()
    run.save(10, {})
    run.save(10, {})
    run.record([point(10, "validation", 5.0)])
    assert calls == [("log", {}, 10, True), ("log", {"update": 10, f"{CURVE}/validation": 5.0}, 11, None)]


@pytest.mark.parametrize(("name", "fake"), [("mlflow", fake_mlflow), ("wandb", fake_wandb)])
def test_a_service_that_cannot_be_reached_does_not_stop_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: Any, fake: Callable[[list[Any]], Any]
) -> None:
    module = fake([])

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("503")

    monkeypatch.setattr(module, "MlflowClient" if name == "mlflow" else "init", refuse)
    monkeypatch.setitem(sys.modules, name, module)
    first_twenty(run_of(tmp_path, name))
    assert (tmp_path / NOTES).read_text().startswith(f"{name} failed (RuntimeError: 503); training goes on without it")


def test_trackers_before_they_began_log_nothing(tmp_path: Path) -> None:
    trackers = Trackers(("tensorboard",), tmp_path, SETTINGS, print)
    trackers.log([point(10, "train", 1.0)])
    assert list(tmp_path.iterdir()) == []
