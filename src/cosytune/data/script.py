"""The text of a long recording, laid along its speech: from subtitles, or from a transcript of the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from cosytune.audio.pauses import Activity
from cosytune.data.alignment import Alignment, Anchor, Unit, align_units, misfit, units_of_text
from cosytune.data.captions import anchors_of_cues, common_shift, timed_units
from cosytune.data.hearing import Hearing
from cosytune.data.letters import Sound
from cosytune.data.placing import LetterEar
from cosytune.data.subtitles import read_subtitles
from cosytune.errors import DataError

__all__ = ["Script", "script_of_subtitles", "script_of_transcript"]


ODD_RATE = 1.8
"""Speech so many times faster or slower than the recording's median has the wrong subtitle."""
MISFIT = 3.0
"""Standard deviations; what fits worse has a text that was not read, or was read without being in the text. Over the
neighbours on both sides the root of the mean square may be half of that: where the text has slipped by a sentence, no
length need be odd by itself, but all are a little."""
NEIGHBOURS = 2
GAPPY = 4.0
"""Nats against each gap where the first look has found some: who leaves out one sentence leaves out others."""
STRICTER = 2.0
"""Times that the chance of an error must be smaller there."""
LOOKS = 2
"""Times that the sounds of the letters are learned, from what was certain before, and the text is laid anew."""
LEAST_FIT = 0.35
"""Of the usual likeness of letters and sound, near to gaps: of the right parts of made-up recordings five in a
hundred have less, of the wrong ones nearly all. Elsewhere a text must only sound like more than chance."""
NEAR = 10
"""Units and stretches from a gap."""
LEAST_HEARD = 0.5
"""A text of which less than this share of the usual share of words was heard is another one."""


@dataclass(frozen=True)
class Script:
    """Units of text and the places where their borders lie.

    Attributes:
        units: of the text, in order.
        anchors: in order; the first and the last are the ends of the text and of the speech.
        reasons: for each unit why it cannot be used, or "".
        speakers: for each unit who says it, or None where nobody told.
        source: where the text is from, in words for the ledger.
        language: code that the source tells, or "".
        limit: standard deviations by which the speech between two anchors may be longer or shorter than its text; None
            where different people speak at different rates, and only `ODD_RATE` counts.
        hearing: what a recogniser heard, if there is one.
        gaps: where gaps are expected, for each unit the probability that nobody read it, and for each stretch of speech
            the probability that it is not in the text.
        certainty: probability from which on it is believed that there is none.
        ear: knows how the letters sound, if that was learned.
    """

    units: Sequence[Unit]
    anchors: Sequence[Anchor]
    reasons: Sequence[str]
    speakers: Sequence[str | None]
    source: str
    language: str = ""
    limit: float | None = None
    hearing: Hearing | None = None
    gaps: tuple[np.ndarray, np.ndarray] | None = None
    certainty: float = 0.9
    ear: LetterEar | None = None

    def text(self, first: int, last: int) -> str:
        """The text of units `first` to `last`, in one line."""
        return " ".join("".join(unit.text for unit in self.units[first:last]).split())

    def size(self, first: int, last: int) -> float:
        """How much there is to say in them, in letters."""
        return sum(unit.size for unit in self.units[first:last])

    def doubts(self, speech: np.ndarray) -> list[str]:
        """Why the text between each anchor and the next cannot be what is said there; "" where it can.

        Args:
            speech: [K, 2], stretches of speech in seconds.
        """
        steps = [_Step(a, b, self.size(a.unit, b.unit), _length(speech, a, b)) for a, b in pairwise(self.anchors)]
        full = [number for number, step in enumerate(steps) if step.size and step.seconds]
        rate = _median_rate([steps[number] for number in full])
        doubts = [""] * len(steps)
        for number in full:
            step = steps[number]
            if self._is_odd(step, [steps[other] for other in full if abs(other - number) <= NEIGHBOURS], rate):
                letters = f"{step.size / step.seconds:.1f} letters a second where {rate:.1f} are usual"
                doubts[number] = f"text does not fit the speech here or around: {letters}"
            elif self._gap(step) > 1 - self.certainty:
                doubts[number] = "text and speech have gaps, and here may be one"
            elif self.ear is not None and (fit := self.ear.fit(step.first, step.second)) < self._least_fit(step):
                doubts[number] = f"text does not sound like the speech: {fit:.2f} in its worst part where 1 is usual"
        if self.hearing is not None:
            self._doubt_unheard(steps, full, self.hearing, doubts)
        return doubts

    def _least_fit(self, step: _Step) -> float:
        """How well a step must sound (`LetterEar.fit`)."""
        if self.gaps is None:
            return 0.0
        ends = ((step.first.unit, step.second.unit), (step.first.stretch, step.second.stretch))
        near = [own[max(0, low - NEAR) : high + NEAR] for own, (low, high) in zip(self.gaps, ends, strict=True)]
        return LEAST_FIT if any((own > 0.5).any() for own in near) else 0.0

    def _is_odd(self, step: _Step, around: Sequence[_Step], rate: float) -> bool:
        """Whether a step, or those around it, are longer or shorter than their text."""
        if self.limit is None:
            return not 1 / ODD_RATE <= step.size / rate / step.seconds <= ODD_RATE
        if misfit(step.size / rate, step.seconds) > self.limit:
            return True
        # A text that has slipped by a sentence sounds wrong.
        misfits = [misfit(other.size / rate, other.seconds) for other in around]
        return self.ear is None and float(np.sqrt(np.mean(np.square(misfits)))) > self.limit / 2

    def _gap(self, step: _Step) -> float:
        """Probability that text is not read, or speech has no text, somewhere in a step.

        Who leaves out half of a sentence has left out all of it: units are asked with the rest of their sentences.
        """
        if self.gaps is None:
            return 0.0
        unread, untold = self.gaps
        first, last = step.first.unit, step.second.unit
        while first and not self.units[first - 1].ends_sentence:
            first -= 1
        while last < len(self.units) and not self.units[last - 1].ends_sentence:
            last += 1
        return max(
            float(unread[first:last].max()),
            float(untold[step.first.stretch : step.second.stretch].max()),
        )

    def _doubt_unheard(self, steps: Sequence[_Step], full: Sequence[int], hearing: Hearing, doubts: list[str]) -> None:
        """What a recogniser hears replaces the doubts that lengths alone raise."""
        shares = {
            number: hearing.agreement(
                (steps[number].first.unit, steps[number].second.unit),
                (steps[number].first.stretch, steps[number].second.stretch),
            )
            for number in full
        }
        usual = float(np.median(list(shares.values()))) if shares else 0.0
        for number, share in shares.items():
            if share < LEAST_HEARD * usual:
                doubts[number] = f"text was not heard: {share:.0%} of its words where {usual:.0%} are usual"


