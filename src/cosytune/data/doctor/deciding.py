"""From findings to decisions: keep, fix or drop each clip, and what to say about all of them together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cosytune.data.doctor.clips import Clip
from cosytune.data.doctor.settings import Limits
from cosytune.data.doctor.sound_findings import trimmed
from cosytune.data.doctor_results import (
    ACTIONS,
    DECISIONS,
    ClipCheck,
    CorpusFinding,
    Finding,
    Histogram,
)

__all__ = ["decide", "describe", "draw_histograms", "spare_common"]

COMMON = {
    "narrow band": "they sound like a telephone: so will the voice. Record again with 22,050 Hz or more if you can",
    "noise": "noise lies behind the voice: the voice will hiss. Record in a quieter room, or clean them first",
    "clipping": "they are clipped: the voice will crackle. Record again at a lower level",
    "too quiet": "they are very soft. Make them louder, all by the same amount",
    "music": "steady tones sound behind the voice: is there music, a fan, a machine?",
    "cut start": "they begin in the middle of a sound: they were cut too tightly, and the voice will begin abruptly",
    "cut end": "they end in the middle of a sound: they were cut too tightly, and the voice will end abruptly",
    "wrong script": "the texts are written in two scripts",
}
"""Defects that a whole corpus may have: dropping what nearly all have would leave nothing to make a voice of."""

FEWEST_COMMON = 5
SHORT_CLIPS = 1.5
"""Seconds of the median clip below which a corpus holds words rather than sentences."""

CONVERTED = 0.8
"""Share of what the sample rate could hold; above it a wall is the filter of an ordinary converter."""

BINS = 24
HIGHEST_SHOWN = 60.0
"""dB of SNR: digital silence would squeeze all others into one bar."""


def spare_common(clips: Sequence[Clip], limits: Limits) -> list[CorpusFinding]:
    """Turn drops for a defect that much of the corpus has into a sentence about the corpus."""
    readable = [clip for clip in clips if clip.measures is not None]
    said = []
    for defect, words in COMMON.items():
        ill = [clip for clip in readable if any(own.defect == defect and own.action == "drop" for own in clip.findings)]
        if len(ill) < max(FEWEST_COMMON, limits.common * len(readable)):
            continue
        said.append(CorpusFinding(defect, f"{len(ill)} of {len(readable)} clips: {words}.", serious=True))
        for clip in ill:
            clip.findings = [replace(own, action="keep") if own.defect == defect else own for own in clip.findings]
    return said


def decide(clip: Clip, limits: Limits) -> ClipCheck:
    """The clip's decision: its worst action; a fix tells where to cut."""
    findings = tuple(sorted(clip.findings, key=lambda own: (-ACTIONS.index(own.action), -own.severity, own.defect)))
    decision = DECISIONS[findings[0].action if findings else "keep"]
    found, item = clip.measures, clip.utterance
    start, end, seconds = item.start, item.end, found.seconds if found is not None else 0.0
    if decision == "fixed" and found is not None:
        begin, stop = trimmed(found, limits)
        offset = item.start or 0.0
        start = round(offset + begin, 3) if begin > 0 else item.start
        end = round(offset + stop, 3) if stop < found.seconds else item.end
        seconds = stop - begin
    return ClipCheck(
        id=item.id,
        audio=item.audio,
        text=item.text,
        speaker=item.speaker,
        language=item.language,
        decision=decision,
        reason=_reason(findings) if decision != "kept" else "",
        start=start,
        end=end,
        began=item.start or 0.0,
        seconds=round(seconds, 6),
        measures=found,
        findings=findings,
        heard=clip.heard.words,
        characters_per_second=clip.characters_per_second,
        error_rate=clip.error_rate,
        likeness=clip.likeness,
    )


def _reason(findings: Sequence[Finding]) -> str:
    """The findings that decided, in the ledger's form "kind: detail"."""
    first, *others = [own for own in findings if own.action == findings[0].action]
    also = "".join(f"; also {own.defect}" for own in others)
    return f"{first.defect}: {first.words.rstrip('.')}{also}"


def describe(checks: Sequence[ClipCheck], limits: Limits) -> list[CorpusFinding]:
    """What is true of the whole: too little, too little of one speaker, single words, no transcripts, repeats."""
    usable = [check for check in checks if check.decision != "dropped"]
    if not usable:
        return []
    minutes = sum(check.seconds for check in usable) / 60
    return [
        *_amounts(usable, minutes, limits),
        *_texts(usable, minutes),
        *_lengths(usable),
        *_rates(usable),
        *_bands(usable, limits),
    ]


