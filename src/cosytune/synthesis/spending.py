"""Where the time of a request goes, also when several requests share it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["PARTS", "Spending"]

PARTS = ("prompt", "lm", "flow", "vocoder")


class Spending:
    """Wall seconds of one request by part."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)

    @staticmethod
    @contextmanager
    def shared(spendings: Sequence[Spending], part: str) -> Iterator[None]:
        """Divide what the block takes equally among those who share it."""
        began = time.perf_counter()
        try:
            yield
        finally:
            share = (time.perf_counter() - began) / max(1, len(spendings))
            for each in spendings:
                each.seconds[part] += share
