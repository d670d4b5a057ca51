"""What the letters of a transcript sound like, as evidence of where it is said (`data.letters`)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from cosytune.data.alignment import MOST_STRETCHES, MOST_UNITS, Alignment, Anchor, Heard, Unit
from cosytune.data.letters import (
    FRAMES_PER_SECOND,
    Letters,
    Line,
    Run,
    Sound,
    align,
    hear_letters,
    letters_of,
    score_runs,
)

__all__ = ["LetterEar"]

SCALE = 0.2
"""Of a frame's nats: neighbouring frames tell the same again."""
SURE = 0.9
"""Probability of the borders between which letters are learned, and of there being no gap."""
LONGEST_LINE = 15 * FRAMES_PER_SECOND
"""Frames of what is learned from; between farther borders nobody knows where the text goes astray."""
LONGEST_RUN = 2.0
"""Times what a text takes usually; half a second is added."""
PART_PRIOR = 10.0
"""Frames as good as usual that are added to each part that is judged: in a short one little is heard."""


class LetterEar:
    """Hears where a text is said, as soon as some of it is placed for certain.

    Args:
        units: of the text.
        language: its code, or "".
        sound: of the recording.
    """

    def __init__(self, units: Sequence[Unit], language: str, sound: Sound) -> None:
        self._units, self._sound = units, sound
        self._letters, self._alphabet = letters_of([unit.text for unit in units], language)
        self._learned: Letters | None = None
        self._frames = 0.0  # that a letter takes

    def learn(self, found: Alignment) -> Heard | None:
        """Learn from what is certain in an alignment, and hear all that may be; None if that teaches nothing."""
        sure = [anchor for anchor in found.anchors if anchor.confidence >= SURE]
        pairs = [(first, second) for first, second in pairwise(sure) if self._is_certain(first, second, found)]
        lines = [self._line(first, second) for first, second in pairs]
        self._learned = hear_letters(self._sound, lines, self._alphabet)
        if self._learned is None:
            return None
        frames = sum(line.last - line.first for line in lines)
        size = sum(unit.size for first, second in pairs for unit in self._units[first.unit : second.unit])
        self._frames = frames / sum(len(line.letters) for line in lines)
        nats = self._hear(found.reach)
        return Heard([low for low, _ in found.reach], nats, frames / FRAMES_PER_SECOND / size)

    def fit(self, first: Anchor, second: Anchor) -> float:
        """How well text and sound go together in the worst part between two borders: 1 is usual, 0 is chance."""
        if self._learned is None:
            raise ValueError("nothing was learned yet")
        line = self._line(first, second)
        if not _can_be_said(line):
            return -np.inf
        (path,) = align(self._learned.table, [line])
        nats = self._learned.table[np.arange(line.first, line.last), line.letters[path]]
        nats = nats / self._learned.usual
        sizes = self._sizes(first.unit, second.unit)
        unit_of = np.repeat(np.arange(len(sizes)), sizes)[path]
        edges = self._sound.begins[first.stretch : second.stretch + 1] - line.first
        parts = [(nats[begin:end], 0.0) for begin, end in pairwise(edges)]
        # A text that nobody reads is squeezed into a few frames, and those may go well.
        parts += [(nats[unit_of == number], size * self._frames) for number, size in enumerate(sizes)]
        return min((float(part.sum()) + PART_PRIOR) / (max(len(part), least) + PART_PRIOR) for part, least in parts)

    def _is_certain(self, first: Anchor, second: Anchor, found: Alignment) -> bool:
        if first.unit == second.unit or first.stretch == second.stretch:
            return False
        gap = max(found.unread[first.unit : second.unit].max(), found.untold[first.stretch : second.stretch].max())
        line = self._line(first, second)
        return bool(gap <= 1 - SURE) and line.last - line.first <= LONGEST_LINE and _can_be_said(line)

    def _line(self, first: Anchor, second: Anchor) -> Line:
        begins = self._sound.begins
        letters = np.concatenate(self._letters[first.unit : second.unit])
        return Line(int(begins[first.stretch]), int(begins[second.stretch]), letters)

    def _sizes(self, first: int, last: int) -> list[int]:
        return [len(own) for own in self._letters[first:last]]

    def _hear(self, reach: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """The nats of `Heard` from every pause that a unit may begin in."""
        begins = self._sound.begins
        nats, runs, rows = [], [], []
        for unit, (low, high) in enumerate(reach):
            nats.append(np.full((high - low, MOST_UNITS, MOST_STRETCHES), -np.inf, np.float32))
            sizes = np.cumsum(self._sizes(unit, unit + MOST_UNITS))
            if not len(sizes) or not sizes[-1]:
                continue
            letters = np.concatenate(self._letters[unit : unit + MOST_UNITS])
            most = LONGEST_RUN * len(letters) * self._frames + FRAMES_PER_SECOND / 2
            for pause in range(low, min(high, len(begins) - 1)):
                frames = begins[pause + 1 : pause + 1 + MOST_STRETCHES] - begins[pause]
                runs.append(
                    Run(int(begins[pause]), frames[: max(1, int(np.searchsorted(frames, most)))], letters, sizes)
                )
                rows.append((unit, pause - low))
        if self._learned is not None:
            for (unit, row), scores in zip(rows, score_runs(self._learned.table, runs), strict=True):
                nats[unit][row, : scores.shape[0], : scores.shape[1]] = SCALE * scores
        return nats


def _can_be_said(line: Line) -> bool:
    """Whether there is a letter, and no more of them than frames."""
    return 0 < len(line.letters) <= line.last - line.first
