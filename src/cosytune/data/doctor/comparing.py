"""What only the other clips can tell: odd pace, odd loudness, a narrower band, copies, repeated sentences."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from cosytune.data.doctor.array_file import Arrays, Chosen
from cosytune.data.doctor.clips import Clip
from cosytune.data.doctor.fingerprints import same_recordings
from cosytune.data.doctor.outliers import pace_line, robust_scores
from cosytune.data.doctor.settings import Limits
from cosytune.data.doctor.texts import spoken_characters, text_key
from cosytune.data.doctor_results import Action, Finding
from cosytune.text.language import CHARACTER_LANGUAGES, base_language

__all__ = ["compare_bands", "compare_levels", "compare_paces", "find_copies", "find_repeats"]

FEWEST = 20
"""Clips from which the pace of a language or a speaker's level is known; absolute limits hold before."""

HUMAN_PACE = (5.0, 30.0)
HUMAN_PACE_CHARACTERS = (1.8, 10.0)
"""Characters a second that no reading leaves: alphabetic scripts, and scripts with a syllable per character."""

PACE_SPREAD = 0.08
PACE_RATIO = 1.25
"""A pace nearer than this factor to the usual one is never odd."""

FEW_CHARACTERS = 12

LEVEL_SPREAD = 1.0
NARROWER = 0.75


def compare_paces(clips: Sequence[Clip], limits: Limits) -> None:
    """Fill in characters per second, and mark clips whose text is too long or too short for their speech."""
    groups: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        seconds = clip.measures.talking_seconds if clip.measures is not None else 0.0
        characters = spoken_characters(clip.utterance.text or "")
        if seconds > 0 and characters and clip.measures and clip.measures.measured_seconds >= clip.measures.seconds:
            clip.characters_per_second = round(characters / seconds, 3)
            groups[base_language(clip.utterance.language)].append(clip)
    for language, group in groups.items():
        if len(group) < FEWEST:
            low, high = HUMAN_PACE_CHARACTERS if language in CHARACTER_LANGUAGES else HUMAN_PACE
            for clip in group:
                pace = clip.characters_per_second or 0.0
                if not low <= pace <= high:
                    words = f"{pace:.1f} characters a second are no reading: text and speech do not belong together."
                    limit = low if pace < low else high
                    clip.findings.append(Finding("pace", "drop", words, pace, limit, "characters/s"))
        else:
            _compare_with_line(group, limits)


def _compare_with_line(group: Sequence[Clip], limits: Limits) -> None:
    characters = [spoken_characters(clip.utterance.text or "") for clip in group]
    seconds = [clip.measures.talking_seconds for clip in group if clip.measures is not None]
    offset, slope = pace_line(characters, seconds)
    usual = [offset + slope * count for count in characters]
    ratios = [math.log(own / other) for own, other in zip(seconds, usual, strict=True)]
    # Few characters say little about a pace.
    certainty = [math.sqrt(count / (count + FEW_CHARACTERS)) for count in characters]
    scores = robust_scores(ratios, least_spread=PACE_SPREAD) * np.array(certainty)
    for clip, score, own, other, count in zip(group, scores, seconds, usual, characters, strict=True):
        if abs(score) < limits.pace or max(own / other, other / own) < PACE_RATIO:
            continue
        words = (
            f"Its {count} characters take {own:.1f} s without the longest pause, and {other:.1f} s are usual here: "
            + (
                "words are missing from the recording, or the text has too many."
                if own < other
                else "it says more than its text, or pauses."
            )
        )
        action: Action = "drop" if abs(score) >= limits.bad_pace else "keep"
        clip.findings.append(
            Finding("pace", action, words, count / own, count / other, "characters/s", abs(float(score)) / limits.pace)
        )


