"""SIGTERM, which schedulers send before they take a machine away, as a wish that a loop can look at."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["StopRequest", "stop_request"]


@dataclass
class StopRequest:
    """Whether the signal came."""

    came: bool = False


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Catch SIGTERM inside the block; outside the main thread, where Python allows no handlers, it acts as always."""
    request = StopRequest()

    def note(number: int, frame: object) -> None:
        request.came = True

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = signal.signal(signal.SIGTERM, note)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, before)
