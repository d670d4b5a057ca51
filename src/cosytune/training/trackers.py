"""Where curves are drawn while a run goes on: TensorBoard, MLflow, Weights & Biases. The truth is `metrics.jsonl`.

A tracker is a guest: nothing that it does or fails to do changes a run.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from cosytune.errors import InputError, MissingPackageError
from cosytune.files import write_json
from cosytune.training.results import MetricPoint, read_record

__all__ = ["TRACKERS", "Tracker", "TrackerName", "Trackers", "parse_trackers", "scalar_name"]

TrackerName = Literal["tensorboard", "mlflow", "wandb"]
TRACKERS: tuple[TrackerName, ...] = get_args(TrackerName)

PROJECT = "cosytune"
"""What MLflow's experiment and W&B's project are called."""

_UPDATE = "update"
"""What W&B's pictures are drawn over."""

START = "start"
"""Side of the reference line: the untouched start's value, again and again, so that it is a line to compare with."""

_WITH_START = ("validation", "heard")

# Units that a name does not say by itself, by metric or by part and metric.
_UNITS: dict[str, str] = {
    "accuracy": "share",
    "lm/loss": "nats_per_token",
    "lm/cross_entropy": "nats_per_token",
    "lm/divergence": "nats_per_token",
    "speaker_encoder/loss": "nats",
    "speaker_encoder/cross_entropy": "nats",
    "speech_tokenizer/ctc": "nats_per_text_token",
    "flow/velocity": "mean_squared_error",
    "flow/prior": "mean_absolute_log_mel",
    "vocoder/log_mel": "mean_absolute_difference",
}


def scalar_name(part: str, side: str, name: str) -> str:
    """What a value is called in every tracker: part, measurement, unit.

    Training, rehearsal and validation give one measurement one name, so that they lie in one picture.
    """
    if side not in ("train", "rehearsal", "validation"):
        return f"{part}/{side}_{name}"
    unit = _UNITS.get(f"{part}/{name}") or _UNITS.get(name)
    return f"{part}/{name}_{unit}" if unit else f"{part}/{name}"


def parse_trackers(text: str) -> tuple[TrackerName, ...]:
    """`--track` as names; "none" is none.

    Raises:
        InputError: an unknown name, or "none" beside others.
        MissingPackageError: one that is not installed.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["none"]:
        return ()
    chosen = tuple(name for name in TRACKERS if name in names)
    if not names or len(chosen) < len(set(names)):
        raise InputError(
            f"--track {text!r} is not known; give none, or one or more of {', '.join(TRACKERS)} with commas between"
        )
    for name in chosen:
        if importlib.util.find_spec(name) is None:
            raise MissingPackageError(f"--track {name}: it is not installed; pip install {name}, or leave it out")
    return chosen


class Tracker(Protocol):
    """One place that draws curves.

    Attributes:
        failures: what it raises when its disk or its network fails.
    """

    failures: tuple[type[Exception], ...]

    def log(self, side: str, step: int, values: Mapping[str, float]) -> None:
        """Values of one side ("train", "validation", ...) after `step` updates."""
        ...

    def go_back(self, step: int) -> None:
        """Open, or go back: what comes is of updates after `step`, and what came of them before does not count."""
        ...

    def flush(self) -> None:
        """Keep what was logged: the run will not log it again."""
        ...

    def close(self) -> None:
        """The run is over."""
        ...


class Trackers:
    """Those that a run was asked for; one that fails is left out from then on and named once.

    Args:
        names: of trackers.
        folder: of the part's run.
        settings: of the run, shown where a tracker shows settings.
        say: told about a failure.
    """

    def __init__(
        self, names: Sequence[TrackerName], folder: Path, settings: Mapping[str, Any], say: Callable[[str], None]
    ) -> None:
        self._names, self._folder, self._settings, self._say = tuple(names), folder, settings, say
        self._open: dict[TrackerName, Tracker] | None = None
        self._start: dict[str, float] = {}

    def begin(self, step: int, points: Iterable[MetricPoint]) -> None:
        """Go on after `step` updates (-1: nothing was done yet), or go back to them.

        Args:
            step: of the checkpoint that was loaded.
            points: of the curves up to there; not looked at without trackers.
        """
        if not self._names:
            return
        self._start = {}
        self._remember(points)
        if self._open is None:
            self._open = {}
            for name in self._names:
                self._make(name)
        self._each(lambda tracker: tracker.go_back(step))

    def log(self, points: Sequence[MetricPoint]) -> None:
        """Values of one moment; beside those of validation and of hearing the start's own are drawn."""
        if not self._open or not points:
            return
        self._remember(points)
        step, side = points[0].step, points[0].side
        values = {_name(point): point.value for point in points}
        known = {name: self._start[name] for name in values if name in self._start and side in _WITH_START}
        self._each(lambda tracker: tracker.log(side, step, values))
        if known:
            self._each(lambda tracker: tracker.log(START, step, known))

    def flush(self) -> None:
        """Keep what was logged so far: a checkpoint is about to be written."""
        self._each(lambda tracker: tracker.flush())

    def close(self) -> None:
        """The run is over."""
        self._each(lambda tracker: tracker.close())
        self._open = {}

    def _make(self, name: TrackerName) -> None:
        assert self._open is not None
        made: dict[TrackerName, Callable[..., Tracker]] = {
            "tensorboard": _TensorBoard,
            "mlflow": _MLflow,
            "wandb": _WandB,
        }
        try:
            self._open[name] = made[name](self._folder, self._settings)
        except ImportError as error:
            self._say_failed(name, error)

    def _remember(self, points: Iterable[MetricPoint]) -> None:
        self._start |= {_name(point): point.value for point in points if point.step == 0 and point.side in _WITH_START}

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in list((self._open or {}).items()):
            try:
                act(tracker)
            except tracker.failures as error:
                assert self._open is not None
                del self._open[name]
                self._say_failed(name, error)

    def _say_failed(self, name: TrackerName, error: Exception) -> None:
        self._say(
            f"{name} failed ({type(error).__name__}: {error}); training goes on without it, "
            f"and all curves are in {self._folder / 'metrics.jsonl'}"
        )


