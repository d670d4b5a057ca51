"""What the tests of the engine let workers do, in a module that a process imports quickly."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from cosytune.errors import DataError


def square(number: int) -> tuple[int, int]:
    time.sleep(0.05 if number == 0 else 0.0)
    return number * number, os.getpid()


def threads(_: int) -> int:
    import torch

    return torch.get_num_threads()


def refuse(number: int) -> int:
    if number == 3:
        raise DataError(f"no {number}")
    return number


def die(number: int, *, of: int, once: Path | None = None) -> int:
    if number == of and (once is None or not once.exists()):
        if once is not None:
            once.write_text("died")
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def node(_: int) -> str:
    """The node of a Ray cluster that an item was worked on; long enough that the next one goes elsewhere."""
    import ray

    time.sleep(0.2)
    return ray.get_runtime_context().get_node_id()
