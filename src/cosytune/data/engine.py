"""Work on many items at once: processes of this machine, or tasks of a Ray cluster, behind one door.

The result of an item depends on nothing but the item: each is computed with one thread, so that sums do not depend on
how many workers there are, and results come in the order of the items whoever finishes first.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from cosytune.errors import DataError, InputError

__all__ = ["Engine", "EngineName", "end_with_parent", "lost_item", "one_thread", "open_engine", "usable_cores"]

EngineName = Literal["local", "ray"]
ENGINES: tuple[EngineName, ...] = ("local", "ray")

Item = TypeVar("Item")
Result = TypeVar("Result")


class Engine(Protocol):
    """Something that applies a function to many items at once.

    Attributes:
        workers: how many items are worked on at the same time.
    """

    workers: int

    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        lost: Callable[[Item], Result] | None = None,
    ) -> Iterator[Result]:
        """Apply `function` to each item, in order, lazily: few items are taken ahead of the result that is asked for.

        A worker that dies (killed for want of memory, crashed in a codec) ends only its item: the items that were under
        way are tried once more one by one, and one that kills its worker again is lost.

        Args:
            function: picklable, and small when pickled, because it travels with every item: name a large thing by its
                path and load it once per process.
            items: picklable.
            lost: called here, not in a worker, with an item that is lost; what it returns takes the result's place.

        Raises:
            DataError: an item is lost and `lost` is not given.
            Exception: whatever `function` raises, at the place of its item.
        """
        ...


@contextmanager
def open_engine(
    name: EngineName = "local", workers: int | None = None, *, address: str | None = None
) -> Iterator[Engine]:
    """An engine for the length of a `with` block; leaving it by an error (or Ctrl-C) ends all workers at once.

    Args:
        name: "local" for processes of this machine, "ray" for a Ray cluster (extra `cluster`).
        workers: items at a time; None is one for each processor core. With one, a local engine works in this very
            process.
        address: of a running Ray cluster; None is the environment's RAY_ADDRESS, or else a cluster that is started
            here and ends with the block.

    Raises:
        InputError: no such engine, fewer workers than one, or no cluster at the address.
        MissingPackageError: Ray is not installed.
    """
    if name not in ENGINES:
        raise InputError(f"there is no engine {name!r}; choose one of {', '.join(ENGINES)}")
    if workers is not None and workers < 1:
        raise InputError(f"{workers} workers cannot do anything; give 1 or more, or none for one per core")
    if name == "ray":
        from cosytune.data.ray_engine import open_ray

        with open_ray(workers, address) as engine:
            yield engine
        return
    local = _LocalEngine(workers or usable_cores())
    try:
        yield local
    except BaseException:
        local.close(at_once=True)
        raise
    local.close()


def usable_cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread inside the block, if it is loaded: sums depend on the number of threads."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch is not None else 1
    if torch is None or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def lost_item(item: Any, lost: Callable[[Item], Result] | None) -> Any:
    """What stands for an item whose worker died twice.

    Raises:
        DataError: the caller did not say what stands for it.
    """
    if lost is not None:
        return lost(item)
    named = repr(item)
    raise DataError(
        f"the process that worked on {named if len(named) <= 200 else named[:200] + ' ...'} was killed, and again when "
        "it worked on nothing else (most often for want of memory); leave this item out, or give the machine more"
    )


def end_with_parent() -> None:
    """Let this child process end when its parent does.

    Without it the children of a command that was killed would go on, beside those of the same command started again,
    and both would write the same folders.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()


def _exit_after(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


@dataclass
class _Task:
    """An item under way, and the pool it was given to; `settled` holds its result if it had to be done alone."""

    item: Any
    pool: ProcessPoolExecutor
    future: concurrent.futures.Future[Any]


class _LocalEngine:
    """Processes of this machine, started when first needed."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        lost: Callable[[Item], Result] | None = None,
    ) -> Iterator[Result]:
        if self.workers == 1:
            for item in items:
                yield _call(function, item)
            return
        yield from self._map_in_pool(function, items, lost)

    def _map_in_pool(
        self, function: Callable[[Item], Result], items: Iterable[Item], lost: Callable[[Item], Result] | None
    ) -> Iterator[Result]:
        waiting: deque[_Task] = deque()
        try:
            for item in items:
                waiting.append(self._submit(function, item, waiting, lost))
                if len(waiting) > 2 * self.workers:
                    yield self._result(function, waiting, lost)
            while waiting:
                yield self._result(function, waiting, lost)
        finally:
            for task in waiting:
                task.future.cancel()

    def _submit(self, function: Callable[[Item], Result], item: Item, waiting: deque[_Task], lost: Any) -> _Task:
        if self._pool is None:
            self._pool = _new_pool(self.workers)
        try:
            return _Task(item, self._pool, self._pool.submit(_call, function, item))
        except BrokenProcessPool:
            self._recover(function, waiting, self._pool, lost)
            return self._submit(function, item, waiting, lost)

    def _result(self, function: Callable[[Item], Result], waiting: deque[_Task], lost: Any) -> Any:
        task = waiting[0]
        try:
            result = task.future.result()
        except BrokenProcessPool:
            self._recover(function, waiting, task.pool, lost)
            result = task.future.result()
        waiting.popleft()
        return result

    def _recover(
        self, function: Callable[[Item], Result], waiting: deque[_Task], broken: ProcessPoolExecutor, lost: Any
    ) -> None:
        """A worker of `broken` died and took the pool along, which does not tell at what: do its items one by one."""
        for task in waiting:
            if task.pool is broken and isinstance(task.future.exception(), BrokenProcessPool):
                task.future = _alone(function, task.item, lost)
        if self._pool is broken:
            _end(broken)
            self._pool = None

    def close(self, *, at_once: bool = False) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            _end(pool, at_once=at_once)


def _new_pool(workers: int) -> ProcessPoolExecutor:
    # Spawned, not forked: forked children of a process that has used torch's thread pool can hang.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker)


def _end(pool: ProcessPoolExecutor, *, at_once: bool = False) -> None:
    if at_once:
        # The pool has no public way to stop work that has begun.
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.terminate()
    pool.shutdown(wait=True, cancel_futures=True)


def _alone(function: Callable[[Any], Any], item: Any, lost: Any) -> concurrent.futures.Future[Any]:
    """The item done by a process while no other works; a future that is settled."""
    settled: concurrent.futures.Future[Any] = concurrent.futures.Future()
    pool, at_once = _new_pool(1), True
    try:
        error = (tried := pool.submit(_call, function, item)).exception()
        if isinstance(error, BrokenProcessPool):
            settled.set_result(lost_item(item, lost))
        elif error is not None:
            settled.set_exception(error)
        else:
            settled.set_result(tried.result())
        at_once = False
    finally:
        _end(pool, at_once=at_once)
    return settled


def _begin_worker() -> None:
    end_with_parent()
    # Ctrl-C reaches the whole group; the parent decides what becomes of its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Read when the libraries are loaded: torch through OpenMP, and numpy through its BLAS.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")


def _call(function: Callable[[Any], Any], item: Any) -> Any:
    with one_thread():
        return function(item)
