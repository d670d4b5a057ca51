"""What the data doctor found: measures, findings and decisions; records that need neither torch nor the recordings."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from cosytune.data.results import Decision
from cosytune.errors import DataError
from cosytune.files import json_line, writing

__all__ = [
    "Action",
    "ClipCheck",
    "CorpusFinding",
    "DoctorResult",
    "Exhibit",
    "Finding",
    "Histogram",
    "Measures",
    "SkippedCheck",
    "read_check",
    "read_clips",
]

FORMAT = "cosytune-check"
VERSION = 1
CLIPS = b'"clips": [\n'
"""The line after which each clip has a line of its own."""

SHORT_PAUSE = 0.1
"""Seconds of a pause that belong to reading: between two words, or in a consonant."""

Action = Literal["keep", "fix", "drop"]
ACTIONS: tuple[Action, ...] = ("keep", "fix", "drop")
DECISIONS: dict[Action, Decision] = {"keep": "kept", "fix": "fixed", "drop": "dropped"}


@dataclass(frozen=True, slots=True)
class Measures:
    """Numbers of one clip; None where a number cannot be had.

    Attributes:
        seconds: length of the clip.
        measured_seconds: length of the part that was listened to; less than `seconds` in long recordings.
        sample_rate: Hz of the file.
        channels: 1 for mono.
        bandwidth: Hz up to which there is speech, whatever the sample rate promises.
        edge: dB by which the spectrum falls at the bandwidth: a wall means resampling or a codec, a slope does not.
        peak: largest sample, 1 is full scale.
        clipped: share of the samples that lie on flat tops.
        crowding: share of the loud peaks that stand within 1 % of the loudest; high after a limiter or clipping.
        level: dBFS of the speech, pauses left out.
        noise: dBFS of what is there when nobody speaks; None for digital silence.
        snr: dB between the two, at most 90; None for a word so short that nothing of it is noise alone.
        leading: seconds before the speech.
        trailing: seconds after the speech.
        pause: seconds of the longest silence inside the speech.
        head: dB of the clip's first 20 ms against its speech.
        tail: dB of its last 20 ms against its speech.
        steady: mean number of steady tones at a time between the words.
        hum: Hz of the mains if its tones stand out of the noise, 0 for none.
        hum_level: dBFS of those tones.
        offset: mean of all samples, 1 is full scale.
        channel_gap: dB between the loudest and the softest channel; None for mono.
        channel_likeness: correlation of the two channels that differ most, -1 to 1; None for mono.
    """

    seconds: float
    measured_seconds: float
    sample_rate: int
    channels: int
    bandwidth: float
    edge: float
    peak: float
    clipped: float
    crowding: float
    level: float
    noise: float | None
    snr: float | None
    leading: float
    trailing: float
    pause: float
    head: float
    tail: float
    steady: float
    hum: float
    hum_level: float
    offset: float
    channel_gap: float | None = None
    channel_likeness: float | None = None

    @property
    def speech_seconds(self) -> float:
        """Length of the speech from its first sound to its last, for a clip that was heard whole."""
        return max(0.0, self.measured_seconds - self.leading - self.trailing)

    @property
    def talking_seconds(self) -> float:
        """The speech without its longest pause, of which a tenth of a second counts: the pace of the words."""
        return max(0.0, self.speech_seconds - max(0.0, self.pause - SHORT_PAUSE))


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with one clip.

    Attributes:
        defect: kind, such as "clipping".
        action: what to do about it.
        words: what it is and what it means, for a person.
        value: what was measured, None for what is no number.
        threshold: the limit that the value passed.
        unit: of both.
        severity: how far beyond the limit, 1 and more; comparable within one defect.
        before: a text as it stands, where the finding is a change of text.
        after: the same text as it would be read.
    """

    defect: str
    action: Action
    words: str
    value: float | None = None
    threshold: float | None = None
    unit: str = ""
    severity: float = 1.0
    before: str | None = None
    after: str | None = None

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"a finding's action is one of {', '.join(ACTIONS)}, not {self.action!r}")


