"""Let judges and metrics score what systems said, and decide which metrics may vote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cosytune.errors import InputError
from cosytune.evaluation.judges.base import Judge, Recording, check_wave, is_silent
from cosytune.evaluation.metrics import METRICS, measure
from cosytune.evaluation.results import COUNTED, ERROR_RATE, OPINION, SIMILARITY, Damage, MetricInfo, Score, Vote

__all__ = [
    "DAMAGE_SNR_DB",
    "HIGHEST_ERROR",
    "SpokenItem",
    "decide_votes",
    "metrics_of",
    "score_system",
    "sees_damage",
]

HIGHEST_ERROR = 0.40
"""Above this error on the recordings themselves a recogniser measures itself and not the speech (design section 8)."""

DAMAGE_SNR_DB = (20.0, 10.0, 0.0)
"""Grades of white noise that an opinion metric must hear."""

TELLS_APART = 0.75
"""Share of pairs (recording of the voice, recording of somebody else) that similarity must rank rightly."""


@dataclass(frozen=True)
class SpokenItem:
    """One sentence that a system was asked to speak.

    Attributes:
        sentence: id of the sentence; with `seed` unique within a system.
        text: what was to be said.
        wave: float32 [N] in [-1, 1], or None if the system failed to speak it.
        sample_rate: Hz.
        seed: of the run that spoke it.
        recording_seconds: length of a recording of the same sentence, if there is one.
    """

    sentence: str
    text: str
    wave: np.ndarray | None
    sample_rate: int
    seed: int
    recording_seconds: float | None = None


def metrics_of(judges: Sequence[Judge]) -> tuple[MetricInfo, ...]:
    """Every metric that `score_system` can return with these judges."""
    return METRICS + tuple(info for judge in judges for info in judge.metrics)


def score_system(
    system: str,
    items: Sequence[SpokenItem],
    judges: Sequence[Judge],
    *,
    references: Sequence[Recording],
    pitch: bool = True,
) -> list[Score]:
    """Score all that one system said; in the order of the items.

    What could not be spoken (no wave, silence, numbers that are not finite) gets `spoken` 0 and every judge's score of
    silence: a failure must cost more than bad speech. It has no pace, level or pitch. A reference that is the item
    itself is left out, so that real recordings cannot be compared with themselves.

    Args:
        system: name of the system in the scores.
        items: what it said.
        judges: who scores; metrics without a judge are always measured.
        references: recordings of the intended speaker, for judges of similarity.
        pitch: whether to follow F0 (slow).

    Raises:
        InputError: an item was given twice, or a judge cannot use a text, a shape, a rate or the references.
        MissingPackageError: the package of a judge is not installed.
    """
    scores: list[Score] = []
    done: set[tuple[str, int]] = set()
    for item in items:
        if (item.sentence, item.seed) in done:
            raise InputError(
                f"sentence {item.sentence!r} with seed {item.seed} of {system!r} is given twice; "
                "give every spoken sentence an id of its own"
            )
        done.add((item.sentence, item.seed))
        for metric, value in _score_item(item, judges, references, pitch).items():
            scores.append(Score(system, item.sentence, metric, value, item.seed))
    return scores


def _score_item(
    item: SpokenItem, judges: Sequence[Judge], references: Sequence[Recording], pitch: bool
) -> dict[str, float]:
    wave = item.wave
    if wave is None or not np.isfinite(wave).all():
        wave = np.zeros(0, dtype=np.float32)
    check_wave(wave, item.sample_rate)
    spoken = not is_silent(wave, item.sample_rate)
    found = {"spoken": float(spoken)}
    for judge in judges:
        found |= judge.score(wave, item.sample_rate, item.text, _others(wave, references))
    if spoken:
        found |= measure(wave, item.sample_rate, item.text, recording_seconds=item.recording_seconds, pitch=pitch)
    return found


def _others(wave: np.ndarray, references: Sequence[Recording]) -> list[Recording]:
    return [reference for reference in references if not np.array_equal(reference.wave, wave)]


def sees_damage(
    judge: Judge,
    recordings: Sequence[SpokenItem],
    *,
    references: Sequence[Recording] = (),
    snr_db: Sequence[float] = DAMAGE_SNR_DB,
    seed: int = 0,
) -> dict[str, Damage]:
    """Add white noise to recordings in grades and see whether each metric of a judge gets worse with each grade.

    Args:
        judge: who is examined.
        recordings: real recordings with their texts.
        references: as in `score_system`.
        snr_db: falling ratios of speech to noise, in dB.
        seed: of the noise.

    Raises:
        InputError: no recordings, or ratios that do not fall.
    """
    grades = tuple(float(ratio) for ratio in snr_db)
    if not recordings or not grades or any(later >= earlier for earlier, later in pairwise(grades)):
        raise InputError(
            f"a damage test needs recordings and falling noise ratios, got {len(recordings)} recordings and "
            f"{list(grades)} dB; give some recordings and ratios such as {list(DAMAGE_SNR_DB)}"
        )
    totals = {info.name: np.zeros(1 + len(grades)) for info in judge.metrics}
    for index, item in enumerate(recordings):
        wave = np.zeros(0, dtype=np.float32) if item.wave is None else item.wave
        kept = _others(wave, references)
        noise = np.random.default_rng([seed, index]).standard_normal(len(wave))
        for grade, ratio in enumerate((None, *grades)):
            damaged = wave if ratio is None else _with_noise(wave, noise, ratio)
            for name, value in judge.score(damaged, item.sample_rate, item.text, kept).items():
                totals[name][grade] += value / len(recordings)
    return {info.name: _damage(info, totals[info.name], grades) for info in judge.metrics}


def _with_noise(wave: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """`wave` [N] with `noise` [N] of unit power at a ratio in dB; scaled down where it would clip."""
    power = float(np.mean(np.square(wave, dtype=np.float64))) if wave.size else 0.0
    mixed = wave + noise * np.sqrt(power / 10.0 ** (snr_db / 10.0))
    return (mixed / max(1.0, float(np.abs(mixed).max(initial=0.0)))).astype(np.float32)


def _damage(info: MetricInfo, means: np.ndarray, grades: tuple[float, ...]) -> Damage:
    falling = np.diff(means if info.higher_is_better else -means) < 0
    return Damage(info.name, float(means[0]), grades, tuple(float(mean) for mean in means[1:]), bool(falling.all()))


def decide_votes(
    scores_on_recordings: Sequence[Score],
    metrics: Sequence[MetricInfo],
    *,
    other_speakers: Sequence[Score] = (),
    damage: Mapping[str, Damage] | None = None,
) -> list[Vote]:
    """Which metrics count in a verdict, each with the reason: a metric votes only where it works.

    Args:
        scores_on_recordings: scores of real recordings of the intended speaker.
        metrics: every metric that is to be decided on.
        other_speakers: scores of real recordings of other people against the same references.
        damage: results of `sees_damage`; an opinion without one has no vote.
    """
    tested = damage or {}
    votes = []
    for info in metrics:
        own = np.array([score.value for score in scores_on_recordings if score.metric == info.name])
        others = np.array([score.value for score in other_speakers if score.metric == info.name])
        votes.append(Vote(info.name, *_vote(info, own, others, tested.get(info.name))))
    return votes


def _vote(info: MetricInfo, own: np.ndarray, others: np.ndarray, damage: Damage | None) -> tuple[bool, str]:
    if info.higher_is_better is None:
        return False, "it describes: more is neither better nor worse"
    if info.judge == COUNTED:
        return True, "it is counted from the wave, no judge is involved"
    if own.size == 0:
        return False, "it was not tried on recordings, so nobody knows whether it works here"
    if info.unit == ERROR_RATE and own.mean() > HIGHEST_ERROR:
        return False, (
            f"{info.judge} gets {own.mean():.0%} wrong on the recordings themselves; above {HIGHEST_ERROR:.0%} "
            "it measures itself"
        )
    if damage is not None and not damage.seen:
        return False, f"it does not hear graded noise: {_damage_words(damage)}"
    if info.unit == OPINION and damage is None:
        return False, "nobody tried whether it hears damage to these recordings"
    if info.unit == SIMILARITY and others.size:
        return _similarity_vote(own, others)
    return True, _works(info, own, damage)


def _similarity_vote(own: np.ndarray, others: np.ndarray) -> tuple[bool, str]:
    """Area under the ROC curve and means: both must favour the voice itself."""
    right = float(np.mean((own[:, None] > others) + 0.5 * (own[:, None] == others)))
    figures = (
        f"the voice has {own.mean():.2f}, other speakers {others.mean():.2f}, "
        f"and {right:.0%} of the pairs are ranked rightly"
    )
    if own.mean() > others.mean() and right >= TELLS_APART:
        return True, f"it tells speakers apart on the recordings: {figures}"
    return False, f"it does not tell speakers apart on the recordings: {figures}"


def _damage_words(damage: Damage) -> str:
    grades = ", ".join(f"{mean:.2f} at {ratio:g} dB" for ratio, mean in zip(damage.snr_db, damage.means, strict=True))
    return f"{damage.clean:.2f} clean, {grades}"


def _works(info: MetricInfo, own: np.ndarray, damage: Damage | None) -> str:
    if info.unit == ERROR_RATE:
        return f"{info.judge} gets {own.mean():.0%} wrong on the recordings themselves"
    if info.unit == SIMILARITY:
        return f"recordings of the voice have {own.mean():.2f}; no other speakers were given to compare"
    return f"it hears graded noise: {_damage_words(damage)}" if damage is not None else "it was tried on recordings"
