"""The text of a long recording, laid along its speech: from subtitles, or from a transcript of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cosytune.audio.pauses import Activity
from cosytune.data.alignment import Anchor, Evidence, Unit, align_units, misfit, units_of_text
from cosytune.data.captions import anchors_of_cues, common_shift, timed_units
from cosytune.data.subtitles import read_subtitles
from cosytune.errors import DataError

__all__ = ["Script", "script_of_subtitles", "script_of_transcript"]


ODD_RATE = 1.8
"""Speech so many times faster or slower than the recording's median has the wrong subtitle."""
MISFIT = 3.0
"""Standard deviations; what fits worse has a text that was not read, or was read without being in the text."""


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
    """

    units: Sequence[Unit]
    anchors: Sequence[Anchor]
    reasons: Sequence[str]
    speakers: Sequence[str | None]
    source: str
    language: str = ""
    limit: float | None = None

    def text(self, first: int, last: int) -> str:
        """The text of units `first` to `last`, in one line."""
        return " ".join("".join(unit.text for unit in self.units[first:last]).split())

    def size(self, first: int, last: int) -> float:
        """How much there is to say in them, in letters."""
        return sum(unit.size for unit in self.units[first:last])

    def fits(self, size: float, seconds: float, rate: float) -> bool:
        """Whether `size` letters can be what is said in `seconds` of speech, at `rate` letters a second."""
        if self.limit is not None:
            return misfit(size / rate, seconds) <= self.limit
        return 1 / ODD_RATE <= size / rate / seconds <= ODD_RATE


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
    text: str, language: str, activity: Activity, confidence: float, evidence: Evidence | None = None
) -> Script:
    """A transcript without times, placed by its lengths, its marks and the reader's pauses.

    Args:
        text: of the whole recording.
        language: code, or "" if unknown.
        activity: where the recording holds speech.
        confidence: anchors that are less certain are not used.
        evidence: what a recogniser heard (see `cosytune.data.hearing`), if there is one.

    Raises:
        DataError: there is nothing to say in the text.
    """
    units = units_of_text(text, language)
    if not units:
        raise DataError("transcript empty")
    anchors = align_units(units, activity.speech, evidence)
    certain = [anchors[0], *(anchor for anchor in anchors[1:-1] if anchor.confidence >= confidence), anchors[-1]]
    source = "its transcript placed by pauses" + (" and a recogniser" if evidence is not None else "")
    return Script(units, certain, [""] * len(units), [None] * len(units), source, limit=MISFIT)
