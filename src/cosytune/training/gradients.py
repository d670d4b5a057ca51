"""The gradient of an update's batch: in pieces where memory is short, summed over the processes that train together."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cosytune.errors import TrainingError
from cosytune.training.pace import Pace
from cosytune.training.pieces import can_be_cut, is_out_of_memory, pieces_of
from cosytune.training.processes import add_reports, any_of, any_of_each, gather, joined, largest_of, rank, size
from cosytune.training.settings import LoopSettings
from cosytune.training.task import Draws, LossReport, Task, sum_reports

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Gradients"]


class _Pass(nn.Module):
    """What DDP wraps: the loss of a piece, and a pass over nothing in which the processes add up their gradients."""

    def __init__(self, task: Task, trained: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.network, self.head = task.network, task.head
        self._task, self._trained = task, trained

    def forward(self, batch: Any = None, draws: Draws | None = None) -> LossReport | Tensor:
        """Loss of `batch`; of nothing a zero that all trained weights have a part in."""
        if draws is not None:
            return self._task.loss(batch, draws)
        return torch.stack([parameter.sum() for parameter in self._trained]).sum() * 0


class Gradients:
    """Gradients of the mean loss over all items of a batch, whatever its pieces and whoever works on them.

    Args:
        task: network, clips and loss.
        settings: of the part.
        trained: weights that move.
        pace: is told what time goes into getting data.
        accelerator: of the part.
        shard: whether the network is split over the processes, which then add up gradients in every backward pass.

    Attributes:
        pieces: in which a batch is worked through; memory that is too small doubles their number.
    """

    def __init__(
        self,
        task: Task,
        settings: LoopSettings,
        trained: Sequence[nn.Parameter],
        pace: Pace,
        accelerator: Accelerator,
        *,
        shard: bool,
    ) -> None:
        self.pieces = settings.accumulate
        self._task, self._settings, self._shard, self._pace = task, settings, shard, pace
        self._trained = list(trained)
        self._accelerator = accelerator
        one = _Pass(task, self._trained)
        self._pass = one if shard else accelerator.prepare_model(one)

    def of(self, ids: list[str], step: int) -> LossReport:
        """Leave the gradient of update number `step` in the weights, and report on the whole batch.

        Args:
            ids: this process's clips of the batch.
            step: from 0; decides all that is random.

        Raises:
            TrainingError: memory is too small for one clip, or for a batch that cannot be cut.
        """
        # A batch of fewer clips than processes gives some of them twice: they count where they were given out first.
        counts = gather(ids[:1]).index(ids[0]) == rank()
        report = self._of_own(ids, step, counts)
        report = add_reports(report if counts else replace(report, count=0.0, audio_seconds=0.0))
        if joined() and not self._shard:
            self._meet()
        for parameter in self._trained:
            if parameter.grad is not None:
                parameter.grad /= report.count / size()  # DDP and FSDP took the mean of all processes
        return report

    def _meet(self) -> None:
        """Every gradient becomes the mean of that of all processes; one that only others have counts as zero here.

        DDP (Li et al. 2020, arXiv 2006.15704) would do so during the last piece. But a process whose memory is too
        small for that piece would leave the others waiting, so all agree first and meet in a pass that needs none.
        """
        used = any_of_each([parameter.grad is not None for parameter in self._trained])
        self._accelerator.backward(self._pass())
        for parameter, somewhere in zip(self._trained, used, strict=True):
            if not somewhere:
                parameter.grad = None

    def _of_own(self, ids: list[str], step: int, counts: bool) -> LossReport:
        """Summed gradients of this process's clips, in twice as many pieces whenever memory is too small anywhere."""
        while True:
            failed = False
            try:
                report = self._of_pieces(ids, step, counts)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._refuse_if_split(error)
                # The graph of the failed piece hangs on the error: both must go before the next try.
                error.__traceback__ = None
                failed = True
            if not any_of(failed):
                return report
            self._cut_smaller(ids)

    def _of_pieces(self, ids: list[str], step: int, counts: bool) -> LossReport:
        """Sum over pieces of loss x items: divided by all items, the gradient of the whole batch's mean."""
        settings = self._settings
        # Dropout has no generator of its own; each process drops other units.
        torch.manual_seed(settings.seed * 1_000_003 + step + rank() * 104_729)
        draws = Draws(settings.seed, step)
        pieces, reports = pieces_of(ids, self.pieces), list[LossReport]()
        own = len(pieces)
        if self._shard:
            # Weights are gathered by all processes together: one with fewer clips works once more, for nothing.
            pieces += [pieces[-1]] * (largest_of(own) - own)
        alone = nullcontext() if self._shard else self._accelerator.no_sync(self._pass)
        with alone:
            for number, piece in enumerate(pieces):
                with self._pace.waiting():
                    batch = self._task.batch(piece, draws)
                with self._accelerator.autocast():
                    report = self._pass(batch, draws)
                self._accelerator.backward(report.loss * (report.count if counts and number < own else 0))
                reports.append(replace(report, loss=report.loss.detach()))
        return sum_reports(reports[:own])

    def _cut_smaller(self, ids: list[str]) -> None:
        part, clips = self._task.part, largest_of(len(ids))
        for parameter in self._trained:
            parameter.grad = None
        if not can_be_cut(part):
            raise TrainingError(
                f"memory is too small for a batch of the {part} with {self._settings.batch_seconds:g} s; its losses "
                "need the whole batch, so give a smaller batch_seconds (--settings) and another output folder"
            )
        if self.pieces >= clips:
            raise TrainingError(
                f"memory is too small for the {part} with clip {ids[0]} alone; cut long recordings, give less to the "
                "machine beside this, or use strategy lora"
            )
        self.pieces = min(2 * self.pieces, clips)

    def _refuse_if_split(self, error: RuntimeError) -> None:
        """The other processes of a split network wait in the middle of a pass, so that nobody can begin again."""
        if self._shard:
            raise TrainingError(
                f"memory is too small for a batch of the {self._task.part} with {self._settings.batch_seconds:g} s, "
                "and with --shard it is not cut by itself; go on with more processes, or give accumulate above "
                f"{self._settings.accumulate} (--settings) and another output folder"
            ) from error
