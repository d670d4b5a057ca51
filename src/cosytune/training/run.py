"""The folder of one part's training: metrics as they happen, checkpoints that a crash cannot halve."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import pickle
from collections.abc import Collection, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cosytune.errors import TrainingError
from cosytune.files import write_bytes, write_json, write_text
from cosytune.training.results import MetricPoint, PartResult, read_record
from cosytune.training.sharding import like, whole

__all__ = ["PartRun", "load_moving", "moving_state"]

KEEP_CHECKPOINTS = 2


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


class PartRun:
    """One folder: `settings.json`, `metrics.jsonl`, `checkpoints/step-N.pt` and `.sha256`, `weights.pt`, `result.json`;
    where somebody listens also `best/step-N.pt`, and with LoRA `adapter/`.

    `result.json` is written last: a folder that has it is finished and is never trained again.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], *, writes: bool = True) -> None:
        """Open or create the folder.

        Args:
            folder: of one part's training.
            settings: what decides the result; kept, and compared with what is there.
            writes: False in processes that train along and leave all writing to the leading one.

        Raises:
            TrainingError: the folder holds a run with other settings.
        """
        settings = json.loads(json.dumps(settings))  # as a file gives them back: tuples are lists
        self.folder, self._writes = folder, writes
        self.metrics_path = folder / "metrics.jsonl"
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
        with self.metrics_path.open("a", encoding="utf-8") as out:
            for point in points:
                if math.isfinite(point.value):
                    out.write(json.dumps(asdict(point)) + "\n")

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint of `step` beside its checksum and drop all but the newest two."""
        if not self._writes:
            return
        length = self.metrics_path.stat().st_size if self.metrics_path.exists() else 0
        buffer = io.BytesIO()
        torch.save({**state, "metrics_bytes": length}, buffer)
        data = buffer.getvalue()
        path = self._checkpoint(step)
        write_bytes(path, data)
        write_text(path.with_suffix(".sha256"), hashlib.sha256(data).hexdigest())
        self._drop(self._steps()[:-KEEP_CHECKPOINTS])

    def load(self) -> dict[str, Any] | None:
        """The state in the newest whole checkpoint, or None; curves are cut back to what it knew.

        Raises:
            TrainingError: a whole checkpoint holds something else.
        """
        for left_by_a_crash in self.folder.rglob(".*.partial"):
            left_by_a_crash.unlink()
        for step in reversed(self._steps()):
            path = self._checkpoint(step)
            checksum = path.with_suffix(".sha256")
            data = path.read_bytes()
            if not checksum.exists() or checksum.read_text(encoding="utf-8") != hashlib.sha256(data).hexdigest():
                continue
            state = _read_state(path, data)
            self._cut_metrics(state.pop("metrics_bytes", 0))
            return state
        self._cut_metrics(0)
        return None

    def read(self, step: int) -> dict[str, Any]:
        """The state in the checkpoint of `step`, which another process has found to be whole."""
        path = self._checkpoint(step)
        return _read_state(path, path.read_bytes())

    def keep(self, step: int, weights: dict[str, Tensor]) -> None:
        """Write the weights of a checkpoint that may be chosen."""
        buffer = io.BytesIO()
        torch.save(weights, buffer)
        write_bytes(self._kept(step), buffer.getvalue())

    def keep_only(self, steps: Collection[int]) -> None:
        """Drop the kept weights of all other steps."""
        if not self._writes:
            return
        for path in (self.folder / "best").glob("step-*.pt"):
            if int(path.stem.removeprefix("step-")) not in steps:
                path.unlink()

    def kept(self, step: int) -> dict[str, Tensor]:
        """What `keep` wrote."""
        return torch.load(self._kept(step), weights_only=True, map_location="cpu")

    def _kept(self, step: int) -> Path:
        return self.folder / "best" / f"step-{step:08d}.pt"

    def finish(self, weights: dict[str, torch.Tensor], result: PartResult) -> None:
        """Write the trained weights, then the result, then drop the checkpoints."""
        buffer = io.BytesIO()
        torch.save(weights, buffer)
        write_bytes(self.folder / "weights.pt", buffer.getvalue())
        write_json(self.folder / "result.json", asdict(result))
        self._drop(self._steps())

    def finished(self) -> PartResult | None:
        """The result of a run that is over, else None."""
        path = self.folder / "result.json"
        if not path.exists():
            return None
        return PartResult.from_json(read_record(path))

    def _drop(self, steps: Iterable[int]) -> None:
        for step in steps:
            self._checkpoint(step).unlink()
            self._checkpoint(step).with_suffix(".sha256").unlink(missing_ok=True)

    def _checkpoint(self, step: int) -> Path:
        return self.folder / "checkpoints" / f"step-{step:08d}.pt"

    def _steps(self) -> list[int]:
        return sorted(int(path.stem.removeprefix("step-")) for path in (self.folder / "checkpoints").glob("step-*.pt"))

    def _cut_metrics(self, length: int) -> None:
        """Forget what was written into the curves after a checkpoint: it will be written again."""
        if self.metrics_path.exists():
            os.truncate(self.metrics_path, min(length, self.metrics_path.stat().st_size))


def _read_state(path: Path, data: bytes) -> dict[str, Any]:
    try:
        return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise TrainingError(f"{path} cannot be read as a checkpoint ({error}); delete it to go on") from error
