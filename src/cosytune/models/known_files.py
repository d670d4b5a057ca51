"""Released files whose hashes somebody has taken (`known_files.json`), and which files of a folder are among them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from cosytune.files import hash_file
from cosytune.models.identify import KnownFile

__all__ = ["known_files", "recognised_files"]


def known_files() -> list[KnownFile]:
    """What the data file of this package lists; it is empty until somebody who has the released files adds them."""
    text = resources.files("cosytune.models").joinpath("known_files.json").read_text(encoding="utf-8")
    return [KnownFile(**entry) for entry in json.loads(text)["files"]]


def recognised_files(folder: Path, known: Sequence[KnownFile]) -> dict[str, list[KnownFile]]:
    """Files of a folder that are listed, with the entries that list them; only files of a listed size are read."""
    found: dict[str, list[KnownFile]] = {}
    for name in sorted({entry.file for entry in known}):
        file = folder / name
        same_size = [entry for entry in known if entry.file == name and file.is_file() and _size(file) == entry.bytes]
        digest = hash_file(file) if same_size else ""
        if same := [entry for entry in same_size if entry.sha256 == digest]:
            found[name] = same
    return found


def _size(file: Path) -> int:
    return file.stat().st_size
