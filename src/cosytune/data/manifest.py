"""The manifest: one utterance a line, as JSON, in a file that people can read and write by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from cosytune.errors import DataError
from cosytune.files import json_line, parse_json, writing

__all__ = ["Utterance", "manifest_line", "parse_utterance", "read_manifest", "write_manifest"]

_REQUIRED = ("id", "audio", "speaker", "language")
_STRINGS = (*_REQUIRED, "text", "instruct", "transcribed_by", "kind")
_NUMBERS = ("start", "end", "seconds")


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recorded sentence.

    Attributes:
        id: unique in its manifest and stable: the same recording has the same id after more were added.
        audio: path of the recording.
        text: what is said, or None where there is no transcript.
        speaker: label of the person who speaks.
        language: code such as "en" or "zh".
        instruct: style instruction given to an instruct model, if any.
        start: second of `audio` where the utterance begins, if it is not the beginning.
        end: second of `audio` where the utterance ends, if it is not the end.
        seconds: duration of the utterance; 0 means not measured yet.
        transcribed_by: name of the recogniser that wrote `text`, or None where a person did or there is no text.
        kind: type of the sentence, such as "question" or "list", where somebody labelled it.
    """

    id: str
    audio: str
    text: str | None
    speaker: str
    language: str
    instruct: str | None = None
    start: float | None = None
    end: float | None = None
    seconds: float = 0.0
    transcribed_by: str | None = None
    kind: str | None = None


_FIELDS = tuple(field.name for field in fields(Utterance))


def read_manifest(path: Path) -> Iterator[Utterance]:
    """Read a manifest line by line; relative audio paths are taken from the manifest's own folder.

    Raises:
        DataError: the file cannot be read, or a line is not an utterance; the message names line and field.
    """
    folder = path.absolute().parent
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield parse_utterance(line, f"{path}, line {number}", folder)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the manifest {path} cannot be read ({error}); give a UTF-8 file of JSON lines") from error


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest utterance by utterance, in one piece for readers; fields without a value are left out."""
    with writing(path) as out:
        for item in utterances:
            out.write(manifest_line(item))


def manifest_line(utterance: Utterance) -> bytes:
    """The line of one utterance; fields without a value are left out."""
    values = ((name, getattr(utterance, name)) for name in _FIELDS)
    return json_line({name: value for name, value in values if value is not None})


def parse_utterance(line: str, where: str, folder: Path) -> Utterance:
    """The utterance of one line of a manifest.

    Args:
        line: JSON.
        where: manifest and line, for the message of an error.
        folder: of the manifest, from which relative audio paths are taken.

    Raises:
        DataError: the line is not an utterance.
    """
    try:
        row = parse_json(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error}); each line must be one JSON object") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: a {type(row).__name__}, but each line must be one JSON object")
    unknown = sorted(set(row) - set(_FIELDS))
    if unknown:
        raise DataError(f"{where}: unknown field {unknown[0]!r}; the fields are {', '.join(_FIELDS)}")
    for name in _STRINGS:
        _check_string(row, name, where)
    for name in _NUMBERS:
        _check_number(row, name, where)
    if row.get("end") is not None and row["end"] <= (row.get("start") or 0.0):
        raise DataError(f"{where}: field 'end' is {row['end']} s, which is not after 'start'; correct one of the two")
    values = {"text": None, **{name: value for name, value in row.items() if value is not None}}
    return Utterance(**{**values, "audio": str(folder / row["audio"])})


def _check_string(row: dict[str, Any], name: str, where: str) -> None:
    value = row.get(name)
    if name in _REQUIRED and (value is None or value == ""):
        raise DataError(f"{where}: field {name!r} is missing; {', '.join(_REQUIRED)} are needed")
    if value is not None and not isinstance(value, str):
        raise DataError(f"{where}: field {name!r} is {value!r}, but it must be a string")


def _check_number(row: dict[str, Any], name: str, where: str) -> None:
    value = row.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise DataError(f"{where}: field {name!r} is {value!r}, but it must be a number of seconds, 0 or more")
