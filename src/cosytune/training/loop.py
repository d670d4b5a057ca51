"""The training loop of every part with one loss: LM, flow, speech tokenizer, speaker encoder.

The vocoder, which trains against discriminators, has its own loop in `vocoder.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cosytune.data.sampler import endless
from cosytune.errors import TrainingError
from cosytune.training.results import MetricPoint, PartResult
from cosytune.training.run import PartRun
from cosytune.training.settings import LoopSettings, learning_rate

__all__ = ["LOG_EVERY", "LossReport", "Progress", "Task", "Watch", "autocast", "note_skip", "step_generator", "train"]

LARGEST_SKIPS_IN_A_ROW = 10
LOG_EVERY = 10

Watch = Callable[[int], None]


@dataclass(frozen=True)
class LossReport:
    """What a task computed for one batch.

    Attributes:
        loss: scalar to be minimised.
        values: numbers worth a curve, as detached scalars.
        audio_seconds: seconds of speech in the batch.
    """

    loss: Tensor
    values: dict[str, Tensor]
    audio_seconds: float


class Task(Protocol):
    """One part's side of training: which network, which clips, which loss."""

    part: str
    baseline_name: str

    @property
    def network(self) -> nn.Module:
        """The network whose weights are the result."""
        ...

    @property
    def head(self) -> nn.Module | None:
        """Trained along and thrown away afterwards (a classification head), or None."""
        ...

    def clips(self) -> Sequence[Any]:
        """Training utterances, as the sampler wants them."""
        ...

    def loss(self, ids: list[str], generator: torch.Generator, progress: float) -> LossReport:
        """Loss of one batch; all randomness but dropout comes from `generator`; `progress` runs from 0 to 1."""
        ...

    def validate(self) -> dict[str, float]:
        """Held-out values of the network as it is, the same draws every time."""
        ...

    def baseline(self) -> dict[str, float]:
        """What a trivial predictor reaches on the same held-out data."""
        ...


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
    return torch.Generator().manual_seed((seed * 1_000_003 + step * 7919 + 17) % (2**63 - 1))


def autocast(settings: LoopSettings, device: torch.device) -> torch.autocast:
    """Mixed precision as the settings ask for it."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=settings.precision == "bfloat16")


def train(task: Task, settings: LoopSettings, run: PartRun, watch: Watch | None = None) -> PartResult:
    """Train `task` for `settings.steps` updates; continue where an earlier, killed run of the same folder stopped.

    Raises:
        TrainingError: the loss stayed non-finite for ten updates in a row.
    """
    if (done := run.finished()) is not None:
        return done
    modules = nn.ModuleDict({"network": task.network} | ({"head": task.head} if task.head is not None else {}))
    device = next(modules.parameters()).device
    trained = [p for p in modules.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    average = _Average(task.network, settings.average)
    state = _resume(run, modules, optimizer, average)
    if state.step == 0:
        state.start = task.validate()
        _record(run, task, state, "validation", state.start)

    order = endless(task.clips(), seconds=settings.batch_seconds, seed=settings.seed, start_step=state.step)
    for ids in order:
        if state.step >= settings.steps:
            break
        rate = learning_rate(settings, state.step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(settings.seed * 1_000_003 + state.step)  # dropout
        modules.train()
        with autocast(settings, device):
            report = task.loss(ids, step_generator(settings.seed, state.step), state.step / settings.steps)
        report.loss.backward()
        norm = nn.utils.clip_grad_norm_(trained, settings.clip_norm)
        if math.isfinite(report.loss.item()) and math.isfinite(norm.item()):
            optimizer.step()
            average.update(task.network)
            state.skips_in_a_row = 0
        else:
            note_skip(task.part, state, ids)
        optimizer.zero_grad(set_to_none=True)
        state.step += 1
        state.audio_seconds += report.audio_seconds

        if state.step % LOG_EVERY == 0 or state.step == settings.steps:
            values = {name: value.item() for name, value in report.values.items()}
            extra = {"gradient_norm": norm.item(), "learning_rate": rate}
            _record(run, task, state, "train", {"loss": report.loss.item(), **values, **extra})
        if state.step % settings.validate_every == 0 and state.step < settings.steps:
            with average.applied(task.network):
                _record(run, task, state, "validation", task.validate())
        if state.step % settings.checkpoint_every == 0 and state.step < settings.steps:
            _save(run, modules, optimizer, average, state)
        if watch is not None:
            watch(state.step)
    return _finish(task, settings, run, average, state)


class _Average:
    """Exponential moving average of the weights (decay 0: switched off).

    Polyak and Juditsky, 1992; the decay is warmed up as min(decay, (1 + n) / (10 + n)) so that short runs forget
    their random start.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.shadow = {name: p.detach().clone() for name, p in network.named_parameters()} if decay else {}

    def update(self, network: nn.Module) -> None:
        if not self.decay:
            return
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                self.shadow[name].lerp_(parameter, 1 - decay)

    def applied(self, network: nn.Module) -> _Swapped:
        return _Swapped(network, self.shadow)


class _Swapped:
    """Context in which a network carries the averaged weights."""

    def __init__(self, network: nn.Module, shadow: dict[str, Tensor]) -> None:
        self.network, self.shadow = network, shadow

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *_: object) -> None:
        self._swap()

    def _swap(self) -> None:
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                if name in self.shadow:
                    kept = parameter.detach().clone()
                    parameter.copy_(self.shadow[name])
                    self.shadow[name] = kept


def note_skip(part: str, state: Progress, ids: list[str]) -> None:
    state.skipped.append((state.step, ids))
    state.skips_in_a_row += 1
    if state.skips_in_a_row >= LARGEST_SKIPS_IN_A_ROW:
        raise TrainingError(
            f"the loss of the {part} was not finite for {LARGEST_SKIPS_IN_A_ROW} updates in a row, up to step "
            f"{state.step} with clips {', '.join(ids[:5])}; lower the learning rate or remove these clips"
        )


def _record(run: PartRun, task: Task, state: Progress, side: str, values: dict[str, float]) -> None:
    run.record(
        MetricPoint(task.part, state.step, side, name, value, state.audio_seconds) for name, value in values.items()
    )


def _save(
    run: PartRun, modules: nn.Module, optimizer: torch.optim.Optimizer, average: _Average, state: Progress
) -> None:
    run.save(
        state.step,
        {
            "modules": modules.state_dict(),
            "optimizer": optimizer.state_dict(),
            "average": average.shadow,
            "average_updates": average.updates,
            "progress": vars(state),
        },
    )


def _resume(run: PartRun, modules: nn.Module, optimizer: torch.optim.Optimizer, average: _Average) -> Progress:
    found = run.load()
    if found is None:
        return Progress()
    _, saved = found
    modules.load_state_dict(saved["modules"])
    optimizer.load_state_dict(saved["optimizer"])
    average.shadow, average.updates = saved["average"], saved["average_updates"]
    return Progress(**saved["progress"])


def _finish(task: Task, settings: LoopSettings, run: PartRun, average: _Average, state: Progress) -> PartResult:
    with average.applied(task.network):
        end = task.validate()
        weights = {name: value.detach().clone() for name, value in task.network.state_dict().items()}
    _record(run, task, state, "validation", end)
    result = PartResult(
        part=task.part,
        steps=state.step,
        audio_seconds=state.audio_seconds,
        start=state.start,
        end=end,
        baseline=task.baseline(),
        baseline_name=task.baseline_name,
        skipped=state.skipped,
        settings=settings.model_dump(),
    )
    run.finish(weights, result)
    return result
