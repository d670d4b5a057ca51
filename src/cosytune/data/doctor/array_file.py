"""Arrays of different lengths on disk: what is kept of each clip until all are compared."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Protocol

import numpy as np

__all__ = ["ArrayFile", "Arrays", "Chosen"]


class Arrays(Protocol):
    """A list of arrays, in memory or on disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...


class ArrayFile:
    """One-dimensional arrays of one type in a temporary file, read by number; 8 bytes of memory each.

    Args:
        kind: of the values.
    """

    def __init__(self, kind: type[np.generic]) -> None:
        self._kind = np.dtype(kind)
        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - lives as long as the object
        self._ends = array("Q", [0])

    def append(self, values: np.ndarray | None) -> None:
        """Add an array [N] as the last one; None is an empty one."""
        data = b"" if values is None else np.asarray(values, self._kind).tobytes()
        self._file.seek(self._ends[-1])
        self._file.write(data)
        self._ends.append(self._ends[-1] + len(data))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int, /) -> np.ndarray:
        if not 0 <= index < len(self):
            raise IndexError(index)
        begin, end = self._ends[index], self._ends[index + 1]
        return np.frombuffer(os.pread(self._file.fileno(), end - begin, begin), self._kind)


@dataclass(frozen=True)
class Chosen:
    """Some of the arrays, by their numbers."""

    arrays: Arrays
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int, /) -> np.ndarray:
        return self.arrays[self.numbers[index]]
