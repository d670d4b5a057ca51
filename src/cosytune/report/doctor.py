"""The page of a check of recordings: what can be used, what to do next, every suspicious clip to see and to hear."""

from __future__ import annotations

import base64
import difflib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from cosytune.data.doctor_results import ClipCheck, DoctorResult, Exhibit
from cosytune.files import write_text
from cosytune.report.doctor_figures import draw_clip, draw_histogram
from cosytune.report.tables import count

__all__ = ["ABOUT", "headline", "summary", "write_doctor_page"]

PAGE_BYTES = 14_000_000
"""Most bytes of players and pictures: a phone has to open the page."""

ROWS = 1500
"""Clips in the table; the worst ones where there are more."""

MARKS = {"kept": "✓", "fixed": "✂", "dropped": "✕"}

ABOUT = {
    "unreadable": "cannot be opened or decoded, or nothing belongs to it",
    "silent": "nothing to hear",
    "too short": "no word fits in",
    "too long": "longer than models take; prepare cuts it",
    "narrow band": "telephone sound: a low sample rate, or a file that was only converted up",
    "narrower band": "cut off far below the other clips",
    "clipping": "recorded too loud, flat tops",
    "limiter": "peaks of one height",
    "too quiet": "too soft",
    "odd level": "much louder or softer than its speaker's other clips",
    "noise": "too little distance between voice and noise",
    "music": "steady tones behind the voice",
    "hum": "the mains can be heard",
    "offset": "samples are not centred",
    "channels": "the channels do not hold the same",
    "edge silence": "silence before or after the speech; it is trimmed",
    "long pause": "a long silence inside",
    "cut start": "begins in the middle of a sound",
    "cut end": "ends in the middle of a sound",
    "copy": "the same recording again",
    "same sound, other text": "one recording, two texts",
    "repeated text": "a sentence that is said again",
    "pace": "text and speech are not of one length",
    "figures": "figures or symbols that are read as words",
    "unknown characters": "characters that the model's tokenizer does not know",
    "mixed alphabets": "look-alike letters of two alphabets",
    "wrong script": "another script than the rest",
    "wrong language": "another language than the rest",
    "no transcript": "nobody wrote down what is said",
    "empty transcript": "the transcript holds no word",
    "speaker": "does not sound like its speaker",
    "transcript": "something else is said than written",
}
"""Each defect in a few words."""


@dataclass(frozen=True)
class _Card:
    """A clip with its picture and its player."""

    clip: ClipCheck
    picture: Markup
    source: str
    seconds: float


