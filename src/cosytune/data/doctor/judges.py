"""What judges from outside tell: a clip that does not sound like its speaker, a transcript that is not what is said."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from rapidfuzz.distance import Levenshtein

from cosytune.data.doctor.array_file import Arrays
from cosytune.data.doctor.clips import Clip
from cosytune.data.doctor.listening import Recogniser
from cosytune.data.doctor.outliers import median_slope, robust_scores
from cosytune.data.doctor.settings import Limits
from cosytune.data.doctor_results import Action, Finding, SkippedCheck

__all__ = ["compare_transcripts", "compare_voices"]

FEWEST_VOICES = 8
"""Clips of a speaker from which the voice is known."""

VOICE_SPREAD = 0.05
"""The smallest spread of likeness that is believed: tone and mood move a voice by so much."""

FEW_VOICES = 20
"""With fewer clips than this nobody knows how their length changes the likeness."""

BLOCK = 4096
"""Vectors that are looked at together."""

SHORTEST_VOICE = 0.3
"""Seconds below which brevity is no further excuse."""

NEARER = 0.02
"""Cosine by which another speaker must be nearer than the own one to be named."""

FEWEST_TEXTS = 12
DEAF = 0.65
"""Median error rate from which a recogniser does not understand this corpus at all."""

ERROR_SPREAD = 0.05
SURE, LUCK = 0.6, 0.8
"""A transcript is dropped from an error rate of the first plus the second over the root of its characters, because a
recogniser mishears most of a short text now and then; a milder one is marked."""

OTHER_TEXTS = 20_000
"""Texts that are searched for the one that is really said."""


def compare_voices(clips: Sequence[Clip], vectors: Arrays, limits: Limits) -> list[SkippedCheck]:
    """Fill in how much each clip sounds like its speaker's others, and mark those that do not.

    Args:
        clips: what is known of each.
        vectors: of each clip's voice, [E]; [0] where there is none.
        limits: when a likeness is a finding.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for number, clip in enumerate(clips):
        if len(vectors[number]):
            groups[clip.utterance.speaker].append(number)
    known = {name: _Voice(vectors, group) for name, group in groups.items() if len(group) >= FEWEST_VOICES}
    names = list(known)
    centres = np.stack([voice.centre for voice in known.values()]) if known else np.zeros((0, 0))
    for row, voice in enumerate(known.values()):
        own = voice.likeness()
        group = [clips[number] for number in voice.numbers]
        scores = _voice_scores(own, [clip.measures.speech_seconds for clip in group if clip.measures is not None])
        rivals = voice.nearest(np.delete(centres, row, axis=0))
        others, usual = names[:row] + names[row + 1 :], float(np.median(own))
        for clip, likeness, score, (place, closeness) in zip(group, own.tolist(), scores.tolist(), rivals, strict=True):
            clip.likeness = round(likeness, 4)
            rival = (others[place], closeness) if others and closeness > likeness + NEARER else None
            _judge_voice(clip, likeness, score, rival, usual, limits)
    few = sorted(set(groups) - set(known))
    if not few:
        return []
    reason = f"fewer than {FEWEST_VOICES} clips of {', '.join(few[:5])}{' and others' if len(few) > 5 else ''}"
    return [SkippedCheck("speaker", f"{reason}: nobody knows how these speakers sound")]


def _judge_voice(
    clip: Clip, own: float, score: float, rival: tuple[str, float] | None, usual: float, limits: Limits
) -> None:
    if score > -limits.speaker and not (rival is not None and score < -limits.speaker / 2):
        return
    words = f"It does not sound like {clip.utterance.speaker} (likeness {own:.2f}, usual {usual:.2f})"
    words += ": listen to it." if rival is None else f", rather like {rival[0]} ({rival[1]:.2f})."
    worse = max(1.0, -score / limits.speaker)
    clip.findings.append(Finding("speaker", "drop", words, own, round(usual, 4), "cosine", worse))


def _voice_scores(likeness: np.ndarray, seconds: Sequence[float]) -> np.ndarray:
    """Robust scores [n] of likenesses [n]; a short clip tells less of a voice and is expected to be less alike."""
    if len(likeness) < FEW_VOICES:
        return robust_scores(likeness, least_spread=VOICE_SPREAD)
    brevity = 1 / np.maximum(np.asarray(seconds), SHORTEST_VOICE)
    return robust_scores(likeness - min(0.0, median_slope(brevity, likeness)) * brevity, least_spread=VOICE_SPREAD)


