"""What is in a model folder: read it (native or released layout), write it, say where it came from.

Native layout: one `<part>.safetensors` per network, `voices.safetensors`, the text tokenizer's file if it has one, and
`model.json` with configurations, lineage and the SHA-256 of every file.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from cosytune.audio.mel import MelConfig
from cosytune.errors import ModelError
from cosytune.files import hash_file, hash_json, write_bytes, write_folder, write_json
from cosytune.models.flow.config import FlowConfig
from cosytune.models.flow.model import Flow
from cosytune.models.layers.config import PartConfig
from cosytune.models.lm.config import LMConfig
from cosytune.models.lm.model import LM
from cosytune.models.speaker_encoder.config import SpeakerEncoderConfig
from cosytune.models.speaker_encoder.model import SpeakerEncoder
from cosytune.models.speech_tokenizer.config import SpeechTokenizerConfig
from cosytune.models.speech_tokenizer.model import SpeechTokenizer
from cosytune.models.vocoder.config import VocoderConfig
from cosytune.models.vocoder.model import Vocoder
from cosytune.units import Clock

__all__ = [
    "Model",
    "TokenizerFile",
    "hash_part",
    "load_strictly",
    "network_of",
    "read_checkpoint",
    "read_model",
    "write_model",
]

FORMAT = 1
DESCRIPTION = "model.json"
VOICES = "voices.safetensors"
_KINDS: dict[str, tuple[type[PartConfig], type[nn.Module]]] = {
    "speech_tokenizer": (SpeechTokenizerConfig, SpeechTokenizer),
    "speaker_encoder": (SpeakerEncoderConfig, SpeakerEncoder),
    "lm": (LMConfig, LM),
    "flow": (FlowConfig, Flow),
    "vocoder": (VocoderConfig, Vocoder),
}


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
        voices: named speaker vectors [E].
        lineage: one entry per stage it went through, oldest first, with hashes.
        path: where it was read from, if it was.
    """

    name: str
    stage: str
    clock: Clock
    mel: MelConfig
    parts: dict[str, nn.Module]
    tokenizer: TokenizerFile
    voices: dict[str, Tensor] = field(default_factory=dict)
    lineage: list[dict[str, Any]] = field(default_factory=list)
    path: Path | None = None

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

    def hash(self) -> str:
        """One hash of all weights, sizes, the tokenizer and the voices."""
        tokenizer = hashlib.sha256(self.tokenizer.data or b"").hexdigest()
        return hash_json(
            {
                "parts": {name: hash_part(part) for name, part in self.parts.items()},
                "tokenizer": [self.tokenizer.kind, tokenizer],
                "voices": {name: _hash_tensors({name: vector}) for name, vector in self.voices.items()},
                "clock": vars(self.clock),
            }
        )

    def extractor_hash(self) -> str:
        """One hash of everything that decides tokens, speaker vectors and mel: features of another model never match."""
        return hash_json(
            {
                "speech_tokenizer": hash_part(self.part("speech_tokenizer")),
                "speaker_encoder": hash_part(self.part("speaker_encoder")),
                "mel": vars(self.mel),
                "clock": vars(self.clock),
            }
        )


def network_of(config: PartConfig) -> nn.Module:
    """The network that a configuration describes, with fresh weights.

    Raises:
        ModelError: it is not the configuration of one of the five parts.
    """
    for config_type, network_type in _KINDS.values():
        if type(config) is config_type:
            return network_type(config)
    raise ModelError(f"{type(config).__name__} describes no part of a model")


def _config_of(part: nn.Module) -> PartConfig:
    config = part.config
    assert isinstance(config, PartConfig)
    return config


def hash_part(part: nn.Module) -> str:
    """SHA-256 over the names, shapes, types and values of a network's tensors."""
    return _hash_tensors(part.state_dict())


