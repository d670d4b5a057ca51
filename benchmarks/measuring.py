"""How every benchmark here measures: variants in turn, medians, and the peak memory of each in a process of its own."""

from __future__ import annotations

import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

__all__ = ["alternate", "machine", "median", "peak_mib", "peak_of", "result_of", "times_faster"]


def alternate(variants: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 1) -> dict[str, list[float]]:
    """Seconds of each variant, run in turn (A B C A B C ...), so that a slow minute of the machine hits them all."""
    for _ in range(warmup):
        for run in variants.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def times_faster(base: Sequence[float], seconds: Sequence[float]) -> float:
    """How often `seconds` go into `base`, round by round, the median: what was measured together is compared."""
    return median([before / after for before, after in zip(base, seconds, strict=True)])


def peak_mib() -> float:
    """Largest resident memory of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not `ru_maxrss`: on Linux a child begins with its parent's figure.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / (1 << 10)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def result_of(script: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """What `python script arguments` prints as a JSON object in its last line; its errors go to ours."""
    done = subprocess.run([sys.executable, str(script), *arguments], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def peak_of(script: Path, arguments: Sequence[str]) -> float:
    """Peak memory in MiB of a process of its own: `peak_mib` in its `result_of`."""
    return float(result_of(script, arguments)["peak_mib"])


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
