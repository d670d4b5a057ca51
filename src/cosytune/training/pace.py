"""How fast a run is and how long it waits for data, by the clock; nothing of it ever steers the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from cosytune.training.results import Speed

__all__ = ["Pace"]

T = TypeVar("T")


class Pace:
    """A stopwatch of updates, and in them of reading clips and putting batches together.

    Args:
        clock: seconds, from any beginning.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._updates, self._seconds, self._waited, self._audio = 0, 0.0, 0.0, 0.0

    def fed(self, batches: Iterator[T]) -> Iterator[T]:
        """What comes of `batches`; waiting for it is waiting for data."""
        while True:
            begun = self._clock()
            batch = next(batches, None)
            took = self._clock() - begun
            self._seconds += took
            self._waited += took
            if batch is None:
                return
            yield batch

    @contextmanager
    def update(self) -> Iterator[None]:
        """Around an update, whatever comes of it."""
        begun = self._clock()
        try:
            yield
        finally:
            self._seconds += self._clock() - begun
            self._updates += 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around everything in an update that only gets data."""
        begun = self._clock()
        try:
            yield
        finally:
            self._waited += self._clock() - begun

    def learned(self, audio_seconds: float) -> None:
        """So much speech was learned from."""
        self._audio += audio_seconds

    def take(self, step: int) -> Speed | None:
        """The speed since the last call; None if no time was measured in between."""
        updates, seconds, waited, audio = self._updates, self._seconds, self._waited, self._audio
        self._updates, self._seconds, self._waited, self._audio = 0, 0.0, 0.0, 0.0
        if not updates or seconds <= 0:
            return None
        return Speed(step, audio / seconds, waited / seconds, seconds / updates)
