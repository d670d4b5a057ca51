"""Writing without halves, hashing, and JSON of strangers: what every room that touches a disk needs."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

__all__ = [
    "finite",
    "hash_file",
    "hash_json",
    "json_line",
    "lock",
    "parse_json",
    "write_bytes",
    "write_folder",
    "write_json",
    "write_json_lines",
    "write_text",
    "writing",
]


LONGEST_NAME = 255
"""Bytes of a file name that disks hold."""


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` to write into; flushed to the disk and renamed if the block ends without an error.

    A reader sees the old file or the whole new one. For files too large to be put together in memory.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(path, "partial")
    try:
        with partial.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file in one piece (see `writing`)."""
    with writing(path) as out:
        out.write(data)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for UTF-8 text."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document, keys as given, non-ASCII kept readable, numbers that are none as null (see `finite`)."""
    write_text(path, json.dumps(finite(value), ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """A value of dictionaries, lists and tuples with None for NaN and infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json_lines(path: Path, values: Iterable[Any]) -> None:
    """Write one JSON document a line, each as it comes: only one is held in memory."""
    with writing(path) as out:
        for value in values:
            out.write(json_line(value))


def json_line(value: Any) -> bytes:
    """One line of a file of JSON lines, non-ASCII kept readable."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8") + b"\n"


def parse_json(text: str) -> Any:
    """The value of a JSON text that anybody may have written.

    Raises:
        ValueError: it is not JSON, is nested too deeply to be read, or a string in it holds half of a surrogate pair,
            which no file of text can hold.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError("a string of it holds half of a character (a lone surrogate)") from error
    return value


@contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """Fill a folder beside `path`; it takes the place of `path` only if the block ends without an error.

    Raises:
        NotADirectoryError: `path` is a file.
    """
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file and a folder is to be written there; give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, old = _beside(path, "partial"), _beside(path, "old")
    for left_over in (partial, old):
        shutil.rmtree(left_over, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            path.rename(old)
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def lock(path: Path, *, wait: bool) -> BinaryIO:
    """Lock the file `path`, made if need be, until what is returned is closed or this process ends, however it ends.

    Args:
        path: a file that exists for nothing else; it stays.
        wait: until another process lets go of it.

    Raises:
        BlockingIOError: another process holds it and `wait` is off.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    held = path.open("ab")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BaseException:
        held.close()
        raise
    return held


def _beside(path: Path, kind: str) -> Path:
    """A hidden name in the same folder that no other process or thread uses."""
    ending = f".{os.getpid()}-{threading.get_ident()}.{kind}"
    beside = path.with_name(f".{path.name}{ending}")
    if len(os.fsencode(beside.name)) <= LONGEST_NAME:
        return beside
    return path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]}{ending}")


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def hash_json(value: Any) -> str:
    """SHA-256 of a value's canonical JSON (sorted keys): equal values have equal hashes."""
    canonical = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()
