"""The gradient of an update's batch: in pieces where memory is short, summed over the processes that train together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from cosytune.errors import TrainingError
from cosytune.training.pace import Pace
from cosytune.training.pieces import can_be_cut, is_out_of_memory, pieces_of
from cosytune.training.processes import add_gradients, add_reports, any_of, gather, largest_of, rank, size
from cosytune.training.settings import LoopSettings
from cosytune.training.task import Draws, LossReport, Task, sum_reports

__all__ = ["Gradients", "precision"]


def precision(settings: LoopSettings, device: torch.device) -> torch.autocast:
    """The precision in which a run computes: what is inside runs in bfloat16 if the settings say so."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=settings.precision == "bfloat16")


class Gradients:
    """Gradients of the mean loss over all items of a batch, whatever its pieces and whoever works on them.

    Args:
        task: network, clips and loss.
        settings: of the part.
        trained: weights that move.
        pace: is told what time goes into getting data.
        shard: whether the network is split over the processes, which then add up gradients in their backward passes.

    Attributes:
        pieces: in which a batch is worked through; memory that is too small doubles their number.
    """

    def __init__(
        self, task: Task, settings: LoopSettings, trained: Sequence[nn.Parameter], pace: Pace, *, shard: bool
    ) -> None:
        self.pieces = settings.accumulate
        self._task, self._settings, self._shard, self._pace = task, settings, shard, pace
        self._trained = list(trained)
        self._device = self._trained[0].device

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
        items = report.count
        if self._shard:
            items = items / size()  # the backward pass took the mean of all processes
        else:
            add_gradients(self._trained)
        for parameter in self._trained:
            if parameter.grad is not None:
                parameter.grad /= items
        return report

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
        for number, piece in enumerate(pieces):
            with self._pace.waiting():
                batch = self._task.batch(piece, draws)
            with precision(settings, self._device):
                report = self._task.loss(batch, draws)
            (report.loss * (report.count if counts and number < own else 0)).backward()
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
