"""Text files of strangers: UTF-8 with or without a byte order mark, UTF-16 with one, and a reason for all others."""

from __future__ import annotations

import codecs
import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from cosytune.errors import DataError
from cosytune.text.language import is_chinese

__all__ = ["first_line", "open_text", "read_transcript"]

_SAMPLE = 4096
"""Bytes looked at to name the encoding of a text that is not UTF-8."""
_LONGEST_LINE = 1 << 20
"""Characters of a first line at most: what is longer is no table."""


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a text file (through gzip if its name ends in .gz); line ends are kept as they are.

    Raises:
        DataError: while it is read, the file turns out to be unreadable, no gzip file or in another encoding.
    """
    try:
        with path.open("rb") as raw, gzip.open(raw) if path.suffix.lower() == ".gz" else raw as binary:
            head = binary.read(2)
            binary.seek(0)
            encoding = "utf-16" if head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
            with io.TextIOWrapper(binary, encoding=encoding, newline="") as lines:
                yield lines
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be read: {_encoding_reason(error.object)}") from error
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}); check the file and its permissions") from error


def first_line(path: Path) -> str:
    """The first line that is not blank, without its end; "" if there is none.

    Raises:
        DataError: as `open_text`.
    """
    with open_text(path) as lines:
        while line := lines.readline(_LONGEST_LINE):
            if line.strip():
                return line.rstrip("\r\n")
    return ""


def read_transcript(path: Path) -> str:
    """The text of a small file, runs of white space and line ends made one space.

    Raises:
        DataError: the file cannot be read, or is in another encoding; the message is a reason for the ledger.
    """
    # A pipe with the name of a transcript would wait for ever.
    if not path.is_file():
        raise DataError(f"{path.name} is no regular file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({error.strerror})") from error
    try:
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return " ".join(data.decode("utf-16" if wide else "utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is {_encoding_reason(data)}") from error


def _encoding_reason(data: bytes) -> str:
    """What the bytes may be, if they are not UTF-8."""
    try:
        text = codecs.getincrementaldecoder("gb18030")().decode(data[:_SAMPLE])
    except UnicodeDecodeError:
        text = ""
    others = [character for character in text if not character.isascii()]
    # Two bytes of a Western encoding may happen to be an ideograph; most of a Chinese text's are.
    if others and 2 * sum(map(is_chinese, others)) > len(others) and len(others) > 1:
        return "not UTF-8 text but probably GB18030 (GBK): convert it with iconv -f GB18030 -t UTF-8"
    return "not UTF-8 text: save it as UTF-8"
