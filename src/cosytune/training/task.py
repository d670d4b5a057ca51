"""What one part brings to training: its network, its clips, its loss."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cosytune.data.manifest import Utterance

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Draws", "LossReport", "Task", "sum_reports"]


@dataclass(frozen=True)
class Draws:
    """Where all random numbers of one update come from, dropout aside.

    What a clip draws depends on nothing but seed, step and the clip: not on its neighbours, their order or which
    process has it. So resuming is exact, and a batch in pieces, or dealt to several processes, is the batch.

    Attributes:
        seed: of the run.
        step: number of the update, from 0.
    """

    seed: int
    step: int

    def of(self, clip_id: str) -> torch.Generator:
        """A new generator for what belongs to one clip, at its beginning at every call."""
        return _generator(f"{self.seed} {self.step} {clip_id}")

    def whole(self) -> torch.Generator:
        """A new generator for what belongs to a whole batch."""
        return _generator(f"{self.seed} {self.step}")


def _generator(key: str) -> torch.Generator:
    digest = hashlib.blake2b(key.encode("utf-8"), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


@dataclass(frozen=True)
class LossReport:
    """What a task computed for one batch.

    Attributes:
        loss: scalar to be minimised.
        values: numbers worth a curve, as scalars.
        audio_seconds: seconds of speech in the batch.
        count: of the items that `loss` and `values` are means over; what the pieces of a batch are weighed by.
    """

    loss: Tensor
    values: dict[str, Tensor]
    audio_seconds: float
    count: float | Tensor = 1.0


class Task(ABC):
    """One part's side of training: which network, which clips, which loss.

    Attributes:
        part: name of the network.
        baseline_name: the trivial predictor of `baseline`, in words.
        betas: decays of AdamW's moments.
        network: its weights are the result.
        start: the model folder that it began as, for the record of adapters.
        head: trained along and thrown away afterwards (a classification head), or None.
    """

    part: str
    baseline_name: str
    betas: tuple[float, float] = (0.9, 0.98)
    network: Any
    start: str = ""
    head: nn.Module | None = None

    @abstractmethod
    def clips(self) -> Sequence[Utterance]:
        """Training utterances, as the sampler wants them."""

    def rehearsal(self) -> Sequence[Utterance]:
        """What the start could do, for the share of updates that `replay` asks for."""
        return ()

    def batch(self, ids: list[str], draws: Draws) -> Any:
        """What `loss` needs of these clips: read, cut and put together, on the device. It knows nothing of weights."""
        return ids

    @abstractmethod
    def loss(self, batch: Any, draws: Draws) -> LossReport:
        """Loss of what `batch` made of a batch, or of one piece of it, in update number `draws.step`."""

    def accelerate(self, accelerator: Accelerator) -> None:  # noqa: B027 - most parts have nothing else that learns
        """Take what else learns, beside the network and its head, into the passes that the processes make together."""

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


def sum_reports(reports: Sequence[LossReport]) -> LossReport:
    """The report of a whole batch: means weighed by their counts, sums of everything else."""
    count = sum(report.count for report in reports)
    names = reports[0].values

    def mean(values: Sequence[Tensor]) -> Tensor:
        return torch.stack([value * r.count for value, r in zip(values, reports, strict=True)]).sum() / count

    return LossReport(
        mean([report.loss for report in reports]),
        {name: mean([report.values[name] for report in reports]) for name in names},
        sum(report.audio_seconds for report in reports),
        count,
    )
