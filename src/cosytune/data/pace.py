"""How far a long job over clips is, and how fast: hours of audio per hour."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Clock", "Pace", "Progress"]


@dataclass(frozen=True)
class Pace:
    """How far an extraction is.

    Attributes:
        done: clips that are settled, whether made now or found made.
        total: clips in all.
        audio_seconds: length of the clips that were made now.
        wall_seconds: time since the beginning.
    """

    done: int
    total: int
    audio_seconds: float
    wall_seconds: float

    @property
    def hours_per_hour(self) -> float:
        """Hours of audio per hour of waiting; 0 while nothing was made."""
        return self.audio_seconds / self.wall_seconds if self.wall_seconds else 0.0

    def sentence(self) -> str:
        """The same in words."""
        if not self.audio_seconds:
            return f"features of all {self.total} clips were there already"
        return (
            f"features of {self.audio_seconds / 3600:.2f} h of audio made in {self.wall_seconds / 60:.1f} min: "
            f"{self.hours_per_hour:.1f} hours of audio per hour"
        )


Progress = Callable[[Pace], None]
"""Called after each batch, and once at the end."""


@dataclass
class Clock:
    """Counts what is done and tells `progress`."""

    progress: Progress | None
    total: int
    done: int = 0
    audio_seconds: float = 0.0
    began: float = field(default_factory=time.monotonic)

    @property
    def pace(self) -> Pace:
        """How far the job is now."""
        return Pace(self.done, self.total, self.audio_seconds, time.monotonic() - self.began)

    def add(self, clips: int, audio_seconds: float = 0.0) -> None:
        """So many clips more are settled, and so much of their audio was worked on."""
        self.done += clips
        self.audio_seconds += audio_seconds
        if self.progress is not None and clips:
            self.progress(self.pace)
