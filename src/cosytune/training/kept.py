"""The checkpoints that one run kept: the mean of the best, or those that somebody chooses."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from cosytune import __version__
from cosytune.errors import InputError, ModelError
from cosytune.models.folder import Model, read_model
from cosytune.training.lora import merge_lora
from cosytune.training.movement import Movement
from cosytune.training.results import PartResult
from cosytune.training.run import best_steps, kept_steps, read_kept
from cosytune.training.settings import LoopSettings
from cosytune.training.stages import read_stage_result

__all__ = ["average_kept", "run_of"]

_SUFFIX = ".run"
_DEPTH = 3
"""How deep the checkpoints lie in a run: PART/best/FILE."""


def run_of(path: Path) -> Path | None:
    """The folder of a finished run that a path is, or lies in (such as OUTPUT.run/lm/best); None if there is none."""
    path = path.resolve()
    places = (path, *path.parents[:_DEPTH])
    return next((place for place in places if (place / "stage.json").is_file()), None)


def average_kept(run: Path, chosen: Mapping[str, Sequence[int]] | None = None) -> Model:
    """The model of a run in which every part that kept several checkpoints is their mean (Izmailov et al. 2018).

    Args:
        run: folder of a finished run (OUTPUT.run); its model lies beside it (OUTPUT).
        chosen: steps of the checkpoints to take, by part; one alone is that checkpoint. Other parts stay as they are.

    Raises:
        InputError: no part kept two checkpoints, or one that was chosen is not there.
        TrainingError: the run is not finished, or its checkpoints are of other weights.
        ModelError: the model of the run, or with adapters its start, is not where it was.
    """
    run = run.resolve()
    result = read_stage_result(run)
    kept = _steps(run, [part.part for part in result.parts], chosen)
    tuned = read_model(run.with_name(run.name.removesuffix(_SUFFIX)))
    adapted = any(part.settings["lora_rank"] for part in result.parts)
    begun = _start(result.start, result.start_hash) if adapted else tuned
    parts = dict(tuned.parts)
    for part in result.parts:
        if part.part in kept:
            # Frozen weights are not in a checkpoint: the result has those of the start. Adapters sit on the start.
            below = begun if part.settings["lora_rank"] else tuned
            parts[part.part] = _mean(below.part(part.part), part, run / part.part, kept[part.part])
    mixed = replace(tuned, parts=parts)
    entry = {
        "stage": tuned.stage,
        "start": tuned.name,
        "start_hash": tuned.hash(),
        "average_of_steps": kept,
        "parts": sorted(kept),
        "cosytune": __version__,
        "result_hash": mixed.hash(),
    }
    return replace(mixed, lineage=[*tuned.lineage, entry])


def _steps(run: Path, parts: Sequence[str], chosen: Mapping[str, Sequence[int]] | None) -> dict[str, list[int]]:
    """Steps of the checkpoints to average, by part: those chosen, or the best."""
    for part, steps in (chosen or {}).items():
        there = kept_steps(run / part) if part in parts else []
        if missing := [step for step in steps if step not in there]:
            found = ", ".join(map(str, there)) or "none"
            raise InputError(f"{run} kept no checkpoint of step {missing[0]} of the {part}; those it kept are: {found}")
    if chosen:
        return {part: sorted(set(steps)) for part, steps in chosen.items()}
    kept = {part: steps for part in parts if len(steps := best_steps(run / part)) > 1}
    if not kept:
        raise InputError(
            f"no part of {run} kept two checkpoints or more, so there is nothing to average; they are kept where "
            "somebody listens (--listen 1 or more) and keep_best is above 1"
        )
    return kept


def _start(path: str, expected: str) -> Model:
    start = read_model(path)
    if start.hash() != expected:
        raise ModelError(f"{path} is no longer the model that the adapters of this run were trained on; put it back")
    return start


@torch.no_grad()
def _mean(below: nn.Module, part: PartResult, folder: Path, steps: list[int]) -> nn.Module:
    """Of the plain weights of each checkpoint, in double precision: the mean of adapters would be another thing."""
    sums: dict[str, Tensor] = {}
    for step in steps:
        state = _plain(below, part, folder, step).state_dict()
        for name, value in state.items():
            if value.is_floating_point():
                sums[name] = sums[name] + value.double() if name in sums else value.double()
    mean = copy.deepcopy(below)
    own = mean.state_dict()
    mean.load_state_dict(own | {name: (value / len(steps)).to(own[name].dtype) for name, value in sums.items()})
    return mean


def _plain(below: nn.Module, part: PartResult, folder: Path, step: int) -> nn.Module:
    network = copy.deepcopy(below)
    settings = LoopSettings(**part.settings)
    Movement(network, settings)  # the adapters, if it was trained with them
    read_kept(folder, step, nn.ModuleDict({"network": network}))
    if settings.lora_rank:
        merge_lora(network)
    return network
