"""Parquet tables: the upstream CosyVoice lists (data.list of shards) and tables with the sound inside, read in batches.

Speech tokens and speaker vectors in such a table are not taken over: nothing says which model made them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cosytune.data.importers.fields import Row, accepted_columns, recognise_columns
from cosytune.data.importers.places import Places
from cosytune.data.importers.source import Entry, dropped, walk
from cosytune.data.importers.texts import open_text
from cosytune.files import write_bytes

__all__ = ["find_shards", "is_parquet", "listed_shards", "names_clips", "read_parquet"]

_ROWS = 64
"""Rows in memory at once; with their sound they may be a few megabytes each."""
_SOUND = ("audio_data", "audio_bytes")
"""Columns that hold encoded recordings."""


def is_parquet(path: Path) -> bool:
    """Whether the name is one of a Parquet table; upstream calls its shards parquet_000000000.tar."""
    return path.suffix.lower() == ".parquet" or (path.suffix == ".tar" and path.name.startswith("parquet_"))


def names_clips(path: Path) -> bool:
    """Whether the columns of a Parquet table hold recordings, or name them, and hold what is said in them."""
    try:
        columns = pq.read_schema(path).names
    except (OSError, pa.ArrowInvalid):
        return False
    names = recognise_columns(columns)
    return "text" in names and ("audio" in names or any(name in columns for name in _SOUND))


def find_shards(folder: Path) -> Iterator[Path]:
    """The Parquet tables below a folder."""
    return filter(is_parquet, walk(folder))


def listed_shards(path: Path) -> Iterator[Path]:
    """The shards of a data.list, one path a line.

    Raises:
        DataError: while it is read, the list turns out to be unreadable.
    """
    places = Places(path.parent, above=2)
    with open_text(path) as lines:
        yield from (places.find(line.strip()) for line in lines if line.strip())


def read_parquet(shards: Iterator[Path], speaker: str, media: Path | None) -> Iterator[Entry]:
    """The rows of all shards; a shard that cannot be read is one line of the ledger and does not stop the others.

    Args:
        shards: Parquet files.
        speaker: label where a row has none.
        media: where sound that lies inside a table is written as files; without it such rows are dropped.
    """
    for path in shards:
        try:
            # Not the whole file, but a buffer of it, is read ahead.
            with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as shard:
                yield from _rows(shard, path, speaker, media)
        except FileNotFoundError:
            yield dropped(path.name, path, f"listed table missing: there is no file {path}")
        except (OSError, pa.ArrowInvalid) as error:
            yield dropped(path.name, path, f"unreadable table: {str(error).splitlines()[0]}")


def _rows(shard: pq.ParquetFile, path: Path, speaker: str, media: Path | None) -> Iterator[Entry]:
    columns = shard.schema_arrow.names
    names = recognise_columns(columns)
    sound = next((name for name in _SOUND if name in columns), None)
    if "audio" not in names and sound is None:
        reason = f"without recordings: the table has the columns {', '.join(columns)}; rename: {accepted_columns()}"
        yield dropped(path.name, path, reason)
        return
    places = Places(path.parent, above=2)
    wanted = sorted({*names.values(), *([sound] if sound else [])})
    number = 0
    for batch in shard.iter_batches(_ROWS, columns=wanted):
        for values in batch.to_pylist():
            number += 1
            row = Row(values, names, f"row {number} of {path.name}")
            yield _entry(row, values.get(sound) if sound else None, path, places, speaker, media)


def _entry(row: Row, data: bytes | None, table: Path, places: Places, speaker: str, media: Path | None) -> Entry:
    audio = row.values.get(row.names.get("audio", ""))
    if isinstance(audio, dict):
        # Hugging Face's audio column: the sound and the name of the file it was.
        data = audio.get("bytes")
        row = replace(row, values={**row.values, row.names["audio"]: audio.get("path")})
    listed = row.string("audio")
    if not data:
        return row.entry(places, speaker)
    identity = row.string("id") or listed or row.where
    found = _same_file(places.find(listed), data) if listed else None
    if found is None and media is None:
        return dropped(identity, table, f"sound inside the table: {row.where} needs a folder to be written to")
    suffix = _suffix(data)
    if found is None and suffix is None:
        return dropped(identity, table, f"unreadable: the sound of {row.where} has no known format")
    path = found or _written(data, media, suffix)
    return row.entry_of(path, listed or row.where, speaker)


def _same_file(path: Path, data: bytes) -> Path | None:
    """The path, if it holds exactly these bytes: then nothing needs to be copied."""
    try:
        same = path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:
        return None
    return path if same else None


def _suffix(data: bytes) -> str | None:
    """The ending of a file with these first bytes."""
    if data[:4] in (b"RIFF", b"RF64"):
        return ".wav"
    if data[:4] in (b"fLaC", b"OggS"):
        return ".flac" if data[0] == ord("f") else ".ogg"
    if data[:3] == b"ID3" or (data[0] == 0xFF and data[1:2] and data[1] & 0xE6 == 0xE2):
        return ".mp3"
    return ".m4a" if data[4:8] == b"ftyp" else None


def _written(data: bytes, media: Path | None, suffix: str | None) -> Path:
    """The file of these bytes, named by their hash: a second import finds it there."""
    assert media is not None
    path = media.absolute() / f"{hashlib.sha256(data).hexdigest()[:40]}{suffix}"
    if not path.is_file():
        write_bytes(path, data)
    return path
