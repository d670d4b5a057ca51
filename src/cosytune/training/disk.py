"""The disk a run may fill: looked at before anything large is written, so that nothing is half written."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from cosytune.errors import TrainingError
from cosytune.files import lock

__all__ = ["GIGABYTE", "DiskBudget", "folder_bytes", "room_for"]

GIGABYTE = 1_000_000_000

SPARE_BYTES = 64_000_000
"""Left free on the file system: curves and samples are written too, and a system without any room misbehaves."""


@dataclass(frozen=True)
class DiskBudget:
    """What a run may take.

    Attributes:
        folder: everything in it counts; parts that train side by side share it.
        size: bytes, what lies beside a file while it is being written included; None: as much as there is.
    """

    folder: Path
    size: int | None = None

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Between looking and having written no other process of the run writes: both would take the same room."""
        with nullcontext() if self.size is None else lock(self.folder / ".disk.lock", wait=True):
            yield

    def shortage(self, needed: int) -> str:
        """Why `needed` more bytes do not fit, in words; empty if they do."""
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free - SPARE_BYTES
        if needed > free:
            return f"the disk of {self.folder} has {_words(max(0, free))} free; make room there"
        if self.size is not None and (taken := folder_bytes(self.folder)) + needed > self.size:
            return (
                f"{self.folder} holds {_words(taken)} of its disk budget of {_words(self.size)}; "
                "give a larger --disk-budget"
            )
        return ""


@contextmanager
def room_for(
    what: str,
    needed: int,
    budget: DiskBudget,
    expendable: Iterator[tuple[str, Sequence[Path]]],
    say: Callable[[str], None],
) -> Iterator[None]:
    """Make room for a file and hold it while the block writes.

    Args:
        what: will be written, in words.
        needed: its size in bytes.
        budget: of the run.
        expendable: what may go for it, the most dispensable first: in words, and its files.
        say: told what went.

    Raises:
        TrainingError: it does not fit even so (nothing was written then), or the disk was full all the same.
    """
    with budget.claim():
        while shortage := budget.shortage(needed):
            found = next(expendable, None)
            if found is None:
                raise TrainingError(_no_room(what, needed, shortage))
            name, paths = found
            for path in paths:
                path.unlink(missing_ok=True)
            say(f"dropped {name} to make room for {what}")
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            shortage = f"{error.strerror} in {budget.folder}; make room there"  # another program, or a quota
            raise TrainingError(_no_room(what, needed, shortage)) from error


def _no_room(what: str, needed: int, shortage: str) -> str:
    return f"no room for {what} ({_words(needed)}): {shortage}; the same command then goes on where it was"


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; what another process removes meanwhile counts as nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(place) / name).lstat().st_size
            except FileNotFoundError:
                continue
    return total


def _words(size: int) -> str:
    return f"{size / GIGABYTE:.3g} GB" if size >= GIGABYTE / 100 else f"{size / 1e6:.3g} MB"
