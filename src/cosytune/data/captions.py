"""Laying subtitles along the speech of their recording: their times are near the truth, the pauses are the truth."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cosytune.data.alignment import WIDE, Anchor, Unit, spoken_size, units_of_text
from cosytune.data.subtitles import Cue

__all__ = ["TimedUnit", "anchors_of_cues", "common_shift", "timed_units"]

REACH = 0.6
"""Seconds. A border between two cues lies in a pause that is not farther away."""
REACH_INSIDE = 1.2
"""The same for a sentence end inside a cue, whose time is only reckoned from its letters."""
NEARBY = 0.8
"""Seconds around its cues in which speech can still belong to them."""
LONGEST_SHIFT = 3.0
"""Seconds by which all subtitles of a file may come too early or too late."""
PAUSE_WORTH = 0.7
"""Seconds that a pause of a second may be farther away than one of no length and still be preferred."""
SILENT_SHARE = 0.2
"""A unit with less speech than this share of its time is said to have none."""
SHIFT_STEP = 0.05
SHIFT_GAIN = 0.02
"""Share of the recording that must agree better for a shift to be believed."""
_SENTENCE_ENDS = frozenset("。？！.?!…”\"'»」』)）")


@dataclass(frozen=True)
class TimedUnit:
    """A cue, or a sentence of one, with the seconds in which it should be heard.

    Attributes:
        unit: its text.
        start: second of its beginning.
        end: second of its end.
        exact: whether both times are a cue's own, and not reckoned.
        reason: why it cannot be used, or "".
        speaker: who speaks, if the cue names them.
    """

    unit: Unit
    start: float
    end: float
    exact: bool
    reason: str = ""
    speaker: str | None = None


def timed_units(cues: Sequence[Cue], language: str, shift: float = 0.0) -> list[TimedUnit]:
    """Cues as units of text, `shift` seconds later than they say; a cue with several sentences is several units."""
    timed: list[TimedUnit] = []
    for cue in cues:
        parts = [Unit(cue.text, 0.0, True)] if cue.reason else _sentences_of(cue.text, language)
        total = sum(unit.size for unit in parts)
        position = 0.0
        for unit in parts:
            begin, position = position, position + (unit.size / total if total else 1.0)
            length = cue.end - cue.start
            start, end = cue.start + begin * length + shift, cue.start + position * length + shift
            timed.append(TimedUnit(unit, start, end, len(parts) == 1, cue.reason, cue.speaker))
    return timed


def _sentences_of(text: str, language: str) -> list[Unit]:
    """The clauses of a cue, joined to sentences."""
    sentences: list[Unit] = []
    for unit in units_of_text(text, language) or [Unit(text, spoken_size(text, language), True)]:
        if sentences and not sentences[-1].ends_sentence:
            last = sentences.pop()
            unit = Unit(last.text + unit.text, last.size + unit.size, unit.ends_sentence)
        sentences.append(unit)
    # The last words of a cue end a sentence only if they say so: sentences run on over cues.
    last = sentences[-1]
    written = last.text.rstrip()
    parted = written if WIDE.fullmatch(written[-1:]) else f"{written} "
    sentences[-1] = Unit(parted, last.size, written[-1:] in _SENTENCE_ENDS)
    return sentences


def common_shift(cues: Sequence[Cue], speech: np.ndarray, seconds: float) -> float:
    """Seconds that all cues must be moved by so that they lie on the speech; 0 where that is hardly better.

    Args:
        cues: of one file.
        speech: [K, 2], stretches of speech in seconds.
        seconds: length of the recording.
    """
    steps = int(np.ceil(seconds / SHIFT_STEP)) + 1
    heard, shown = np.zeros(steps), np.zeros(steps)
    for begin, end in speech:
        heard[round(begin / SHIFT_STEP) : round(end / SHIFT_STEP)] = 1
    for cue in cues:
        if not cue.reason:
            shown[min(steps, round(cue.start / SHIFT_STEP)) : min(steps, round(cue.end / SHIFT_STEP))] = 1
    reach = min(round(LONGEST_SHIFT / SHIFT_STEP), steps - 1)
    agreement = {
        shift: float(
            np.mean(heard[max(0, shift) : steps + min(0, shift)] == shown[max(0, -shift) : steps - max(0, shift)])
        )
        for shift in range(-reach, reach + 1)
    }
    best = max(agreement, key=lambda shift: (agreement[shift], -abs(shift)))
    return best * SHIFT_STEP if agreement[best] > agreement[0] + SHIFT_GAIN else 0.0


def anchors_of_cues(timed: Sequence[TimedUnit], speech: np.ndarray) -> list[Anchor]:
    """Borders between units that lie in a pause, with the borders of speech that has no subtitle.

    Args:
        timed: units in order.
        speech: [K, 2], stretches of speech in seconds.

    Returns:
        Anchors in order of text and time, the ends of both among them.
    """
    pauses = np.stack([np.append(0.0, speech[:, 1]), np.append(speech[:, 0], np.inf)], axis=1)
    silent = [_sound_in(item, speech) < SILENT_SHARE * (item.end - item.start) for item in timed]
    covered = np.zeros(len(speech), bool)
    for item in itertools.compress(timed, np.logical_not(silent)):
        covered |= (speech[:, 1] > item.start - NEARBY) & (speech[:, 0] < item.end + NEARBY)
    # (how far from where it should be, unit, stretch)
    wanted = [(-np.inf, 0, 0), (-np.inf, len(timed), len(speech))]
    for q in range(len(timed) + 1):
        ends = timed[q - 1].end if q else -np.inf
        begins = timed[q].start if q < len(timed) else np.inf
        between = np.flatnonzero(~covered & (speech[:, 0] >= ends) & (speech[:, 1] <= begins))
        if len(between):
            wanted += [(-np.inf, q, int(between[0])), (-np.inf, q, int(between[-1]) + 1)]
        elif 0 < q < len(timed):
            reach = REACH if timed[q - 1].exact and timed[q].exact else REACH_INSIDE
            wanted += _near(pauses, q, min(ends, begins), max(ends, begins), reach)
    return _consistent(sorted(wanted), silent)


def _near(pauses: np.ndarray, q: int, begin: float, end: float, reach: float) -> list[tuple[float, int, int]]:
    """The pauses within reach of border `q`, which should lie between `begin` and `end`."""
    first = int(np.searchsorted(pauses[:, 1], begin - reach))
    last = int(np.searchsorted(pauses[:, 0], end + reach))
    near = np.arange(first, last)
    away = np.maximum(0.0, np.maximum(pauses[near, 0] - end, begin - pauses[near, 1]))
    length = np.minimum(1.0, pauses[near, 1] - pauses[near, 0])
    return [(float(cost), q, int(k)) for k, cost in zip(near, away - PAUSE_WORTH * length, strict=True)]


def _sound_in(item: TimedUnit, speech: np.ndarray) -> float:
    """Seconds of speech while the unit is shown."""
    return float(np.maximum(0.0, np.minimum(speech[:, 1], item.end) - np.maximum(speech[:, 0], item.start)).sum())


def _consistent(wanted: list[tuple[float, int, int]], silent: list[bool]) -> list[Anchor]:
    """The best places first, and of the others those that keep text and time in step."""
    kept: list[tuple[int, int]] = []
    for cost, q, k in wanted:
        place = bisect.bisect(kept, (q, k))
        if cost > -np.inf and any(unit == q for unit, _ in kept[max(0, place - 1) : place + 1]):
            continue
        before, after = kept[max(0, place - 1) : place], kept[place : place + 1]
        if all(_in_step(pair, (q, k), silent) for pair in before) and all(
            _in_step((q, k), pair, silent) for pair in after
        ):
            kept.insert(place, (q, k))
    return [Anchor(q, k, 1.0) for q, k in kept]


def _in_step(first: tuple[int, int], second: tuple[int, int], silent: list[bool]) -> bool:
    """Whether the speech between two anchors can be that of the text between them."""
    if first[0] == second[0] or first[1] < second[1]:
        return first[1] < second[1]
    return first[1] == second[1] and all(silent[first[0] : second[0]])
