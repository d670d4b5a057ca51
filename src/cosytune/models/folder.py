"""What is in a model folder: read it (native or released layout), write it, say where it came from.

Native layout: one `<part>.safetensors` per network, `voices.safetensors`, the text tokenizer's file if it has one, and
`model.json` with configurations, lineage and the SHA-256 of every file.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import struct
from collections.abc import Callable, Mapping
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
from cosytune.models.agreement import check_agreement
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
    "build",
    "hash_part",
    "identity_of",
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
_FRONT_ENDS = ("speech_tokenizer", "speaker_encoder")
_DAMAGE = (
    pickle.UnpicklingError,
    struct.error,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What torch's reader raises on files that are cut, altered or no checkpoints (found by altering them at random)."""


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
        onnx: files of released front ends ("speech_tokenizer", "speaker_encoder") that take the place of parts; they
            are opened when something has to be analysed, so one may be missing until then.
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

    def hash(self) -> str:
        """One hash of all weights, sizes, the tokenizer, the voices and the ONNX front ends."""
        tokenizer = hashlib.sha256(self.tokenizer.data or b"").hexdigest()
        onnx = {name: hash_file(path) for name, path in self.onnx.items() if path.is_file()}
        return hash_json(
            {
                "parts": {name: hash_part(part) for name, part in self.parts.items()},
                "tokenizer": [self.tokenizer.kind, tokenizer],
                "voices": {name: _hash_tensors({name: vector}) for name, vector in self.voices.items()},
                "clock": vars(self.clock),
                **({"onnx": onnx} if onnx else {}),
            }
        )

    def extractor_hash(self) -> str:
        """One hash of all that decides tokens, speaker vectors and mel: features of another model never match.

        Raises:
            ModelError: the model lacks a front end.
        """
        return hash_json(
            {
                **{name: self._front_end_hash(name) for name in _FRONT_ENDS},
                "mel": vars(self.mel),
                "clock": vars(self.clock),
            }
        )

    def _front_end_hash(self, name: str) -> str:
        if name not in self.onnx:
            return hash_part(self.part(name))
        if not self.onnx[name].is_file():
            raise ModelError(
                f"{self.onnx[name]} is missing; prompts and training need it: copy it from the released folder"
            )
        return hash_file(self.onnx[name])


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
    """Write a native folder; it appears whole or not at all.

    Raises:
        OSError: the disk is full or `path` cannot be written.
    """
    with write_folder(path) as folder:
        files = _write_files(model, folder)
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
            "files": files,
        }
        write_json(folder / DESCRIPTION, description)


def _write_files(model: Model, folder: Path) -> dict[str, str]:
    """Write everything but the description, one file in memory at a time; returns the SHA-256 of each."""
    files = {}

    def keep(name: str, data: bytes) -> None:
        write_bytes(folder / name, data)
        files[name] = hashlib.sha256(data).hexdigest()

    for name, part in model.parts.items():
        keep(f"{name}.safetensors", save(_plain(part.state_dict())))
    keep(VOICES, save(_plain(model.voices)))
    if model.tokenizer.data is not None:
        keep("text_tokenizer.json", model.tokenizer.data)
    for name, source in model.onnx.items():
        if source.is_file():
            shutil.copyfile(source, folder / f"{name}.onnx")
            files[f"{name}.onnx"] = hash_file(folder / f"{name}.onnx")
    return files


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def read_model(path: Path | str) -> Model:
    """Read a model folder of either layout; every tensor must match and the parts must fit together.

    Raises:
        ModelError: no model is there, a file is damaged or missing, tensors do not match the configuration, or parts
            contradict each other.
    """
    path = Path(path)
    if not path.is_dir():
        raise ModelError(
            f"there is no model folder {path}; give one made by cosytune, or a released CosyVoice 1 folder"
        )
    if (path / DESCRIPTION).is_file():
        model = _read_native(path)
    elif (path / "cosyvoice.yaml").is_file():
        from cosytune.models.released import read_released

        model = read_released(path)
    else:
        found = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
        raise ModelError(
            f"{path} is not a model folder: neither {DESCRIPTION} (written by cosytune) nor cosyvoice.yaml (released "
            f"CosyVoice 1) is there; found {found}"
        )
    check_agreement(model)
    return model


def identity_of(path: Path) -> str:
    """A hash of what is in a model folder of either layout, without reading the networks.

    A native folder's description holds the SHA-256 of its files, which `read_model` verifies; name and lineage do not
    count. Of a released folder all files count that `read_model` may open.

    Raises:
        ModelError: there is no model folder.
    """
    if (path / DESCRIPTION).is_file():
        description = _read_description(path)
        return hash_json(
            [description.get(key) for key in ("format", "clock", "mel", "parts", "text_tokenizer", "files")]
        )
    files = sorted(file for pattern in ("cosyvoice.yaml", "*.pt", "*.onnx") for file in path.glob(pattern))
    if not files:
        raise ModelError(f"there is no model in {path}")
    return hash_json({file.name: hash_file(file) for file in files})


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    if not isinstance(description, dict):
        raise ModelError(f"{path / DESCRIPTION} is damaged (no JSON object); get the folder again")
    return description


