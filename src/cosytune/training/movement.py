"""How the weights of a network may move: which are frozen, how fast each layer goes, what pulls them to the start."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from cosytune.errors import InputError
from cosytune.training.lora import add_lora
from cosytune.training.settings import LoopSettings

__all__ = ["Movement", "freeze", "rate_shares"]

_FIRST_NUMBER = re.compile(r"^(.*?\.\d+)\.")


class Movement:
    """Freezes, adapters, rates and anchor of one network, as its settings say.

    Args:
        network: still with the weights of the start; weights that must not move lose `requires_grad`, and with
            `lora_rank` its linear layers get adapters.
        settings: of the part.

    Raises:
        InputError: a frozen name that the network does not have, nothing left to train, no layer that takes adapters.
    """

    def __init__(self, network: nn.Module, settings: LoopSettings) -> None:
        self._rate = settings.anchor_weight
        shares = rate_shares(network, settings.layer_decay)
        freeze(network, settings.freeze)
        if settings.lora_rank:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(settings.seed)  # of the adapters' first numbers
                add_lora(network, settings.lora_rank, settings.lora_alpha, settings.lora_dropout)
            # An adapter is as deep as the layer it sits on.
            shares = rate_shares(network, settings.layer_decay)
        self._shares = shares
        self._network = network
        self._start: dict[str, Tensor] = {}
        self._anchored = settings.anchor == "l2sp"

    def groups(self, head: nn.Module | None) -> list[dict[str, Any]]:
        """Parameter groups for an optimizer, each with the `share` of the rate that its weights move at.

        A head that is thrown away afterwards moves at the full rate.
        """
        by_share: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self._network.named_parameters():
            if parameter.requires_grad:
                by_share.setdefault(self._shares[name], []).append(parameter)
        if head is not None:
            by_share.setdefault(1.0, []).extend(p for p in head.parameters() if p.requires_grad)
        return [{"params": parameters, "share": share} for share, parameters in by_share.items()]

    def remember_start(self) -> None:
        """Note where an anchor is to pull to: before the first update, on the devices where the weights will stay."""
        if self._anchored:
            moving = [(name, p) for name, p in self._network.named_parameters() if p.requires_grad]
            self._start = {name: parameter.detach().clone() for name, parameter in moving}

    @torch.no_grad()
    def pull(self, rate: float) -> None:
        """Move every anchored weight towards its start by rate x anchor_weight of the way it has gone.

        L2-SP (Li et al. 2018, arXiv 1802.01483) with the penalty's gradient decoupled from Adam's scaling, as AdamW
        does with weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101): the pull then does not depend on how
        large the gradients are.
        """
        for name, parameter in self._network.named_parameters():
            if name in self._start:
                parameter.lerp_(self._start[name], min(1.0, rate * self._shares[name] * self._rate))


def freeze(network: nn.Module, names: Sequence[str]) -> None:
    """Take `requires_grad` from all weights of the named modules.

    Args:
        network: to be trained.
        names: dotted names of modules or weights, wildcards allowed: "text_embedding", "decoder.layers.[0-3]".

    Raises:
        InputError: a name that nothing has, or nothing left to train.
    """
    moving = dict(network.named_parameters())
    for pattern in names:
        found = [name for name in moving if any(fnmatchcase(prefix, pattern) for prefix in _prefixes(name))]
        if not found:
            children = ", ".join(name for name, _ in network.named_children())
            raise InputError(
                f"freeze names {pattern!r}, which this network does not have; its modules are {children}, and those "
                "inside them are named with dots (decoder.layers.0)"
            )
        for name in found:
            moving[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in moving.values()):
        raise InputError(f"freeze {', '.join(names)} leaves nothing to train; take one of the names away")


def rate_shares(network: nn.Module, decay: float) -> dict[str, float]:
    """Share of the learning rate for each weight: decay to the power of its distance from the output, in layers.

    Layer-wise decay (Howard and Ruder 2018, arXiv 1801.06146, section 3.2): what lies near the input knows the most
    general things and moves least. A layer is a numbered module ("decoder.layers.3"), or else a direct child; their
    depth is the order in which the network holds them.
    """
    layers = {name: _layer(name) for name, _ in network.named_parameters()}
    depth = {layer: number for number, layer in enumerate(Counter(layers.values()))}
    return {name: decay ** (len(depth) - 1 - depth[layer]) for name, layer in layers.items()}


def _layer(name: str) -> str:
    numbered = _FIRST_NUMBER.match(name)
    return numbered.group(1) if numbered else name.partition(".")[0]


def _prefixes(name: str) -> list[str]:
    words = name.split(".")
    return [".".join(words[:count]) for count in range(1, len(words) + 1)]
