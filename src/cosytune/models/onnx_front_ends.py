"""The released analysis networks (`speech_tokenizer_v1.onnx`, `campplus.onnx`), run as ONNX graphs on the processor.

Several clips go through a graph at once only if its file says that it takes them and a probe shows that each clip then
gets what it gets alone. The codes of a clip must not depend on its neighbours, and a file may say what is not so.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cosytune.audio.fbank import kaldi_fbank, mean_normalised
from cosytune.audio.whisper import whisper_mel, whisper_mel_batch
from cosytune.errors import InputError, ModelError
from cosytune.models.onnx_session import GraphInput, OnnxPrecision, OnnxSession, check_self_contained
from cosytune.models.onnxruntime_session import OnnxRuntimeSession
from cosytune.models.openvino_session import OpenVinoSession
from cosytune.units import FEATURE_FRAME_RATE, FEATURE_SAMPLE_RATE, samples_of_seconds

__all__ = ["SECONDS_TOGETHER", "OnnxSpeakerEncoder", "OnnxSpeechTokenizer"]

LONGEST_FRAMES = 3000
"""Feature frames (30 s) that the released tokenizers have positions for; beyond them the codes mean nothing."""

DEFAULT_BINS = 128
SPEAKER_BINS = 80
SECONDS_TOGETHER = 8.0
"""Audio, padding counted, that one run is given. Measured with six blocks of width 1280, as the released tokenizer has,
on one core: clips of 0.4 s take 0.75 of the time that they take alone, of 1 s 0.88, of 2 s all of it. With 32 s in one
run they take 1.25 times as long, because what lies between the layers no longer fits into the cache."""
PROBE_FRAMES = (131, 120, 97, 96, 61, 50)
"""Lengths of the noise that is tried alone and together: odd and even, so that rounding shows."""
PROBE_STRIDES = (1, 2, 4, 8)
"""Feature frames per token that padded batches are tried for."""
PROBE_TOLERANCE = 1e-5
"""Largest difference between a vector made alone and together, as a share of its length."""


class OnnxSpeechTokenizer:
    """A speech tokenizer as an ONNX graph: log-mel float32 [1, bins, F] and frame count int32 [1] to integer codes.

    The two inputs are addressed by position; released files do not agree on names (specification, 1.2).

    Attributes:
        hash: SHA-256 of the file.
    """

    def __init__(self, path: Path, precision: OnnxPrecision = "float32") -> None:
        """Read the file.

        Args:
            path: of the file.
            precision: of the products; in bfloat16 about one code in a hundred differs (docs/data.md, "Speed").

        Raises:
            ModelError: it is missing, no ONNX graph, or a graph with other inputs.
            MachineError, MissingPackageError: bfloat16 cannot be had here (see `check_bfloat16`).
        """
        self._path = path
        self._session, self.hash = _open(path, inputs=2, precision=precision)
        self._bins = self._session.inputs[0].shape[1] or DEFAULT_BINS

    def tokens(self, waves: Sequence[Tensor]) -> list[np.ndarray]:
        """Codes int64 [T] of each 16 kHz wave [N].

        Raises:
            InputError: a wave of more than 30 s.
            ModelError: the graph cannot be run, or gives something other than codes.
        """
        if len(waves) == 1 or self._stride is None:
            return [self._tokens_of(wave) for wave in waves]
        return [codes for group in _groups(waves) for codes in self._tokens_together(group, self._stride)]

    def _tokens_together(self, waves: Sequence[Tensor], stride: int) -> list[np.ndarray]:
        features, lengths = whisper_mel_batch(waves, self._bins)
        self._check_length(int(lengths.max()))
        found = self._run(features.numpy(), lengths.numpy())
        return [row[: -(-frames // stride)] for row, frames in zip(found, lengths.tolist(), strict=True)]

    def _tokens_of(self, wave: Tensor) -> np.ndarray:
        features = whisper_mel(wave, self._bins)
        self._check_length(features.shape[1])
        return self._run(features[None].numpy(), np.array([features.shape[1]])).reshape(-1)

    @cached_property
    def _stride(self) -> int | None:
        """Feature frames per token if clips of several lengths may go through the graph together, else None."""
        if not all(_takes_many(entry) for entry in self._session.inputs):
            return None
        random = np.random.default_rng(0)
        clips = [random.standard_normal((self._bins, frames), np.float32) / 2 for frames in PROBE_FRAMES]
        together = np.zeros((len(clips), self._bins, max(PROBE_FRAMES)), np.float32)
        for row, clip in zip(together, clips, strict=True):
            row[:, : clip.shape[1]] = clip
        alone = [self._run(clip[None], np.array([clip.shape[1]])).reshape(-1) for clip in clips]
        try:
            found = self._run(together, np.array(PROBE_FRAMES))
        except ModelError:
            return None
        if found.shape != (len(clips), len(alone[0])):
            return None
        for stride in PROBE_STRIDES:
            rows = [row[: -(-frames // stride)] for row, frames in zip(found, PROBE_FRAMES, strict=True)]
            if all(map(np.array_equal, rows, alone)):
                return stride
        return None

    def _check_length(self, frames: int) -> None:
        if frames > LONGEST_FRAMES:
            raise InputError(
                f"a recording of {frames / FEATURE_FRAME_RATE:.1f} s is too long for {self._path.name}, which "
                f"understands {LONGEST_FRAMES // FEATURE_FRAME_RATE} s at most; cut it, 5 to 13 s work best as a prompt"
            )

    def _run(self, features: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Codes int64 of features [B, bins, F] with lengths [B], in the shape that the graph gives them."""
        found = self._session.run([features, lengths.astype(np.int32)])
        if not np.issubdtype(found.dtype, np.integer):
            raise ModelError(f"{self._path} gives {found.dtype} values, not integer codes; it is no speech tokenizer")
        return found.astype(np.int64)


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
        # In bfloat16 it would be no faster: its convolutions are narrow.
        self._session, self.hash = _open(path, inputs=1, precision="float32")

    def embedding(self, waves: Sequence[Tensor]) -> np.ndarray:
        """Speaker vectors float32 [B, E] of 16 kHz waves [N], not normalised.

        Raises:
            ModelError: the graph cannot be run, or gives something other than vectors.
        """
        features = [mean_normalised(kaldi_fbank(wave)).numpy() for wave in waves]
        # The graph averages over time and is not told where a clip ends, so only clips of one length go together.
        groups: defaultdict[int, list[int]] = defaultdict(list)
        together = len(waves) > 1 and self._takes_equal
        for index, clip in enumerate(features):
            groups[len(clip) if together else index].append(index)
        vectors: dict[int, np.ndarray] = {}
        for group in groups.values():
            found = self._run(np.stack([features[index] for index in group])).reshape(len(group), -1)
            vectors |= dict(zip(group, found, strict=True))
        return np.stack([vectors[index] for index in range(len(waves))])

    @cached_property
    def _takes_equal(self) -> bool:
        """Whether clips of one length may go through the graph together."""
        (entry,) = self._session.inputs
        if not _takes_many(entry):
            return False
        clips = np.random.default_rng(0).standard_normal((3, PROBE_FRAMES[0], SPEAKER_BINS), np.float32)
        alone = np.stack([self._run(clip[None]).reshape(-1) for clip in clips])
        try:
            together = self._run(clips)
        except ModelError:
            return False
        size = np.linalg.norm(alone, axis=1, keepdims=True)
        return together.shape == alone.shape and bool((np.abs(together - alone) <= PROBE_TOLERANCE * size).all())

    def _run(self, features: np.ndarray) -> np.ndarray:
        """Vectors float32 of features [B, F, 80], in the shape that the graph gives them."""
        found = self._session.run([features])
        if not np.issubdtype(found.dtype, np.floating):
            raise ModelError(f"{self._path} gives {found.dtype} values, not a vector; it is no speaker encoder")
        return found.astype(np.float32)


