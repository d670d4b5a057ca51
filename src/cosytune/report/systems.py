"""What each system of a comparison is: a ceiling, an untouched start, a tuned one; in the order a reader wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cosytune.comparison.plan import COPY, RECORDINGS, ComparisonResult

__all__ = ["System", "systems_of"]

Role = Literal["ceiling", "untouched", "tuned", "other"]


@dataclass(frozen=True)
class System:
    """One system of the page.

    Attributes:
        name: as in the scores.
        role: what it is there for.
        start: short name of the start it belongs to; None for recordings and for systems of no arm.
        about: what it is, in words.
    """

    name: str
    role: Role
    start: str | None
    about: str


def systems_of(result: ComparisonResult) -> list[System]:
    """Every system that was scored or can be played: ceilings, then each start untouched and tuned, then the rest."""
    starts = list(dict.fromkeys(arm.start for arm in result.arms))
    known = dict.fromkeys([*result.evaluation.systems, *(sample.system for sample in result.samples)])
    expected = [System(RECORDINGS, "ceiling", None, "ceiling: the held-out recordings themselves")]
    expected += [System(f"{COPY} {start}", "ceiling", start, _about_copy(start)) for start in starts]
    for start in starts:
        expected.append(System(f"{start} untouched", "untouched", start, "before tuning"))
        expected.append(System(f"{start} tuned", "tuned", start, _about_tuned(result, start)))
    found = [system for system in expected if system.name in known]
    named = {system.name for system in found}
    return found + [System(name, "other", None, "another system") for name in known if name not in named]


def _about_copy(start: str) -> str:
    return f"ceiling: recordings through tokens, flow and vocoder of {start}"


def _about_tuned(result: ComparisonResult, start: str) -> str:
    seeds = sorted({arm.seed for arm in result.arms if arm.start == start})
    return f"tuned, seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
