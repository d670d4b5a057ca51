"""Low-rank adapters by peft: put in, saved in its file format, and merged back into plain weights."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from cosytune.errors import InputError
from cosytune.files import write_folder
from cosytune.models.layers.dropout import Dropout

__all__ = ["add_lora", "has_lora", "merge_lora", "plain_copy", "write_adapter"]

ADAPTER = "default"
"""peft's name of an adapter that was given none."""


def add_lora(network: nn.Module, rank: int, alpha: int, dropout: float) -> None:
    """Give every trainable linear layer inside a numbered block an adapter W + (alpha / rank) B A; all else is frozen.

    LoRA (Hu et al. 2021, arXiv 2106.09685): A begins random, B at zero, so the network begins as it was. Attention and
    feed-forward layers of encoders, decoder and the flow's transformer blocks are such layers; convolutions are not.

    Raises:
        InputError: the network has no such layer.
    """
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import LoraLayer

    targets = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear)
        and any(word.isdigit() for word in name.split("."))
        and module.weight.requires_grad
    ]
    if not targets:
        raise InputError(
            "this part has no linear layers that could carry LoRA adapters; choose the strategy full or conservative"
        )
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets, bias="none")
    inject_adapter_in_model(config, network, ADAPTER)
    for module in network.modules():
        if isinstance(module, LoraLayer):
            # Autocast chooses the type of the products; peft would first make float32 of every input.
            module.cast_input_dtype_enabled = False
            if dropout:
                module.lora_dropout[ADAPTER] = Dropout(dropout)


def has_lora(network: nn.Module) -> bool:
    """Whether `add_lora` was here."""
    return hasattr(network, "peft_config")


def write_adapter(network: nn.Module, folder: Path, start: str) -> None:
    """Write the adapters of a network as peft does: `adapter_config.json` and `adapter_model.safetensors`.

    Args:
        network: after `add_lora`.
        folder: to write, in one piece.
        start: what the adapters belong on, for people.
    """
    from peft import get_peft_model_state_dict

    config: dict[str, Any] = network.peft_config[ADAPTER].to_dict()  # type: ignore[union-attr,index]
    config |= {"base_model_name_or_path": start, "inference_mode": True}
    weights = get_peft_model_state_dict(network, adapter_name=ADAPTER)
    named = {f"base_model.model.{name}": value.detach().cpu().contiguous() for name, value in weights.items()}
    with write_folder(folder) as partial:
        plain = {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}
        (partial / "adapter_config.json").write_text(json.dumps(plain, indent=1, default=str) + "\n", encoding="utf-8")
        (partial / "adapter_model.safetensors").write_bytes(save(named, {"format": "pt"}))


@torch.no_grad()
def merge_lora(network: nn.Module) -> None:
    """Add every adapter to the layer it sits on and take it off, so that names and shapes are the start's again."""
    from peft.tuners.lora import LoraLayer

    for name, layer in list(network.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge(safe_merge=True)
            network.set_submodule(name, layer.get_base_layer())
    del network.peft_config


def plain_copy(network: nn.Module) -> nn.Module:
    """A copy of a network, its adapters merged: what speaks must not know how it was trained."""
    copied = copy.deepcopy(network)
    if has_lora(copied):
        merge_lora(copied)
    return copied
