"""A file of requests in, a folder of recordings out: resumable, and a request that fails never stops the others.

A file that is malformed (no JSON, unknown keys, an id twice) is refused before anything is spoken.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cosytune.audio.files import FORMATS
from cosytune.errors import CosytuneError, InputError
from cosytune.files import hash_file, hash_json
from cosytune.synthesis.conditions import read_recording
from cosytune.synthesis.requests import Failure, Outcome, Request, Speech
from cosytune.synthesis.synthesiser import Synthesiser

__all__ = ["RESULTS", "BatchLine", "BatchResult", "describe", "read_batch", "speak_batch"]

RESULTS = "results.jsonl"
LONGEST_NAME = 180
"""Bytes of an id: a file name has 255, and the names of half-written files are longer than those of whole ones."""
_DISK_IS_LOST = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
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


@dataclass(frozen=True)
class BatchResult:
    """What became of one line.

    Attributes:
        id: of the line.
        key: hash of the line, its recordings and the model: the same key means the same speech.
        error: why there is no speech, or None.
        speech: what `describe` says of the speech, or None.
    """

    id: str
    key: str
    error: str | None
    speech: dict[str, Any] | None


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


def speak_batch(
    synthesiser: Synthesiser,
    lines: Sequence[BatchLine],
    folder: Path,
    *,
    source: Path,
    settings: Mapping[str, Any],
    format: str = "wav",
    done: Callable[[BatchResult], None] = lambda result: None,
) -> list[BatchResult]:
    """Speak all lines into `folder`/ID.`format`; what was done there before with the same key is not done again.

    Each recording appears whole or not at all, and its line in `results.jsonl` after it.

    Args:
        synthesiser: the model.
        lines: from `read_batch`.
        folder: made if need be.
        source: folder that the paths in the lines are relative to.
        settings: what else decides how the speech sounds (model, precision, solver), for the keys.
        format: wav, flac, mp3 or ogg.
        done: called with each result, also with those that were there before.

    Returns:
        The results in the order of the lines.
    """
    if format not in FORMATS:
        raise InputError(f"{format!r} is not a format we write: choose one of {', '.join(FORMATS)}")
    folder.mkdir(parents=True, exist_ok=True)
    known = _known(folder, format)
    settings = {**settings, "format": format}
    _end_cut_line(folder / RESULTS)
    results: dict[str, BatchResult] = {}
    with (folder / RESULTS).open("a", encoding="utf-8") as log:

        def keep(result: BatchResult, new: bool = True) -> None:
            results[result.id] = result
            if new:
                log.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")
                log.flush()
            done(result)

        keys: list[tuple[str, str]] = []

        def requests() -> Iterator[Request]:
            for line in lines:
                name = str(line.id)
                try:
                    key = _key(line, source, settings)
                    if known.get(name) is not None and known[name].key == key:
                        keep(known[name], new=False)
                        continue
                    request = _request(line, source)
                except (CosytuneError, OSError) as error:
                    keep(BatchResult(name, "", str(error), None))
                    continue
                keys.append((name, key))
                yield request

        for outcome in synthesiser.speak_all(requests()):
            name, key = keys[outcome.number]
            keep(_written(outcome, name, key, folder / f"{name}.{format}"))
    return [results[str(line.id)] for line in lines]


def _written(outcome: Outcome, name: str, key: str, file: Path) -> BatchResult:
    if isinstance(outcome.result, Failure):
        return BatchResult(name, key, str(outcome.result.error), None)
    if not len(outcome.result.wave):
        return BatchResult(name, key, "; ".join(outcome.result.problems) or "no samples came out", None)
    try:
        outcome.result.save(file)
    except InputError as error:
        return BatchResult(name, key, str(error), None)
    except OSError as error:
        if error.errno in _DISK_IS_LOST:
            raise
        return BatchResult(name, key, str(error), None)
    return BatchResult(name, key, None, describe(outcome.result))


def _end_cut_line(log: Path) -> None:
    """A line that a kill cut short must not swallow the next one."""
    if log.is_file() and (data := log.read_bytes()) and not data.endswith(b"\n"):
        with log.open("ab") as file:
            file.write(b"\n")


def _known(folder: Path, format: str) -> dict[str, BatchResult]:
    """Earlier successes whose recording is still there, by id."""
    found: dict[str, BatchResult] = {}
    if not (folder / RESULTS).is_file():
        return found
    for line in (folder / RESULTS).read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            result = BatchResult(**json.loads(line))
        except (ValueError, TypeError):  # a line that a kill cut short
            continue
        if result.error is None and (folder / f"{result.id}.{format}").is_file():
            found[result.id] = result
    return found


def _key(line: BatchLine, source: Path, settings: Mapping[str, Any]) -> str:
    heard = [file for file in (line.prompt_wav, line.convert) if file is not None]
    missing = [file for file in heard if not (source / file).is_file()]
    if missing:
        raise InputError(f"{source / missing[0]} does not exist: paths in a batch file are relative to its folder")
    hashes = [hash_file(source / file) for file in heard]
    return hash_json({"line": line.model_dump(), "recordings": hashes, "settings": dict(settings)})


def _request(line: BatchLine, source: Path) -> Request:
    prompt, prompt_rate = (None, None) if line.prompt_wav is None else read_recording(source / line.prompt_wav)
    spoken, spoken_rate = (None, None) if line.convert is None else read_recording(source / line.convert)
    return Request(
        text=line.text,
        voice=line.voice,
        prompt_wave=prompt,
        prompt_rate=prompt_rate,
        prompt_text=line.prompt_text,
        language=line.language,
        seed=line.seed,
        name=str(line.id),
        instruct=line.instruct,
        source_wave=spoken,
        source_rate=spoken_rate,
        speed=line.speed,
    )


def describe(speech: Speech) -> dict[str, Any]:
    """A speech in plain values: seconds, tokens, retries, problems, time and RTF by part."""
    return {
        "mode": speech.mode,
        "seconds": round(speech.seconds, 3),
        "sample_rate": speech.sample_rate,
        "tokens": speech.tokens,
        "retries": speech.retries,
        "problems": speech.problems,
        "pieces": [
            {
                "text": piece.text,
                "start": round(piece.start, 3),
                "seconds": round(piece.seconds, 3),
                "tokens": len(piece.tokens),
                "ended": piece.ended,
                "retries": piece.retries,
                "problem": piece.problem,
            }
            for piece in speech.pieces
        ],
        "seconds_spent": {part: round(spent, 3) for part, spent in speech.seconds_spent.items()},
        "real_time_factors": {part: round(factor, 3) for part, factor in speech.real_time_factors.items()},
        "real_time_factor": round(speech.real_time_factor, 3),
    }
