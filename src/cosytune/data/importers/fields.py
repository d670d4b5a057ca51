"""Rows of tables with usual column names, made into utterances."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosytune.data.importers.places import Places, why_no_file
from cosytune.data.importers.source import Entry, dropped, is_recording
from cosytune.data.manifest import Utterance

__all__ = ["COLUMNS", "Row", "accepted_columns", "language_code", "one_line", "recognise_columns"]

COLUMNS: dict[str, tuple[str, ...]] = {
    "audio": (
        *("audio", "audio_path", "audio_filepath", "audio_file", "path", "file", "filepath", "file_path", "filename"),
        *("file_name", "wav", "wav_path", "wav_file", "wav_filename", "clip", "recording"),
    ),
    "text": (
        *("text", "transcript", "transcription", "sentence", "normalized_text", "text_normalized", "raw_text"),
        "text_original",
    ),
    "speaker": ("speaker", "spk", "speaker_id", "speaker_name", "spk_id", "client_id", "user_id", "reader"),
    "language": ("language", "lang", "locale", "language_id", "lang_id"),
    "start": ("start", "start_time", "begin", "offset"),
    "end": ("end", "end_time", "stop"),
    "duration": ("duration", "seconds", "dur"),
    "id": ("id", "utt", "utt_id", "utterance_id", "uttid", "key", "clip_id"),
    "instruct": ("instruct", "instruction"),
}
"""The field's usual names of each of our fields, the preferred one first."""

_LANGUAGES = {
    spelling: code
    for code, spellings in {
        "zh": "chinese mandarin cn zh-cn zh_cn",
        "yue": "cantonese zh-hk zh_hk",
        "en": "english",
        "ja": "japanese jp",
        "ko": "korean kr",
        "de": "german",
        "fr": "french",
        "es": "spanish",
        "it": "italian",
        "pt": "portuguese",
        "nl": "dutch",
        "pl": "polish",
        "ru": "russian",
    }.items()
    for spelling in spellings.split()
}
"""What tables call languages, and the code."""


def language_code(value: str) -> str:
    """The code of a language that a table names by code or in English; "" for none, an unknown name in lower case."""
    known = value.strip().casefold()
    return _LANGUAGES.get(known, known)


def recognise_columns(columns: Iterable[str]) -> dict[str, str]:
    """Our field -> the column that holds it. A table with an id and a text but no path names recordings by id."""
    spelt = {re.sub(r"[\s-]+", "_", column.strip().casefold()): column for column in reversed(list(columns))}
    found = {
        field: next(spelt[name] for name in names if name in spelt)
        for field, names in COLUMNS.items()
        if any(name in spelt for name in names)
    }
    if "audio" not in found and "text" in found and "id" in found:
        found["audio"] = found["id"]
    return found


def accepted_columns() -> str:
    """The names that are understood, for an error message."""
    return "; ".join(f"{field}: {', '.join(names)}" for field, names in COLUMNS.items() if field != "duration")


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        values: by column; None, or an empty string outside of the text, is no value.
        names: our field -> column (`recognise_columns`).
        where: the row's place in words, for the ledger.
    """

    values: Mapping[str, Any]
    names: Mapping[str, str]
    where: str

    def entry(self, places: Places, speaker: str) -> Entry:
        """The utterance of this row.

        Args:
            places: finds the recordings.
            speaker: label where the row has none.
        """
        listed = self.string("audio")
        if not listed:
            return dropped(self.string("id") or self.where, self.where, f"no recording named: {self.where}")
        refused = why_no_file(listed)
        if refused is not None:
            return dropped(self.string("id") or listed, listed, refused)
        return self.entry_of(places.find(listed), listed, speaker)

    def entry_of(self, path: Path, listed: str, speaker: str) -> Entry:
        """The utterance of this row, whose recording is `path`, listed under another name or the same."""
        text = self.values.get(self.names.get("text", ""))
        if isinstance(text, (dict, list)):
            reason = f"transcript is no text but a {type(text).__name__}: {self.where}"
            return dropped(self.string("id") or _identity(listed, None, None), path, reason)
        try:
            start, end = self._times()
        except ValueError as error:
            return dropped(self.string("id") or _identity(listed, None, None), path, f"{error}: {self.where}")
        return Utterance(
            self.string("id") or _identity(listed, start, end),
            str(path),
            None if text is None else one_line(str(text)),
            self.string("speaker") or speaker,
            language_code(self.string("language")),
            self.string("instruct") or None,
            start,
            end,
        )

    def string(self, field: str) -> str:
        """The value of a field without white space around it, or ""."""
        value = self.values.get(self.names.get(field, ""))
        return "" if value is None else str(value).strip()

    def _times(self) -> tuple[float | None, float | None]:
        start, end, duration = (self._seconds(field) for field in ("start", "end", "duration"))
        if end is None and start is not None and duration is not None:
            # A duration alone describes the file, which is measured later; with an offset it is a cut.
            end = start + duration
        if end is not None and end <= (start or 0.0):
            raise ValueError(f"end before start ({end:g} s is not after {start or 0.0:g} s)")
        return start, end

    def _seconds(self, field: str) -> float | None:
        text = self.string(field)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"{field} is no number of seconds ({text!r})")
        return value


def one_line(text: str) -> str:
    """Runs of white space made one space."""
    return " ".join(text.split())


def _identity(listed: str, start: float | None, end: float | None) -> str:
    """A stable id from the recording's listed name and the part of it."""
    path = Path(listed.replace("\\", "/"))
    stem = (path.with_suffix("") if is_recording(path) else path).as_posix()
    if start is None and end is None:
        return stem
    return f"{stem}@{start or 0.0:g}-" + ("" if end is None else f"{end:g}")
