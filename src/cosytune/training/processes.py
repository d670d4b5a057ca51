"""The processes that train one part together: who they are, and the few things they tell each other.

`torchrun` or `accelerate launch` starts them, on one machine or on many, and tells each its place by environment
variables; accelerate reads these, chooses the device and joins the group. Without a launcher there is one process, and
nothing here costs it anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from cosytune.training.task import LossReport

__all__ = [
    "add_gradients",
    "add_reports",
    "any_of",
    "average_buffers",
    "copy_leader",
    "device",
    "gather",
    "join",
    "joined",
    "largest_of",
    "leads",
    "leave",
    "local_size",
    "rank",
    "share",
    "size",
    "wait",
]

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""How long a process waits for the others: one of them may extract the features of a large corpus meanwhile."""

BUCKET_WEIGHTS = 1 << 23
"""Gradients that travel in one message: 32 MiB of float32, enough to fill a link and little beside the gradients."""


_groups: list[Any] = []
"""accelerate's account of the group that this process has joined, if it has."""


def join() -> None:
    """Join the group, if a launcher started this process as one of several.

    Processes that this one starts (workers that extract features, a fresh one that reloads a model) inherit the
    launcher's variables and are not of the group: only who joins is.
    """
    if joined() or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return
    from accelerate import PartialState
    from accelerate.utils import InitProcessGroupKwargs

    gpu = torch.cuda.is_available()
    wanted = InitProcessGroupKwargs(backend="cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=PATIENCE)
    # accelerate sets the number of threads where nobody did; jobs set their own (`jobs.threads_for`).
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _groups.append(PartialState(cpu=not gpu, **wanted.to_kwargs()))


def leave() -> None:
    """Wait for all, then leave the group, so that nobody ends while another still listens to it."""
    if joined():
        wait()
        dist.destroy_process_group()
        _groups[0]._reset_state()
        _groups.clear()


def joined() -> bool:
    """Whether this process is one of several that train together."""
    return bool(_groups)


def device() -> torch.device:
    """Where this process trains: its own GPU, if there are any."""
    if joined():
        return _groups[0].device
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def rank() -> int:
    """Number of this process, from 0."""
    return _groups[0].process_index if joined() else 0


def size() -> int:
    """How many processes train together."""
    return _groups[0].num_processes if joined() else 1


def local_size() -> int:
    """How many of them share this machine's processor."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if joined() else 1


def leads() -> bool:
    """Whether this is the process that writes files and talks to people."""
    return rank() == 0


def share(value: T) -> T:
    """What the leading process gave, in every process; it travels pickled, between the processes of this job only."""
    if not joined():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def wait() -> None:
    """Go on when all processes are here."""
    if joined():
        share(None)


def gather(values: list[T]) -> list[T]:
    """The values of all processes one after the other, in every process."""
    if not joined():
        return values
    boxes: list[Any] = [None] * size()
    dist.all_gather_object(boxes, values)
    return [value for box in boxes for value in box]


def any_of(flag: bool) -> bool:
    """Whether it is true in any process."""
    return largest_of(int(flag)) > 0


def largest_of(number: int) -> int:
    """The largest number of all processes."""
    if not joined():
        return number
    box = torch.tensor([number], device=device())
    dist.all_reduce(box, dist.ReduceOp.MAX)
    return int(box.item())


def add_reports(report: LossReport) -> LossReport:
    """The report of a batch that was dealt to all processes: means weighed by their counts, sums of everything else."""
    if not joined():
        return report
    values = [torch.as_tensor(value).detach() for value in (report.loss, *report.values.values())]
    weight = float(report.count)
    box = torch.tensor(
        [*(float(value) * weight for value in values), report.audio_seconds, weight],
        dtype=torch.float64,
        device=device(),
    )
    dist.all_reduce(box)
    count = float(box[-1])
    loss, *means = (box[:-2] / count).float()
    return replace(
        report,
        loss=loss,
        values=dict(zip(report.values, means, strict=True)),
        audio_seconds=float(box[-2]),
        count=count,
    )


def add_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Every gradient becomes the sum of that of all processes; one that only others have counts as zero here.

    This is data-parallel training as DDP does it (Li et al. 2020, arXiv 2006.15704), but once per update and after the
    backward passes: a process whose memory was too small has said so before, and batches of unlike token counts are
    weighed as one batch (DDP's mean of means would weigh every process alike).
    """
    if not joined():
        return
    has = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.int32, device=device())
    dist.all_reduce(has, dist.ReduceOp.MAX)
    needed = [parameter for parameter, there in zip(parameters, has.tolist(), strict=True) if there]
    for bucket in _buckets(needed):
        gradients = []
        for parameter in bucket:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(summed.view_as(gradient))


def average_buffers(modules: nn.Module) -> None:
    """Statistics that networks count themselves (batch normalisation, use of codes) become those of all processes."""
    if not joined():
        return
    for buffer in modules.buffers():
        if buffer.is_floating_point():
            dist.all_reduce(buffer)
            buffer /= size()


@torch.no_grad()
def copy_leader(module: nn.Module) -> None:
    """Weights and statistics of a module become those of the leading process, where it changed them by itself."""
    if not joined():
        return
    for tensor in (*module.parameters(), *module.buffers()):
        dist.broadcast(tensor, src=0)


def _buckets(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    buckets: list[list[nn.Parameter]] = []
    room = 0
    for parameter in parameters:
        if parameter.numel() > room or not buckets:
            buckets.append([])
            room = BUCKET_WEIGHTS
        buckets[-1].append(parameter)
        room -= parameter.numel()
    return buckets
