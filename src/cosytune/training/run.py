"""The folder of one part's training: metrics as they happen, checkpoints that a crash cannot halve."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import pickle
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor, nn

from cosytune.errors import TrainingError
from cosytune.files import hash_file, write_bytes, write_json, write_text, writing
from cosytune.training.disk import DiskBudget, room_for
from cosytune.training.results import MetricPoint, PartResult, Speed, read_metrics, read_record, read_record_as
from cosytune.training.sharding import like, whole
from cosytune.training.trackers import TrackerName, Trackers

__all__ = ["NOTES", "PartRun", "RunOptions", "best_steps", "kept_steps", "load_moving", "moving_state", "read_kept"]

KEEP_CHECKPOINTS = 2
NOTES = "notes.log"
"""In the folder of a run: what it has to say to people, a line each."""


@dataclass(frozen=True)
class RunOptions:
    """What a run does beside learning. No weight depends on it: a run may go on with other options than before.

    Attributes:
        trackers: where curves are drawn beside `metrics.jsonl`.
        disk: what may be filled; None: only what the disk has is looked at.
        shard: split weights and optimizer of LM and flow over the processes of a launcher.
    """

    trackers: tuple[TrackerName, ...] = ()
    disk: DiskBudget | None = None
    shard: bool = False


def moving_state(modules: nn.Module) -> dict[str, Tensor]:
    """What training changes, whole: weights that are not frozen, and buffers. Frozen weights are in the start."""
    return whole(_moving(modules))


def _moving(modules: nn.Module) -> dict[str, Tensor]:
    frozen = {name for name, parameter in modules.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in modules.state_dict().items() if name not in frozen}


def load_moving(modules: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
    """Inverse of `moving_state`.

    Raises:
        TrainingError: the state belongs to other modules.
    """
    expected = _moving(modules)
    if expected.keys() != state.keys() or any(expected[name].shape != state[name].shape for name in expected):
        raise TrainingError(
            f"the checkpoint in {folder} holds other weights than this run trains (the start or this program changed); "
            "delete the run folder to start over"
        )
    modules.load_state_dict({name: like(value, expected[name]) for name, value in state.items()}, strict=False)


def best_steps(folder: Path) -> list[int]:
    """Steps of the checkpoints that a part's run kept by what was heard, in the order of time."""
    return _steps(folder / "best")


def kept_steps(folder: Path) -> list[int]:
    """Those steps, and that of the last update where it is none of them."""
    return sorted({*best_steps(folder), *_steps(folder / "last")})


def read_kept(folder: Path, step: int, modules: nn.Module) -> None:
    """Put weights that a part's run kept into the modules that it trained.

    Raises:
        TrainingError: they are damaged, or belong to other modules.
    """
    place = "best" if step in best_steps(folder) else "last"
    load_moving(modules, _read_state(_weights(folder / place, step)), folder)


