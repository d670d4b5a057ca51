"""A dictionary of texts that lives on disk, so that tables of any length are joined in little memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

__all__ = ["DiskIndex"]


class DiskIndex:
    """Texts by key in a temporary SQLite file that vanishes with this object; which keys were asked for is kept.

    Args:
        pairs: key and text; of several with one key the first counts.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        # "" is SQLite's name for a private file that is deleted on closing; a page cache of 2 MiB is its default.
        self._base = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._base.execute("PRAGMA journal_mode = OFF")
        self._base.execute("BEGIN")
        self._base.execute("CREATE TABLE texts (key TEXT NOT NULL UNIQUE, text TEXT NOT NULL, used INTEGER DEFAULT 0)")
        self._base.executemany("INSERT OR IGNORE INTO texts (key, text) VALUES (?, ?)", pairs)

    def add(self, key: str, text: str = "") -> bool:
        """Put a text under a key; False if the key is taken."""
        done = self._base.execute("INSERT OR IGNORE INTO texts (key, text) VALUES (?, ?)", (key, text))
        return done.rowcount == 1

    def take(self, key: str) -> str | None:
        """The text of a key, which now counts as used, or None."""
        row = self._base.execute("SELECT text FROM texts WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        self._base.execute("UPDATE texts SET used = 1 WHERE key = ? AND used = 0", (key,))
        return row[0]

    def __contains__(self, key: str) -> bool:
        return self._base.execute("SELECT 1 FROM texts WHERE key = ?", (key,)).fetchone() is not None

    def unused(self) -> Iterator[tuple[str, str]]:
        """Keys and texts that were never taken, in the order in which they came."""
        yield from self._base.execute("SELECT key, text FROM texts WHERE used = 0 ORDER BY rowid")
