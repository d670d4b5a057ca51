"""A network split over the processes that train it, for those too large for one device.

Fully sharded data-parallel training (Rajbhandari et al. 2020, arXiv 1910.02054; Zhao et al. 2023, arXiv 2304.11277) as
accelerate sets it up with torch's `fully_shard`: each process holds its share of every weight, gradient and moment, and
gathers the weights of a block when the block is used. Checkpoints hold whole tensors, so that a run can go on with or
without it, on any number of processes.
"""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cosytune.training.processes import joined, leads

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.utils import FullyShardedDataParallelPlugin

__all__ = ["Sharding", "like", "split_as", "whole"]


class Sharding:
    """`network` split over all processes of the group, in place; its name, methods and weights' names stay.

    Args:
        network: on this process's device, alike in all of them, as training wants it (frozen, adapters put in).
        accelerator: of the part.
    """

    def __init__(self, network: nn.Module, accelerator: Accelerator) -> None:
        from accelerate.utils import fsdp2_prepare_model

        self._network = network
        # Nobody changes what a forward pass returned in place, which is what torch warns of for every view.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        # A copy without numbers, that plain weights can be put into.
        self._blank = copy.deepcopy(network).to("meta")
        # Given here and not to the accelerator, which takes it on GPUs only.
        accelerator.state.fsdp_plugin = _plugin(network)
        split: Any = fsdp2_prepare_model(accelerator, network)
        # After each pass, so that whoever looks at the weights between passes always finds them split.
        split.set_reshard_after_forward(True)

    def plain(self) -> nn.Module | None:
        """A whole copy in the leading process, None in the others; all have to ask at the same time."""
        state = whole(self._network.state_dict())
        if not leads():
            return None
        device = next(self._network.parameters()).device
        network = copy.deepcopy(self._blank).to_empty(device=device)
        # Buffers that no state holds (tables of positions) have numbers in the network only.
        unsaved = {name: buffer for name, buffer in self._network.named_buffers() if name not in state}
        for name, buffer in unsaved.items():
            module, _, own = name.rpartition(".")
            network.get_submodule(module).register_buffer(own, buffer.clone(), persistent=False)
        network.load_state_dict(state)
        return network


def whole(value: Any) -> Any:
    """`value` (tensors in dictionaries and lists) with every split tensor as a whole one on the processor.

    All processes have to ask at the same time; where nothing is split it is `value` as it is.
    """
    if not joined():
        return value
    from torch.distributed.tensor import DTensor

    if isinstance(value, dict):
        return {key: whole(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(whole(entry) for entry in value)
    return value.full_tensor().cpu() if isinstance(value, DTensor) else value


def like(value: Tensor, wanted: Tensor) -> Tensor:
    """A whole tensor split as `wanted` is, if it is; every process gives the same one."""
    if not joined():
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(wanted, DTensor):
        return value
    return distribute_tensor(value.to(wanted.device), wanted.device_mesh, wanted.placements)


def split_as(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """A whole state of an optimizer, its moments split as the weights are."""
    weights = dict(enumerate(parameter for group in optimizer.param_groups for parameter in group["params"]))

    def split(number: int, moments: dict[str, Any]) -> dict[str, Any]:
        weight = weights[number]
        return {name: like(value, weight) if value.shape == weight.shape else value for name, value in moments.items()}

    return {**state, "state": {number: split(number, moments) for number, moments in state["state"].items()}}


def _plugin(network: nn.Module) -> FullyShardedDataParallelPlugin:
    """Blocks are gathered one by one; precision is the accelerator's, sums and weights stay float32."""
    from accelerate.utils import FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import MixedPrecisionPolicy

    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        reshard_after_forward=True,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=sorted({type(block).__name__ for block in _blocks(network)}),
        mixed_precision_policy=MixedPrecisionPolicy(),
        cpu_offload=False,
        cpu_ram_efficient_loading=False,
        activation_checkpointing=False,
    )


def _blocks(network: nn.Module) -> list[nn.Module]:
    """The outermost modules of lists: what is used as one, and so gathered as one."""
    if isinstance(network, nn.ModuleList):
        return [block for block in network if any(True for _ in block.parameters())]
    return [block for child in network.children() for block in _blocks(child)]