def _damaged(path: Path, error: Exception) -> ModelError:
    return ModelError(f"{path / DESCRIPTION} is damaged ({type(error).__name__}: {error}); get the folder again")


def _read_native(path: Path) -> Model:
    description = _read_description(path)
    if description.get("format") != FORMAT:
        raise ModelError(
            f"{path} has format {description.get('format')}, this cosytune reads {FORMAT}; update cosytune"
        )
    try:
        files = description["files"]
        parts = {name: _read_part(path, name, config, files) for name, config in description["parts"].items()}
        kind = description["text_tokenizer"]["kind"]
        data = _verified(path, "text_tokenizer.json", files) if kind == "small" else None
        return Model(
            name=str(description["name"]),
            stage=str(description["stage"]),
            clock=Clock(**description["clock"]),
            mel=MelConfig(**description["mel"]),
            parts=parts,
            tokenizer=TokenizerFile(kind, data),
            voices=_tensors_of(path, VOICES, files),
            lineage=[dict(entry) for entry in description["lineage"]],
            path=path,
            onnx=_onnx_of(path, files),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, error) from error


def _verified(path: Path, name: str, hashes: Mapping[str, str]) -> bytes:
    file = path / name
    if name not in hashes or not file.is_file():
        raise ModelError(f"{file} is missing; the folder is incomplete, get it again")
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != hashes[name]:
        raise ModelError(f"{file} is not the file that was written (its SHA-256 differs); get the folder again")
    return data


def _onnx_of(path: Path, hashes: Mapping[str, str]) -> dict[str, Path]:
    found = {name: path / f"{name}.onnx" for name in _FRONT_ENDS if f"{name}.onnx" in hashes}
    for file in found.values():
        if not file.is_file() or hash_file(file) != hashes[file.name]:
            raise ModelError(f"{file} is missing or not the file that was written; get the folder again")
    return found


def _tensors_of(path: Path, name: str, hashes: Mapping[str, str]) -> dict[str, Tensor]:
    try:
        return load(_verified(path, name, hashes))
    except SafetensorError as error:
        raise ModelError(f"{path / name} cannot be read ({error}); get the folder again") from error


def _read_part(path: Path, name: str, config: dict[str, Any], hashes: Mapping[str, str]) -> nn.Module:
    if name not in _KINDS:
        raise ModelError(f"{path} has a part {name!r}; known parts are {', '.join(_KINDS)}")
    config_type, network_type = _KINDS[name]
    tensors = _tensors_of(path, f"{name}.safetensors", hashes)
    try:
        return build(network_type, config_type(**config), tensors, f"{path / name}.safetensors")
    except ValidationError as error:
        raise ModelError(f"{path / DESCRIPTION}: the configuration of {name} is not valid: {error}") from error


def build(
    network_type: Callable[[Any], nn.Module], config: PartConfig, tensors: Mapping[str, Tensor], source: str
) -> nn.Module:
    """A network with these tensors; its memory is taken only after names and shapes have been compared.

    Raises:
        ModelError: tensors are missing, unexpected or of another shape; all of them are listed.
    """
    with torch.device("meta"):
        outline = network_type(config)
    _compare(outline.state_dict(), tensors, source)
    network = network_type(config)
    network.load_state_dict(dict(tensors), strict=True)
    return network


def load_strictly(network: nn.Module, tensors: Mapping[str, Tensor], source: str) -> int:
    """Load all tensors of a network; returns how many matched, which is all of them.

    Raises:
        ModelError: some are missing, unexpected or of another shape; all of them are listed.
    """
    wanted = network.state_dict()
    _compare(wanted, tensors, source)
    network.load_state_dict(dict(tensors), strict=True)
    return len(wanted)


def _compare(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: str) -> None:
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
        raise ModelError(
            f"{source}: {matched} of {len(wanted)} tensors matched; {'; '.join(problems)}; "
            "nothing was loaded, give the checkpoint and the configuration of the same model"
        )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A `.pt` file as a dictionary of tensors and plain values; nothing in it is executed.

    Raises:
        ModelError: no such file, damaged, or it holds something other than data.
    """
    if not path.is_file():
        raise ModelError(f"{path} is missing")
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{path} cannot be read as plain tensors ({first}); it is damaged or holds code, which is never run: "
            "get the file again"
        ) from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds a {type(value).__name__}, not a dictionary of tensors")
    return value
