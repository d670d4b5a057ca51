"""The released analysis networks (`speech_tokenizer_v1.onnx`, `campplus.onnx`), run by onnxruntime on the processor."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cosytune.audio.fbank import kaldi_fbank, mean_normalised
from cosytune.audio.whisper import whisper_mel
from cosytune.errors import InputError, ModelError
from cosytune.units import FEATURE_FRAME_RATE

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["OnnxSpeakerEncoder", "OnnxSpeechTokenizer"]

LONGEST_FRAMES = 3000
"""Feature frames (30 s) that the released tokenizers have positions for; beyond them the codes mean nothing."""

DEFAULT_BINS = 128
WARNINGS_AND_BELOW = 3
"""onnxruntime's log level that prints errors only."""


class OnnxSpeechTokenizer:
    """A speech tokenizer as an ONNX graph: log-mel float32 [1, bins, F] and frame count int32 [1] to integer codes.

    The two inputs are addressed by position; released files do not agree on names (specification, 1.2).

    Attributes:
        hash: SHA-256 of the file.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            ModelError: it is missing, no ONNX graph, or a graph with other inputs.
        """
        self._path = path
        self._session, self.hash = _open(path, inputs=2)
        bands = self._session.get_inputs()[0].shape[1]
        self._bins = bands if isinstance(bands, int) else DEFAULT_BINS

    def tokens(self, waves: Sequence[Tensor]) -> list[np.ndarray]:
        """Codes int64 [T] of each 16 kHz wave [N].

        Raises:
            InputError: a wave of more than 30 s.
            ModelError: the graph cannot be run, or gives something other than codes.
        """
        return [self._tokens_of(wave) for wave in waves]

    def _tokens_of(self, wave: Tensor) -> np.ndarray:
        features = whisper_mel(wave, self._bins)
        frames = features.shape[1]
        if frames > LONGEST_FRAMES:
            raise InputError(
                f"a recording of {frames / FEATURE_FRAME_RATE:.1f} s is too long for {self._path.name}, which "
                f"understands {LONGEST_FRAMES // FEATURE_FRAME_RATE} s at most; cut it, 5 to 13 s work best as a prompt"
            )
        found = _run(self._session, self._path, [features[None].numpy(), np.array([frames], dtype=np.int32)])
        if not np.issubdtype(found.dtype, np.integer):
            raise ModelError(f"{self._path} gives {found.dtype} values, not integer codes; it is no speech tokenizer")
        return found.reshape(-1).astype(np.int64)


class OnnxSpeakerEncoder:
    """A speaker encoder as an ONNX graph: mean-normalised filter bank float32 [1, F, 80] to a vector [1, E].

    Attributes:
        hash: SHA-256 of the file.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            ModelError: it is missing, no ONNX graph, or a graph with other inputs.
        """
        self._path = path
        self._session, self.hash = _open(path, inputs=1)

    def embedding(self, waves: Sequence[Tensor]) -> np.ndarray:
        """Speaker vectors float32 [B, E] of 16 kHz waves [N], not normalised.

        Raises:
            ModelError: the graph cannot be run, or gives something other than vectors.
        """
        return np.stack([self._vector_of(wave) for wave in waves])

    def _vector_of(self, wave: Tensor) -> np.ndarray:
        features = mean_normalised(kaldi_fbank(wave))
        found = _run(self._session, self._path, [features[None].numpy()])
        if not np.issubdtype(found.dtype, np.floating):
            raise ModelError(f"{self._path} gives {found.dtype} values, not a vector; it is no speaker encoder")
        return found.reshape(-1).astype(np.float32)


def _open(path: Path, inputs: int) -> tuple[onnxruntime.InferenceSession, str]:
    """A session on the bytes that were hashed; from bytes a graph cannot pull other files in."""
    import onnxruntime

    if not path.is_file():
        raise ModelError(
            f"{path} is missing; prompts and training need it: copy it from the released CosyVoice folder, or use a "
            "named voice"
        )
    data = path.read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = WARNINGS_AND_BELOW
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except _runtime_errors() as error:
        raise ModelError(f"{path} is not an ONNX graph that can be run ({_first_line(error)}); get it again") from error
    if len(session.get_inputs()) != inputs:
        names = ", ".join(entry.name for entry in session.get_inputs())
        raise ModelError(f"{path} has the inputs {names}; {inputs} are expected, so it is another network")
    return session, hashlib.sha256(data).hexdigest()


def _run(session: onnxruntime.InferenceSession, path: Path, values: Sequence[np.ndarray]) -> np.ndarray:
    feed = {entry.name: value for entry, value in zip(session.get_inputs(), values, strict=True)}
    try:
        return np.asarray(session.run([session.get_outputs()[0].name], feed)[0])
    except _runtime_errors() as error:
        raise ModelError(
            f"{path} could not be run ({_first_line(error)}); it is another network, or damaged"
        ) from error


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
