"""Strategies: named sets of numbers that say how far a start may be moved, and budgets that follow from the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from cosytune.errors import InputError
from cosytune.training.precision import default_precision
from cosytune.training.settings import LoopSettings, PartName, StageName, default_settings, is_large, override

__all__ = ["STRATEGIES", "Situation", "StrategyName", "check_range", "default_strategy", "resolve"]

StrategyName = Literal["full", "conservative", "lora", "advised"]
STRATEGIES: tuple[StrategyName, ...] = get_args(StrategyName)

CAREFUL_SHARE = 0.3
"""Of the full rate, for starts that have more to lose: an SFT or already tuned model, or one nobody knows."""

LORA_SHARE = 10.0
"""Adapters learn best at about ten times the rate of full fine-tuning (Hu et al. 2021, table 11, against 1e-5)."""

WARMUP_SHARE = 0.1
LAYER_DECAY = 0.9
AVERAGE = 0.99
LORA_RANK, LORA_ALPHA, LORA_DROPOUT = 16, 32, 0.05

TIMES_HEARD, PATIENCE = 8, 4
"""A run is heard so often, and ends when half of that brought no new best."""

_PASSES: dict[StageName, float] = {"pretrain": 3.0, "sft": 4.0, "tune": 2.0}
_LEAST_MINUTES: dict[StageName, float] = {"pretrain": 600.0, "sft": 120.0, "tune": 40.0}
"""Small corpora are seen more often: five minutes of a voice were learned in about 40 minutes of audio seen (eight
passes), and hours of it need few passes."""

_RATES_KNOWN = 10.0
"""A rate beyond so many times the full one, or below its hundredth, has no measurement behind it."""
_PASSES_KNOWN = 50.0


@dataclass(frozen=True)
class Situation:
    """What defaults depend on.

    Attributes:
        stage: "pretrain", "sft" or "tune".
        start: kind of the start (`models.identify.Kind`).
        parameters: weights of the part.
        minutes: of audio on the training side.
        fast_bfloat16: whether the machine multiplies faster in bfloat16 than in float32.
    """

    stage: StageName
    start: str
    parameters: int
    minutes: float
    fast_bfloat16: bool = False


def default_strategy(stage: StageName) -> StrategyName:
    """`advised` for `tune`; the earlier stages have nothing to protect and train in full."""
    return "advised" if stage == "tune" else "full"


def resolve(
    strategy: StrategyName, part: PartName, situation: Situation, changes: Mapping[str, Any] | None = None
) -> tuple[LoopSettings, str]:
    """Settings of one part under a strategy, and the reason for them in words.

    `full`, `conservative` and `lora` give the same numbers whatever the start, so that starts can be compared;
    `advised` looks at the start: a base model is tuned in full, an SFT, Instruct or already tuned one with a third of
    the rate and a longer warm-up, an unknown one conservatively.

    Args:
        strategy: its name.
        part: network to train.
        situation: what the numbers depend on.
        changes: settings that somebody asked for; they are taken as they are, and what follows from them (steps from
            seconds per step, the anchor's weight from rate and steps) follows.

    Raises:
        InputError: the stage does not train the part, the part cannot carry the strategy, or a change is not allowed.
    """
    changes = changes or {}
    settings, reason = _named(strategy, part, _full(part, situation, changes), situation)
    if "precision" not in changes:
        large = is_large(part, situation.parameters)
        precision, why = default_precision(part, large=large, fast=situation.fast_bfloat16)
        settings, reason = settings.model_copy(update={"precision": precision}), f"{reason}; {why}"
    settings = override(settings, part, changes)
    if strategy != "full" and settings.anchor == "l2sp" and "anchor_weight" not in changes:
        settings = settings.model_copy(update={"anchor_weight": _anchor_weight(settings)})
    return settings, reason


def _full(part: PartName, situation: Situation, changes: Mapping[str, Any]) -> LoopSettings:
    full = default_settings(situation.stage, part, situation.parameters)
    asked = {name: changes[name] for name in ("batch_seconds", "steps") if name in changes}
    full = override(full, part, asked)
    steps = full.steps if "steps" in asked else _budget(part, full, situation)
    eighth = max(1, -(-steps // TIMES_HEARD))
    # A short run needs a validation curve too, and must not lose all of itself when it is killed.
    often = {name: min(getattr(full, name), eighth) for name in ("validate_every", "checkpoint_every")}
    return full.model_copy(update={"steps": steps, "score_every": eighth, "patience": PATIENCE, **often})


def _named(
    strategy: StrategyName, part: PartName, full: LoopSettings, situation: Situation
) -> tuple[LoopSettings, str]:
    if strategy == "advised":
        return _advised(part, full, situation)
    if strategy == "conservative":
        return _conservative(part, full), "conservative: a small rate, less near the input, held to the start"
    if strategy == "lora":
        return _lora(part, full), f"lora: adapters of rank {LORA_RANK}, all weights of the start stay"
    return full, "full: all weights move at the full rate"


def _advised(part: PartName, full: LoopSettings, situation: Situation) -> tuple[LoopSettings, str]:
    if situation.start in ("base", "untrained"):
        return full, f"advised: the start is {situation.start}, so all weights move at the full rate"
    if situation.start == "unknown":
        return _conservative(part, full), "advised: nobody knows what the start is, so it is moved conservatively"
    careful = full.model_copy(
        update={"learning_rate": full.learning_rate * CAREFUL_SHARE, "warmup_steps": _warmup(full)}
    )
    return careful, f"advised: the start is {situation.start}, so a third of the full rate keeps what it was taught"


def _conservative(part: PartName, full: LoopSettings) -> LoopSettings:
    rate = full.learning_rate * CAREFUL_SHARE
    changes: dict[str, Any] = {
        "learning_rate": rate,
        "warmup_steps": _warmup(full),
        "layer_decay": LAYER_DECAY,
        "average": max(full.average, AVERAGE),
        "anchor": "l2sp",
        "anchor_weight": 1.0,
    }
    if part == "lm":
        changes["freeze"] = ("text_embedding",)
    settings = override(full, part, changes)
    return settings.model_copy(update={"anchor_weight": _anchor_weight(settings)})


def _anchor_weight(settings: LoopSettings) -> float:
    """A weight that nothing pushes has gone back about half of its way by the end of a run, however long that is."""
    return 1 / (settings.learning_rate * settings.steps)


def _lora(part: PartName, full: LoopSettings) -> LoopSettings:
    changes = {
        "learning_rate": full.learning_rate * LORA_SHARE,
        "warmup_steps": _warmup(full),
        "lora_rank": LORA_RANK,
        "lora_alpha": LORA_ALPHA,
        "lora_dropout": LORA_DROPOUT,
    }
    return override(full, part, changes)


def _warmup(settings: LoopSettings) -> int:
    return max(settings.warmup_steps, round(WARMUP_SHARE * settings.steps))


def _budget(part: PartName, full: LoopSettings, situation: Situation) -> int:
    """Updates so that the audio seen is some passes of the data, at least what a small corpus needs.

    Parts that look at crops keep the steps that were measured for them: their budget is not a number of passes.
    """
    if part not in ("lm", "flow"):
        return full.steps
    seen = max(_PASSES[situation.stage] * situation.minutes, _LEAST_MINUTES[situation.stage])
    return max(1, round(60 * seen / full.batch_seconds))


def check_range(settings: LoopSettings, part: PartName, situation: Situation) -> None:
    """Refuse numbers that nothing measured supports.

    Raises:
        InputError: rate or budget is far outside the known range; the message says what is known.
    """
    known = default_settings(situation.stage, part, situation.parameters).learning_rate
    low, high = known / 100, known * _RATES_KNOWN
    if not low <= settings.learning_rate <= high:
        raise InputError(
            f"{part}.learning_rate {settings.learning_rate:g} is far outside what is known to work for a {part} of "
            f"{situation.parameters / 1e6:.0f} M parameters in {situation.stage} ({low:g} to {high:g}); "
            "change it, or give --force"
        )
    if part not in ("lm", "flow"):
        return
    seen = settings.steps * settings.batch_seconds / 60
    most = max(_PASSES_KNOWN * situation.minutes, _LEAST_MINUTES[situation.stage])
    if seen > most:
        raise InputError(
            f"{part}: {settings.steps} steps of {settings.batch_seconds:g} s are {seen:.0f} minutes of audio, "
            f"{seen / situation.minutes:.0f} passes over {situation.minutes:.1f} minutes of recordings; beyond "
            f"{most:.0f} minutes a model learns the clips by heart; lower steps, add recordings, or give --force"
        )
