"""What a person can do about clips that were dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from cosytune.data.results import LedgerLine

__all__ = ["what_to_do"]

_REMEDIES = {
    "shorter than": "give longer recordings, or a smaller --shortest",
    "longer than": "leave --no-cut out, so that long recordings are cut, or give a larger --longest",
    "no certain place to cut": "give a larger --longest, or a recogniser with --transcribe",
    "text does not fit": "correct the transcript, or give a recogniser with --transcribe",
    "text and speech have gaps": "correct the transcript, or give a recogniser with --transcribe",
    "text does not sound like": "correct the transcript",
    "text was not heard": "correct the transcript",
    "text without speech": "correct the transcript",
    "speech without text": "complete the transcript, or take it away and use --transcribe",
    "subtitle unusable": "correct the subtitles, or take them away",
    "unreadable": "convert them to wav or flac",
    "empty": "copy the files again",
    "transcript empty": "write the transcripts, or delete the empty files and use --transcribe",
    "transcript without recording": "put the recordings beside their transcripts",
    "transcript unreadable": "save the transcripts as UTF-8",
    "listed recording missing": "put the recordings where the table says, or correct the table",
    "not listed": "name them in the table, or take the table away",
    "outside the recording": "correct the times in the table",
    "no speech": "record again: nothing stands out of the noise",
    "recording missing": "put the recordings beside their transcripts",
}
"""By how the reasons begin; reasons that say it themselves, and those of the doctor, have none here."""


def what_to_do(lines: Iterable[LedgerLine]) -> str:
    """The three most frequent reasons of the dropped, each with its remedy where there is one."""
    reasons = Counter(line.reason.split(":")[0] for line in lines if line.decision == "dropped")
    parts = []
    for reason, count in reasons.most_common(3):
        remedy = next((words for kind, words in _REMEDIES.items() if reason.startswith(kind)), "")
        parts.append(f"{count} {reason}" + (f" ({remedy})" if remedy else ""))
    return "; ".join(parts)