@dataclass(frozen=True, slots=True)
class ClipCheck:
    """One clip, what was found and what to do with it.

    Attributes:
        id: the clip's id in its folder, or the name of the file where it never got one.
        audio: path of the recording.
        text: transcript, None without one.
        speaker: label.
        language: code, given or guessed; empty where there is nothing to guess from.
        decision: "kept", "fixed" (kept after a change) or "dropped".
        reason: in words, "kind" or "kind: detail"; empty for a clip kept as it is.
        start: second of the recording where the clip should begin, None for where it begins now.
        end: second of the recording where it should end, None for where it ends now.
        began: second of the recording where the clip begins now.
        seconds: length after the fix; 0 for a recording that cannot be read.
        measures: None where the recording cannot be read.
        findings: all of them, the worst action first.
        heard: what the recogniser heard, None where none listened.
        characters_per_second: spoken characters a second of `talking_seconds`, None without text.
        error_rate: of the recogniser's characters against the transcript.
        likeness: cosine between the clip's voice and the rest of its speaker's clips.
    """

    id: str
    audio: str
    text: str | None
    speaker: str
    language: str
    decision: Decision
    reason: str
    start: float | None
    end: float | None
    began: float
    seconds: float
    measures: Measures | None
    findings: tuple[Finding, ...] = ()
    heard: str | None = None
    characters_per_second: float | None = None
    error_rate: float | None = None
    likeness: float | None = None

    @property
    def severity(self) -> tuple[int, float]:
        """Worst action, then how far beyond the limits: sorts suspicious clips."""
        worst = max((ACTIONS.index(finding.action) for finding in self.findings), default=-1)
        return worst, max((finding.severity for finding in self.findings), default=0.0)


@dataclass(frozen=True)
class CorpusFinding:
    """Something about all clips, or all clips of a speaker, rather than one."""

    kind: str
    words: str
    serious: bool = False


@dataclass(frozen=True)
class SkippedCheck:
    """A check that was not made, and why."""

    check: str
    reason: str


@dataclass(frozen=True)
class Histogram:
    """How one measure is distributed: `counts` between `edges` [bins + 1], and where the limits lie."""

    title: str
    unit: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    limits: tuple[float, ...] = ()


@dataclass(frozen=True)
class Exhibit:
    """A suspicious clip to look at and listen to.

    Attributes:
        id: of the clip.
        sound: the whole clip, encoded.
        media_type: of `sound`, such as "audio/mpeg".
        seconds: length of the clip.
        envelope: lowest and highest sample of each column of the picture.
        spectrogram: rows from high to low frequency, each with a byte per column, 0 soft to 255 loud.
        top_hertz: frequency at the upper edge of the spectrogram.
    """

    id: str
    sound: bytes
    media_type: str
    seconds: float
    envelope: tuple[tuple[float, float], ...]
    spectrogram: tuple[bytes, ...]
    top_hertz: float


