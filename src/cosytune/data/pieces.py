"""Choosing the cuts of a long recording: every second of it lies in a clip, in a dropped piece or in a pause."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from cosytune.audio.pauses import FRAME_SECONDS, Activity, Detector
from cosytune.errors import InputError

__all__ = ["CutSettings", "Joint", "Piece", "choose_pieces", "joint_at", "joints_of_speech", "piece_between"]

ENOUGH_PAUSE = 0.8
"""Seconds. A cut in a pause of this length or more costs nothing."""
CALM_PAUSE = 0.7
"""Seconds. A longer pause inside a clip costs: a model learns to fall silent from it."""
COMFORTABLE = (4.0, 12.0)
"""Seconds. Clips of these lengths are what is fine-tuned with most; shorter and longer ones are avoided."""
CUT_IN_SPEECH = 4.0
"""Cost of a cut where nobody pauses: the last resort."""
TOO_SHORT = 8.0
"""Cost of a piece that will have to be dropped because it is too short."""


@dataclass(frozen=True)
class CutSettings:
    """How long recordings are cut.

    Attributes:
        shortest: seconds; a shorter piece of speech between long pauses is dropped.
        longest: seconds; a longer recording is cut, and no clip is longer.
        keep_silence: seconds of silence that a clip keeps at each end, where there is so much.
        detector: how speech is found (see `cosytune.audio.pauses`).
        confidence: probability that a border of the text lies in the pause where it was put, from which on it is
            believed.

    Raises:
        InputError: a number is out of range, or there is no such detector.
    """

    shortest: float = 2.0
    longest: float = 20.0
    keep_silence: float = 0.2
    detector: Detector = "auto"
    confidence: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.shortest < self.longest < float("inf"):
            raise InputError(
                f"clips of {self.shortest:g} to {self.longest:g} s were asked for; give 0 < shortest < longest seconds"
            )
        if not 0 <= self.keep_silence <= self.longest / 4:
            raise InputError(
                f"{self.keep_silence:g} s of silence were to be kept at each end of a clip; give 0 to a quarter of the "
                f"longest clip ({self.longest / 4:g} s)"
            )
        if self.detector not in get_args(Detector):
            raise InputError(f"there is no detector {self.detector!r}; choose one of {', '.join(get_args(Detector))}")
        if not 0.5 < self.confidence < 1:
            raise InputError(
                f"a confidence of {self.confidence:g} was asked for; give a probability above 0.5 and below 1"
            )


@dataclass(frozen=True)
class Joint:
    """A place where a recording may be cut.

    Attributes:
        before: second where the speech before it ends.
        after: second where the speech after it begins; the same as `before` where the cut goes through speech.
        cost: of a cut here; 0 is a place made for it.
        unit: number of units of the text that are said before it; 0 where there is no text.
        is_end: whether it is the recording's beginning or end, whose silence no neighbour shares.
    """

    before: float
    after: float
    cost: float = 0.0
    unit: int = 0
    is_end: bool = False


@dataclass(frozen=True)
class Piece:
    """A stretch of the recording from one joint to another, in seconds, silence at the ends included.

    Attributes:
        start: second where it begins.
        end: second where it ends.
        units: the units of the text that are said in it, as a range.
        in_speech: whether an end of it goes through speech.
    """

    start: float
    end: float
    units: tuple[int, int] = (0, 0)
    in_speech: bool = False

    @property
    def seconds(self) -> float:
        """Length."""
        return round(self.end - self.start, 3)


def joints_of_speech(activity: Activity, settings: CutSettings) -> list[Joint]:
    """All places where a recording without text may be cut: its ends, its pauses, quiet spots of endless speech.

    Args:
        activity: with at least one stretch of speech.
        settings: tells what is endless.
    """
    speech = activity.speech
    joints = [joint_at(activity, 0)]
    for number, (begin, end) in enumerate(speech, start=1):
        if end - begin + 2 * settings.keep_silence > settings.longest:
            joints += _quiet_spots(activity.levels, float(begin), float(end))
        joints.append(joint_at(activity, number))
    return joints


def joint_at(activity: Activity, stretch: int, cost: float = 0.0, unit: int = 0) -> Joint:
    """The pause before stretch `stretch` of the speech, or the silence at the end.

    Args:
        activity: with at least one stretch of speech.
        stretch: number of stretches before the joint.
        cost: of a cut here, beside that of a short pause.
        unit: number of units of the text before it.
    """
    count = len(activity.speech)
    before = float(activity.speech[stretch - 1, 1]) if stretch else 0.0
    after = float(activity.speech[stretch, 0]) if stretch < count else activity.seconds
    if stretch in (0, count):
        return Joint(before, after, 0.0, unit, True)
    return Joint(before, after, cost + 2.0 * max(0.0, 1.0 - (after - before) / ENOUGH_PAUSE), unit)


def choose_pieces(joints: Sequence[Joint], settings: CutSettings) -> list[Piece]:
    """The cheapest way to cut from the first joint to the last, as pieces in order.

    A dynamic programme over the joints. A piece longer than `settings.longest` is made only where there is no joint in
    it, a shorter one than `settings.shortest` only where it cannot be joined to a neighbour: the caller drops both.

    Args:
        joints: at least two, in order.
        settings: lengths in seconds.
    """
    cheapest, origin = [0.0], [0]
    for last in range(1, len(joints)):
        best = (float("inf"), last - 1)
        for first, cost in _ways_to(joints, last, settings):
            best = min(best, (cheapest[first] + cost + joints[last].cost, first))
        cheapest.append(best[0])
        origin.append(best[1])
    pieces = []
    last = len(joints) - 1
    while last:
        pieces.append(piece_between(joints[origin[last]], joints[last], settings))
        last = origin[last]
    return pieces[::-1]


def _ways_to(joints: Sequence[Joint], last: int, settings: CutSettings) -> Iterator[tuple[int, float]]:
    """Where a piece that ends at joint `last` may begin, and its own cost."""
    pause = 0.0
    for first in range(last - 1, -1, -1):
        piece = piece_between(joints[first], joints[last], settings)
        if piece.seconds > settings.longest and first < last - 1:
            return
        yield first, _length_cost(piece.seconds, settings) + 3.0 * max(0.0, pause - CALM_PAUSE)
        pause = max(pause, joints[first].after - joints[first].before)


def _length_cost(seconds: float, settings: CutSettings) -> float:
    low, high = max(COMFORTABLE[0], settings.shortest), min(COMFORTABLE[1], settings.longest)
    cost = max(0.0, low - seconds) ** 2 / 4 + max(0.0, seconds - high) ** 2 / 40
    return cost + (TOO_SHORT if seconds < settings.shortest else 0.0)


def piece_between(begin: Joint, end: Joint, settings: CutSettings) -> Piece:
    """The piece from one joint to a later one, with its share of the silence at both."""
    left, right = (
        min(settings.keep_silence, (joint.after - joint.before) / (1 if joint.is_end else 2)) for joint in (begin, end)
    )
    in_speech = any(joint.before == joint.after and not joint.is_end for joint in (begin, end))
    return Piece(round(begin.after - left, 3), round(end.before + right, 3), (begin.unit, end.unit), in_speech)


def _quiet_spots(levels: np.ndarray, begin: float, end: float) -> Iterator[Joint]:
    """In each second of endless speech its quietest 50 ms."""
    first, last = round(begin / FRAME_SECONDS), min(round(end / FRAME_SECONDS), len(levels))
    inside = np.convolve(np.pad(levels[first:last], 2, mode="edge"), np.full(5, 0.2), mode="valid")
    loud = float(np.percentile(inside, 75))
    step = round(1 / FRAME_SECONDS)
    for start in range(step // 2, len(inside) - step, step):
        spot = start + int(np.argmin(inside[start : start + step]))
        time = round((first + spot) * FRAME_SECONDS, 3)
        yield Joint(time, time, CUT_IN_SPEECH + 2.0 / (1.0 + max(0.0, loud - float(inside[spot])) / 10))