def _weights(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.pt"


class PartRun:
    """One folder: `settings.json`, `metrics.jsonl`, `checkpoints/step-N.pt` and `.sha256`, `weights.pt`, `result.json`;
    where somebody listens also `best/step-N.pt`, `last/step-N.pt` and `samples/step-N/`, and with LoRA `adapter/`.
    Apart from them lies what depends on clock and machine: `speed.jsonl`, `tensorboard/`, and `notes.log`, in which the
    run says what people should know.

    `result.json` is written last: a folder that has it is finished and is never trained again.
    """

    def __init__(
        self, folder: Path, settings: dict[str, Any], *, writes: bool = True, options: RunOptions | None = None
    ) -> None:
        """Open or create the folder.

        Args:
            folder: of one part's training.
            settings: what decides the result; kept, and compared with what is there.
            writes: False in processes that train along and leave all writing to the leading one.
            options: what does not decide the result.

        Raises:
            TrainingError: the folder holds a run with other settings.
        """
        settings = json.loads(json.dumps(settings))  # as a file gives them back: tuples are lists
        self.folder, self._writes = folder, writes
        options = options or RunOptions()
        self.metrics_path = folder / "metrics.jsonl"
        self._budget = options.disk or DiskBudget(folder)
        self._trackers = Trackers(options.trackers if writes else (), folder, settings, self.say)
        self._ranked: list[int] = []
        self._ranked_on_disk: list[int] = []
        if not writes:
            return
        folder.mkdir(parents=True, exist_ok=True)
        settings_path = folder / "settings.json"
        if settings_path.exists():
            earlier = read_record(settings_path)
            if earlier != settings:
                changed = sorted(k for k in {*earlier, *settings} if earlier.get(k) != settings.get(k))
                raise TrainingError(
                    f"{folder} holds a run with other settings ({', '.join(changed)} differ); "
                    "give another output folder, or delete this one to start over"
                )
        else:
            write_json(settings_path, settings)

    def record(self, points: Iterable[MetricPoint]) -> None:
        """Append values to the curves; what is not finite leaves a gap (the result lists skipped updates)."""
        if not self._writes:
            return
        finite = [point for point in points if math.isfinite(point.value)]
        with self.metrics_path.open("a", encoding="utf-8") as out:
            for point in finite:
                out.write(json.dumps(asdict(point)) + "\n")
        self._trackers.log(finite)

    def record_speed(self, part: str, speed: Speed) -> None:
        """Append to `speed.jsonl`, which simply goes on after a resume: the clock does not run again."""
        if not self._writes:
            return
        with (self.folder / "speed.jsonl").open("a", encoding="utf-8") as out:
            out.write(json.dumps(asdict(speed)) + "\n")
        values = {name: value for name, value in asdict(speed).items() if name != "step"}
        self._trackers.log([MetricPoint(part, speed.step, "speed", name, value) for name, value in values.items()])

    def say(self, line: str) -> None:
        """Note what a person should hear; whoever started the run reads it there (`jobs`)."""
        with (self.folder / NOTES).open("a", encoding="utf-8") as out:
            out.write(f"{line}\n")

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint of `step` beside its checksum and drop all but the newest two.

        Raises:
            TrainingError: there is no room for it.
        """
        if not self._writes:
            return
        self._trackers.flush()
        length = self.metrics_path.stat().st_size if self.metrics_path.exists() else 0
        state = {**state, "metrics_bytes": length, "ranked": self._ranked}
        path = self._checkpoint(step)
        checksum = path.with_suffix(".sha256")
        with self._room(f"the checkpoint of update {step}", state):
            with writing(path) as out:
                digest = _write_state(out, state).digest.hexdigest()
                if path.exists() and checksum.exists():
                    # After a return to it. It may be the only one, and must be whole before and after it is replaced.
                    write_text(checksum, f"{checksum.read_text(encoding='utf-8')}\n{digest}")
            write_text(checksum, digest)
        self._ranked_on_disk = self._ranked
        self._drop(_steps(self.folder / "checkpoints")[:-KEEP_CHECKPOINTS])

    def load(self) -> dict[str, Any] | None:
        """The state in the newest whole checkpoint, or None; curves are cut back to what it knew.

        Raises:
            TrainingError: a whole checkpoint holds something else.
        """
        for left_by_a_crash in self.folder.rglob(".*.partial"):
            left_by_a_crash.unlink()
        step = self._newest_whole()
        if step is None:
            self._go_back(-1, 0, [])
            return None
        state = self.read(step)
        self._go_back(step, state["metrics_bytes"], state["ranked"])
        return state

    def read(self, step: int) -> dict[str, Any]:
        """The state in the checkpoint of `step`, which another process has found to be whole.

        Raises:
            TrainingError: it cannot be read.
        """
        return _read_state(self._checkpoint(step))

    def keep(self, step: int, weights: dict[str, Tensor]) -> None:
        """Write the weights of a checkpoint that may be chosen.

        Raises:
            TrainingError: there is no room for them.
        """
        self._write(self._kept(step), f"the weights of update {step}", weights)

    def keep_last(self, step: int, weights: dict[str, Tensor]) -> None:
        """Write the weights of the last update of a run whose result will be better ones.

        Raises:
            TrainingError: there is no room for them.
        """
        if not self._writes:
            return
        self._write(_weights(self.folder / "last", step), f"the weights of update {step}", weights)

    def rank(self, steps: Sequence[int]) -> None:
        """Say which weights are the best, those first: of what was kept, all others may go where the disk is short."""
        self._ranked = list(steps)

    def keep_only(self, steps: Collection[int]) -> None:
        """Drop the kept weights of all other steps."""
        if not self._writes:
            return
        for step in _steps(self.folder / "best"):
            if step not in steps:
                self._kept(step).unlink()

    def kept(self, step: int) -> dict[str, Tensor]:
        """What `keep` wrote.

        Raises:
            TrainingError: it cannot be read.
        """
        return _read_state(self._kept(step))

    def keep_samples(self, step: int, files: Mapping[str, bytes]) -> None:
        """Write what a checkpoint said; a step that is heard again after a crash takes its own place."""
        folder = self.folder / "samples" / f"step-{step:08d}"
        for name, data in files.items():
            write_bytes(folder / name, data)
        for path in folder.glob("*"):
            if path.name not in files:
                path.unlink()

    def _kept(self, step: int) -> Path:
        return _weights(self.folder / "best", step)

    def finish(self, weights: dict[str, torch.Tensor], result: PartResult) -> None:
        """Write the trained weights, then the result, then drop the checkpoints.

        Raises:
            TrainingError: there is no room for the weights.
        """
        self._write(self.folder / "weights.pt", "the trained weights", weights)
        self._trackers.close()
        write_json(self.folder / "result.json", asdict(result))
        self._drop(_steps(self.folder / "checkpoints"))

    def finished(self) -> PartResult | None:
        """The result of a run that is over, else None.

        Raises:
            TrainingError: it is damaged, or another version of cosytune wrote it.
        """
        path = self.folder / "result.json"
        if not path.exists():
            return None
        return read_record_as(path, PartResult.from_json)

    def _drop(self, steps: Iterable[int]) -> None:
        for step in steps:
            self._checkpoint(step).unlink()
            self._checkpoint(step).with_suffix(".sha256").unlink(missing_ok=True)

    def _checkpoint(self, step: int) -> Path:
        return _weights(self.folder / "checkpoints", step)

    def _newest_whole(self) -> int | None:
        """The newest checkpoint whose checksum agrees, or one of two while it is being replaced."""
        for step in reversed(_steps(self.folder / "checkpoints")):
            path = self._checkpoint(step)
            checksum = path.with_suffix(".sha256")
            if checksum.exists() and hash_file(path) in checksum.read_text(encoding="utf-8").split():
                return step
        return None

    def _write(self, path: Path, what: str, weights: dict[str, Tensor]) -> None:
        with self._room(what, weights), writing(path) as out:
            _write_state(out, weights)

    def _room(self, what: str, state: dict[str, Any]) -> AbstractContextManager[None]:
        return room_for(what, _write_state(None, state).length, self._budget, self._expendable(), self.say)

    def _expendable(self) -> Iterator[tuple[str, list[Path]]]:
        """What a full disk may cost: all checkpoints but the newest whole one, then kept weights, the worst first.

        The best weights stay, and so do those that the newest whole checkpoint thinks the best: the run may yet have to
        go back to it.
        """
        newest = self._newest_whole()
        for step in _steps(self.folder / "checkpoints"):
            if step != newest:
                path = self._checkpoint(step)
                yield f"the checkpoint of update {step}", [path, path.with_suffix(".sha256")]
        best = {*self._ranked[:1], *self._ranked_on_disk[:1]}
        worth = {step: -place for place, step in enumerate(self._ranked)}
        kept = [step for step in _steps(self.folder / "best") if step not in best]
        for step in sorted(kept, key=lambda step: worth.get(step, -len(kept))):
            yield f"the less good weights of update {step}", [self._kept(step)]

    def _go_back(self, step: int, metrics_bytes: int, ranked: Sequence[int]) -> None:
        """Forget what was written into the curves after a checkpoint: it will be written again."""
        self._ranked = self._ranked_on_disk = list(ranked)
        if self.metrics_path.exists():
            os.truncate(self.metrics_path, min(metrics_bytes, self.metrics_path.stat().st_size))
        self._trackers.begin(step, read_metrics(self.metrics_path))


def _steps(folder: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("step-")) for path in folder.glob("step-*.pt"))


class _Stream(io.RawIOBase):
    """Where torch writes a state to: a file, or nowhere to learn how long it will be.

    The state never lies in memory a second time as bytes; that of a 300M LM in full fine-tuning is 4 GB.
    """

    def __init__(self, out: BinaryIO | None = None) -> None:
        self.length = 0
        self.digest = hashlib.sha256()
        self._out = out

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: Any) -> int:
        """Count, and pass on."""
        size = memoryview(data).nbytes
        self.length += size
        if self._out is not None:
            self.digest.update(data)
            self._out.write(data)
        return size


def _write_state(out: BinaryIO | None, state: dict[str, Any]) -> _Stream:
    """Write tensors and plain values; what comes back knows their length, and their hash if they were written."""
    stream = _Stream(out)
    torch.save(state, cast("BinaryIO", stream))
    return stream


def _read_state(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise TrainingError(f"{path} cannot be read as a checkpoint ({error}); delete it to go on") from error