@dataclass(frozen=True)
class DoctorResult:
    """Everything about one folder.

    Attributes:
        folder: what was looked at.
        layout: how it was read, such as "plain" or "ljspeech".
        clips: all that was found, in the order of the folder.
        corpus: findings about the whole.
        skipped: checks that were not made.
        histograms: of the measures.
        settings: thresholds by name.
        listeners: who was asked: names of the recogniser and the voice encoder.
        left_out: clips that were found and not looked at because only some were asked for.
    """

    folder: str
    layout: str
    clips: tuple[ClipCheck, ...]
    corpus: tuple[CorpusFinding, ...]
    skipped: tuple[SkippedCheck, ...]
    histograms: tuple[Histogram, ...]
    settings: dict[str, float]
    listeners: tuple[str, ...] = ()
    left_out: int = 0

    @property
    def usable_seconds(self) -> float:
        """Seconds of the clips that are kept or fixed, after the fix."""
        return sum(clip.seconds for clip in self.clips if clip.decision != "dropped")

    @property
    def found_seconds(self) -> float:
        """Seconds of all clips that could be read."""
        return sum(clip.measures.seconds for clip in self.clips if clip.measures is not None)

    @property
    def usable(self) -> int:
        """Clips that are kept or fixed."""
        return sum(clip.decision != "dropped" for clip in self.clips)

    def decisions(self) -> dict[str, int]:
        """How many clips are kept, fixed, dropped."""
        counts = Counter(clip.decision for clip in self.clips)
        return {name: counts[name] for name in ("kept", "fixed", "dropped")}

    def defects(self) -> dict[str, dict[str, int]]:
        """For each defect how many clips to keep, fix and drop because of it; the most frequent first."""
        found: dict[str, Counter[str]] = {}
        for clip in self.clips:
            for defect, action in _worst_actions(clip.findings).items():
                found.setdefault(defect, Counter())[action] += 1
        order = sorted(found, key=lambda defect: (-found[defect].total(), defect))
        return {defect: {action: found[defect][action] for action in ACTIONS} for defect in order}

    def account(self) -> dict[str, Any]:
        """Decisions, minutes and defects in numbers, as plain values."""
        return {
            **self.decisions(),
            "usable_minutes": round(self.usable_seconds / 60, 3),
            "found_minutes": round(self.found_seconds / 60, 3),
            "defects": self.defects(),
        }

    def to_json(self) -> dict[str, Any]:
        """All but the sound; numbers that are none do not occur."""
        return {**self._head(), "clips": [asdict(clip) for clip in self.clips]}

    def _head(self) -> dict[str, Any]:
        others = (field.name for field in fields(self) if field.name != "clips")
        return {
            "format": FORMAT,
            "version": VERSION,
            "summary": self.account(),
            **{name: _plain(getattr(self, name)) for name in others},
        }

    def write(self, path: Path) -> None:
        """Write `to_json` in one piece, each clip in a line of its own, so that clips can be read one by one."""
        with writing(path) as out:
            out.write(json.dumps(self._head(), ensure_ascii=False, indent=1)[:-2].encode("utf-8"))
            out.write(b",\n" + CLIPS)
            for number, clip in enumerate(self.clips):
                out.write((b",\n" if number else b"") + json_line(asdict(clip)).rstrip())
            out.write(b"\n]}\n")

    @classmethod
    def from_json(cls, value: Any) -> DoctorResult:
        """The result that `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        _check_format(value)
        return cls(
            folder=str(value["folder"]),
            layout=str(value["layout"]),
            clips=tuple(_clip(row) for row in value["clips"]),
            corpus=tuple(CorpusFinding(**row) for row in value["corpus"]),
            skipped=tuple(SkippedCheck(**row) for row in value["skipped"]),
            histograms=tuple(_histogram(row) for row in value["histograms"]),
            settings={str(name): float(number) for name, number in value["settings"].items()},
            listeners=tuple(value["listeners"]),
            left_out=int(value["left_out"]),
        )


def read_check(path: Path) -> DoctorResult:
    """Read the JSON that `cosytune data check` left beside its page.

    Raises:
        DataError: the file is missing, or not such a file of this version.
    """
    with _explained(path):
        return DoctorResult.from_json(json.loads(path.read_text(encoding="utf-8")))


def read_clips(path: Path) -> Iterator[ClipCheck]:
    """The clips of that JSON one by one, so that memory does not grow with them; a file laid out anew is read whole.

    Raises:
        DataError: as `read_check`.
    """
    with _explained(path), path.open("rb") as file:
        head = b""
        for line in file:
            if line == CLIPS:
                break
            head += line
        else:
            yield from DoctorResult.from_json(json.loads(head)).clips
            return
        _check_format(json.loads(head + CLIPS + b"]}"))
        for line in file:
            if line.rstrip() == b"]}":
                return
            yield _clip(json.loads(line.rstrip().removesuffix(b",")))
        raise ValueError("it ends in the middle")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path} is not a check of recordings that this version can read ({error}); "
            "run: cosytune data check FOLDER -o check.html, and give the check.json beside it"
        ) from error


def _check_format(value: Any) -> None:
    if value["format"] != FORMAT or value["version"] != VERSION:
        raise ValueError(f"format {value['format']!r}, version {value['version']!r}")


def _worst_actions(findings: Iterable[Finding]) -> dict[str, Action]:
    worst: dict[str, Action] = {}
    for finding in findings:
        known = worst.get(finding.defect, "keep")
        worst[finding.defect] = max(known, finding.action, key=ACTIONS.index)
    return worst


def _clip(row: dict[str, Any]) -> ClipCheck:
    decisions = tuple(DECISIONS.values())
    if row["decision"] not in decisions:
        raise ValueError(f"clip {row['id']!r} is {row['decision']!r}, not one of {', '.join(decisions)}")
    for name in ("start", "end"):
        value = row[name]
        if value is not None and not (isinstance(value, (int, float)) and math.isfinite(value) and value >= 0):
            raise ValueError(f"clip {row['id']!r} has {name} {value!r}, not seconds")
    measures = None if row["measures"] is None else Measures(**row["measures"])
    return ClipCheck(**{**row, "measures": measures, "findings": tuple(Finding(**found) for found in row["findings"])})


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value


def _histogram(row: dict[str, Any]) -> Histogram:
    lists = {name: tuple(row[name]) for name in ("edges", "counts", "limits")}
    return Histogram(**{**row, **lists})
