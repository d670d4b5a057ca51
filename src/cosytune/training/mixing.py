"""Models between models: a strength dial between start and tuned, and the average of several checkpoints."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from cosytune import __version__
from cosytune.errors import InputError, ModelError
from cosytune.models.folder import Model

__all__ = ["average", "dial"]

STRONGEST = 1.5
"""Beyond it weights are extrapolated further than anybody has reported to be of use."""


def dial(start: Model, tuned: Model, strength: float) -> Model:
    """The model at `strength` of the way from `start` to `tuned`: W = (1 - s) W_start + s W_tuned.

    0 is the start, 1 the tuned model, in between the voice is weaker and more of what the start could do is back
    (WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903). Voices are the tuned model's.

    Args:
        start: what `tuned` was trained from, or anything of the same sizes and front ends.
        tuned: the trained model.
        strength: 0 to 1.5; beyond 1 the change is exaggerated.

    Raises:
        InputError: strength is out of range.
        ModelError: the models do not have the same parts, sizes or front ends.
    """
    if not 0 <= strength <= STRONGEST:
        raise InputError(f"a strength of {strength:g} is out of range; give 0 (the start) to {STRONGEST:g}, 1 is tuned")
    return _mixed([start, tuned], [1 - strength, strength], {"dial": strength})


def average(models: Sequence[Model]) -> Model:
    """The mean of the weights of several models, such as the best checkpoints of a run (Izmailov et al. 2018).

    Raises:
        InputError: fewer than two models.
        ModelError: the models do not have the same parts, sizes or front ends.
    """
    if len(models) < 2:
        raise InputError(
            f"{len(models)} model has no average; give two or more, or a run (OUTPUT.run) for the checkpoints it kept"
        )
    return _mixed(models, [1 / len(models)] * len(models), {"average_of": len(models)})


def _mixed(models: Sequence[Model], weights: Sequence[float], how: dict[str, Any]) -> Model:
    last = models[-1]
    for other in models[:-1]:
        _check_alike(other, last)
    parts = {name: _mixed_part([model.part(name) for model in models], weights) for name in last.parts}
    mixed = replace(last, parts=parts)
    entry = {
        "stage": last.stage,
        # The lineage goes on from the model that it is of.
        "start": last.name,
        "start_hash": last.hash(),
        "mixed_with": [model.hash() for model in models[:-1]],
        "parts": sorted(parts),
        "cosytune": __version__,
        "result_hash": mixed.hash(),
        **how,
    }
    return replace(mixed, lineage=[*last.lineage, entry])


def _check_alike(first: Model, second: Model) -> None:
    if first.parts.keys() != second.parts.keys():
        raise ModelError(
            f"{first.name} has the parts {', '.join(sorted(first.parts))}, {second.name} has "
            f"{', '.join(sorted(second.parts))}; only models of the same parts can be mixed"
        )
    if first.tokenizer != second.tokenizer:
        raise ModelError(f"{first.name} and {second.name} have different text tokenizers and cannot be mixed")
    if first.extractor_hash() != second.extractor_hash():
        raise ModelError(
            f"{first.name} and {second.name} have different front ends (speech tokenizer, speaker encoder or mel), so "
            "their networks do not speak of the same things and cannot be mixed"
        )
    for name in first.parts:
        shapes = [{key: value.shape for key, value in m.part(name).state_dict().items()} for m in (first, second)]
        if shapes[0] != shapes[1]:
            raise ModelError(f"the {name} of {first.name} and {second.name} differ in size and cannot be mixed")


@torch.no_grad()
def _mixed_part(networks: Sequence[nn.Module], weights: Sequence[float]) -> nn.Module:
    """Floating tensors mixed in double precision; integers (counters) are those of the last network."""
    states = [network.state_dict() for network in networks]
    mixed = copy.deepcopy(networks[-1])
    mixed.load_state_dict({name: _mix([state[name] for state in states], weights) for name in states[-1]})
    return mixed


def _mix(values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    if not values[-1].is_floating_point():
        return values[-1]
    total = sum(weight * value.double() for value, weight in zip(values, weights, strict=True))
    assert isinstance(total, Tensor)
    return total.to(values[-1].dtype)
