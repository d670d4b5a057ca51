"""The workbench of a preparation on disk: what was examined already, and the clips of the corpus being made."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from cosytune.data.examining import Examined
from cosytune.data.importers.source import Entry, dropped
from cosytune.data.manifest import Utterance
from cosytune.data.results import LedgerLine
from cosytune.data.splits import Side

__all__ = ["WorkingIndex"]

SAVE_EVERY = 64
"""Recordings examined between two saves: what a kill may cost."""

_TABLES = """
CREATE TABLE IF NOT EXISTS examined (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
DROP TABLE IF EXISTS clips;
CREATE TABLE clips (number INTEGER PRIMARY KEY, id TEXT, audio TEXT, audio_hash TEXT, clip TEXT, line TEXT NOT NULL,
                    side TEXT);
CREATE UNIQUE INDEX taken ON clips (id) WHERE clip IS NOT NULL;
DROP TABLE IF EXISTS earlier;
CREATE TABLE earlier (id TEXT PRIMARY KEY, text_key TEXT NOT NULL, side TEXT NOT NULL) WITHOUT ROWID;
"""


class WorkingIndex:
    """An SQLite file of a corpus folder; everything in it can be made again, and memory does not grow with it.

    Args:
        path: of the file; what was examined stays in it for the next preparation.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._base = _opened(path)
        self._base.execute("BEGIN")
        self._unsaved = 0
        self.seen = 0
        self.between = 0.0

    def close(self) -> None:
        """Save and let go."""
        self.save()
        self._base.execute("COMMIT")
        self._base.close()

    def save(self) -> None:
        """Bring everything to the disk."""
        self._base.execute("COMMIT")
        self._base.execute("BEGIN")
        self._unsaved = 0

    def known(self, key: str | None) -> Examined | None:
        """What was examined under a key in this preparation or an earlier one."""
        row = self._base.execute("SELECT value FROM examined WHERE key = ?", (key,)).fetchone()
        return None if row is None else Examined.from_json(json.loads(row[0]))

    def remember(self, key: str | None, found: Examined) -> None:
        """Keep what was examined."""
        if key is None:
            return
        value = json.dumps(found.to_json(), ensure_ascii=False)
        self._base.execute("INSERT OR REPLACE INTO examined VALUES (?, ?)", (key, value))
        self._unsaved += 1
        if self._unsaved >= SAVE_EVERY:
            self.save()

    def add(self, found: Examined) -> None:
        """Take in what became of one entry; a second clip of one id is dropped."""
        self.between += found.between
        for entry in found.entries:
            self.seen += 1
            self._add(entry, found)

    def _add(self, entry: Entry, found: Examined) -> None:
        if isinstance(entry, Utterance):
            if (first := self._taken(entry.id)) is not None:
                entry = dropped(entry.id, entry.audio, f"duplicate id: {first} has it already")
            else:
                change = found.changes.get(entry.id, "")
                line = LedgerLine(entry.id, entry.audio, "fixed" if change else "kept", change, seconds=entry.seconds)
                row = (entry.id, entry.audio, found.audio_hash, _text(asdict(entry)), _text(asdict(line)))
                self._base.execute("INSERT INTO clips (id, audio, audio_hash, clip, line) VALUES (?, ?, ?, ?, ?)", row)
                return
        self._base.execute(
            "INSERT INTO clips (id, audio, line) VALUES (?, ?, ?)", (entry.id, entry.audio, _text(asdict(entry)))
        )

    def _taken(self, identity: str) -> str | None:
        row = self._base.execute("SELECT audio FROM clips WHERE id = ? AND clip IS NOT NULL", (identity,)).fetchone()
        return None if row is None else row[0]

    def clips(self) -> Iterator[tuple[int, Utterance]]:
        """Number and utterance of each clip that is in the corpus so far, in order."""
        for number, clip in self._base.execute("SELECT number, clip FROM clips WHERE clip IS NOT NULL ORDER BY number"):
            yield number, Utterance(**json.loads(clip))

    def replace(self, clips: Iterable[tuple[int, Utterance]]) -> None:
        """Put other utterances in the place of some."""
        rows = ((_text(asdict(clip)), number) for number, clip in clips)
        self._base.executemany("UPDATE clips SET clip = ? WHERE number = ?", rows)

    def keep_sides(self, sides: Iterable[tuple[str, str, Side]]) -> None:
        """Note id, text key and side of the clips of an earlier corpus."""
        self._base.executemany("INSERT OR REPLACE INTO earlier VALUES (?, ?, ?)", sides)

    def earlier_side(self, identity: str, text_key: str) -> Side | None:
        """Side that a clip had in an earlier corpus with the same text."""
        row = self._base.execute(
            "SELECT side FROM earlier WHERE id = ? AND text_key = ?", (identity, text_key)
        ).fetchone()
        return None if row is None else row[0]

    def set_sides(self, sides: Iterable[tuple[int, Side]]) -> None:
        """Give clips their sides."""
        self._base.executemany("UPDATE clips SET side = ? WHERE number = ?", ((side, n) for n, side in sides))

    def drop(self, lines: Iterable[tuple[int, LedgerLine]]) -> None:
        """Take clips out again."""
        rows = ((_text(asdict(line)), number) for number, line in lines)
        self._base.executemany("UPDATE clips SET clip = NULL, line = ? WHERE number = ?", rows)

    def utterances(self) -> Iterator[tuple[Utterance, Side, str]]:
        """The clips of the corpus with side and hash of the recording, in order."""
        query = "SELECT clip, side, audio_hash FROM clips WHERE clip IS NOT NULL ORDER BY number"
        for clip, side, audio_hash in self._base.execute(query):
            yield Utterance(**json.loads(clip)), side, audio_hash

    def recordings(self) -> Iterator[tuple[str, str]]:
        """Path and hash of each recording, sorted by path."""
        yield from self._base.execute(
            "SELECT DISTINCT audio, audio_hash FROM clips WHERE clip IS NOT NULL ORDER BY audio"
        )

    def lines(self) -> Iterator[LedgerLine]:
        """The account, in the order in which the clips came."""
        for (line,) in self._base.execute("SELECT line FROM clips ORDER BY number"):
            yield LedgerLine(**json.loads(line))


def _opened(path: Path) -> sqlite3.Connection:
    """The index with its tables; a file that is none, such as a torn one, is begun anew."""
    base = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        # A torn file costs a repetition; waiting for the disk at every save would cost more.
        base.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;" + _TABLES)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        base.close()
        # SQLite would play an old log into a new file.
        for suffix in ("-wal", "-shm", ""):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _opened(path)
    return base


def _text(value: dict[str, object]) -> str:
    return json.dumps(value, ensure_ascii=False)