class _Voice:
    """The clips of one speaker; their vectors are read in blocks, so that memory holds one block.

    Args:
        vectors: of all clips.
        numbers: of this speaker's clips.
    """

    def __init__(self, vectors: Arrays, numbers: Sequence[int]) -> None:
        self.numbers = numbers
        self._vectors = vectors
        self._trusted = np.ones(len(numbers), dtype=bool)
        self._total = self._sum()
        for _ in range(3):
            again = robust_scores(self.likeness(), least_spread=VOICE_SPREAD) > -2.5
            if (again == self._trusted).all() or again.sum() < FEWEST_VOICES // 2:
                break
            self._trusted, self._total = again, self._sum(again)
        self.centre = _unit(self._total)

    def likeness(self) -> np.ndarray:
        """Cosine [n] of each clip with the mean of the trusted ones without itself; those far off are not trusted."""
        return np.concatenate(
            [
                (block * _unit(self._total - np.where(self._trusted[place, None], block, 0.0))).sum(axis=1)
                for place, block in self._blocks()
            ]
        )

    def nearest(self, centres: np.ndarray) -> Iterator[tuple[int, float]]:
        """For each clip the place of the centre [m, E] that is nearest, and its cosine."""
        for _, block in self._blocks():
            if not len(centres):
                yield from [(-1, -1.0)] * len(block)
                continue
            closeness = block @ centres.T
            best = closeness.argmax(axis=1)
            yield from zip(best.tolist(), closeness[np.arange(len(block)), best].tolist(), strict=True)

    def _sum(self, chosen: np.ndarray | None = None) -> np.ndarray:
        parts = [
            (block if chosen is None else block[chosen[place]]).sum(axis=0, dtype=np.float64)
            for place, block in self._blocks()
        ]
        return np.asarray(sum(parts))

    def _blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Places and unit vectors [BLOCK, E]."""
        for first in range(0, len(self.numbers), BLOCK):
            numbers = self.numbers[first : first + BLOCK]
            yield slice(first, first + len(numbers)), _unit(np.stack([self._vectors[number] for number in numbers]))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def compare_transcripts(clips: Sequence[Clip], recogniser: Recogniser, limits: Limits) -> list[SkippedCheck]:
    """Fill in the error rate of what was heard, and mark transcripts that are far from it."""
    asked: list[tuple[Clip, str, str]] = []
    for clip in clips:
        wanted = recogniser.fold(clip.utterance.text or "").replace(" ", "")
        if clip.heard.words is not None and wanted:
            heard = recogniser.fold(clip.heard.words).replace(" ", "")
            clip.error_rate = round(Levenshtein.distance(wanted, heard) / len(wanted), 4)
            asked.append((clip, wanted, heard))
    if len(asked) < FEWEST_TEXTS:
        reason = f"only {len(asked)} clips could be given to {recogniser.name}; {FEWEST_TEXTS} show what is usual"
        return [SkippedCheck("transcript", reason)] if asked else []
    rates = [clip.error_rate or 0.0 for clip, _, _ in asked]
    usual = float(np.median(rates))
    if usual > DEAF:
        reason = f"{recogniser.name} mishears most of these clips (median {usual:.0%} of the characters)"
        return [SkippedCheck("transcript", reason + ": transcripts are not checked")]
    scores = robust_scores(rates, least_spread=ERROR_SPREAD)
    texts = list(islice(((clip.utterance.id, wanted) for clip, wanted, _ in asked), OTHER_TEXTS))
    for (clip, wanted, heard), rate, score in zip(asked, rates, scores, strict=True):
        if score > limits.transcript and rate > limits.error_rate:
            elsewhere = _said_elsewhere(wanted, heard, rate, texts)
            sure = elsewhere is not None or rate > SURE + LUCK / math.sqrt(len(wanted))
            words = f"{recogniser.name} hears {clip.heard.words or 'nothing'!r}, {rate:.0%} of the characters differ "
            words += f"({usual:.0%} is usual here): {_verdict(elsewhere, sure)}."
            limit = max(limits.error_rate, usual + limits.transcript * (rate - usual) / float(score))
            worse = float(score) / limits.transcript
            action: Action = "drop" if sure else "keep"
            clip.findings.append(Finding("transcript", action, words, rate, round(limit, 4), "error rate", worse))
    return []


def _verdict(elsewhere: str | None, sure: bool) -> str:
    if elsewhere is not None:
        return f"it sounds like the text of {elsewhere}"
    return "the text is not what is said" if sure else "a mishearing, or a wrong word"


def _said_elsewhere(wanted: str, heard: str, rate: float, texts: Sequence[tuple[str, str]]) -> str | None:
    """The id of the clip whose text fits much better, if there is one."""
    best, name = rate - 0.25, None
    for identity, text in texts:
        if text != wanted and abs(len(text) - len(heard)) <= best * len(text):
            limit = int(best * len(text))
            distance = Levenshtein.distance(text, heard, score_cutoff=limit)
            if distance <= limit and distance / len(text) < best:
                best, name = distance / len(text), identity
    return name
