"""A function called in a process of its own: it begins with nothing, and what it does to memory ends with it."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

from cosytune.data.engine import end_with_parent

__all__ = ["free_memory", "in_fresh_process", "peak_memory", "whole_memory"]

Result = TypeVar("Result")

_LIMIT, _USED = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
_STAT = Path("/sys/fs/cgroup/memory.stat")


def in_fresh_process(function: Callable[..., Result], *arguments: Any, limit: int | None = None) -> Result:
    """What `function(*arguments)` returns or raises, called in a new Python process.

    Args:
        function: picklable, as the arguments and the result are.
        limit: bytes of memory that the process may ask for, where the system can hold it to that (Linux): a child
            that needs too much then fails by itself, instead of the system ending whatever process it chooses.

    Raises:
        concurrent.futures.process.BrokenProcessPool: the process was killed.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(limit,)) as alone:
        return alone.submit(function, *arguments).result()


def _begin(limit: int | None) -> None:
    end_with_parent()
    if limit is not None and sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def free_memory() -> int:
    """Bytes that a new process could take: of the machine, or of the container if that has a smaller limit."""
    free = int(psutil.virtual_memory().available)
    limit, used = _number(_LIMIT), _number(_USED)
    if limit is None or used is None:
        return free
    return max(0, min(free, limit - max(0, used - _file_cache())))


def whole_memory() -> int:
    """Bytes of the machine, or of the container if that has fewer: the same whatever else is running."""
    whole = int(psutil.virtual_memory().total)
    return min(whole, _number(_LIMIT) or whole)


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    if sys.platform == "linux":
        # Not `ru_maxrss`: on Linux a child begins with its parent's figure.
        with Path("/proc/self/status").open(encoding="ascii") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _file_cache() -> int:
    """Bytes of files that were read and can go: the container counts them as used, the machine as available."""
    try:
        lines = _STAT.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)


def _number(path: Path) -> int | None:
    """The number in a file of the system; None if there is no such file or it says "max"."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
