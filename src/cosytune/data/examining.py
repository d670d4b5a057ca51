"""What becomes of one entry of a source: cut if it is long, transcribed if asked, decoded, measured and hashed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cosytune.audio.files import wave_info
from cosytune.data.cutting import CutSettings, cut_recording
from cosytune.data.importers.measuring import measure
from cosytune.data.importers.source import Entry
from cosytune.data.manifest import Utterance
from cosytune.data.results import LedgerLine
from cosytune.data.subtitles import find_subtitles
from cosytune.data.transcripts import Recogniser, transcribe_clip
from cosytune.errors import DataError, InputError
from cosytune.files import hash_file, hash_json

__all__ = ["Examined", "Examiner"]

VERSION = 2
"""Raised when the same entry would become something else."""


@dataclass(frozen=True)
class Examined:
    """What became of an entry.

    Attributes:
        entries: clips with their `seconds`, and ledger lines of what was dropped, in order of time.
        changes: by id, what was changed about a clip ("fixed").
        between: seconds of the recording that belong to no entry.
        audio_hash: SHA-256 of the recording, "" where no clip is left.
    """

    entries: tuple[Entry, ...]
    changes: Mapping[str, str] = field(default_factory=dict)
    between: float = 0.0
    audio_hash: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "entries": [[isinstance(entry, Utterance), asdict(entry)] for entry in self.entries],
            "changes": dict(self.changes),
            "between": self.between,
            "audio_hash": self.audio_hash,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Examined:
        """Inverse of `to_json`."""
        entries = tuple(Utterance(**row) if clip else LedgerLine(**row) for clip, row in value["entries"])
        return cls(entries, value["changes"], value["between"], value["audio_hash"])


@dataclass(frozen=True)
class Examiner:
    """Examines entries alone, so that many can be examined in parallel; it is small and picklable.

    Attributes:
        shortest: seconds; a shorter clip is dropped.
        longest: seconds; a longer recording is cut into clips, or dropped with `cut` None.
        cut: how it is cut.
        recogniser: hears clips without a transcript, and helps to place the transcript of a long recording.
    """

    shortest: float
    longest: float
    cut: CutSettings | None = None
    recogniser: Recogniser | None = None

    def __call__(self, entry: Entry) -> Examined:
        """Examine one entry; what cannot be used is a line of the ledger and never an error."""
        if isinstance(entry, LedgerLine):
            return Examined((entry,))
        found = self._cut(entry)
        entries, changes = [], dict(found.changes)
        for piece in found.entries:
            clip = measure(piece, self.shortest, self.longest) if isinstance(piece, Utterance) else piece
            if isinstance(clip, Utterance) and clip.text is None and self.recogniser is not None:
                clip = transcribe_clip(clip, self.recogniser)
                if isinstance(clip, Utterance):
                    heard = f"transcribed: by {self.recogniser.name}"
                    changes[clip.id] = f"{changes[clip.id]}; {heard}" if clip.id in changes else heard
            entries.append(clip)
        audio_hash = hash_file(Path(entry.audio)) if any(isinstance(clip, Utterance) for clip in entries) else ""
        return Examined(tuple(entries), changes, found.between, audio_hash)

    def key(self, entry: Utterance) -> str | None:
        """What decides the outcome: entry, files by size and time, settings; None if a file is not there."""
        files = [Path(entry.audio)]
        try:
            if self.cut is not None and (subtitles := find_subtitles(files[0], entry.language)) is not None:
                files.append(subtitles[0])
            states = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
        except (OSError, ValueError, DataError):
            # No file is there or can be, or nobody knows which subtitles count: examining will say so.
            return None
        cut = None if self.cut is None else asdict(self.cut)
        heard_by = None if self.recogniser is None else [self.recogniser.name, str(self.recogniser.path)]
        return hash_json([VERSION, asdict(entry), states, self.shortest, self.longest, cut, heard_by])

    def _cut(self, entry: Utterance) -> Examined:
        if self.cut is None or self._is_clip(entry):
            return Examined((entry,))
        transcribe = None if self.recogniser is None else self.recogniser.transcribe
        cut = cut_recording(entry, self.cut, transcribe)
        return Examined(cut.entries, cut.changes, cut.between)

    def _is_clip(self, entry: Utterance) -> bool:
        """Whether an entry is short enough as it is and needs no text from subtitles."""
        path = Path(entry.audio)
        try:
            end = wave_info(path).seconds if entry.end is None else entry.end
        except InputError:
            return True  # measuring will say why
        whole = entry.start is None and entry.end is None
        try:
            if entry.text is None and whole and find_subtitles(path, entry.language) is not None:
                return False
        except DataError:
            return False  # cutting will say why
        return end - (entry.start or 0.0) <= self.longest
