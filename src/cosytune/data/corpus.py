"""A prepared corpus on disk: manifest, ledger, splits, and a marker that is written last."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from cosytune import __version__
from cosytune.data.manifest import Utterance, read_manifest, write_manifest
from cosytune.data.results import Ledger
from cosytune.data.splits import SIDES, Side
from cosytune.errors import DataError
from cosytune.files import hash_json, write_json

__all__ = ["MARKER", "Corpus", "read_json", "write_corpus"]

MARKER = "corpus.json"
FORMAT = 1


class Corpus:
    """A folder that `prepare_corpus` finished.

    Attributes:
        path: the folder.
        hash: of texts, speakers, sides and the sound itself, wherever the files lie; equal data have equal hashes.

    Raises:
        DataError: the folder is no corpus, is unfinished, or was written in another format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / MARKER).is_file():
            raise DataError(
                f"{path} is not a finished corpus ({MARKER} is missing); "
                f"run: cosytune data prepare FOLDER -o {path} (it goes on where it stopped)"
            )
        self.info: dict[str, Any] = read_json(path / MARKER)
        if self.info.get("format") != FORMAT:
            raise DataError(
                f"{path} has corpus format {self.info.get('format')!r}, this version of cosytune reads {FORMAT}; "
                "prepare the corpus again"
            )
        self.hash: str = self.info["hash"]

    @cached_property
    def splits(self) -> dict[str, Side]:
        """The side of each utterance, by id."""
        return read_json(self.path / "splits.json")["sides"]

    @cached_property
    def ledger(self) -> Ledger:
        """The account of the import."""
        return Ledger.read(self.path / "ledger.jsonl")

    @cached_property
    def audio_hashes(self) -> dict[str, str]:
        """SHA-256 of each recording at the time of preparation, by path."""
        return read_json(self.path / "source.json")["audio"]

    @cached_property
    def _all(self) -> tuple[Utterance, ...]:
        return tuple(read_manifest(self.path / "manifest.jsonl"))

    def utterances(self, side: Side | None = None) -> tuple[Utterance, ...]:
        """The utterances of one side, or all of them, in manifest order.

        Raises:
            DataError: there is no such side.
        """
        if side is None:
            return self._all
        if side not in SIDES:
            raise DataError(f"a corpus has no side {side!r}; the sides are {', '.join(SIDES)}")
        return tuple(item for item in self._all if self.splits[item.id] == side)

    def features_folder(self, extractors_hash: str) -> Path:
        """Where the features of one set of extractors lie: features of another model are elsewhere."""
        return self.path / "features" / extractors_hash[:16]


def write_corpus(
    path: Path,
    utterances: tuple[Utterance, ...],
    ledger: Ledger,
    splits: dict[str, Side],
    split_settings: dict[str, Any],
    source: dict[str, Any],
) -> Corpus:
    """Write all files of a corpus, the marker last; `source` holds the listing and the hashes of the recordings."""
    path.mkdir(parents=True, exist_ok=True)
    (path / MARKER).unlink(missing_ok=True)
    write_manifest(path / "manifest.jsonl", utterances)
    ledger.write(path / "ledger.jsonl")
    write_json(path / "splits.json", {**split_settings, "sides": splits})
    write_json(path / "source.json", source)
    audio = source["audio"]
    content = [
        [item.id, audio[item.audio], item.start, item.end, item.text, item.speaker, item.language, item.instruct]
        for item in utterances
    ]
    counts = {side: sum(value == side for value in splits.values()) for side in SIDES}
    marker = {
        "format": FORMAT,
        "cosytune": __version__,
        "hash": hash_json([content, splits]),
        "utterances": len(utterances),
        "seconds": round(sum(item.seconds for item in utterances), 3),
        "sides": counts,
    }
    write_json(path / MARKER, marker)
    return Corpus(path)


def read_json(path: Path) -> Any:
    """One JSON document of a corpus.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); prepare the corpus again") from error
