"""Clips, features and a tokenizer without files: what tests of single tasks are made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cosytune.data.features import Features
from cosytune.data.manifest import Utterance

NOWHERE = Path("none.wav")


def utterance(identity: str, path: Path, speaker: str = "s", text: str | None = "x", seconds: float = 1.0) -> Utterance:
    return Utterance(identity, str(path), text, speaker, "en", seconds=seconds)


class Store:
    """Features in memory, read like a `FeatureStore`."""

    def __init__(self, rows: Sequence[Features]) -> None:
        self.rows = {row.id: row for row in rows}

    def read(self, ids: Sequence[str]) -> list[Features]:
        return [self.rows[identity] for identity in ids]


class Letters:
    vocabulary_size = 40
    kind = "letters"

    def encode(self, text: str) -> list[int]:
        return [ord(character) % 40 for character in text]

    def decode(self, ids: Sequence[int]) -> str:
        return ""