def _hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_model(model: Model, path: Path) -> None:
    """Write a native folder; it appears whole or not at all."""
    with write_folder(path) as folder:
        files = {}
        for name, part in model.parts.items():
            tensors = {key: value.detach().cpu().contiguous() for key, value in part.state_dict().items()}
            files[f"{name}.safetensors"] = save(tensors)
        files[VOICES] = save({name: vector.detach().cpu().contiguous() for name, vector in model.voices.items()})
        if model.tokenizer.data is not None:
            files["text_tokenizer.json"] = model.tokenizer.data
        for file_name, data in files.items():
            write_bytes(folder / file_name, data)
        description = {
            "format": FORMAT,
            "name": model.name,
            "stage": model.stage,
            "clock": vars(model.clock),
            "mel": vars(model.mel),
            "parts": {name: _config_of(part).model_dump(mode="json") for name, part in model.parts.items()},
            "text_tokenizer": {"kind": model.tokenizer.kind},
            "voices": sorted(model.voices),
            "lineage": model.lineage,
            "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        }
        write_json(folder / DESCRIPTION, description)


def read_model(path: Path) -> Model:
    """Read a model folder of either layout; every tensor must match.

    Raises:
        ModelError: no model is there, a file is damaged or missing, or tensors do not match the configuration.
    """
    if not path.is_dir():
        raise ModelError(f"there is no model folder {path}")
    if (path / DESCRIPTION).is_file():
        return _read_native(path)
    if (path / "cosyvoice.yaml").is_file():
        from cosytune.models.released import read_released

        return read_released(path)
    found = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
    raise ModelError(
        f"{path} is not a model folder: neither {DESCRIPTION} (written by cosytune) nor cosyvoice.yaml (released "
        f"CosyVoice 1) is there; found {found}"
    )


def _read_native(path: Path) -> Model:
    try:
        description = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
        if description["format"] != FORMAT:
            raise ModelError(
                f"{path} has format {description['format']}, this cosytune reads {FORMAT}; update cosytune"
            )
        parts = {
            name: _read_part(path, name, config, description["files"]) for name, config in description["parts"].items()
        }
        kind = description["text_tokenizer"]["kind"]
        data = _verified(path, "text_tokenizer.json", description["files"]) if kind == "small" else None
        voices = load(_verified(path, VOICES, description["files"]))
        return Model(
            name=description["name"],
            stage=description["stage"],
            clock=Clock(**description["clock"]),
            mel=MelConfig(**description["mel"]),
            parts=parts,
            tokenizer=TokenizerFile(kind, data),
            voices=voices,
            lineage=description["lineage"],
            path=path,
        )
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{path / DESCRIPTION} is damaged ({type(error).__name__}: {error}); get the folder again"
        ) from error


def _verified(path: Path, name: str, hashes: Mapping[str, str]) -> bytes:
    file = path / name
    if name not in hashes or not file.is_file():
        raise ModelError(f"{file} is missing; the folder is incomplete, get it again")
    if hash_file(file) != hashes[name]:
        raise ModelError(f"{file} is not the file that was written (its SHA-256 differs); get the folder again")
    return file.read_bytes()


def _read_part(path: Path, name: str, config: dict[str, Any], hashes: Mapping[str, str]) -> nn.Module:
    if name not in _KINDS:
        raise ModelError(f"{path} has a part {name!r}; known parts are {', '.join(_KINDS)}")
    config_type, network_type = _KINDS[name]
    try:
        network = network_type(config_type(**config))
    except ValidationError as error:
        raise ModelError(f"{path / DESCRIPTION}: the configuration of {name} is not valid: {error}") from error
    try:
        tensors = load(_verified(path, f"{name}.safetensors", hashes))
    except SafetensorError as error:
        raise ModelError(f"{path / name}.safetensors cannot be read: {error}") from error
    load_strictly(network, tensors, f"{path / name}.safetensors")
    return network


def load_strictly(network: nn.Module, tensors: Mapping[str, Tensor], source: str) -> int:
    """Load all tensors of a network; returns how many matched, which is all of them.

    Raises:
        ModelError: some are missing, unexpected or of another shape; all of them are listed.
    """
    wanted = network.state_dict()
    missing = sorted(set(wanted) - set(tensors))
    unexpected = sorted(set(tensors) - set(wanted))
    misshapen = [
        f"{name} is {tuple(tensors[name].shape)}, should be {tuple(wanted[name].shape)}"
        for name in wanted
        if name in tensors and tensors[name].shape != wanted[name].shape
    ]
    if missing or unexpected or misshapen:
        matched = len(wanted) - len(missing) - len(misshapen)
        problems = [
            f"{label} {', '.join(names[:5])}{' ...' if len(names) > 5 else ''} ({len(names)})"
            for label, names in (("missing", missing), ("unexpected", unexpected), ("other shape:", misshapen))
            if names
        ]
        raise ModelError(f"{source}: {matched} of {len(wanted)} tensors matched; {'; '.join(problems)}")
    network.load_state_dict(dict(tensors), strict=True)
    return len(wanted)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A `.pt` file as a dictionary of tensors and plain values; nothing in it is executed.

    Raises:
        ModelError: no such file, damaged, or it holds something other than data.
    """
    if not path.is_file():
        raise ModelError(f"{path} is missing")
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ModelError(
            f"{path} cannot be read as plain tensors ({str(error).splitlines()[0]}); it is refused"
        ) from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds a {type(value).__name__}, not a dictionary of tensors")
    return value
