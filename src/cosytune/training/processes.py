"""The processes that train one part together: who they are, and the few things they tell each other.

`torchrun` or `accelerate launch` starts them, on one machine or on many, and tells each its place by environment
variables; accelerate reads these, chooses the device, joins the group, and brings what trains in it: precision and
data-parallel passes (`accelerator`). Without a launcher there is one process, and nothing here costs it anything.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from cosytune.errors import InputError
from cosytune.training.task import LossReport

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = [
    "accelerator",
    "add_reports",
    "any_of",
    "any_of_each",
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

_ALONE = {"LOCAL_RANK": "-1"} | dict.fromkeys(
    ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"), "1"
)
"""Variables of launchers as accelerate finds them in a process that is of no group."""
_OTHER_ENGINES = ("DEEPSPEED", "FSDP", "MEGATRON_LM", "PARALLELISM_CONFIG")
"""What a configuration file of `accelerate launch` can ask for in place of the passes that `accelerator` makes."""

_groups: list[Any] = []
"""accelerate's account of the group that this process has joined, if it has."""


def join() -> None:
    """Join the group, if a launcher started this process as one of several.

    Processes that this one starts (workers that extract features, a fresh one that reloads a model) inherit the
    launcher's variables and are not of the group: only who joins is.

    Raises:
        InputError: the configuration of `accelerate launch` asks for another engine.
    """
    _refuse_other_engines()
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
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)
        _groups.clear()


def accelerator(*, bfloat16: bool) -> Accelerator:
    """What a part is trained with: accelerate's device, precision and data-parallel passes.

    Args:
        bfloat16: products in bfloat16, everything else and all weights in float32.
    """
    from accelerate import Accelerator
    from accelerate.utils import (
        AutocastKwargs,
        DistributedDataParallelKwargs,
        GradientAccumulationPlugin,
        patch_environment,
    )

    # torch 2.13 has another name for it, which accelerate 1.15 cannot pass on.
    warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated", category=FutureWarning)
    with nullcontext() if joined() else patch_environment(**_ALONE):
        return Accelerator(
            cpu=not torch.cuda.is_available(),
            # accelerate has one precision for as long as a process lives, and its parts may differ in theirs: each
            # accelerator switches it on or off.
            mixed_precision="bf16",
            # An update's gradient is weighed by items, not by pieces (`Gradients`).
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            kwargs_handlers=[
                AutocastKwargs(enabled=bfloat16),
                # Statistics that networks count: `average_buffers`.
                DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True),
            ],
        )


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


def any_of_each(flags: Sequence[bool]) -> list[bool]:
    """Whether each of them is true in any process."""
    if not joined():
        return list(flags)
    box = torch.tensor(flags, dtype=torch.int32, device=device())
    dist.all_reduce(box, dist.ReduceOp.MAX)
    return [bool(flag) for flag in box.tolist()]


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


def _refuse_other_engines() -> None:
    asked = [name for name in _OTHER_ENGINES if os.environ.get(f"ACCELERATE_USE_{name}", "").lower() in ("true", "1")]
    if os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower() != "no":
        asked.append("DYNAMO")
    if asked:
        raise InputError(
            f"the configuration of accelerate asks for {', '.join(asked)}, and cosytune chooses its own way; launch "
            "without it, and give --shard to split the weights of LM and flow over the processes (FSDP)"
        )