def _amounts(usable: Sequence[ClipCheck], minutes: float, limits: Limits) -> list[CorpusFinding]:
    speakers: dict[str, float] = defaultdict(float)
    for check in usable:
        speakers[check.speaker] += check.seconds / 60
    found = []
    if minutes < limits.few_minutes:
        words = (  # rounded down: 4.98 minutes are not the 5.0 that are wanted
            f"{int(10 * minutes) / 10} minutes are little: they are enough to clone a voice from a prompt, and "
            f"fine-tuning wants {limits.few_minutes:g} minutes and gains up to an hour. Record more."
        )
        found.append(CorpusFinding("too little", words, serious=True))
    few = {name: own for name, own in speakers.items() if own < limits.few_speaker_minutes}
    if len(speakers) > 1 and few:
        named = ", ".join(f"{name} {own:.1f}" for name, own in sorted(few.items(), key=lambda pair: pair[1])[:8])
        words = (
            f"{len(few)} of {len(speakers)} speakers have less than {limits.few_speaker_minutes:g} minutes ({named}"
            f"{' ...' if len(few) > 8 else ''}): a voice of their own needs more."
        )
        found.append(CorpusFinding("too little per speaker", words, serious=len(few) == len(speakers)))
    return found


def _texts(usable: Sequence[ClipCheck], minutes: float) -> list[CorpusFinding]:
    found = []
    silent = [check for check in usable if check.text is None]
    if silent:
        words = (
            f"{len(silent)} of {len(usable)} clips have no transcript: pre-training takes them, fine-tuning does not. "
            "`cosytune data prepare --transcribe` writes transcripts with a recogniser that you have."
        )
        found.append(CorpusFinding("no transcript", words, serious=len(silent) == len(usable)))
    repeats = sum(any(own.defect == "repeated text" for own in check.findings) for check in usable)
    if repeats:
        words = (
            f"{repeats} {'clip repeats' if repeats == 1 else 'clips repeat'} a sentence that the same speaker has said "
            "before: another take, not new text."
        )
        found.append(CorpusFinding("repeated text", words))
    return found


def _lengths(usable: Sequence[ClipCheck]) -> list[CorpusFinding]:
    middle = float(np.median([check.seconds for check in usable]))
    if middle >= SHORT_CLIPS:
        return []
    words = (
        f"Half of the clips are shorter than {middle:.1f} s: single words. A model that hears no sentence does not "
        "learn to speak one; add recordings of 2 to 15 s."
    )
    return [CorpusFinding("single words", words, serious=True)]


def _rates(usable: Sequence[ClipCheck]) -> list[CorpusFinding]:
    rates = Counter(check.measures.sample_rate for check in usable if check.measures is not None)
    if len(rates) < 2:
        return []
    words = ", ".join(f"{count} clips with {rate} Hz" for rate, count in sorted(rates.items()))
    return [CorpusFinding("sample rates", f"The sample rates differ: {words}. All are resampled to the model's rate.")]


def _bands(usable: Sequence[ClipCheck], limits: Limits) -> list[CorpusFinding]:
    """Files whose rate promises more than they hold: usable, and the voice will be no brighter than they are."""
    heard = [check.measures for check in usable if check.measures is not None]
    dull = [own for own in heard if own.edge >= limits.wall and own.bandwidth < CONVERTED * own.sample_rate / 2]
    if len(dull) < max(FEWEST_COMMON, limits.common * len(heard)):
        return []
    top = float(np.median([own.bandwidth for own in dull]))
    rate = Counter(own.sample_rate for own in dull).most_common(1)[0][0]
    words = (
        f"In {len(dull)} of {len(heard)} clips the sound ends at about {top / 1000:.1f} kHz, although files with "
        f"{rate} Hz could hold {rate / 2000:.1f} kHz: they were converted up. The voice will be no brighter than that."
    )
    return [CorpusFinding("converted up", words)]


def draw_histograms(checks: Sequence[ClipCheck], limits: Limits) -> tuple[Histogram, ...]:
    """How length, level, SNR, pace and bandwidth are distributed over the readable clips."""
    measured = [check.measures for check in checks if check.measures is not None]
    heard = [found for found in measured if found.speech_seconds > 0]
    paces = [check.characters_per_second for check in checks if check.characters_per_second is not None]
    ratios = [min(found.snr, HIGHEST_SHOWN) for found in heard if found.snr is not None]
    series = (
        ("Length", "s", [found.seconds for found in measured], (limits.shortest, limits.longest)),
        ("Level of the speech", "dBFS", [found.level for found in heard], (limits.too_quiet, limits.quiet)),
        ("Voice above noise", "dB", ratios, (limits.bad_snr, limits.snr)),
        ("Pace", "characters/s", paces, ()),
        ("Bandwidth", "kHz", [found.bandwidth / 1000 for found in heard], (limits.bandwidth / 1000,)),
    )
    return tuple(_histogram(title, unit, values, marks) for title, unit, values, marks in series if values)


def _histogram(title: str, unit: str, values: Sequence[float], marks: Sequence[float]) -> Histogram:
    low, high = min(values), max(values)
    room = max(high - low, 1e-3)
    counts, edges = np.histogram(values, bins=BINS, range=(low - 0.02 * room, high + 0.02 * room))
    near = tuple(mark for mark in marks if low - 0.5 * room <= mark <= high + 0.5 * room)
    return Histogram(
        title, unit, tuple(round(float(edge), 5) for edge in edges), tuple(int(count) for count in counts), near
    )