def write_doctor_page(
    result: DoctorResult, exhibits: Sequence[Exhibit], path: Path, data: str, *, page_bytes: int = PAGE_BYTES
) -> Path:
    """Write the page of a check: one file that needs nothing else, and the same bytes for the same result.

    Args:
        result: what was found.
        exhibits: clips with sound and picture.
        path: file to write; an older one is replaced only by the whole new one.
        data: name of the JSON beside it.
        page_bytes: of players and pictures; exhibits beyond are left to the table.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"minutes": _minutes, "quoted": shlex.quote, "change": _change, "signed": _signed}
    environment.globals |= {"count": count, "marks": MARKS, "about": ABOUT}
    template = environment.from_string(files("cosytune.report").joinpath("doctor.html").read_text("utf-8"))
    ill = sorted((clip for clip in result.clips if clip.findings), key=lambda clip: clip.severity, reverse=True)
    cards = _cards(result, exhibits, page_bytes)
    page = template.render(
        result=result,
        data=data,
        headline=headline(result),
        steps=_steps(result),
        decisions=result.decisions(),
        defects=result.defects(),
        histograms=[(histogram, draw_histogram(histogram)) for histogram in result.histograms],
        cards=cards,
        rows=ill[:ROWS],
        # What is said above of all of them need not be explained clip by clip.
        common={finding.kind for finding in result.corpus if finding.serious},
        more=max(0, len(ill) - ROWS),
    )
    write_text(path, page)
    return path


def headline(result: DoctorResult) -> str:
    """What can be used, in one sentence."""
    if not result.usable:
        return f"None of the {count(len(result.clips), 'clip')} can be used"
    share = f"{_minutes(result.usable_seconds)} of {_minutes(result.found_seconds)} can be used"
    return f"{share}: {result.usable} of {count(len(result.clips), 'clip')}"


def summary(result: DoctorResult) -> str:
    """The check for a terminal: the headline, what was found how often, what was not checked."""
    decisions = result.decisions()
    lines = [f"{headline(result)} ({', '.join(f'{number} {name}' for name, number in decisions.items())})."]
    for defect, actions in result.defects().items():
        named = ", ".join(f"{action} {number}" for action, number in actions.items() if number)
        lines.append(f"  {defect:22} {sum(actions.values()):6}  ({named})  {ABOUT.get(defect, '')}")
    lines += [f"  ! {finding.words}" for finding in result.corpus if finding.serious]
    lines += [f"  - {finding.words}" for finding in result.corpus if not finding.serious]
    if result.left_out:
        lines.append(f"  not looked at: {count(result.left_out, 'clip')} (--limit)")
    lines += [f"  not checked: {own.check}: {own.reason}" for own in result.skipped]
    return "\n".join(line.rstrip() for line in lines)


def _steps(result: DoctorResult) -> list[str]:
    """What to do next, in order."""
    defects = result.defects()
    found = []
    if not result.usable:
        worst = next(iter(defects), "unreadable")
        return [f"Correct the commonest defect first ({worst}: {ABOUT.get(worst, worst)}), then check again."]
    if result.left_out:
        found.append(f"{count(result.left_out, 'clip')} were not looked at (--limit): check all before you prepare.")
    dropped = [defect for defect, actions in defects.items() if actions["drop"]]
    if dropped:
        found.append(f"Listen to the clips to drop ({', '.join(dropped[:6])}): a wrong alarm costs you good speech.")
    if "figures" in defects:
        found.append("Compare figures and symbols with what is said, and write words where the normaliser is wrong.")
    if defects.get("transcript") or defects.get("pace"):
        found.append("Correct the transcripts that are not what is said; the clips come back by themselves.")
    return found


def _cards(result: DoctorResult, exhibits: Sequence[Exhibit], most: int) -> list[_Card]:
    clips = {clip.id: clip for clip in result.clips}
    order = sorted(exhibits, key=lambda exhibit: clips[exhibit.id].severity, reverse=True)
    cards: list[_Card] = []
    used = 0
    for exhibit in order:
        clip = clips[exhibit.id]
        picture = draw_clip(exhibit, _speech(clip), _kept(clip))
        sound = base64.b64encode(exhibit.sound).decode("ascii")
        used += len(picture) + len(sound)
        if used > most:
            break
        cards.append(_Card(clip, picture, f"data:{exhibit.media_type};base64,{sound}", exhibit.seconds))
    return cards


def _speech(clip: ClipCheck) -> tuple[float, float] | None:
    measures = clip.measures
    if measures is None or measures.speech_seconds <= 0:
        return None
    return measures.leading, measures.measured_seconds - measures.trailing


def _kept(clip: ClipCheck) -> tuple[float, float] | None:
    if clip.decision != "fixed" or clip.measures is None:
        return None
    begin = 0.0 if clip.start is None else clip.start - clip.began
    end = clip.measures.seconds if clip.end is None else clip.end - clip.began
    return begin, end


def _minutes(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.2f} h"


def _signed(value: float) -> str:
    """Three digits and a real minus sign."""
    return (f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}").replace("-", "−")


def _change(before: str, after: str) -> Markup:
    """A text with what the normaliser takes out and puts in marked, word by word."""
    old, new = before.split(), after.split()
    pieces: list[Markup | str] = []
    for kind, first, last, begin, end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces.append(Markup.escape(" ".join(old[first:last])))
            continue
        if last > first:
            pieces.append(Markup("<del>{}</del>").format(" ".join(old[first:last])))
        if end > begin:
            pieces.append(Markup("<ins>{}</ins>").format(" ".join(new[begin:end])))
    return Markup(" ").join(pieces)
