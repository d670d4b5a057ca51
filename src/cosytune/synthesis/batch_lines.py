"""A file of requests as its writer meant it: one JSON object a line, refused as a whole where it is malformed."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cosytune.errors import InputError

__all__ = ["BatchLine", "read_batch"]

LONGEST_NAME = 240
"""Bytes of an id: a file name has 255, and its suffix is among them."""
_NAME = re.compile(r"[^\s/\\\x00-\x1f\x7f]{1,120}")


class BatchLine(BaseModel):
    """One line of a batch file: a JSON object with these keys; paths are relative to the file's folder.

    Attributes:
        id: name of the recording that is made, without suffix; the line's number without it.
        text: what to say.
        voice: a named voice of the model; or
        prompt_wav: a recording whose voice is taken.
        prompt_text: what is said in it.
        instruct: how to say it, in words.
        convert: a recording to be said again by the voice, instead of a text.
        language: code of the text.
        speed: 0.5 to 2.
        seed: of this line's random numbers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: str | None = None
    text: str = ""
    voice: str | None = None
    prompt_wav: str | None = None
    prompt_text: str | None = None
    instruct: str | None = None
    convert: str | None = None
    language: str | None = None
    speed: float = Field(default=1.0, strict=False)
    seed: int = Field(default=0, ge=0)


def read_batch(path: Path) -> list[BatchLine]:
    """The lines of a batch file, each with an id.

    Raises:
        InputError: the file cannot be read, a line is no such object, an id cannot be a file name or comes twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read as UTF-8 text ({error}); give a file with one JSON object a line"
        ) from error
    lines: list[BatchLine] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        parsed = _parsed(line, f"{path}, line {number}")
        name = parsed.id if parsed.id is not None else f"{number:06d}"
        if not _NAME.fullmatch(name) or name.startswith(".") or len(name.encode()) > LONGEST_NAME:
            raise InputError(f"{path}, line {number}: the id {name!r} is no file name; use letters, digits, - and _")
        if name.casefold() in seen:
            raise InputError(f"{path}, line {number}: the id {name!r} stands in line {seen[name.casefold()]} as well")
        seen[name.casefold()] = number
        lines.append(parsed.model_copy(update={"id": name}))
    if not lines:
        raise InputError(f'{path} holds no requests; give one JSON object a line, for example {{"text": "Hello."}}')
    return lines


def _parsed(line: str, where: str) -> BatchLine:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON ({error}); write one object a line, with double quotes") from error
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where} holds half of a character ({error}); write the text as UTF-8") from error
    if not isinstance(value, dict):
        raise InputError(f'{where} is a {type(value).__name__}, not an object; write {{"text": ...}}')
    try:
        return BatchLine.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        keys = ", ".join(BatchLine.model_fields)
        raise InputError(f"{where}: {place}: {first['msg']}; the keys are {keys}") from error
