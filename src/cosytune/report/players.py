"""Players: sentence by sentence what every system said, with the sound inside the page."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cosytune.comparison.plan import ComparisonResult, Sample
from cosytune.evaluation.results import COUNTED
from cosytune.report.systems import System
from cosytune.report.tables import number

__all__ = ["AUDIO_BYTES", "Clip", "Lane", "Players", "Sentence", "players_of"]

AUDIO_BYTES = 12_000_000
"""Most bytes of base64 on the page, which has to stay under some 15 MB for a phone."""

TYPES = {".flac": "audio/flac", ".wav": "audio/wav", ".mp3": "audio/mpeg", ".ogg": "audio/ogg"}


@dataclass(frozen=True)
class Clip:
    """One player: `source` is a data URI, or `problem` says why there is none."""

    system: System
    source: str | None
    problem: str | None
    scores: str


@dataclass(frozen=True)
class Lane:
    """Clips that belong together: those of one start, or the recording."""

    title: str
    clips: tuple[Clip, ...]


@dataclass(frozen=True)
class Sentence:
    """One sentence and what everybody said."""

    id: str
    text: str
    lanes: tuple[Lane, ...]


@dataclass(frozen=True)
class Players:
    """The playable part of the page.

    Attributes:
        sentences: those whose sound is in the page.
        total: sentences that were spoken.
        seeds: the seed that is played, by system.
        more_seeds: whether there are clips of further seeds.
        folder: where all clips lie; empty without clips.
        limit_mb: how much sound the page may hold.
    """

    sentences: tuple[Sentence, ...]
    total: int
    seeds: Mapping[str, int]
    more_seeds: bool
    folder: str
    limit_mb: float


def players_of(result: ComparisonResult, systems: Sequence[System], *, limit: int = AUDIO_BYTES) -> Players:
    """The first sentences, in the order they were dealt, that fit into `limit` bytes of base64."""
    seeds: dict[str, int] = {}
    for sample in result.samples:
        seeds[sample.system] = min(sample.seed, seeds.get(sample.system, sample.seed))
    chosen = {
        (sample.sentence, sample.system): sample for sample in result.samples if sample.seed == seeds[sample.system]
    }
    texts = {sample.sentence: sample.text for sample in reversed(result.samples)}
    order = list(dict.fromkeys(sample.sentence for sample in result.samples))
    scores = _scores(result, seeds)
    spoken = [system for system in systems if system.name in seeds]
    sentences, used = [], 0
    for sentence in order:
        samples = {name: chosen.get((sentence, name)) for name in seeds}
        used += sum(_encoded_size(sample) for sample in samples.values() if sample is not None)
        if used > limit:
            break
        clips = [
            _clip(system, samples[system.name], seeds[system.name], scores.get((system.name, sentence), ""))
            for system in spoken
        ]
        sentences.append(Sentence(sentence, texts[sentence], _lanes(clips)))
    return Players(
        tuple(sentences),
        len(order),
        seeds,
        any(sample.seed != seeds[sample.system] for sample in result.samples),
        os.path.commonpath([Path(sample.path).parent for sample in result.samples]) if result.samples else "",
        limit / 1e6,
    )


def _encoded_size(sample: Sample) -> int:
    path = Path(sample.path)
    return -(-path.stat().st_size // 3) * 4 if path.is_file() else 0


def _clip(system: System, sample: Sample | None, seed: int, scores: str) -> Clip:
    if sample is None:
        return Clip(system, None, f"nothing was spoken with seed {seed}", scores)
    path = Path(sample.path)
    if not path.is_file():
        return Clip(system, None, f"the file {path} is missing", scores)
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return Clip(system, f"data:{TYPES.get(path.suffix.lower(), 'audio/*')};base64,{data}", None, scores)


def _scores(result: ComparisonResult, seeds: Mapping[str, int]) -> dict[tuple[str, str], str]:
    """The first voting metric of every judge, for the seed that is played."""
    voting = {vote.metric for vote in result.evaluation.votes if vote.votes}
    shown: dict[str, str] = {}
    for info in result.evaluation.metrics:
        if info.name in voting and info.judge != COUNTED:
            shown.setdefault(info.judge, info.name)
    found: dict[tuple[str, str], list[str]] = {}
    for score in result.evaluation.scores:
        if score.metric in shown.values() and score.seed == seeds.get(score.system):
            found.setdefault((score.system, score.sentence), []).append(f"{score.metric} {number(score.value)}")
    return {key: " · ".join(pieces) for key, pieces in found.items()}


def _lanes(clips: Sequence[Clip]) -> tuple[Lane, ...]:
    lanes: dict[str, list[Clip]] = {}
    for clip in clips:
        title = clip.system.start or ("recording" if clip.system.role == "ceiling" else "other systems")
        lanes.setdefault(title, []).append(clip)
    return tuple(Lane(title, tuple(own)) for title, own in lanes.items())