def _name(point: MetricPoint) -> str:
    return scalar_name(point.part, point.side, point.name)


class _TensorBoard:
    """Event files in `tensorboard/SIDE`: one picture a measurement, the sides as its lines."""

    failures: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        self._folder = folder / "tensorboard"
        self._sides: dict[str, Any] = {}
        self._purge = 0

    def log(self, side: str, step: int, values: Mapping[str, float]) -> None:
        if side not in self._sides:
            self._sides[side] = self._writer(str(self._folder / side), purge_step=self._purge, flush_secs=30)
        for name, value in values.items():
            self._sides[side].add_scalar(name, value, step)

    def go_back(self, step: int) -> None:
        self.close()
        self._purge = step + 1

    def flush(self) -> None:
        for writer in self._sides.values():
            writer.flush()

    def close(self) -> None:
        for writer in self._sides.values():
            writer.close()
        self._sides = {}


class _Remote:
    """A run in a service, found again by the identity that the part's folder keeps."""

    service: str

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._module = importlib.import_module(self.service)
        self._folder, self._settings = folder, dict(settings)
        self._path = folder / f"{self.service}.json"

    @property
    def _label(self) -> str:
        return f"{self._folder.parent.name}/{self._folder.name}"

    def _known(self) -> str | None:
        return read_record(self._path)["run"] if self._path.exists() else None

    def flush(self) -> None:
        """Nothing to keep: what was logged was sent."""


class _MLflow(_Remote):
    """Where MLFLOW_TRACKING_URI says, as MLflow has it. Points that come twice after a resume have the same values."""

    service = "mlflow"

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        super().__init__(folder, settings)
        self.failures: tuple[type[Exception], ...] = (OSError, self._module.exceptions.MlflowException)
        self._run = ""

    def go_back(self, step: int) -> None:
        if self._run:
            return
        self._client = self._module.MlflowClient()
        self._run = self._known() or self._begun()

    def _begun(self) -> str:
        experiment = self._client.get_experiment_by_name(PROJECT)
        identity = self._client.create_experiment(PROJECT) if experiment is None else experiment.experiment_id
        run = self._client.create_run(identity, run_name=self._label).info.run_id
        write_json(self._path, {"run": run})
        param = self._module.entities.Param
        self._client.log_batch(run, params=[param(name, json.dumps(value)) for name, value in self._settings.items()])
        return run

    def log(self, side: str, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metric = self._module.entities.Metric
        self._client.log_batch(
            self._run, metrics=[metric(f"{name}/{side}", value, now, step) for name, value in values.items()]
        )

    def close(self) -> None:
        if self._run:
            self._client.set_terminated(self._run)


class _WandB(_Remote):
    """Online or offline, as W&B's own settings say. It drops points that come twice after a resume.

    W&B keeps the values of a step to itself until a later step comes, and what it holds back is lost with a process
    that is killed: `flush` makes it let go (its own process writes within seconds). It then takes no more of that step,
    so that what still comes (validation of the weights that were kept) goes to the next step of its own counting; the
    axis of the pictures is `update`.
    """

    service = "wandb"

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        super().__init__(folder, settings)
        self.failures: tuple[type[Exception], ...] = (OSError, self._module.errors.Error)
        self._run: Any = None
        self._last = self._sent = -1

    def go_back(self, step: int) -> None:
        if self._run is not None:
            return
        known = self._known()
        self._run = self._module.init(
            project=PROJECT,
            name=self._label,
            id=known,
            resume="allow" if known else None,
            dir=str(self._folder),
            config=self._settings,
        )
        if known is None:
            write_json(self._path, {"run": self._run.id})
        self._run.define_metric("*", step_metric=_UPDATE)

    def log(self, side: str, step: int, values: Mapping[str, float]) -> None:
        self._last = max(step, self._sent + 1)
        self._run.log({_UPDATE: step} | {f"{name}/{side}": value for name, value in values.items()}, step=self._last)

    def flush(self) -> None:
        if self._last > self._sent:
            self._run.log({}, step=self._last, commit=True)
            self._sent = self._last

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()