def _groups(waves: Sequence[Tensor]) -> list[list[Tensor]]:
    """Neighbours whose longest wave times their number is short enough to be worth a run together."""
    groups: list[list[Tensor]] = []
    for wave in waves:
        longest = max([len(wave), *map(len, groups[-1])]) if groups else 0
        if groups and longest * (len(groups[-1]) + 1) <= samples_of_seconds(SECONDS_TOGETHER, FEATURE_SAMPLE_RATE):
            groups[-1].append(wave)
        else:
            groups.append([wave])
    return groups


def _takes_many(entry: GraphInput) -> bool:
    """Whether an input of a graph is declared for any number of clips."""
    return bool(entry.shape) and entry.shape[0] is None


def _open(path: Path, inputs: int, precision: OnnxPrecision) -> tuple[OnnxSession, str]:
    """A session on the bytes that were hashed."""
    if not path.is_file():
        raise ModelError(
            f"{path} is missing; prompts and training need it: copy it from the released CosyVoice folder, or use a "
            "named voice"
        )
    data = path.read_bytes()
    check_self_contained(data, path)
    engine = OpenVinoSession if precision == "bfloat16" else OnnxRuntimeSession
    # As many threads as torch has here: one in a worker, of which there is one per core.
    session = engine(data, path, torch.get_num_threads())
    if len(session.inputs) != inputs:
        names = ", ".join(entry.name for entry in session.inputs)
        raise ModelError(f"{path} has the inputs {names}; {inputs} are expected, so it is another network")
    return session, hashlib.sha256(data).hexdigest()
