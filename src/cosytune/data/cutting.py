"""Cutting a long recording into clips, with the text that subtitles or a transcript have for it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from cosytune.audio.files import wave_info
from cosytune.audio.pauses import Activity, find_speech
from cosytune.data.alignment import Anchor
from cosytune.data.hearing import hear_recording
from cosytune.data.letters import Sound, read_sound
from cosytune.data.manifest import Utterance
from cosytune.data.pieces import (
    CutSettings,
    Joint,
    Piece,
    choose_pieces,
    joint_at,
    joints_of_speech,
    piece_between,
)
from cosytune.data.results import LedgerLine
from cosytune.data.script import Script, script_of_subtitles, script_of_transcript
from cosytune.data.subtitles import find_subtitles
from cosytune.errors import DataError, InputError

__all__ = ["Cut", "CutSettings", "Transcribe", "cut_recording"]

CLAUSE_COST = 1.0
"""Of a cut at a comma: sentences are better clips than halves of them."""
QUOTED = 60
"""Characters of a text that a reason quotes."""

Transcribe = Callable[[np.ndarray], str]
"""A recogniser: wave [N] at 16 kHz to words."""


@dataclass(frozen=True)
class Cut:
    """What became of a recording; its seconds are those of the clips, of the dropped pieces and `between` them.

    Attributes:
        entries: in order of time, a clip or the reason why a piece is none; iterating a cut gives them too.
        between: seconds of pauses that belong to no entry.
        changes: by id of each clip that was cut out, what the ledger says of it ("fixed").
    """

    entries: tuple[Utterance | LedgerLine, ...]
    between: float = 0.0
    changes: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Utterance | LedgerLine]:
        return iter(self.entries)


def cut_recording(utterance: Utterance, settings: CutSettings, transcribe: Transcribe | None = None) -> Cut:
    """Cut a recording that is longer than `settings.longest`, or that has subtitles beside it, into clips.

    A function of its arguments and of the files alone, so that recordings can be cut in parallel. No audio is written:
    a clip is a part of the recording from `start` to `end`, and its id is the recording's with the millisecond where it
    begins (`talk/000012340`), so that neither other recordings nor changes elsewhere in it give it another one.

    - Without text, cuts lie in the longest pauses. Speech that never pauses is cut at its quietest spots, which loses
      nothing where no text has to fit.
    - With subtitles (`name.srt`, `name.vtt`, `name.en.srt`) or a transcript of the whole, cuts lie only in pauses that
      are borders of the text too; what cannot be placed for certain is dropped with the reason. In a recording that has
      to be cut, subtitles go before a transcript: they have times.

    Args:
        utterance: with `text` None, or the transcript of the whole recording.
        settings: lengths, and how speech is found.
        transcribe: a recogniser that helps to place a transcript.

    Returns:
        The utterance itself where nothing is to be cut, and where the recording cannot be opened: saying why is left to
        the step that measures all clips.

    Raises:
        MissingPackageError: `settings` ask for a detector that is not installed.
    """
    path = Path(utterance.audio)
    try:
        whole = wave_info(path).seconds
    except InputError:
        return Cut((utterance,))
    start, end = utterance.start or 0.0, whole if utterance.end is None else min(utterance.end, whole)
    if start >= end:
        return Cut((utterance,))
    is_long = end - start > settings.longest
    try:
        subtitles = _subtitles_of(utterance, is_long)
        if not is_long and subtitles is None:
            return Cut((utterance,))
        activity = find_speech(path, start, end, settings.detector)
        script = _script(utterance, subtitles, activity, settings, transcribe)
    except (InputError, DataError) as error:
        reason = str(error) if isinstance(error, DataError) else f"unreadable: {error}"
        return Cut((LedgerLine(utterance.id, utterance.audio, "dropped", reason, seconds=round(end - start, 6)),))
    recording = _Recording(utterance, settings, activity, start)
    return recording.cut_blind() if script is None else recording.cut_by(script)


def _subtitles_of(utterance: Utterance, is_long: bool) -> tuple[Path, str] | None:
    if utterance.start is not None or utterance.end is not None or (utterance.text is not None and not is_long):
        return None
    return find_subtitles(Path(utterance.audio), utterance.language)


def _script(
    utterance: Utterance,
    subtitles: tuple[Path, str] | None,
    activity: Activity,
    settings: CutSettings,
    transcribe: Transcribe | None,
) -> Script | None:
    """The text of a recording along its speech, or None where it has no text."""
    if not len(activity.speech):
        raise DataError("no speech: nothing stands out of its noise or silence")
    if subtitles is not None:
        path, code = subtitles
        return script_of_subtitles(path, utterance.language or code, activity)
    if utterance.text is None:
        return None
    start = utterance.start or 0.0

    def sound() -> Sound:
        return read_sound(Path(utterance.audio), start, start + activity.seconds, activity.speech)

    hear = None if transcribe is None else partial(hear_recording, utterance, activity, transcribe)
    return script_of_transcript(utterance.text, utterance.language, activity, settings.confidence, hear, sound)


@dataclass(frozen=True)
class _Recording:
    """A recording about to be cut; times count from `offset`, the second where it begins in its file."""

    utterance: Utterance
    settings: CutSettings
    activity: Activity
    offset: float

    def cut_blind(self) -> Cut:
        """Clips without text."""
        decided = []
        for piece in choose_pieces(joints_of_speech(self.activity, self.settings), self.settings):
            reason = self._length_reason(piece)
            how = "cut at a quiet spot because nobody pauses" if piece.in_speech else "cut at its pauses"
            decided.append((piece, self._dropped(piece, reason) if reason else self._clip(piece), how))
        return self._cut(decided)

    def cut_by(self, script: Script) -> Cut:
        """Clips with their part of a script."""
        decided: list[tuple[Piece, Utterance | LedgerLine, str]] = []
        for section, reason in self._sections(script):
            if reason:
                piece = piece_between(section[0], section[-1], self.settings)
                if section[0].before == section[-1].before:  # text that nobody says takes no time
                    piece = replace(piece, end=piece.start)
                decided.append((piece, self._dropped(piece, reason), ""))
                continue
            for piece in choose_pieces(section, self.settings):
                why = self._length_reason(piece, script)
                entry = self._dropped(piece, why) if why else self._clip(piece, script)
                decided.append((piece, entry, script.source))
        return self._cut(decided)

    def _sections(self, script: Script) -> Iterator[tuple[list[Joint], str]]:
        """Runs of joints between which everything can be used, and pairs of joints between which nothing can."""
        run: list[Joint] = []
        said_by: str | None = None
        doubts = script.doubts(self.activity.speech)
        for (first, second), doubt in zip(itertools.pairwise(script.anchors), doubts, strict=True):
            begin, end = (self._joint(script, anchor) for anchor in (first, second))
            # What is too long is dropped for that, whatever else may be wrong with it.
            too_long = piece_between(begin, end, self.settings).seconds > self.settings.longest
            reason, speaker = _step(script, first, second, "" if too_long else doubt)
            if run and (reason or speaker != said_by):
                yield run, ""
                run = []
            if reason:
                yield [begin, end], reason
                continue
            run, said_by = [*(run or [begin]), end], speaker
        if run:
            yield run, ""

    def _joint(self, script: Script, anchor: Anchor) -> Joint:
        at_sentence = not anchor.unit or script.units[anchor.unit - 1].ends_sentence
        return joint_at(self.activity, anchor.stretch, 0.0 if at_sentence else CLAUSE_COST, anchor.unit)

    def _length_reason(self, piece: Piece, script: Script | None = None) -> str:
        shortest, longest = self.settings.shortest, self.settings.longest
        if piece.seconds < shortest:
            return f"shorter than {shortest:g} s: {piece.seconds:.2f} s between long pauses or what was left out"
        if piece.seconds > longest:
            text = "" if script is None else f": {_quoted(script.text(*piece.units))}"
            return f"no certain place to cut: {piece.seconds:.1f} s without a pause at a border of the text{text}"
        return ""

    def _clip(self, piece: Piece, script: Script | None = None) -> Utterance:
        start = round(self.offset + piece.start, 3)
        clip = replace(
            self.utterance,
            id=self._id(piece),
            start=start,
            end=round(self.offset + piece.end, 3),
            seconds=piece.seconds,
        )
        if script is None:
            return clip
        speaker = script.speakers[piece.units[0]] or clip.speaker
        return replace(clip, text=script.text(*piece.units), speaker=speaker, language=clip.language or script.language)

    def _dropped(self, piece: Piece, reason: str) -> LedgerLine:
        return LedgerLine(self._id(piece), self.utterance.audio, "dropped", reason, seconds=piece.seconds)

    def _id(self, piece: Piece) -> str:
        unspoken = "" if piece.seconds else f"-unspoken-{piece.units[0]}"
        return f"{self.utterance.id}/{round((self.offset + piece.start) * 1000):09d}{unspoken}"

    def _cut(self, decided: list[tuple[Piece, Utterance | LedgerLine, str]]) -> Cut:
        used = sum(piece.seconds for piece, _, _ in decided)
        whole = self.activity.seconds
        changes = {
            entry.id: f"cut out of a longer recording: of {whole:.1f} s, {how}"
            for _, entry, how in decided
            if isinstance(entry, Utterance)
        }
        return Cut(tuple(entry for _, entry, _ in decided), round(max(0.0, whole - used), 6), changes)


def _step(script: Script, first: Anchor, second: Anchor, doubt: str) -> tuple[str, str | None]:
    """Why nothing between two anchors can be used ("" if it can), and who speaks."""
    if first.unit == second.unit:
        return "speech without text", None
    units = slice(first.unit, second.unit)
    text = _quoted(script.text(first.unit, second.unit))
    reason = next(filter(None, script.reasons[units]), "")
    if reason:
        return f"subtitle unusable: {reason}: {text}", None
    if first.stretch == second.stretch:
        return f"text without speech: {text}", None
    speakers = set(script.speakers[units])
    if len(speakers) > 1:
        return f"two people speak without a pause: {text}", None
    return (f"{doubt}: {text}", None) if doubt else ("", speakers.pop())


def _quoted(text: str) -> str:
    return f"“{text}”" if len(text) <= QUOTED else f"“{text[:QUOTED]}…”"
