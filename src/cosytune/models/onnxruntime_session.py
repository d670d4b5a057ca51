"""ONNX graphs in float32, run by onnxruntime on the processor: what gives the codes that upstream gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cosytune.models.onnx_session import GraphInput, not_opened, not_run

__all__ = ["OnnxRuntimeSession"]

WARNINGS_AND_BELOW = 3
"""onnxruntime's log level that prints errors only."""


class OnnxRuntimeSession:
    """See `OnnxSession`.

    Attributes:
        inputs: of the graph.
    """

    def __init__(self, data: bytes, path: Path, threads: int) -> None:
        """Open a graph.

        Args:
            data: the file's bytes.
            path: of the file, for messages.
            threads: to compute with.

        Raises:
            ModelError: it is no graph that onnxruntime can run.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = WARNINGS_AND_BELOW
        self._path = path
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except _runtime_errors() as error:
            raise not_opened(path, _first_line(error)) from error
        self.inputs = [GraphInput(entry.name, _sizes(entry.shape)) for entry in self._session.get_inputs()]
        self._output = self._session.get_outputs()[0].name

    def run(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """See `OnnxSession.run`."""
        feed = {entry.name: value for entry, value in zip(self.inputs, values, strict=True)}
        try:
            return np.asarray(self._session.run([self._output], feed)[0])
        except _runtime_errors() as error:
            raise not_run(self._path, _first_line(error)) from error


def _sizes(shape: Sequence[Any]) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) else None for size in shape)


def _runtime_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: its errors share no base class."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    named: Any = (
        state.EPFail,
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoSuchFile,
        state.NotImplemented,
        state.RuntimeException,
    )
    return (*named, RuntimeError, ValueError)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
