"""A clip between listening and deciding, and the languages of its speaker."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from cosytune.data.doctor.listening import Heard
from cosytune.data.doctor_results import Finding, Measures
from cosytune.data.manifest import Utterance

__all__ = ["Clip", "main_languages"]

SECOND_LANGUAGE = 0.2
"""Share of a speaker's clips from which a language is one of theirs."""


@dataclass(slots=True)
class Clip:
    """What is known of a clip while it is judged; the judges add to `findings` and fill in the numbers."""

    utterance: Utterance
    heard: Heard
    findings: list[Finding] = field(default_factory=list)
    characters_per_second: float | None = None
    error_rate: float | None = None
    likeness: float | None = None

    @property
    def measures(self) -> Measures | None:
        """Of the sound, None where there is none."""
        return self.heard.measures


def main_languages(utterances: Sequence[Utterance]) -> dict[str, frozenset[str]]:
    """The languages of each speaker: the commonest one, and others that are not rare."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for item in utterances:
        if item.text and item.language:
            counts[item.speaker][item.language] += 1
    return {
        speaker: frozenset(
            code
            for code, count in own.items()
            if count >= max(SECOND_LANGUAGE * own.total(), own.most_common(1)[0][1] / 4)
        )
        for speaker, own in counts.items()
    }
