"""Files of tensors, read as data: `.pt` (nothing in it is executed, nothing is unpacked) and safetensors."""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from cosytune.errors import ModelError

__all__ = ["outline_of_safetensors", "read_checkpoint", "read_flat_checkpoint"]

_DAMAGE = (
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What torch's reader and zipfile raise on files that are cut, altered or no checkpoints (found by altering them)."""

_ZIP_START = b"PK\x03\x04"
_LARGEST_PICKLE = 64_000_000
"""Bytes of the part of a checkpoint that says what its tensors are called; a 300M LM has 50,000."""

_SAFE_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_checkpoint(path: Path, *, weights: bool = True) -> dict[Any, Any]:
    """A `.pt` file as a dictionary of tensors and plain values; nothing in it is executed.

    Args:
        path: of the file.
        weights: off to learn names, shapes and types only: the tensors are on the `meta` device and not read.

    Raises:
        ModelError: no such file, damaged, packed (a checkpoint is stored as it is), or it holds something other than
            data.
    """
    if not path.is_file():
        raise ModelError(f"{path} is missing")
    try:
        _check_zip(path)
        value = torch.load(path, map_location="cpu" if weights else "meta", weights_only=True)
    except _DAMAGE as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{path} cannot be read as plain tensors ({first}); it is damaged or holds code, which is never run: "
            "get the file again"
        ) from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds a {type(value).__name__}, not a dictionary of tensors")
    return value


def _check_zip(path: Path) -> None:
    """Compare what the directory of a zip promises with the size of the file, before anything is unpacked."""
    with path.open("rb") as source:
        if source.read(len(_ZIP_START)) != _ZIP_START:
            return  # torch's format of before 2020, which has no directory and no packing
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    packed = [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise ModelError(
            f"{path}: its entry {packed[0].filename!r} is packed and would grow to {packed[0].file_size:,} bytes; "
            "checkpoints are never packed, so it is refused: get the file again"
        )
    size, promised = path.stat().st_size, sum(entry.file_size for entry in entries)
    if promised > size:
        raise ModelError(
            f"{path}: its directory promises {promised:,} bytes, the file has {size:,}; it is refused: get it again"
        )
    if any(entry.file_size > _LARGEST_PICKLE for entry in entries if entry.filename.endswith("data.pkl")):
        raise ModelError(f"{path}: its list of names has more than {_LARGEST_PICKLE:,} bytes, so it is refused")


def read_flat_checkpoint(
    path: Path, allowed: tuple[str, ...] = (), *, weights: bool = True
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Names and tensors of a flat `.pt` file, and beside them the entries called as in `allowed`.

    Args:
        path: of the file.
        allowed: names of entries that need not be tensors.
        weights: see `read_checkpoint`.

    Raises:
        ModelError: see `read_checkpoint`; an entry is no plain tensor, or the tensors claim more than the file holds.
    """
    state = read_checkpoint(path, weights=weights)
    beside = {name: value for name, value in state.items() if name in allowed}
    tensors = {name: value for name, value in state.items() if name not in allowed}
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ModelError(
                f"{path}: entry {name!r} is a {type(value).__name__}, but a released checkpoint is a flat dictionary "
                "of names and tensors; take the weights out of their wrapping"
            )
        _check_tensor(path, name, value, "cpu" if weights else "meta")
    claimed, size = sum(value.numel() * value.element_size() for value in tensors.values()), path.stat().st_size
    # A tensor may be stored once and be called by two names; a thousand names for one are a trap.
    if claimed > 2 * size:
        raise ModelError(f"{path}: its tensors claim {claimed:,} bytes, the file has {size:,}; get the file again")
    return tensors, beside


def _check_tensor(path: Path, name: str, value: Tensor, device: str) -> None:
    """Strides can make a tensor of a trillion numbers out of one; copying it would take all memory."""
    plain = type(value) in (Tensor, nn.Parameter) and value.layout == torch.strided and not value.is_quantized
    if not plain or value.device.type != device:
        raise ModelError(
            f"{path}: tensor {name!r} is not plain (sparse, quantised or without data); convert it to dense numbers"
        )
    claimed, held = value.numel() * value.element_size(), value.untyped_storage().nbytes()
    size = path.stat().st_size
    if held > size:  # without weights nobody compares them; torch lets the storage grow with a lying stride
        raise ModelError(f"{path}: tensor {name!r} lies in {held:,} bytes, the file has {size:,}; get the file again")
    if claimed > held:
        raise ModelError(
            f"{path}: tensor {name!r} of shape {tuple(value.shape)} claims {claimed:,} bytes and holds {held:,}; get "
            "the file again"
        )


def outline_of_safetensors(path: Path) -> dict[str, Tensor]:
    """Names, shapes and types of a safetensors file as tensors on the `meta` device; only its header is read.

    Raises:
        ModelError: it is missing, its header does not fit its size, or a type is none that networks have.
    """
    if not path.is_file():
        raise ModelError(f"{path} is missing; the folder is incomplete, get it again")
    outline = {}
    try:
        with safe_open(path, framework="pt") as source:
            for name in source.keys():  # noqa: SIM118 (it is no mapping)
                entry = source.get_slice(name)
                outline[name] = torch.empty(entry.get_shape(), dtype=_SAFE_TYPES[entry.get_dtype()], device="meta")
    except SafetensorError as error:
        raise ModelError(f"{path} cannot be read ({error}); get the folder again") from error
    except KeyError as error:
        raise ModelError(f"{path} holds tensors of the type {error}; networks have {', '.join(_SAFE_TYPES)}") from error
    return outline
