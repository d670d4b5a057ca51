"""How every verb talks: progress for people on stderr, results on stdout, JSON where asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from cosytune.files import finite

__all__ = ["ProgressBars", "print_error", "print_result", "progress"]


class ProgressBars(Protocol):
    """What long work reports to: named bars that move, and lines worth keeping."""

    def start(self, name: str, total: int) -> None:
        """Show a bar called `name` that ends at `total`."""
        ...

    def move(self, name: str, done: int) -> None:
        """Set the bar called `name` to `done`."""
        ...

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        ...


class _RichBars:
    def __init__(self, live: Any) -> None:
        self._live = live
        self._bars: dict[str, Any] = {}

    def start(self, name: str, total: int) -> None:
        if name in self._bars:
            self._live.remove_task(self._bars[name])
        self._bars[name] = self._live.add_task(name, total=max(1, total))

    def move(self, name: str, done: int) -> None:
        self._live.update(self._bars[name], completed=done)

    def say(self, line: str) -> None:
        self._live.console.print(line, highlight=False, markup=False, soft_wrap=True)


class _LogLines:
    """For output that is not a terminal (a log file, CI): a line at the start and at every tenth of the way."""

    def __init__(self) -> None:
        self._totals: dict[str, int] = {}
        self._tenths: dict[str, int] = {}

    def start(self, name: str, total: int) -> None:
        self._totals[name], self._tenths[name] = max(1, total), 0
        self.say(f"{name}: 0 of {total}")

    def move(self, name: str, done: int) -> None:
        tenth = 10 * done // self._totals[name]
        if tenth > self._tenths[name]:
            self._tenths[name] = tenth
            self.say(f"{name}: {done} of {self._totals[name]}")

    def say(self, line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


@contextmanager
def progress() -> Iterator[ProgressBars]:
    """Rich progress bars on stderr for the length of a block; plain lines where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield _LogLines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=2) as live:
        yield _RichBars(live)


def print_result(value: dict[str, Any], text: str, *, as_json: bool) -> None:
    """The outcome of a verb on stdout: one JSON document (numbers that are none become null), or text for people."""
    document = json.dumps(finite(value), ensure_ascii=False, allow_nan=False) if as_json else text.rstrip("\n")
    sys.stdout.write(document + "\n")
    sys.stdout.flush()


def print_error(message: str, *, as_json: bool) -> None:
    """One sentence on stderr; with --json also a JSON document with the key `error` on stdout."""
    if as_json:
        sys.stdout.write(json.dumps({"error": message}, ensure_ascii=False) + "\n")
    sys.stderr.write(f"cosytune: {message}\n")
