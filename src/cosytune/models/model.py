"""A model in memory, and what makes it this model and no other: its hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cosytune.audio.mel import MelConfig
from cosytune.errors import ModelError
from cosytune.files import hash_file, hash_json
from cosytune.models.onnx_session import OnnxPrecision
from cosytune.models.voices import Voice, voice_tensors
from cosytune.units import Clock

__all__ = ["FRONT_ENDS", "Model", "TokenizerFile", "hash_part", "hash_tensors"]

FRONT_ENDS = ("speech_tokenizer", "speaker_encoder")
"""The frozen networks that turn a recording into tokens and a speaker vector."""


@dataclass(frozen=True)
class TokenizerFile:
    """Which text tokenizer a model reads with, and its file: `kind` "small" (data needed) or "whisper"."""

    kind: str
    data: bytes | None = None


@dataclass
class Model:
    """A model in memory: what a folder holds, whichever layout it had.

    Attributes:
        name: a short name for tables and file names.
        stage: "initial" (random weights), "pretrain", "sft", "tune" or "released".
        clock: sample rate, hop and token rate.
        mel: the spectrogram that flow and vocoder speak in.
        parts: the networks by name (`lm`, `flow`, `vocoder`, `speech_tokenizer`, `speaker_encoder`); any may be absent.
        tokenizer: the text tokenizer's kind and file.
        voices: named voices.
        lineage: one entry per stage it went through, oldest first, with hashes.
        path: where it was read from, if it was.
        onnx: files of released front ends ("speech_tokenizer", "speaker_encoder") that take the place of parts; they
            are opened when something has to be analysed, so one may be missing until then.
    """

    name: str
    stage: str
    clock: Clock
    mel: MelConfig
    parts: dict[str, nn.Module]
    tokenizer: TokenizerFile
    voices: dict[str, Voice] = field(default_factory=dict)
    lineage: list[dict[str, Any]] = field(default_factory=list)
    path: Path | None = None
    onnx: dict[str, Path] = field(default_factory=dict)

    def part(self, name: str) -> Any:
        """One network.

        Raises:
            ModelError: this model does not have it.
        """
        if name not in self.parts:
            have = ", ".join(sorted(self.parts)) or "none"
            raise ModelError(f"model {self.name} has no {name} (it has: {have}); use a folder that contains it")
        return self.parts[name]

    def parameters(self) -> dict[str, int]:
        """Number of weights of each part."""
        return {name: sum(p.numel() for p in part.parameters()) for name, part in self.parts.items()}

    def speech_codebook(self) -> int | None:
        """Number of speech tokens that LM and flow know; None for a model that has neither."""
        known: list[Any] = [self.parts[name] for name in ("lm", "flow") if name in self.parts]
        return int(known[0].config.speech_codebook) if known else None

    def speaker_width(self) -> int | None:
        """Numbers in the speaker vectors that LM and flow take; None for a model that has neither."""
        known: list[Any] = [self.parts[name] for name in ("lm", "flow") if name in self.parts]
        return int(known[0].config.speaker_width) if known else None

    def text_vocabulary(self) -> int | None:
        """Number of text tokens that the LM knows; None for a model without one."""
        lm: Any = self.parts.get("lm")
        return None if lm is None else int(lm.config.text_vocabulary)

    def hash(self) -> str:
        """One hash of all weights, sizes, the tokenizer, the voices with their prompts and the ONNX front ends."""
        tokenizer = hashlib.sha256(self.tokenizer.data or b"").hexdigest()
        onnx = {name: hash_file(path) for name, path in self.onnx.items() if path.is_file()}
        return hash_json(
            {
                "parts": {name: hash_part(part) for name, part in self.parts.items()},
                "tokenizer": [self.tokenizer.kind, tokenizer],
                "voices": {name: hash_tensors(voice_tensors(voice)) for name, voice in self.voices.items()},
                "clock": vars(self.clock),
                **({"onnx": onnx} if onnx else {}),
            }
        )

    def extractor_hash(self, onnx_precision: OnnxPrecision = "float32") -> str:
        """One hash of all that decides tokens, speaker vectors and mel: features of another model never match.

        Args:
            onnx_precision: of a released speech tokenizer (see `FrontEnds`).

        Raises:
            ModelError: the model lacks a front end.
        """
        return hash_json({**self.extractor_hashes(onnx_precision), "clock": vars(self.clock)})

    def extractor_hashes(self, onnx_precision: OnnxPrecision = "float32") -> dict[str, str]:
        """A hash for each kind of feature, by its column: what decides this one, and nothing else.

        Raises:
            ModelError: the model lacks a front end.
        """
        tokenizer = self._front_end_hash("speech_tokenizer")
        return {
            "speech_token": tokenizer if onnx_precision == "float32" else hash_json([tokenizer, onnx_precision]),
            "utt_embedding": self._front_end_hash("speaker_encoder"),
            "mel": hash_json(vars(self.mel)),
        }

    def _front_end_hash(self, name: str) -> str:
        if name not in self.onnx:
            return hash_part(self.part(name))
        if not self.onnx[name].is_file():
            raise ModelError(
                f"{self.onnx[name]} is missing; prompts and training need it: copy it from the released folder"
            )
        return hash_file(self.onnx[name])


def hash_part(part: nn.Module) -> str:
    """SHA-256 over the names, shapes, types and values of a network's tensors."""
    return hash_tensors(part.state_dict())


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes, types and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
