"""Small recordings, and what a source yields as dictionaries by id."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cosytune.audio.files import write_wave
from cosytune.data.importers import Entry, open_source
from cosytune.data.manifest import Utterance
from cosytune.data.results import LedgerLine


def tone(path: Path, seconds: float = 0.5, rate: int = 8000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wave(path, 0.3 * np.sin(np.arange(round(seconds * rate)) / 5).astype(np.float32), rate)
    return path


def read(path: Path, **options: object) -> list[Entry]:
    return list(open_source(path, **options).entries)  # type: ignore[arg-type]


def kept(path: Path, **options: object) -> dict[str, Utterance]:
    return {entry.id: entry for entry in read(path, **options) if isinstance(entry, Utterance)}


def reasons(path: Path, **options: object) -> dict[str, str]:
    return {entry.id: entry.reason for entry in read(path, **options) if isinstance(entry, LedgerLine)}