def compare_levels(clips: Sequence[Clip], limits: Limits) -> None:
    """Mark clips far louder or softer than the rest of their speaker's."""
    groups: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        if clip.measures is not None and clip.measures.speech_seconds > 0:
            groups[clip.utterance.speaker].append(clip)
    for group in groups.values():
        levels = [clip.measures.level for clip in group if clip.measures is not None]
        middle = float(np.median(levels))
        scores = robust_scores(levels, least_spread=LEVEL_SPREAD)
        for clip, level, score in zip(group, levels, scores, strict=True):
            step = abs(level - middle)
            if len(group) >= FEWEST and step >= limits.loud_step and abs(score) >= limits.pace:
                words = (
                    f"It is {step:.0f} dB {'louder' if level > middle else 'softer'} than this speaker's other clips."
                )
                clip.findings.append(
                    Finding("odd level", "keep", words, level, middle, "dBFS", step / limits.loud_step)
                )


def compare_bands(clips: Sequence[Clip], limits: Limits) -> None:
    """Mark clips whose spectrum was cut far below that of the others."""
    bands = [clip.measures.bandwidth for clip in clips if clip.measures is not None]
    usual = float(np.median(bands)) if bands else 0.0
    for clip in clips:
        found = clip.measures
        if found is None or found.edge < limits.wall or any(own.defect == "narrow band" for own in clip.findings):
            continue
        if limits.bandwidth <= found.bandwidth < NARROWER * usual:
            words = (
                f"Its sound is cut off at {found.bandwidth:.0f} Hz, and the others reach {usual:.0f} Hz: recorded or "
                "stored in another way."
            )
            clip.findings.append(
                Finding(
                    "narrower band", "keep", words, found.bandwidth, NARROWER * usual, "Hz", usual / found.bandwidth
                )
            )


def find_copies(clips: Sequence[Clip], prints: Arrays) -> None:
    """Drop all but the first of clips that hold one recording; all of them where their texts differ.

    Args:
        clips: what is known of each.
        prints: fingerprint of each.
    """
    exact: dict[str, list[int]] = defaultdict(list)
    for number, clip in enumerate(clips):
        if clip.measures is not None and clip.measures.speech_seconds > 0:
            exact[clip.heard.sound].append(number)
    firsts = [group[0] for group in exact.values()]
    groups = {group[0]: group for group in exact.values()}
    for match in same_recordings(Chosen(prints, firsts)):
        first, second = groups[firsts[match.first]], groups[firsts[match.second]]
        if first is not second:
            first.extend(second)
            groups.update(dict.fromkeys(second, first))
    for group in {id(group): group for group in groups.values()}.values():
        if len(group) > 1:
            _judge_copies([clips[number] for number in group])


def _judge_copies(group: Sequence[Clip]) -> None:
    first, *others = group
    texts = {text_key(clip.utterance.text) for clip in group if clip.utterance.text is not None}
    if len(texts) > 1:
        for clip in group:
            other = first if clip is not first else others[0]
            words = (
                f"The same recording stands with another text as {other.utterance.id}: at most one of the two texts is "
                "right, and nobody here knows which."
            )
            clip.findings.append(Finding("same sound, other text", "drop", words))
        return
    for clip in others:
        exact = clip.heard.sound == first.heard.sound
        words = f"It is {'exactly' if exact else 'audibly'} the same recording as {first.utterance.id}" + (
            "." if exact else " (coded again, at another level, or with other silence around it)."
        )
        clip.findings.append(Finding("copy", "drop", words))


def find_repeats(clips: Sequence[Clip]) -> None:
    """Note sentences that one speaker says again; they are no defect, but they are no new text either."""
    said: dict[tuple[str, str], Clip] = {}
    for clip in clips:
        key = text_key(clip.utterance.text or "")
        if not key or clip.measures is None:
            continue
        first = said.setdefault((clip.utterance.speaker, key), clip)
        if first is not clip:
            words = f"The same sentence as {first.utterance.id}, said again."
            clip.findings.append(Finding("repeated text", "keep", words, severity=0.0))
