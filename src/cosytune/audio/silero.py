"""silero-vad: the network of its wheel, run by onnxruntime; its own code, which loads torch, is not imported."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime

from cosytune.errors import MissingPackageError
from cosytune.units import FEATURE_SAMPLE_RATE

__all__ = ["WINDOW", "has_silero", "speech_probabilities"]

WINDOW = 512
"""Samples at 16 kHz of one probability (32 ms)."""
CONTEXT = 64
"""Samples of the window before that the network sees again."""
STATE = (2, 1, 128)


def has_silero() -> bool:
    """Whether silero-vad is installed."""
    return _network() is not None


def speech_probabilities(blocks: Iterable[np.ndarray]) -> Iterator[float]:
    """Probability of speech of each 32 ms of a wave at 16 kHz that comes in blocks [N] of any length.

    Raises:
        MissingPackageError: silero-vad is not installed.
    """
    network = _network()
    if network is None:
        raise MissingPackageError(
            "speech is to be found by silero-vad, which is not installed; install it with: "
            "pip install 'cosytune[vad]', or choose the energy rule"
        )
    options = onnxruntime.SessionOptions()
    # The windows go one by one through a small recurrent network: threads would only wait for each other.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(network), options, providers=["CPUExecutionProvider"])
    rate = np.array(FEATURE_SAMPLE_RATE, np.int64)
    state, context = np.zeros(STATE, np.float32), np.zeros((1, CONTEXT), np.float32)
    for window in _windows(blocks):
        seen = np.concatenate([context, window], axis=1)
        probability, state = session.run(None, {"input": seen, "state": state, "sr": rate})
        context = window[:, -CONTEXT:]
        yield float(probability.item())


def _windows(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Windows [1, 512] float32, the last one filled up with zeros."""
    rest = np.zeros(0, np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block.astype(np.float32, copy=False)])
        whole = len(rest) // WINDOW * WINDOW
        yield from rest[:whole].reshape(-1, 1, WINDOW)
        rest = rest[whole:]
    if len(rest):
        yield np.pad(rest, (0, WINDOW - len(rest)))[None]


def _network() -> Path | None:
    """The file of the network, found without running the package's code."""
    found = importlib.util.find_spec("silero_vad")
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0], "data", "silero_vad.onnx")
    return path if path.is_file() else None
