"""In what the arms differed, and what was held identical, as far as their records say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cosytune.comparison.plan import Arm, ComparisonResult
from cosytune.files import hash_json
from cosytune.report.curves import arm_name
from cosytune.report.tables import count

__all__ = ["Difference", "differences", "held", "warnings"]


@dataclass(frozen=True)
class Difference:
    """One number or word in which arms differ: each value and the arms that had it."""

    what: str
    values: tuple[tuple[str, tuple[str, ...]], ...]


def differences(arms: Sequence[Arm]) -> list[Difference]:
    """Everything but the start and the seed in which two arms differ; empty is what a comparison wants."""
    found = [_difference(what, arms, facts) for what, facts in _facts(arms).items()]
    by_seed = [
        _difference(f"{what} (seed {seed})", own, {name: facts[name] for name in map(arm_name, own)})
        for what, facts in _outcomes(arms).items()
        for seed in sorted({arm.seed for arm in arms})
        if (own := [arm for arm in arms if arm.seed == seed])
    ]
    return [difference for difference in [*found, *by_seed] if len(difference.values) > 1]


def _difference(what: str, arms: Sequence[Arm], facts: dict[str, Any]) -> Difference:
    values: dict[str, list[str]] = {}
    for arm in arms:
        values.setdefault(str(facts.get(arm_name(arm), "none")), []).append(arm_name(arm))
    return Difference(what, tuple((value, tuple(names)) for value, names in values.items()))


def _facts(arms: Sequence[Arm]) -> dict[str, dict[str, Any]]:
    """What all arms must share, by fact and arm."""
    facts: dict[str, dict[str, Any]] = {}
    for arm in arms:
        name = arm_name(arm)
        facts.setdefault("stage", {})[name] = arm.result.stage
        facts.setdefault("corpus", {})[name] = arm.result.corpus_hash
        facts.setdefault("who chose the checkpoints", {})[name] = arm.result.listener or "nobody: the last is kept"
        facts.setdefault("parts trained", {})[name] = ", ".join(part.part for part in arm.result.parts)
        facts.setdefault("seeds of this start", {})[name] = _seeds(arms, arm.start)
        for part in arm.result.parts:
            facts.setdefault(f"{part.part}: updates done", {})[name] = part.steps
            for setting, value in part.settings.items():
                if setting == "seed":
                    value = "the run's own" if value == arm.result.seed else value
                facts.setdefault(f"{part.part}: {setting}", {})[name] = value
    return facts


def _outcomes(arms: Sequence[Arm]) -> dict[str, dict[str, Any]]:
    """What arms of one seed must share, while another seed brings other batches."""
    facts: dict[str, dict[str, Any]] = {}
    for arm in arms:
        for part in arm.result.parts:
            heard = f"{part.audio_seconds:.1f}"
            facts.setdefault(f"{part.part}: seconds of audio seen", {})[arm_name(arm)] = heard
    return facts


def _seeds(arms: Sequence[Arm], start: str) -> str:
    return ", ".join(str(seed) for seed in sorted(arm.seed for arm in arms if arm.start == start))


def warnings(arms: Sequence[Arm]) -> list[str]:
    """What would make the comparison meaningless although no setting differs."""
    found = []
    by_hash: dict[str, list[str]] = {}
    for start, value in {arm.start: arm.result.start_hash for arm in arms}.items():
        by_hash.setdefault(value, []).append(start)
    found += [
        f"{' and '.join(names)} are the same model (equal hash): they differ in nothing at all"
        for names in by_hash.values()
        if len(names) > 1
    ]
    trained = {(part.part, arm.start, part.settings.get("seed")) for arm in arms for part in arm.result.parts}
    runs = {(part.part, arm.start, arm.seed) for arm in arms for part in arm.result.parts}
    if len(trained) < len(runs):
        found.append("several runs of one start were trained with the same seed: they repeat each other")
    return found


def held(result: ComparisonResult) -> list[tuple[str, str]]:
    """What was the same for all arms, in words, each with a hash that proves it."""
    facts: list[tuple[str, str]] = []
    arms = result.arms
    if len({arm.result.corpus_hash for arm in arms} | {result.corpus_hash}) == 1:
        facts.append(("recordings and their split", _short(result.corpus_hash)))
    settings = {hash_json([_without_seed(part.settings) for part in arm.result.parts]) for arm in arms}
    if len(settings) == 1:
        facts.append(("settings of training: rates, batches, updates", _short(settings.pop())))
    if len({_seeds(arms, arm.start) for arm in arms}) == 1 and arms:
        facts.append(("seeds, and with them order and noise", _seeds(arms, arms[0].start)))
    listeners = {arm.result.listener for arm in arms}
    if len(listeners) == 1 and (listener := listeners.pop()):
        facts.append((f"the choice of checkpoints, by {listener}", _short(hash_json(listener))))
    asked: dict[str, set[str]] = {}
    for score in result.evaluation.scores:
        asked.setdefault(score.system, set()).add(score.sentence)
    if asked and len({frozenset(sentences) for sentences in asked.values()}) == 1:
        sentences = sorted(next(iter(asked.values())))
        facts.append((f"{count(len(sentences), 'held-out sentence')} to speak", _short(hash_json(sentences))))
    judges = hash_json([judge.to_json() for judge in result.evaluation.judges])
    facts.append((f"{count(len(result.evaluation.judges), 'judge')} and their versions", _short(judges)))
    return facts


def _without_seed(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != "seed"}


def _short(value: str) -> str:
    return value[:12]
