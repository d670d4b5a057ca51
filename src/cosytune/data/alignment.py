"""Which words of a long transcript are said between which pauses of its recording.

The text is cut into units at its punctuation, the recording into stretches of speech at its pauses. A way to lay the
one along the other is a chain of beads; a bead says that some units are the text of some stretches (Gale and Church,
Computational Linguistics 19(1), 1993). How probable a bead is follows from how long its text takes at the reader's own
rate, and from how well pauses and punctuation fall together. Summing over all chains (forward and backward) gives the
probability that a border of the text lies in a pause: a border that is not nearly certain is not used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cosytune.text.normalise import normalise
from cosytune.text.split import sentences

__all__ = [
    "MOST_STRETCHES",
    "MOST_UNITS",
    "WIDE",
    "Alignment",
    "Anchor",
    "Evidence",
    "Heard",
    "Unit",
    "align_units",
    "misfit",
    "spoken_size",
    "units_of_text",
]

MOST_UNITS, MOST_STRETCHES = 5, 8
"""Of one bead: so many commas without a pause, or pauses without a comma, may follow one another."""
BAND = 120.0
"""Seconds by which the text may run ahead of or behind an even pace."""
RATES: tuple[float, ...] = (0.75, 0.87, 1.0, 1.15, 1.33)
"""Times the rate that the whole text and the whole recording suggest: either may hold more than the other."""

SIGMA_FIXED, SIGMA_PER_SECOND = 0.15, 0.2
"""Seconds; how far a bead's length is from its text's: sigma^2 = fixed^2 + per_second^2 * seconds."""
GAP, GAP_SECOND = 8.0, 0.5
"""Nats to begin leaving out text or speech where nothing tells of gaps, and for each second of it."""
REACH = 20.0
"""Nats below the whole, from which on a border is taken to be impossible in a pause."""
NO_PAUSE = {"clause": 0.7, "sentence": 3.5}
"""Nats of a mark at which the reader does not pause."""

_CLAUSE = re.compile(r"[^,;:，、；：—–]*[,;:，、；：—–]+[\"”’'»)\s]*|[^,;:，、；：—–]+")
WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af]")
WIDE_SIZE = 2.6
"""An ideograph, a kana or a Hangul syllable takes about as long as so many letters."""

Evidence = Callable[[int, int], float]
"""Nats that speak for the border before unit `q` lying in the pause before stretch `k`; negative against it."""


@dataclass(frozen=True)
class Unit:
    """A part of the text between two marks.

    Attributes:
        text: as written, marks included.
        size: how much there is to say, in letters.
        ends_sentence: whether a sentence ends with it.
    """

    text: str
    size: float
    ends_sentence: bool


@dataclass(frozen=True)
class Anchor:
    """A border of the text that is placed in a pause.

    Attributes:
        unit: number of units said before it.
        stretch: number of stretches of speech before it.
        confidence: probability that it lies there.
    """

    unit: int
    stretch: int
    confidence: float


@dataclass(frozen=True)
class Alignment:
    """A text laid along speech.

    Attributes:
        anchors: the borders that are more probable than not where they are, in order, the beginning of the text and
            its end among them. Two anchors of one unit hold speech without text between them, two of one pause text
            without speech.
        unread: for each unit the probability that nobody read it, [Q].
        untold: for each stretch of speech the probability that it is not in the text, [K].
        reach: for each border of the text the first pause, and one after the last, that it may lie in at all.
    """

    anchors: list[Anchor]
    unread: np.ndarray
    untold: np.ndarray
    reach: list[tuple[int, int]]


@dataclass(frozen=True)
class Heard:
    """How well the sound of some stretches goes with the letters of some units, in nats.

    Attributes:
        first: for each unit the first pause that it was tried from.
        nats: for each unit float32 [pauses, MOST_UNITS, MOST_STRETCHES]: from each pause so many units over so many
            stretches; minus infinity for what cannot be.
        seconds: that a letter of the text takes.
    """

    first: Sequence[int]
    nats: Sequence[np.ndarray]
    seconds: float

    def at(self, unit: int, units: int, stretches: int, low: int, high: int) -> np.ndarray:
        """Nats of `units` units from `unit` on over `stretches` stretches from each pause from `low` to `high` on."""
        found = np.full(high - low, -np.inf, np.float32)
        first, nats = self.first[unit], self.nats[unit][:, units - 1, stretches - 1]
        begin, end = max(low, first), min(high, first + len(nats))
        if begin < end:
            found[begin - low : end - low] = nats[begin - first : end - first]
        return found


def units_of_text(text: str, language: str) -> list[Unit]:
    """Cut a transcript at sentence ends, commas, colons and dashes; joined, the units' texts are the transcript."""
    units: list[Unit] = []
    for sentence in sentences(text):
        clauses = _CLAUSE.findall(sentence) or [sentence]
        for number, clause in enumerate(clauses, start=1):
            size = spoken_size(clause, language)
            if units and not size:
                units[-1] = Unit(units[-1].text + clause, units[-1].size, number == len(clauses))
            else:
                units.append(Unit(clause, size, number == len(clauses)))
    return [unit for unit in units if unit.size]