@dataclass(frozen=True)
class _Step:
    """What lies between two neighbouring anchors: letters to say, and seconds of speech."""

    first: Anchor
    second: Anchor
    size: float
    seconds: float


def _length(speech: np.ndarray, first: Anchor, second: Anchor) -> float:
    spans = speech[first.stretch : second.stretch]
    return float((spans[:, 1] - spans[:, 0]).sum())


def _median_rate(steps: Sequence[_Step]) -> float:
    """Letters a second of speech that half of the recording is slower than."""
    ordered = sorted(steps, key=lambda step: step.size / step.seconds)
    total = np.cumsum([step.seconds for step in ordered])
    if not len(total):
        return 1.0
    middle = ordered[int(np.searchsorted(total, total[-1] / 2))]
    return middle.size / middle.seconds


def script_of_subtitles(path: Path, language: str, activity: Activity) -> Script:
    """The cues of a file, moved together where all come too early or too late.

    Raises:
        DataError: the file cannot be used, or nobody speaks in it.
    """
    cues = read_subtitles(path)
    shift = common_shift(cues, activity.speech, activity.seconds)
    timed = timed_units(cues, language, shift)
    if not any(item.unit.size and not item.reason for item in timed):
        raise DataError(f"subtitles without speech: no cue of {path.name} holds words that somebody says")
    moved = f", moved by {shift:+.2f} s" if shift else ""
    return Script(
        [item.unit for item in timed],
        anchors_of_cues(timed, activity.speech),
        [item.reason or ("" if item.start < activity.seconds else "it comes after the end") for item in timed],
        [item.speaker for item in timed],
        f"text of {path.name}{moved}",
        language,
    )


def script_of_transcript(
    text: str,
    language: str,
    activity: Activity,
    confidence: float,
    hear: Callable[[], Hearing] | None = None,
    sound: Callable[[], Sound] | None = None,
) -> Script:
    """A transcript without times, placed by its lengths, its marks and the reader's pauses, and by what is heard.

    Args:
        text: of the whole recording.
        language: code, or "" if unknown.
        activity: where the recording holds speech.
        confidence: anchors that are less certain are not used.
        hear: lets a recogniser hear it, if there is one; asked where the letters' own sounds tell nothing.
        sound: reads the recording, so that the sounds of the letters are learned.

    Raises:
        DataError: there is nothing to say in the text.
        InputError: the recording cannot be read.
    """
    units = units_of_text(text, language)
    if not units:
        raise DataError("transcript empty")
    found = align_units(units, activity.speech)
    how, ear, hearing, gaps = "its transcript placed by pauses", None, None, None
    if sound is not None:
        ear, found = _by_letters(units, language, found, activity, sound())
    if ear is not None:
        how, gaps = f"{how} and the sounds of its letters", (found.unread, found.untold)
    elif hear is not None:
        hearing = hear()
        how, found = f"{how} and a recogniser", align_units(units, activity.speech, hearing.evidence)
    elif _has_gaps(found):
        found = align_units(units, activity.speech, gap=GAPPY)
        gaps, confidence = (found.unread, found.untold), 1 - (1 - confidence) / STRICTER
    first, *inner, last = found.anchors
    return Script(
        units,
        [first, *(anchor for anchor in inner if anchor.confidence >= confidence), last],
        [""] * len(units),
        [None] * len(units),
        how,
        limit=MISFIT,
        hearing=hearing,
        gaps=gaps,
        certainty=confidence,
        ear=ear,
    )


def _by_letters(
    units: Sequence[Unit], language: str, found: Alignment, activity: Activity, sound: Sound
) -> tuple[LetterEar | None, Alignment]:
    """The text laid along the speech anew with what its certain parts sound like; None where they teach nothing."""
    ear = LetterEar(units, language, sound)
    for _ in range(LOOKS):
        heard = ear.learn(found)
        if heard is None:
            return None, found
        found = align_units(units, activity.speech, heard=heard)
    return ear, found


def _has_gaps(found: Alignment) -> bool:
    """Whether text is more likely not read than read anywhere, or speech between its beginning and its end has none."""
    told = np.flatnonzero(found.untold <= 0.5)
    inside = found.untold[told[0] : told[-1]] if len(told) else found.untold
    return bool((found.unread > 0.5).any() or (inside > 0.5).any())
