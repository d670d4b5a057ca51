"""A prepared corpus on disk: files that are read line by line, and a marker that is written last."""

from __future__ import annotations

import hashlib
import json
import mmap
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cosytune import __version__
from cosytune.data.manifest import Utterance, manifest_line, read_manifest
from cosytune.data.results import Ledger, LedgerLine, write_ledger
from cosytune.data.splits import SIDES, Side
from cosytune.errors import DataError
from cosytune.files import json_line, write_json, write_json_lines, writing

__all__ = ["MARKER", "Contents", "Corpus", "read_json", "read_sides", "write_corpus"]

MARKER = "corpus.json"
FORMAT = 2


class Corpus:
    """A folder that `prepare_corpus` finished; opening it reads one small file.

    Attributes:
        path: the folder.
        info: counts of clips and sides, seconds, layout of the source.
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

    def __len__(self) -> int:
        return int(self.info["utterances"])

    @cached_property
    def ledger(self) -> Ledger:
        """The account of the import."""
        return Ledger.read(self.path / "ledger.jsonl")

    def sides(self) -> Iterator[tuple[str, Side]]:
        """Id and side of each utterance, in manifest order.

        Raises:
            DataError: the file is missing or damaged.
        """
        return read_sides(self.path / "sides.jsonl")

    @cached_property
    def splits(self) -> dict[str, Side]:
        """The side of each utterance, by id, all in memory (`sides` and `stream` are for large corpora)."""
        return dict(self.sides())

    def stream(
        self,
        side: Side | None = None,
        *,
        speaker: str | None = None,
        language: str | None = None,
        shortest: float = 0.0,
        longest: float = float("inf"),
    ) -> Iterator[Utterance]:
        """Go through the utterances in manifest order, one in memory at a time.

        Args:
            side: only this side.
            speaker: only this speaker.
            language: only this language.
            shortest: seconds; only utterances of this length and more.
            longest: seconds; only utterances up to this length.

        Raises:
            DataError: there is no such side, or manifest and sides do not belong together.
        """
        if side is not None and side not in SIDES:
            raise DataError(f"a corpus has no side {side!r}; the sides are {', '.join(SIDES)}")
        return (
            item
            for item in self._on_side(side)
            if (speaker is None or item.speaker == speaker)
            and (language is None or item.language == language)
            and shortest <= item.seconds <= longest
        )

    def _on_side(self, side: Side | None) -> Iterator[Utterance]:
        manifest = read_manifest(self.path / "manifest.jsonl")
        if side is None:
            yield from manifest
            return
        try:
            for item, (identity, its_side) in zip(manifest, self.sides(), strict=True):
                if identity != item.id:
                    raise ValueError(f"utterance {item.id!r} stands where the sides have {identity!r}")
                if its_side == side:
                    yield item
        except ValueError as error:
            raise self._torn(error) from error

    def utterances(self, side: Side | None = None) -> tuple[Utterance, ...]:
        """What `stream` yields, all in memory: for corpora of some ten thousand clips.

        Raises:
            DataError: there is no such side.
        """
        if side is None:
            return self._all
        return tuple(self.stream(side))

    @cached_property
    def _all(self) -> tuple[Utterance, ...]:
        return tuple(self.stream())

    def index(self, side: Side | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Where the lines of a side begin in manifest.jsonl (int64 [N], bytes) and how long the clips last
        (float64 [N], seconds): all that is needed to deal a large corpus into batches.

        Raises:
            DataError: manifest and sides do not belong together.
        """
        begins, seconds, begin = array("q"), array("d"), 0
        try:
            with (self.path / "manifest.jsonl").open("rb") as lines:
                for line, (identity, its_side) in zip(lines, self.sides(), strict=True):
                    if side is None or its_side == side:
                        row = json.loads(line)
                        if row["id"] != identity:
                            raise ValueError(f"utterance {row['id']!r} stands where the sides have {identity!r}")
                        begins.append(begin)
                        seconds.append(row.get("seconds", 0.0))
                    begin += len(line)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._torn(error) from error
        return np.array(begins), np.array(seconds)

    def _torn(self, error: Exception) -> DataError:
        return DataError(
            f"manifest.jsonl and sides.jsonl of {self.path} do not belong together ({error}); prepare the corpus again"
        )

    def audio_hash(self, audio: str) -> str:
        """SHA-256 of a recording at the time of preparation, looked up on disk.

        Args:
            audio: path, as in the manifest.

        Raises:
            DataError: the corpus has no such recording.
        """
        found = self._recordings.find(audio)
        if found is None:
            raise DataError(f"{self.path} has no recording {audio}; prepare the corpus again")
        return found

    @cached_property
    def _recordings(self) -> _Recordings:
        return _Recordings(self.path / "recordings.jsonl")

    def features_folder(self, extractors_hash: str) -> Path:
        """Where the features of one set of extractors lie: features of another model are elsewhere."""
        return self.path / "features" / extractors_hash[:16]