def spoken_size(text: str, language: str) -> float:
    """How much there is to say in a text, in letters: numbers count as their words."""
    if re.search(r"\d", text):
        text = normalise(text, language or None)
    wide = len(WIDE.findall(text))
    return sum(map(str.isalnum, text)) - wide + WIDE_SIZE * wide


def misfit(text: float, sound: float) -> float:
    """How many standard deviations a stretch of speech is away from what its text takes.

    Args:
        text: seconds that the text takes at the reader's rate.
        sound: seconds of speech.
    """
    return abs(text - sound) / float(np.sqrt(_variance(np.array(text), np.array(sound))))


def align_units(
    units: Sequence[Unit],
    speech: np.ndarray,
    evidence: Evidence | None = None,
    gap: float = GAP,
    heard: Heard | None = None,
) -> Alignment:
    """Lay a text along a recording.

    Args:
        units: of the transcript, in order; at least one.
        speech: [K, 2], begin and end of each stretch of speech in seconds, in order; at least one.
        evidence: what a recogniser heard, if there is one.
        gap: nats against each place where text or speech is left out.
        heard: how well sound and letters go together, if that is known.
    """
    rates = RATES
    if heard is not None:
        usual = (speech[:, 1] - speech[:, 0]).sum() / sum(unit.size for unit in units)
        rates = (float(usual / heard.seconds),)
    lattices = (_Lattice(units, speech, evidence, rate, gap, heard) for rate in rates)
    return max(lattices, key=lambda item: item.evidence).alignment()


@dataclass(frozen=True)
class _Scores:
    """Of the chains from the beginning to each node, or from each node to the end; a row for each border.

    Attributes:
        all: of all chains.
        told: of those whose run to the node does not end in speech without text.
        unread: of those that are in the middle of text that is left out.
    """

    all: list[np.ndarray]
    told: list[np.ndarray]
    unread: list[np.ndarray]


