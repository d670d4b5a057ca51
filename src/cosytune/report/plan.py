"""A plan for people: lines of text, the recommendation first."""

from __future__ import annotations

from collections.abc import Iterator

from cosytune.training.plan_results import PartPlan, TrainingPlan, minutes_in_words

__all__ = ["plan_in_words"]

_GB = 1e9
_DEFAULTS = {"freeze": [], "anchor": "none", "lora_rank": 0, "replay": 0.0, "average": 0.0, "layer_decay": 1.0}
"""Switches that are shown where they are on."""


def plan_in_words(plan: TrainingPlan) -> str:
    """All of it, one fact a line."""
    lines = [*_data(plan), *_starts(plan), *_costs(plan), *_checks(plan), *_endings(plan)]
    return "\n".join("".join(c if c.isprintable() else repr(c)[1:-1] for c in line) for line in lines)


def _data(plan: TrainingPlan) -> Iterator[str]:
    data = plan.data
    yield (
        f"data: {data.name}: {data.clips} clips, {data.minutes:.1f} min to train on, {len(data.speakers)} "
        f"speaker{'s' if len(data.speakers) != 1 else ''}, {', '.join(data.languages)}, {data.transcribed:.0%} "
        f"transcribed, {data.sample_rate} Hz and more; held out {data.validation_clips} + {data.test_clips}"
    )


def _starts(plan: TrainingPlan) -> Iterator[str]:
    yield f"start: {plan.why}"
    yield f"measured: {plan.measured}"
    for start in plan.starts:
        yield f"  {start.place or '-'} {start.name}: {start.identity}"
        yield from (f"      refused: {reason}" for reason in start.refusals)
        yield from (f"      {reason}" for reason in start.reasons)


def _costs(plan: TrainingPlan) -> Iterator[str]:
    best = plan.starts[0]
    yield f"tuning {best.name}, strategy {plan.strategy}:"
    for part in plan.parts:
        yield f"  {_sizes(part)}"
        yield f"    {part.reason}"
        if part.trial is not None:
            yield f"    memory: {part.trial.words}"
        if part.seconds:
            spent = ", ".join(f"{name} {minutes_in_words(value)}" for name, value in part.seconds.items() if value)
            yield f"    time: {spent}"
    for name, parts in plan.others.items():
        yield f"{name} instead:"
        yield from (f"  {_sizes(part)}" for part in parts)
    yield from _whole(plan)


def _sizes(part: PartPlan) -> str:
    settings = part.settings
    switches = [
        f"{name} {settings[name]}" for name, usual in _DEFAULTS.items() if settings.get(name) not in (usual, ())
    ]
    return (
        f"{part.part}: {part.parameters / 1e6:.1f} M parameters, {part.trainable / 1e6:.1f} M move; "
        f"{settings['steps']} steps of {settings['batch_seconds']:g} s ({part.audio_minutes:.0f} min of audio seen), "
        f"rate {settings['learning_rate']:.3g}{', ' if switches else ''}{', '.join(switches)}"
    )


def _whole(plan: TrainingPlan) -> Iterator[str]:
    needed, free = plan.memory["needed"], plan.memory["free"]
    if needed is not None and free is not None:
        yield f"memory: {needed / _GB:.1f} GB for all processes together, {free / _GB:.1f} GB are free"
    if plan.disk:
        what = ", ".join(
            f"{name} {size / _GB:.2f}" for name, size in plan.disk.items() if name not in ("free", "needed") and size
        )
        yield f"disk: {plan.disk['needed'] / _GB:.2f} GB ({what}), {plan.disk['free'] / _GB:.1f} GB are free"
    if plan.seconds:
        spent = ", ".join(f"{name} {minutes_in_words(value)}" for name, value in plan.seconds.items() if name != "all")
        yield (
            f"time: about {minutes_in_words(plan.seconds['all'])} ({spent}), measured on this machine as it is now; "
            "judging what was spoken comes on top"
        )


def _checks(plan: TrainingPlan) -> Iterator[str]:
    if plan.preflight is None:
        yield "preflight: not made"
        return
    yield f"preflight ({plan.preflight.seconds:.0f} s):"
    yield from (f"  {check.in_words()}" for check in plan.preflight.checks)


def _endings(plan: TrainingPlan) -> Iterator[str]:
    yield from (f"mind: {caution}" for caution in plan.cautions)
    yield from (f"PROBLEM: {problem}" for problem in plan.problems)
    yield f"next: {plan.command}"
