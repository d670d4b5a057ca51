"""The running average of a network's weights, and the network wearing it for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cosytune.training.sharding import like, whole

__all__ = ["WeightAverage"]


class WeightAverage:
    """Exponential moving average of the weights (decay 0: switched off).

    Polyak and Juditsky, 1992: after update n, average <- d average + (1 - d) weights with d = min(decay, (1 + n) /
    (10 + n)), so that short runs forget their random start. Frozen weights and statistics that a network counts itself
    are left alone.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.weights: dict[str, Tensor] = {}
        if decay:
            self.weights = {name: p.detach().clone() for name, p in network.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards the weights of `network`."""
        if not self.decay:
            return
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, parameter in network.named_parameters():
            if name in self.weights:
                self.weights[name].lerp_(parameter, 1 - decay)

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Let `network` carry the averaged weights inside the block; switched off, it keeps its own."""
        self._swap(network)
        try:
            yield
        finally:
            self._swap(network)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"updates": self.updates, "weights": whole(self.weights)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of `state`, on the device where the average is."""
        self.updates = state["updates"]
        for name, value in state["weights"].items():
            self.weights[name].copy_(like(value, self.weights[name]))

    @torch.no_grad()
    def _swap(self, network: nn.Module) -> None:
        if not self.decay:
            return
        for name, parameter in network.named_parameters():
            if name in self.weights:
                own = parameter.detach().clone()
                parameter.copy_(self.weights[name])
                self.weights[name].copy_(own)
