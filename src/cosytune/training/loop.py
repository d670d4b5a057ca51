"""The training loop of every part: one update after the other, with validation, curves and checkpoints between them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cosytune.data.manifest import Utterance
from cosytune.data.sampler import endless
from cosytune.errors import TrainingError
from cosytune.training.average import WeightAverage
from cosytune.training.results import MetricPoint, PartResult
from cosytune.training.run import PartRun
from cosytune.training.settings import LoopSettings, learning_rate

__all__ = ["LOG_EVERY", "LossReport", "Progress", "Task", "Watch", "step_generator", "train"]

LARGEST_SKIPS_IN_A_ROW = 10
LOG_EVERY = 10

Watch = Callable[[int], None]


@dataclass(frozen=True)
class LossReport:
    """What a task computed for one batch.

    Attributes:
        loss: scalar to be minimised.
        values: numbers worth a curve, as scalars.
        audio_seconds: seconds of speech in the batch.
    """

    loss: Tensor
    values: dict[str, Tensor]
    audio_seconds: float


class Task(ABC):
    """One part's side of training: which network, which clips, which loss.

    Attributes:
        part: name of the network.
        baseline_name: the trivial predictor of `baseline`, in words.
        betas: decays of AdamW's moments.
        network: its weights are the result.
        head: trained along and thrown away afterwards (a classification head), or None.
    """

    part: str
    baseline_name: str
    betas: tuple[float, float] = (0.9, 0.98)
    network: Any
    head: nn.Module | None = None

    @abstractmethod
    def clips(self) -> Sequence[Utterance]:
        """Training utterances, as the sampler wants them."""

    @abstractmethod
    def loss(self, ids: list[str], step: int, generator: torch.Generator) -> LossReport:
        """Loss of one batch in update number `step` (from 0); all randomness but dropout comes from `generator`."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Held-out values of the network as it is, the same draws every time."""

    @abstractmethod
    def baseline(self) -> dict[str, float]:
        """What a trivial predictor reaches on the same held-out data."""

    def state(self) -> dict[str, Any]:
        """What else a checkpoint must hold, as tensors and plain values."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:  # noqa: B027 - most parts have none
        """Inverse of `state`."""


@dataclass
class Progress:
    """Everything a checkpoint holds beside weights and optimizer."""

    step: int = 0
    audio_seconds: float = 0.0
    skips_in_a_row: int = 0
    skipped: list[tuple[int, list[str]]] = field(default_factory=list)
    start: dict[str, float] = field(default_factory=dict)


def step_generator(seed: int, step: int) -> torch.Generator:
    """The source of all random numbers of one update: it depends on nothing but seed and step, so resuming is exact."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step * 7919 + 17)


def train(task: Task, settings: LoopSettings, run: PartRun, watch: Watch | None = None) -> PartResult:
    """Train `task` for `settings.steps` updates; continue where an earlier, killed run of the same folder stopped.

    Args:
        task: network, clips and loss.
        settings: as resolved.
        run: folder of curves and checkpoints.
        watch: told the number of updates done, after each.

    Raises:
        TrainingError: the loss stayed non-finite for ten updates in a row, or a checkpoint cannot be read.
    """
    if (done := run.finished()) is not None:
        return done
    loop = _Loop(task, settings, run)
    loop.resume()
    if loop.progress.step == 0:
        loop.progress.start = loop.validate()
    for ids in endless(task.clips(), seconds=settings.batch_seconds, seed=settings.seed, start_step=loop.progress.step):
        if loop.progress.step >= settings.steps:
            break
        loop.update(ids)
        if loop.progress.step < settings.steps:
            loop.between_updates()
        if watch is not None:
            watch(loop.progress.step)
    return loop.finish()