class _Lattice:
    """All chains at one rate of speaking. Scores are natural logarithms of probabilities."""

    def __init__(
        self,
        units: Sequence[Unit],
        speech: np.ndarray,
        evidence: Evidence | None,
        rate: float,
        gap: float,
        heard: Heard | None,
    ) -> None:
        lengths = speech[:, 1] - speech[:, 0]
        sizes = np.array([unit.size for unit in units])
        self.gap, self.heard = gap, heard
        self.text = np.concatenate([[0.0], np.cumsum(sizes)]) * (lengths.sum() / sizes.sum() / rate)
        self.sound = np.concatenate([[0.0], np.cumsum(lengths)])
        pauses = np.concatenate([[2.0], speech[1:, 0] - speech[:-1, 1], [2.0]])
        self.inner = np.concatenate([[0.0], np.cumsum(_inside_cost(pauses[1:-1])), [0.0]])
        ends = ["sentence", *("sentence" if unit.ends_sentence else "clause" for unit in units)]
        self.unpaused = np.concatenate([[0.0], np.cumsum([NO_PAUSE[kind] for kind in ends[1:-1]]), [0.0]])
        self.ranges = self._band()
        self.borders = self._borders(ends, pauses, evidence)
        self.before = self._pass(forward=True)
        self.evidence = float(self._at(self.before.all, len(units), len(lengths), len(lengths) + 1)[0])

    def _borders(self, ends: list[str], pauses: np.ndarray, evidence: Evidence | None) -> list[np.ndarray]:
        """What a bead that ends or begins at a node pays for it: half of how ill its mark and its pause go together."""
        costs = {"clause": 0.5 * _clause_cost(pauses), "sentence": 0.5 * _sentence_cost(pauses)}
        rows = [-costs[kind][low:high] for kind, (low, high) in zip(ends, self.ranges, strict=True)]
        if evidence is None:
            return rows
        return [row + 0.5 * np.array([evidence(q, k) for k in range(*self.ranges[q])]) for q, row in enumerate(rows)]

    def _band(self) -> list[tuple[int, int]]:
        """First pause and one after the last that each border of the text may lie in."""
        stretch = self.sound[-1] / self.text[-1]
        low = np.searchsorted(self.sound, self.text * stretch - BAND, side="left")
        high = np.searchsorted(self.sound, self.text * stretch + BAND, side="right")
        return [(int(first), int(last)) for first, last in zip(low, high, strict=True)]

    def _at(self, rows: list[np.ndarray], q: int, low: int, high: int) -> np.ndarray:
        """Row `q` from pause `low` to `high`, minus infinity outside the band."""
        first, last = self.ranges[q]
        row = np.full(high - low, -np.inf)
        begin, end = max(low, first), min(high, last)
        if begin < end:
            row[begin - low : end - low] = rows[q][begin - first : end - first]
        return row

    def _pass(self, forward: bool) -> _Scores:
        count = len(self.text)
        step = 1 if forward else -1
        found = _Scores(*([np.zeros(0)] * count for _ in range(3)))
        for q in range(count) if forward else range(count - 1, -1, -1):
            low, high = self.ranges[q]
            told = unread = np.full(high - low, -np.inf)
            previous = q - step
            if 0 <= previous < count:
                for units in range(1, MOST_UNITS + 1):
                    other = q - step * units
                    if 0 <= other < count:
                        told = np.logaddexp(told, self._beads(found.all, other, q, step))
                size = abs(self.text[q] - self.text[previous])
                opened = self._at(found.all, previous, low, high) - self.gap
                unread = np.logaddexp(opened, self._at(found.unread, previous, low, high)) - GAP_SECOND * size
                told = np.logaddexp(told, unread)
            else:
                told = told.copy()
                told[(0 if forward else len(self.sound) - 1) - low] = 0.0
            found.told[q], found.unread[q] = told, unread
            found.all[q] = np.logaddexp(told, self._untold(told, low, high, step))
        return found

    def _beads(self, rows: list[np.ndarray], other: int, q: int, step: int) -> np.ndarray:
        """Score of the chains whose last bead holds the units between `other` and `q`, for each pause of row `q`."""
        low, high = self.ranges[q]
        text = abs(self.text[q] - self.text[other])
        inside = sorted((q, other))
        unpaused = self.unpaused[inside[1] - 1] - self.unpaused[inside[0]]
        total = np.full(high - low, -np.inf)
        for stretches in range(1, MOST_STRETCHES + 1):
            begin, end = (low - stretches, high - stretches) if step > 0 else (low + stretches, high + stretches)
            here = np.clip(np.arange(low, high), 0, len(self.sound) - 1)
            there = np.clip(np.arange(begin, end), 0, len(self.sound) - 1)
            first, last = np.minimum(here, there), np.maximum(here, there)
            score = _duration_score(text, self.sound[last] - self.sound[first])
            score -= self.inner[np.maximum(last - 1, first)] - self.inner[first] + unpaused
            score += self.borders[q] + self._at(self.borders, other, begin, end)
            if self.heard is not None:
                pauses = (begin, end) if step > 0 else (low, high)
                score += self.heard.at(inside[0], inside[1] - inside[0], stretches, *pauses)
            total = np.logaddexp(total, score + self._at(rows, other, begin, end))
        return total

    def _untold(self, told: np.ndarray, low: int, high: int, step: int) -> np.ndarray:
        """Score of the chains that end with a run of speech without text."""
        spent = GAP_SECOND * self.sound[low:high]
        run = told[::step] - self.gap + step * spent[::step]
        reached = np.full(len(run), -np.inf)
        reached[1:] = np.logaddexp.accumulate(run)[:-1]
        return (reached - step * spent[::step])[::step]

    def alignment(self) -> Alignment:
        """Nodes that more than half of the probability goes through; any two of them lie on one chain."""
        anchors: list[Anchor] = []
        reach = []
        after = self._pass(forward=False)
        for q, (first, _) in enumerate(self.ranges):
            score = np.minimum(0.0, self.before.all[q] + after.all[q] - self.evidence)
            possible = np.flatnonzero(score > -REACH)
            reach.append((first + int(possible[0]), first + int(possible[-1]) + 1) if len(possible) else (first, first))
            probability = np.exp(score)
            for place in np.flatnonzero(probability > 0.5):
                anchors.append(Anchor(q, first + int(place), float(probability[place])))
        return Alignment(anchors, self._unread_probability(after), self._untold_probability(after), reach)

    def _unread_probability(self, after: _Scores) -> np.ndarray:
        """For each unit the share of the chains that leave it out."""
        found = np.zeros(len(self.text) - 1)
        for q in range(len(found)):
            # A run that goes on is one gap, and both halves have paid for it.
            come = np.logaddexp(self.before.all[q], self.before.unread[q] + self.gap)
            found[q] = np.exp(np.minimum(0.0, np.logaddexp.reduce(come + after.unread[q]) - self.evidence))
        return found

    def _untold_probability(self, after: _Scores) -> np.ndarray:
        """For each stretch of speech the share of the chains that leave it out."""
        found = np.zeros(len(self.sound) - 1)
        for q, (low, high) in enumerate(self.ranges):
            spent = GAP_SECOND * self.sound[low:high]
            begun = np.logaddexp.accumulate(self.before.told[q] + spent - self.gap)[:-1]
            ended = np.logaddexp.accumulate((after.told[q] - spent)[::-1])[::-1][1:]
            found[low : high - 1] += np.exp(np.minimum(0.0, begun + ended - self.evidence))
        return np.minimum(1.0, found)


def _duration_score(text: float, sound: np.ndarray) -> np.ndarray:
    variance = _variance(np.array(text), sound)
    return -0.5 * (text - sound) ** 2 / variance - 0.5 * np.log(2 * np.pi * variance)


def _variance(text: np.ndarray, sound: np.ndarray) -> np.ndarray:
    return SIGMA_FIXED**2 + SIGMA_PER_SECOND**2 * np.maximum(text, sound)


def _inside_cost(pause: np.ndarray) -> np.ndarray:
    """Nats of a pause where the text has no mark; the second number is its place, which no mark tells."""
    return 1.0 + np.minimum(8.0, 8.0 * np.maximum(0.0, pause - 0.1))


def _clause_cost(pause: np.ndarray) -> np.ndarray:
    return 0.7 + np.minimum(5.0, 2.0 * np.maximum(0.0, np.log(0.25 / pause)) + np.maximum(0.0, np.log(pause / 0.6)))


def _sentence_cost(pause: np.ndarray) -> np.ndarray:
    return 0.05 + np.minimum(8.0, 2.5 * np.maximum(0.0, np.log(0.45 / pause)))
