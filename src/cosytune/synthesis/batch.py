"""A file of requests in, a folder of recordings out: resumable, and a request that fails never stops the others.

A file that is malformed (no JSON, unknown keys, an id twice) is refused before anything is spoken (`batch_lines.py`).
A batch may have a million lines: what became of them goes to the disk, not into the memory.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from cosytune.audio.files import FORMATS
from cosytune.errors import CosytuneError, InputError
from cosytune.files import hash_file, hash_json
from cosytune.models.model import Model, hash_tensors
from cosytune.models.voices import voice_tensors
from cosytune.synthesis.batch_lines import BatchLine
from cosytune.synthesis.conditions import read_recording
from cosytune.synthesis.requests import Failure, Outcome, Request, Speech
from cosytune.synthesis.synthesiser import Synthesiser

__all__ = ["RESULTS", "BatchResult", "BatchTotals", "describe", "speak_batch"]

RESULTS = "results.jsonl"
_DISK_IS_LOST = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


@dataclass(frozen=True)
class BatchResult:
    """What became of one line.

    Attributes:
        id: of the line.
        key: hash of the line, its recordings, its voice and the model: the same key means the same speech.
        error: why there is no speech, or None.
        speech: what `describe` says of the speech, or None.
    """

    id: str
    key: str
    error: str | None
    speech: dict[str, Any] | None


@dataclass(frozen=True)
class BatchTotals:
    """What became of all lines.

    Attributes:
        spoken: lines with a recording, now or from before.
        failed: the others.
        seconds: of speech in all recordings.
    """

    spoken: int = 0
    failed: int = 0
    seconds: float = 0.0

    def plus(self, result: BatchResult) -> BatchTotals:
        """With one line more."""
        if result.speech is None:
            return BatchTotals(self.spoken, self.failed + 1, self.seconds)
        return BatchTotals(self.spoken + 1, self.failed, self.seconds + result.speech["seconds"])


def speak_batch(
    synthesiser: Synthesiser,
    lines: Sequence[BatchLine],
    folder: Path,
    *,
    source: Path,
    settings: Mapping[str, Any],
    format: str = "wav",
    done: Callable[[BatchResult], None] = lambda result: None,
) -> BatchTotals:
    """Speak all lines into `folder`/ID.`format`; what was done there before with the same key is not done again.

    Each recording appears whole or not at all, and its line in `results.jsonl` after it.

    Args:
        synthesiser: the model.
        lines: from `read_batch`.
        folder: made if need be.
        source: folder that the paths in the lines are relative to.
        settings: what else decides how the speech sounds (model without its voices, precision, solver), for the keys.
        format: wav, flac, mp3 or ogg.
        done: called with each result as it comes, also with those that were there before.

    Raises:
        InputError: a format that is not written.
        OSError: the disk is full or broken.
    """
    if format not in FORMATS:
        raise InputError(f"{format!r} is not a format we write: choose one of {', '.join(FORMATS)}")
    folder.mkdir(parents=True, exist_ok=True)
    settings = {**settings, "format": format}
    with _Log(folder, format, done) as log:
        at_work: dict[int, tuple[str, str]] = {}
        numbers = count()

        def requests() -> Iterator[Request]:
            for line in lines:
                name = str(line.id)
                try:
                    key = _key(line, source, synthesiser.model, settings)
                    if log.has(name, key):
                        continue
                    request = _request(line, source)
                except (CosytuneError, OSError) as error:
                    log.add(BatchResult(name, "", str(error), None))
                    continue
                at_work[next(numbers)] = (name, key)
                yield request

        for outcome in synthesiser.speak_all(requests()):
            name, key = at_work.pop(outcome.number)
            log.add(_written(outcome, name, key, folder / f"{name}.{format}"))
        return log.totals


def _written(outcome: Outcome, name: str, key: str, file: Path) -> BatchResult:
    if isinstance(outcome.result, Failure):
        return BatchResult(name, key, str(outcome.result.error), None)
    if outcome.result.empty:
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


class _Log:
    """`results.jsonl` of a folder: what was done before, and what is done now.

    Attributes:
        totals: of what was found and added.
    """

    def __init__(self, folder: Path, format: str, done: Callable[[BatchResult], None]) -> None:
        self._file, self._done = folder / RESULTS, done
        self._places = _places(self._file, folder, format)
        self.totals = BatchTotals()

    def __enter__(self) -> _Log:
        self._before = self._file.open("a+b")
        return self

    def __exit__(self, *error: object) -> None:
        self._before.close()

    def has(self, name: str, key: str) -> bool:
        """Whether the recording of this name is there and was made with this key; then it counts as done."""
        if name not in self._places:
            return False
        self._before.seek(self._places[name])
        result = _result(self._before.readline())
        if result is None or result.key != key:
            return False
        self._count(result)
        return True

    def add(self, result: BatchResult) -> None:
        """Write what became of a line."""
        self._before.write(json.dumps(asdict(result), ensure_ascii=False).encode() + b"\n")
        self._before.flush()
        self._count(result)

    def _count(self, result: BatchResult) -> None:
        self.totals = self.totals.plus(result)
        self._done(result)


def _places(log: Path, folder: Path, format: str) -> dict[str, int]:
    """Where in a log the last success of each id stands whose recording is still there, in bytes."""
    found: dict[str, int] = {}
    if not log.is_file():
        return found
    line, place = b"", 0
    with log.open("rb") as file:
        for line in file:
            result = _result(line)
            if result is not None and result.error is None and (folder / f"{result.id}.{format}").is_file():
                found[result.id] = place
            place += len(line)
    if line and not line.endswith(b"\n"):
        # A line that a kill cut short must not swallow the next one.
        with log.open("ab") as file:
            file.write(b"\n")
    return found


def _result(line: bytes) -> BatchResult | None:
    """One line of a log; None for one that a kill cut short."""
    try:
        return BatchResult(**json.loads(line))
    except (ValueError, TypeError):
        return None


def _key(line: BatchLine, source: Path, model: Model, settings: Mapping[str, Any]) -> str:
    heard = [file for file in (line.prompt_wav, line.convert) if file is not None]
    missing = [file for file in heard if not (source / file).is_file()]
    if missing:
        raise InputError(f"{source / missing[0]} does not exist: paths in a batch file are relative to its folder")
    hashes = [hash_file(source / file) for file in heard]
    # Of the table of voices this line's voice alone: whoever adds another one does not want all spoken anew.
    voice = model.voices.get(line.voice or "")
    spoken_by = None if voice is None else hash_tensors(voice_tensors(voice))
    return hash_json({"line": line.model_dump(), "recordings": hashes, "voice": spoken_by, "settings": dict(settings)})


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