class _Loop:
    """The moving parts of one run: modules, optimizer, average and progress."""

    def __init__(self, task: Task, settings: LoopSettings, run: PartRun) -> None:
        self.task, self.settings, self.run = task, settings, run
        self.modules = nn.ModuleDict({"network": task.network} | ({} if task.head is None else {"head": task.head}))
        self.trained = [p for p in self.modules.parameters() if p.requires_grad]
        self.device = self.trained[0].device
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=settings.learning_rate, betas=task.betas, weight_decay=settings.weight_decay
        )
        self.average = WeightAverage(task.network, settings.average)
        self.progress = Progress()

    def update(self, ids: list[str]) -> None:
        """One optimizer update on a batch, or, where loss or gradient are not finite, none and a note of it."""
        settings, progress = self.settings, self.progress
        rate = learning_rate(settings, progress.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(settings.seed * 1_000_003 + progress.step)  # dropout has no generator of its own
        counted = [buffer.clone() for buffer in self.modules.buffers()]
        self.modules.train()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=settings.precision == "bfloat16"):
            report = self.task.loss(ids, progress.step, step_generator(settings.seed, progress.step))
        report.loss.backward()
        norm = nn.utils.clip_grad_norm_(self.trained, settings.clip_norm)
        if math.isfinite(report.loss.item()) and math.isfinite(norm.item()):
            self.optimizer.step()
            self.average.update(self.task.network)
            progress.skips_in_a_row = 0
        else:
            # Batch statistics were counted on the way to the loss, and one number that is none would stay in them.
            for buffer, before in zip(self.modules.buffers(), counted, strict=True):
                buffer.copy_(before)
            self._note_skip(ids)
        self.optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        progress.audio_seconds += report.audio_seconds
        if progress.step % LOG_EVERY == 0 or progress.step == settings.steps:
            values = {name: value.item() for name, value in report.values.items()}
            extra = {"gradient_norm": norm.item(), "learning_rate": rate}
            self._record("train", {"loss": report.loss.item(), **values, **extra})

    def between_updates(self) -> None:
        """Validate and save where the settings ask for it."""
        if self.progress.step % self.settings.validate_every == 0:
            self.validate()
        if self.progress.step % self.settings.checkpoint_every == 0:
            self._save()

    def validate(self) -> dict[str, float]:
        """Held-out values of the averaged weights, also written into the curves."""
        with self.average.applied(self.task.network):
            values = self.task.validate()
        self._record("validation", values)
        return values

    def resume(self) -> None:
        """Take everything from the newest whole checkpoint, if there is one."""
        saved = self.run.load()
        if saved is None:
            return
        self.modules.load_state_dict(saved["modules"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.average.load_state(saved["average"])
        self.task.load_state(saved["task"])
        self.progress = Progress(**saved["progress"])

    def finish(self) -> PartResult:
        """Validate, write weights and result, and close the folder."""
        task, progress = self.task, self.progress
        end = self.validate()
        with self.average.applied(task.network):
            weights = {name: value.detach().cpu().clone() for name, value in task.network.state_dict().items()}
        result = PartResult(
            part=task.part,
            steps=progress.step,
            audio_seconds=progress.audio_seconds,
            start=progress.start,
            end=end,
            baseline=task.baseline(),
            baseline_name=task.baseline_name,
            skipped=progress.skipped,
            settings=self.settings.model_dump(),
        )
        self.run.finish(weights, result)
        return result

    def _note_skip(self, ids: list[str]) -> None:
        progress = self.progress
        progress.skipped.append((progress.step, ids))
        progress.skips_in_a_row += 1
        if progress.skips_in_a_row >= LARGEST_SKIPS_IN_A_ROW:
            raise TrainingError(
                f"the loss of the {self.task.part} was not finite for {LARGEST_SKIPS_IN_A_ROW} updates in a row, up to "
                f"update {progress.step + 1} with clips {', '.join(ids[:5])}; lower the learning rate or remove these "
                "clips, and give another output folder"
            )

    def _record(self, side: str, values: dict[str, float]) -> None:
        part, progress = self.task.part, self.progress
        self.run.record(
            MetricPoint(part, progress.step, side, name, value, progress.audio_seconds)
            for name, value in values.items()
        )

    def _save(self) -> None:
        self.run.save(
            self.progress.step,
            {
                "modules": self.modules.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average.state(),
                "task": self.task.state(),
                "progress": vars(self.progress),
            },
        )
