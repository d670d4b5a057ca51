"""Released CosyVoice 1 folders (`cosyvoice.yaml llm.pt flow.pt hift.pt spk2info.pt`), read as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cosytune.audio.mel import MelConfig
from cosytune.errors import ModelError
from cosytune.models.checkpoints import read_flat_checkpoint
from cosytune.models.flow import convert as flow_convert
from cosytune.models.flow.model import Flow
from cosytune.models.layers.released import BOOKKEEPING
from cosytune.models.lm import convert as lm_convert
from cosytune.models.lm.model import LM
from cosytune.models.loading import build
from cosytune.models.model import Model, TokenizerFile
from cosytune.models.released_voices import read_table, write_entry
from cosytune.models.released_yaml import LARGEST_FILE, read_hyper_parameters
from cosytune.models.vocoder import convert as vocoder_convert
from cosytune.models.vocoder.model import Vocoder
from cosytune.models.voices import Voice
from cosytune.units import Clock

__all__ = [
    "VOICES",
    "YAML",
    "read_released",
    "read_released_voices",
    "training_leftovers",
    "write_released_voice",
]

YAML = "cosyvoice.yaml"
VOICES = "spk2info.pt"


@dataclass(frozen=True)
class _Layout:
    """Where a part is in a released folder: section of the yaml, file, network, and how its names become ours."""

    section: str
    file: str
    network: Callable[..., nn.Module]
    convert: Any


_LAYOUTS = {
    "lm": _Layout("llm", "llm.pt", LM, lm_convert),
    "flow": _Layout("flow", "flow.pt", Flow, flow_convert),
    "vocoder": _Layout("hift", "hift.pt", Vocoder, vocoder_convert),
}
_ONNX = {"speech_tokenizer": "speech_tokenizer_v1.onnx", "speaker_encoder": "campplus.onnx"}

_NEWER = ("llm.model.", "encoder.up_layer", "encoder.up_encoders", "decoder.estimator.transformer_blocks")
"""How tensors of CosyVoice 2 and 3 begin (specification, 5.6 and 6.8)."""


def read_released(path: Path, *, weights: bool = True) -> Model:
    """Read a released folder; its speech tokenizer and speaker encoder (ONNX) are opened when they are needed.

    Args:
        path: of the folder.
        weights: off for an outline (see `read_model`).

    Raises:
        ModelError: a file is missing or damaged, the yaml lacks a number, or tensors do not match it.
    """
    hyper = read_hyper_parameters(_read_yaml(path / YAML), str(path / YAML))
    voices = read_released_voices(path)
    parts = {name: _read_part(path, hyper, name, weights=weights) for name in _LAYOUTS}
    clock, mel = _geometry(path, hyper, parts)
    return Model(
        name=path.resolve().name,
        stage="released",
        clock=clock,
        mel=mel,
        parts=parts,
        tokenizer=TokenizerFile("whisper"),
        voices=voices,
        path=path,
        onnx={name: path / file for name, file in _ONNX.items()},
    )


def read_released_voices(path: Path) -> dict[str, Voice]:
    """The voices of a released folder.

    Raises:
        ModelError: their table is damaged, or an entry is no voice.
    """
    return read_table(path / VOICES)


def write_released_voice(path: Path, name: str, voice: Voice) -> None:
    """Put one voice into the table of a released folder, where the upstream runtime finds it too.

    Raises:
        ModelError: the table that is there is damaged.
        OSError: the disk is full or the folder cannot be written.
    """
    write_entry(path / VOICES, name, voice)


def training_leftovers(path: Path) -> dict[str, dict[str, Any]]:
    """What training left beside the weights (`epoch`, `step`), by file; only files that have it, none of them read.

    Raises:
        ModelError: a file is damaged.
    """
    found = {}
    for layout in _LAYOUTS.values():
        _, beside = read_flat_checkpoint(path / layout.file, BOOKKEEPING, weights=False)
        if beside:
            found[layout.file] = {name: value for name, value in beside.items() if isinstance(value, (int, float))}
    return found


def _read_yaml(file: Path) -> str:
    size = file.stat().st_size
    if size > LARGEST_FILE:
        raise ModelError(f"{file} has {size:,} bytes; released ones have about 8,000, so it is refused")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(f"{file} is not UTF-8 text; get the released file again") from error


def _read_part(path: Path, hyper: Mapping[str, Any], name: str, *, weights: bool) -> nn.Module:
    layout = _LAYOUTS[name]
    section, file = layout.section, path / layout.file
    if not isinstance(hyper.get(section), dict):
        raise ModelError(f"{path / YAML} has no section {section!r}; give the yaml of a released CosyVoice 1 model")
    try:
        config = layout.convert.config_from_released(hyper[section])
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path / YAML}, section {section}: {error} is missing or not usable") from error
    except ValueError as error:
        raise ModelError(f"{path / YAML}, section {section}: {error}") from error
    tensors, _ = read_flat_checkpoint(file, BOOKKEEPING, weights=weights)
    try:
        renamed = layout.convert.from_released(tensors)
    except ModelError as error:
        raise ModelError(f"{file}: {_other_network(name, tensors)}{error}") from error
    return build(layout.network, config, renamed, str(file), weights=weights)


def _other_network(name: str, tensors: Mapping[str, Tensor]) -> str:
    """What a checkpoint is that does not fit the place it lies in, if its tensors' names tell; else nothing."""
    if any(key.startswith(_NEWER) for key in tensors):
        return "this looks like a checkpoint of CosyVoice 2 or 3, cosytune reads CosyVoice 1 (300M); "
    for other, layout in _LAYOUTS.items():
        if other != name and tensors and _fits(layout, tensors):
            return f"this looks like the checkpoint of the {other}, which belongs into {layout.file}; "
    return ""


def _fits(layout: _Layout, tensors: Mapping[str, Tensor]) -> bool:
    try:
        layout.convert.from_released(tensors)
    except ModelError:
        return False
    return True


def _geometry(path: Path, hyper: Mapping[str, Any], parts: Mapping[str, Any]) -> tuple[Clock, MelConfig]:
    try:
        rate = int(hyper["sample_rate"])
        features = hyper.get("feat_extractor") or {}
        highest = features.get("fmax", 8000)
        mel = MelConfig(
            sample_rate=rate,
            n_fft=int(features.get("n_fft", 1024)),
            win=int(features.get("win_size", 1024)),
            hop=int(features.get("hop_size", parts["vocoder"].config.hop)),
            bins=int(hyper["flow"]["output_size"]),
            fmin=float(features.get("fmin", 0)),
            fmax=None if highest is None else float(highest),
        )
        return Clock(rate, mel.hop, int(hyper["flow"]["input_frame_rate"])), mel
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ModelError(f"{path / YAML} does not tell the rates of the model: {error}") from error
