"""What judges from outside tell: a clip that does not sound like its speaker, a transcript that is not what is said."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice

import numpy as np
from rapidfuzz.distance import Levenshtein

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


def compare_voices(clips: Sequence[Clip], limits: Limits) -> list[SkippedCheck]:
    """Fill in how much each clip sounds like its speaker's others, and mark those that do not."""
    groups: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        if clip.heard.vector is not None:
            groups[clip.utterance.speaker].append(clip)
    known = {name: group for name, group in groups.items() if len(group) >= FEWEST_VOICES}
    few = sorted(set(groups) - set(known))
    vectors = {name: _unit(np.stack([_vector(clip) for clip in group])) for name, group in known.items()}
    trusted = {name: _trusted(own) for name, own in vectors.items()}
    centres = {name: _unit(own[trusted[name]].sum(axis=0)) for name, own in vectors.items()}
    for name, group in known.items():
        own = _leave_one_out(vectors[name], trusted[name])
        scores = _voice_scores(own, [clip.measures.speech_seconds for clip in group if clip.measures is not None])
        for place, clip in enumerate(group):
            clip.likeness = round(float(own[place]), 4)
            rivals = {other: float(vectors[name][place] @ centre) for other, centre in centres.items() if other != name}
            _judge_voice(clip, float(own[place]), float(scores[place]), rivals, float(np.median(own)), limits)
    if not few:
        return []
    reason = f"fewer than {FEWEST_VOICES} clips of {', '.join(few[:5])}{' and others' if len(few) > 5 else ''}"
    return [SkippedCheck("speaker", f"{reason}: nobody knows how these speakers sound")]


def _judge_voice(clip: Clip, own: float, score: float, rivals: dict[str, float], usual: float, limits: Limits) -> None:
    nearest = max(rivals, key=lambda name: rivals[name], default=None)
    taken = nearest is not None and rivals[nearest] > own + NEARER
    if score > -limits.speaker and not (taken and score < -limits.speaker / 2):
        return
    words = f"It does not sound like {clip.utterance.speaker} (likeness {own:.2f}, usual {usual:.2f})"
    words += f", rather like {nearest} ({rivals[nearest]:.2f})." if taken and nearest is not None else ": listen to it."
    worse = max(1.0, -score / limits.speaker)
    clip.findings.append(Finding("speaker", "drop", words, own, round(usual, 4), "cosine", worse))


def _voice_scores(likeness: np.ndarray, seconds: Sequence[float]) -> np.ndarray:
    """Robust scores [n] of likenesses [n]; a short clip tells less of a voice and is expected to be less alike."""
    if len(likeness) < FEW_VOICES:
        return robust_scores(likeness, least_spread=VOICE_SPREAD)
    brevity = 1 / np.maximum(np.asarray(seconds), SHORTEST_VOICE)
    return robust_scores(likeness - min(0.0, median_slope(brevity, likeness)) * brevity, least_spread=VOICE_SPREAD)


def _vector(clip: Clip) -> np.ndarray:
    assert clip.heard.vector is not None
    return clip.heard.vector


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _trusted(vectors: np.ndarray) -> np.ndarray:
    """Bool [n]: the clips that make up the voice; those that are far from the others are left out of it."""
    trusted = np.ones(len(vectors), dtype=bool)
    for _ in range(3):
        scores = robust_scores(_leave_one_out(vectors, trusted), least_spread=VOICE_SPREAD)
        again = scores > -2.5
        if (again == trusted).all() or again.sum() < FEWEST_VOICES // 2:
            break
        trusted = again
    return trusted


def _leave_one_out(vectors: np.ndarray, trusted: np.ndarray) -> np.ndarray:
    """Cosine [n] of each clip with the mean of the trusted ones without itself."""
    total = vectors[trusted].sum(axis=0)
    others = total - np.where(trusted[:, None], vectors, 0.0)
    return (vectors * _unit(others)).sum(axis=1)


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
