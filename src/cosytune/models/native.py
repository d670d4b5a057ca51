"""The native layout: one safetensors per network, the voices, the text tokenizer, and `model.json` about them.

`model.json` holds configurations, lineage and the SHA-256 of every file but the voices'. The file of voices carries its
own: so a voice is added by replacing one file, and at no moment do two files of a folder contradict each other.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from cosytune.audio.mel import MelConfig
from cosytune.errors import ModelError
from cosytune.files import hash_file, hash_json, write_bytes, write_folder, write_json
from cosytune.models.checkpoints import outline_of_safetensors
from cosytune.models.layers.config import PartConfig
from cosytune.models.loading import KINDS, build
from cosytune.models.model import FRONT_ENDS, Model, TokenizerFile, hash_tensors
from cosytune.models.voices import Voice, tensors_of, voices_of
from cosytune.units import Clock

__all__ = [
    "DESCRIPTION",
    "VOICES",
    "identity_of_native",
    "read_native",
    "read_parts",
    "read_voices",
    "write_model",
    "write_voices",
]

FORMAT = 2
DESCRIPTION = "model.json"
VOICES = "voices.safetensors"
_TOKENIZER = "text_tokenizer.json"
_TOKENIZER_KINDS = ("small", "whisper")
_LARGEST_DESCRIPTION = 16_000_000
_WRONG = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What reading a description raises whose values are of other types or out of range."""


def write_model(model: Model, path: Path) -> None:
    """Write a native folder; it appears whole or not at all.

    Raises:
        OSError: the disk is full or `path` cannot be written.
    """
    with write_folder(path) as folder:
        files = _write_files(model, folder)
        write_voices(folder, model.voices)
        description = {
            "format": FORMAT,
            "name": model.name,
            "stage": model.stage,
            "clock": vars(model.clock),
            "mel": vars(model.mel),
            "parts": {name: _config_of(part).model_dump(mode="json") for name, part in model.parts.items()},
            "text_tokenizer": {"kind": model.tokenizer.kind},
            "lineage": model.lineage,
            "files": files,
        }
        write_json(folder / DESCRIPTION, description)


def _write_files(model: Model, folder: Path) -> dict[str, str]:
    """Write everything but voices and description, one file in memory at a time; returns the SHA-256 of each."""
    files = {}

    def keep(name: str, data: bytes) -> None:
        write_bytes(folder / name, data)
        files[name] = hashlib.sha256(data).hexdigest()

    for name, part in model.parts.items():
        keep(f"{name}.safetensors", save(_plain(part.state_dict())))
    if model.tokenizer.data is not None:
        keep(_TOKENIZER, model.tokenizer.data)
    for name, source in model.onnx.items():
        if source.is_file():
            shutil.copyfile(source, folder / f"{name}.onnx")
            files[f"{name}.onnx"] = hash_file(folder / f"{name}.onnx")
    return files


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _config_of(part: nn.Module) -> PartConfig:
    config = part.config
    assert isinstance(config, PartConfig)
    return config


def write_voices(folder: Path, voices: Mapping[str, Voice]) -> None:
    """Replace the voices of a native folder, with their hash inside the file."""
    tensors = tensors_of(voices)
    write_bytes(folder / VOICES, save(tensors, metadata={"sha256": hash_tensors(tensors)}))


def read_voices(folder: Path) -> dict[str, Voice]:
    """The voices of a native folder.

    Raises:
        ModelError: the file is missing, damaged, or not as it was written.
    """
    path = folder / VOICES
    if not path.is_file():
        raise ModelError(f"{path} is missing; the folder is incomplete, get it again")
    data = path.read_bytes()
    tensors = _load(data, path)
    if _metadata(data).get("sha256") != hash_tensors(tensors):
        raise ModelError(f"{path} is not the file that was written (its SHA-256 differs); get the folder again")
    return voices_of(tensors, str(path))


