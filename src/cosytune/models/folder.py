"""What is in a model folder: read either layout, write the native one, add a voice, say which model it is.

This is the door to the models' room; the layouts themselves are in `native.py` and `released.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from cosytune.errors import InputError, ModelError
from cosytune.files import hash_file, hash_json, lock
from cosytune.models import native, released
from cosytune.models.agreement import check_agreement, check_voice
from cosytune.models.model import FRONT_ENDS, Model, TokenizerFile
from cosytune.models.native import write_model
from cosytune.models.voices import Voice, check_name

__all__ = [
    "Model",
    "TokenizerFile",
    "add_voice",
    "check_free",
    "identity_of",
    "read_front_ends",
    "read_model",
    "write_model",
]


def read_model(path: Path | str, *, weights: bool = True) -> Model:
    """Read a model folder of either layout; every tensor must match and the parts must fit together.

    Args:
        path: of the folder.
        weights: off for an outline: names, shapes and voices are compared as ever, but the networks are on the `meta`
            device with the types they are stored in, their numbers are not read and large files not hashed. Quick, and
            enough to say what a model is.

    Raises:
        ModelError: no model is there, a file is damaged or missing, tensors do not match the configuration, or parts
            contradict each other.
    """
    path = Path(path)
    if not path.is_dir():
        raise ModelError(
            f"there is no model folder {path}; give one that `cosytune demo` or `cosytune pretrain` made, or a "
            "released CosyVoice 1 folder"
        )
    if _is_native(path):
        model = native.read_native(path, weights=weights)
    elif (path / released.YAML).is_file():
        model = released.read_released(path, weights=weights)
    else:
        found = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
        raise ModelError(
            f"{path} is not a model folder: neither {native.DESCRIPTION} (written by cosytune) nor {released.YAML} "
            f"(released CosyVoice 1) is there; found {found}"
        )
    check_agreement(model)
    return model


def read_front_ends(path: Path) -> Model:
    """An outline of a model (see `read_model`) in which the front ends alone have their weights.

    That is what it takes to analyse recordings, in the memory that it takes: each of many processes may hold one.

    Raises:
        ModelError: as `read_model`.
    """
    model = read_model(path, weights=False)
    own = [name for name in FRONT_ENDS if name in model.parts]
    if own:
        model.parts |= native.read_parts(path, own)
    return model


def identity_of(path: Path, *, voices: bool = True) -> str:
    """A hash of what is in a model folder of either layout, without reading the networks.

    Of a native folder the hashes in its description count, of a released one all files that `read_model` may open.

    Args:
        path: of the folder.
        voices: whether its table of voices counts.

    Raises:
        ModelError: there is no model folder.
    """
    if _is_native(path):
        return native.identity_of_native(path, voices=voices)
    files = sorted(file for pattern in (released.YAML, "*.pt", "*.onnx") for file in path.glob(pattern))
    if not files:
        raise ModelError(f"there is no model in {path}")
    return hash_json({file.name: hash_file(file) for file in files if voices or file.name != released.VOICES})


def check_free(model: str, voices: Collection[str], name: str, *, replace: bool) -> None:
    """May a voice be saved under this name in a model that has these `voices`?

    Raises:
        InputError: the name cannot be used, or is taken and `replace` is off.
    """
    check_name(name)
    if name in voices and not replace:
        raise InputError(f"{model} has a voice {name!r} already; give another name, or replace it (--replace-voice)")


def add_voice(folder: Path | str, name: str, voice: Voice, *, replace: bool = False) -> None:
    """Save a named voice into a model folder of either layout; one file is replaced whole, nothing else changes.

    In a released folder the voice serves the upstream runtime too, cloned ones in its SFT and its zero-shot mode.

    Args:
        folder: of the model that the voice was made with.
        name: anything a person can type.
        voice: with a prompt for a cloned one.
        replace: an existing voice of that name.

    Raises:
        InputError: the name cannot be used, or is taken and `replace` is off.
        ModelError: there is no model, or the voice does not fit it.
        OSError: the disk is full or the folder cannot be written.
    """
    check_name(name)
    folder = Path(folder).resolve()
    model = read_model(folder, weights=False)
    check_voice(model, name, voice)
    # The lock lies beside the folder: the folder itself gets nothing that does not belong to the model.
    with lock(folder.parent / f".{folder.name}.voices.lock", wait=True):
        voices = native.read_voices(folder) if _is_native(folder) else released.read_released_voices(folder)
        check_free(folder.name, voices, name, replace=replace)
        if _is_native(folder):
            native.write_voices(folder, voices | {name: voice})
        else:
            released.write_released_voice(folder, name, voice)


def _is_native(path: Path) -> bool:
    return (path / native.DESCRIPTION).is_file()