@dataclass(frozen=True)
class Contents:
    """What a corpus is made of; each iterable is gone through once, in this order of attributes.

    Attributes:
        utterances: with side and hash of the recording.
        recordings: path and hash of each recording, sorted by path.
        lines: of the ledger, in the order in which the clips came.
        seen: clips that came in.
        notes: of the ledger.
        between: seconds of recordings that belong to no clip.
        splits: how the sides were drawn.
        source: where the clips came from, by which the next preparation knows whether anything changed.
    """

    utterances: Iterable[tuple[Utterance, Side, str]]
    recordings: Iterable[tuple[str, str]]
    lines: Iterable[LedgerLine]
    seen: int
    notes: tuple[str, ...]
    between: float
    splits: dict[str, Any]
    source: dict[str, Any]


def write_corpus(path: Path, contents: Contents) -> Corpus:
    """Write all files of a corpus as the clips come, the marker last."""
    path.mkdir(parents=True, exist_ok=True)
    (path / MARKER).unlink(missing_ok=True)
    tally = _write_utterances(path, contents.utterances)
    write_json_lines(path / "recordings.jsonl", contents.recordings)
    ledger = write_ledger(
        path / "ledger.jsonl", contents.lines, contents.seen, contents.notes, between=contents.between
    )
    if ledger.usable != tally.clips:
        raise ValueError(f"the ledger counts {ledger.usable} usable clips, but the manifest has {tally.clips}")
    write_json(path / "splits.json", {**contents.splits, "sides": tally.sides})
    write_json(path / "source.json", contents.source)
    marker = {
        "format": FORMAT,
        "cosytune": __version__,
        "hash": tally.digest.hexdigest(),
        "utterances": tally.clips,
        "seconds": round(tally.microseconds / 1_000_000, 3),
        "sides": tally.sides,
    }
    write_json(path / MARKER, marker)
    return Corpus(path)


class _Tally:
    """What is counted and hashed while utterances pass."""

    def __init__(self) -> None:
        self.clips = 0
        self.microseconds = 0
        self.sides: dict[Side, int] = dict.fromkeys(SIDES, 0)
        self.digest = hashlib.sha256()

    def add(self, item: Utterance, side: Side, audio_hash: str) -> None:
        self.clips += 1
        # Whole microseconds: their sum is the same in any order.
        self.microseconds += round(item.seconds * 1_000_000)
        self.sides[side] += 1
        # Where a recording lies is no part of what the corpus is.
        content = [item.id, audio_hash, item.start, item.end, item.text, item.speaker, item.language, item.instruct]
        self.digest.update(json_line([*content, side]))


def _write_utterances(path: Path, utterances: Iterable[tuple[Utterance, Side, str]]) -> _Tally:
    """Manifest and sides in step, line for line."""
    tally = _Tally()
    with writing(path / "manifest.jsonl") as manifest, writing(path / "sides.jsonl") as sides:
        for item, side, audio_hash in utterances:
            manifest.write(manifest_line(item))
            sides.write(json_line([item.id, side]))
            tally.add(item, side, audio_hash)
    return tally


class _Recordings:
    """The lines [path, hash] of a file that is sorted by path, found by bisection: nothing is kept in memory."""

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as source:
                self._lines = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({error}); prepare the corpus again") from error

    def find(self, audio: str) -> str | None:
        low, high = 0, len(self._lines)
        while low < high:
            begin = self._lines.rfind(b"\n", low, (low + high) // 2) + 1 or low
            end = self._lines.find(b"\n", begin)
            path, audio_hash = json.loads(self._lines[begin:end])
            if path == audio:
                return audio_hash
            low, high = (end + 1, high) if path < audio else (low, begin)
        return None


def read_sides(path: Path) -> Iterator[tuple[str, Side]]:
    """Id and side of each utterance, line by line.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                identity, side = json.loads(line)
                yield identity, side
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}); prepare the corpus again") from error


def read_json(path: Path) -> Any:
    """One JSON document of a corpus.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); prepare the corpus again") from error
