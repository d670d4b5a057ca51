"""ONNX graphs in bfloat16, run by OpenVINO on a processor that multiplies in it (onnxruntime does so in float32 only).

Results do not depend on the number of threads or on what was run before: both were tried, see docs/data.md, "Speed".
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np

from cosytune.errors import MachineError, MissingPackageError
from cosytune.models.onnx_session import GraphInput, not_opened, not_run

__all__ = ["OpenVinoSession", "check_bfloat16"]

KERNELS_KEPT = 256
"""Compiled kernels that are kept; clips of a new length need new ones. With OpenVINO's own 5000 a process grows by
1.1 GB over 1,000 lengths, with these by 0.2 GB, and it is 2 % slower."""


class OpenVinoSession:
    """See `OnnxSession`.

    Attributes:
        inputs: of the graph.
    """

    def __init__(self, data: bytes, path: Path, threads: int) -> None:
        """Open a graph, as `OnnxRuntimeSession` does.

        Raises:
            MissingPackageError, MachineError: see `check_bfloat16`.
            ModelError: it is no graph that OpenVINO can run.
        """
        check_bfloat16()
        self._path = path
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # Worker processes know nothing of each other and would all be pinned to the first cores.
            "ENABLE_CPU_PINNING": False,
            "CPU_RUNTIME_CACHE_CAPACITY": KERNELS_KEPT,
        }
        core = _openvino().Core()
        try:
            self._graph = core.compile_model(core.read_model(data, b""), "CPU", settings)
        except RuntimeError as error:
            raise not_opened(path, _last_line(error)) from error
        self.inputs = [GraphInput(entry.any_name, _sizes(entry.partial_shape)) for entry in self._graph.inputs]

    def run(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """See `OnnxSession.run`."""
        try:
            return cast(np.ndarray, self._graph(list(values))[0])
        except RuntimeError as error:
            raise not_run(self._path, _last_line(error)) from error


def check_bfloat16() -> None:
    """Refuse bfloat16 where it cannot be had.

    Raises:
        MissingPackageError: OpenVINO is not installed.
        MachineError: this processor does not compute in bfloat16.
    """
    core = _openvino().Core()
    if "BF16" not in _capabilities(core):
        raise MachineError(
            f"{core.get_property('CPU', 'FULL_DEVICE_NAME')} does not compute in bfloat16 (AVX-512 BF16 or AMX do); "
            "prepare the corpus on a machine that does, or with --onnx-precision float32"
        )


def _capabilities(core: Any) -> list[str]:
    return core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _openvino() -> ModuleType:
    # To import OpenVINO sends a usage event to its makers and writes an identity into the home folder, unasked. It does
    # neither without its telemetry package, which this hides from the process.
    sys.modules.setdefault("openvino_telemetry", cast(ModuleType, None))
    try:
        import openvino
    except ImportError as error:
        raise MissingPackageError(
            f"ONNX graphs in bfloat16 need the Python package openvino, which cannot be imported ({error}); install it "
            "with pip install 'cosytune[bfloat16]', or prepare the corpus with --onnx-precision float32"
        ) from error
    return openvino


def _sizes(shape: Any) -> tuple[int | None, ...]:
    return tuple(None if size.is_dynamic else size.get_length() for size in shape)


def _last_line(error: Exception) -> str:
    """Before it OpenVINO says where in its own source the error was found."""
    return ([line for line in str(error).splitlines() if line.strip()] or [type(error).__name__])[-1].strip()
