"""The engine that works on a Ray cluster (extra `cluster`)."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from cosytune.data.engine import lost_item, one_thread
from cosytune.errors import InputError, MissingPackageError

__all__ = ["open_ray"]

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def open_ray(workers: int | None, address: str | None) -> Iterator[RayEngine]:
    """A Ray cluster for the length of the block: the one that is connected already, one at an address, or a new one.

    Raises:
        InputError: no cluster answers at the address.
        MissingPackageError: Ray is not installed.
    """
    ray = _ray()
    if ray.is_initialized():
        yield RayEngine(ray, workers)
        return
    address = address or os.environ.get("RAY_ADDRESS")
    # A cluster that is there decides about its processors itself.
    new: dict[str, Any] = {} if address else {"num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(address or "local", logging_level="error", log_to_driver=False, **new)
    except (ConnectionError, TimeoutError, ValueError, RuntimeError) as error:
        raise InputError(
            f"no Ray cluster could be used at {address or 'this machine'} ({str(error).splitlines()[0]}); "
            "start one with `ray start --head`, or leave the address out to work on this machine"
        ) from error
    try:
        yield RayEngine(ray, workers)
    finally:
        ray.shutdown()


class RayEngine:
    """One Ray task of one processor for each item."""

    def __init__(self, ray: Any, workers: int | None) -> None:
        self._ray = ray
        self.workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        # Ray's own retries would run a fatal item again beside others, and would not say that it was lost.
        self._task = ray.remote(num_cpus=1, max_retries=0)(_call)

    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        lost: Callable[[Item], Result] | None = None,
    ) -> Iterator[Result]:
        """See `Engine.map`; a task whose worker or node died is tried once more."""
        waiting: deque[tuple[Item, Any]] = deque()
        try:
            for item in items:
                waiting.append((item, self._task.remote(function, item)))
                if len(waiting) > 2 * self.workers:
                    yield self._result(function, *waiting.popleft(), lost)
            while waiting:
                yield self._result(function, *waiting.popleft(), lost)
        finally:
            for _, reference in waiting:
                self._ray.cancel(reference, force=True)

    def _result(self, function: Callable[[Item], Result], item: Item, reference: Any, lost: Any) -> Any:
        errors = self._ray.exceptions
        died = (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError, errors.LocalRayletDiedError)
        for again in (True, False):
            try:
                return self._ray.get(reference)
            except errors.RayTaskError as error:
                raise error.cause from error
            except died:
                if again:
                    reference = self._task.remote(function, item)
        return lost_item(item, lost)


def _call(function: Callable[[Any], Any], item: Any) -> Any:
    with one_thread():
        return function(item)


def _ray() -> Any:
    # Read by Ray when it is imported or started: nothing is reported to anybody, and no dashboard is asked for.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingPackageError(
            "--engine ray needs the package ray, which is not installed: pip install 'cosytune[cluster]'"
        ) from error
    return ray
