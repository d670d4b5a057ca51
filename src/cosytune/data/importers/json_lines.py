"""JSON lines of other programs (NeMo, Hugging Face, ESPnet, ...): one object a line, with usual field names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cosytune.data.importers.fields import Row, accepted_columns, recognise_columns
from cosytune.data.importers.places import Places
from cosytune.data.importers.source import Entry, dropped
from cosytune.data.importers.texts import first_line, open_text
from cosytune.errors import DataError
from cosytune.files import parse_json

__all__ = ["JSON_SUFFIXES", "first_object", "is_json_lines", "read_json_lines"]

JSON_SUFFIXES = (".jsonl", ".json", ".jsonl.gz")


def is_json_lines(path: Path) -> bool:
    """Whether the name is one of a file of JSON lines."""
    return path.name.lower().endswith(JSON_SUFFIXES)


def first_object(path: Path) -> dict[str, Any] | None:
    """The object on the first line of a file of JSON lines; None if there is none.

    Raises:
        DataError: the file cannot be read or is in another encoding.
    """
    try:
        value = json.loads(first_line(path))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_json_lines(path: Path, speaker: str) -> Iterator[Entry]:
    """The objects of a file, read line by line; a line that is none is dropped with its reason.

    Args:
        path: a file of JSON lines.
        speaker: label where a line has none.

    Raises:
        DataError: the first line is no object or none of its fields names a recording.
    """
    first = first_object(path)
    if first is None:
        raise DataError(f"{path} is no file of JSON lines: write one object a line, as {{'audio': ..., 'text': ...}}")
    if "audio" not in recognise_columns(first):
        raise DataError(
            f"{path} has the fields {', '.join(first) or '(none)'}, and none of them is known to name the recordings; "
            f"rename them: {accepted_columns()}"
        )
    return _entries(path, speaker)


def _entries(path: Path, speaker: str) -> Iterator[Entry]:
    places = Places(path.parent)
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"line {number} of {path.name}"
            try:
                values = parse_json(line)
            except ValueError as error:
                yield dropped(where, path, f"not JSON: {where} ({error})")
                continue
            if isinstance(values, dict):
                yield Row(values, recognise_columns(values), where).entry(places, speaker)
            else:
                yield dropped(where, path, f"not a JSON object: {where}")