def _metadata(data: bytes) -> dict[str, str]:
    """The words that a safetensors file carries: 8 bytes say how long the JSON is that follows them."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header.get("__metadata__") or {}


def identity_of_native(path: Path) -> str:
    """A hash of all that decides what the model says: name and lineage do not count.

    The description holds the SHA-256 of the files, which `read_native` verifies; they are not read here.

    Raises:
        ModelError: the description is damaged, or the voices are missing.
    """
    description = _read_description(path)
    if not (path / VOICES).is_file():
        raise ModelError(f"{path / VOICES} is missing; the folder is incomplete, get it again")
    said = [description.get(key) for key in ("format", "clock", "mel", "parts", "text_tokenizer", "files")]
    return hash_json([*said, hash_file(path / VOICES)])


def _read_description(path: Path) -> dict[str, Any]:
    size = (path / DESCRIPTION).stat().st_size
    if size > _LARGEST_DESCRIPTION:
        raise ModelError(f"{path / DESCRIPTION} has {size:,} bytes; cosytune writes some thousand, so it is refused")
    try:
        description = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    if not isinstance(description, dict):
        raise ModelError(f"{path / DESCRIPTION} is damaged (no JSON object); get the folder again")
    return description


def _damaged(path: Path, error: Exception) -> ModelError:
    return ModelError(f"{path / DESCRIPTION} is damaged ({type(error).__name__}: {error}); get the folder again")


def read_native(path: Path, *, weights: bool = True) -> Model:
    """Read a native folder; every tensor must match its configuration.

    Args:
        path: of the folder.
        weights: off for an outline (see `read_model`): names and shapes are compared, the large files' hashes are not.

    Raises:
        ModelError: a file is missing, damaged or not as it was written, or tensors do not match.
    """
    description = _read_description(path)
    if description.get("format") != FORMAT:
        raise ModelError(
            f"{path} has format {description.get('format')}, this cosytune reads {FORMAT}; update cosytune, or get the "
            "folder in the newer format"
        )
    try:
        files = {str(name): str(digest) for name, digest in description["files"].items()}
        tokenizer = _read_tokenizer(path, description["text_tokenizer"]["kind"], files)
        voices = read_voices(path)
        parts = {
            name: _read_part(path, name, config, files, weights=weights)
            for name, config in description["parts"].items()
        }
        return Model(
            name=str(description["name"]),
            stage=str(description["stage"]),
            clock=Clock(**description["clock"]),
            mel=MelConfig(**description["mel"]),
            parts=parts,
            tokenizer=tokenizer,
            voices=voices,
            lineage=[dict(entry) for entry in description["lineage"]],
            path=path,
            onnx=_onnx_of(path, files, verify=weights),
        )
    except _WRONG as error:
        raise _damaged(path, error) from error


def read_parts(path: Path, names: Iterable[str]) -> dict[str, nn.Module]:
    """Some networks of a native folder, with their weights; the others are not read.

    Raises:
        ModelError: a file is missing, damaged or not as it was written, or tensors do not match.
    """
    description = _read_description(path)
    try:
        files = {str(name): str(digest) for name, digest in description["files"].items()}
        return {name: _read_part(path, name, description["parts"][name], files, weights=True) for name in names}
    except _WRONG as error:
        raise _damaged(path, error) from error


def _read_tokenizer(path: Path, kind: object, hashes: Mapping[str, str]) -> TokenizerFile:
    if kind not in _TOKENIZER_KINDS:
        raise ModelError(f"{path} has the text tokenizer {kind!r}; known are {', '.join(_TOKENIZER_KINDS)}")
    return TokenizerFile(str(kind), _verified(path, _TOKENIZER, hashes) if kind == "small" else None)


def _verified(path: Path, name: str, hashes: Mapping[str, str]) -> bytes:
    file = path / name
    if name not in hashes or not file.is_file():
        raise ModelError(f"{file} is missing; the folder is incomplete, get it again")
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != hashes[name]:
        raise ModelError(f"{file} is not the file that was written (its SHA-256 differs); get the folder again")
    return data


def _onnx_of(path: Path, hashes: Mapping[str, str], *, verify: bool) -> dict[str, Path]:
    found = {name: path / f"{name}.onnx" for name in FRONT_ENDS if f"{name}.onnx" in hashes}
    for file in found.values():
        if not file.is_file() or (verify and hash_file(file) != hashes[file.name]):
            raise ModelError(f"{file} is missing or not the file that was written; get the folder again")
    return found


def _load(data: bytes, file: Path) -> dict[str, Tensor]:
    try:
        return load(data)
    except (SafetensorError, KeyError) as error:
        raise ModelError(f"{file} cannot be read ({error}); get the folder again") from error


def _read_part(path: Path, name: str, config: Any, hashes: Mapping[str, str], *, weights: bool) -> nn.Module:
    if name not in KINDS:
        raise ModelError(f"{path} has a part {name!r}; known parts are {', '.join(KINDS)}")
    config_type, network_type = KINDS[name]
    file = path / f"{name}.safetensors"
    try:
        sizes = config_type(**config)
    except ValidationError as error:
        raise ModelError(f"{path / DESCRIPTION}: the configuration of {name} is not valid: {error}") from error
    tensors = _load(_verified(path, file.name, hashes), file) if weights else outline_of_safetensors(file)
    return build(network_type, sizes, tensors, str(file), weights=weights)
