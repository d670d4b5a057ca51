"""Released CosyVoice 1 folders (`cosyvoice.yaml llm.pt flow.pt hift.pt spk2info.pt`), read as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from cosytune.audio.mel import MelConfig
from cosytune.errors import ModelError
from cosytune.models.flow import convert as flow_convert
from cosytune.models.flow.model import Flow
from cosytune.models.folder import Model, TokenizerFile, load_strictly, read_checkpoint
from cosytune.models.lm import convert as lm_convert
from cosytune.models.lm.model import LM
from cosytune.models.released_yaml import read_hyper_parameters
from cosytune.models.vocoder import convert as vocoder_convert
from cosytune.models.vocoder.model import Vocoder
from cosytune.units import Clock

__all__ = ["read_released"]

_FILES = {
    "lm": ("llm", "llm.pt", LM, lm_convert),
    "flow": ("flow", "flow.pt", Flow, flow_convert),
    "vocoder": ("hift", "hift.pt", Vocoder, vocoder_convert),
}


def read_released(path: Path) -> Model:
    """Read a released folder; its speech tokenizer and speaker encoder (ONNX) are not among the parts.

    Raises:
        ModelError: a file is missing or damaged, the yaml lacks a number, or tensors do not match it.
    """
    try:
        text = (path / "cosyvoice.yaml").read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(f"{path / 'cosyvoice.yaml'} is not UTF-8 text") from error
    hyper = read_hyper_parameters(text)
    parts = {name: _read_part(path, hyper, *entry) for name, entry in _FILES.items()}
    clock, mel = _geometry(path, hyper)
    return Model(
        name=path.name,
        stage="released",
        clock=clock,
        mel=mel,
        parts=parts,
        tokenizer=TokenizerFile("whisper"),
        voices=_read_voices(path / "spk2info.pt"),
        path=path,
    )


def _read_part(
    path: Path, hyper: Mapping[str, Any], section: str, file: str, network_type: Callable[..., nn.Module], convert: Any
) -> nn.Module:
    if not isinstance(hyper.get(section), dict):
        raise ModelError(f"{path / 'cosyvoice.yaml'} has no section {section!r}")
    try:
        network = network_type(convert.config_from_released(hyper[section]))
    except (KeyError, TypeError) as error:
        raise ModelError(f"{path / 'cosyvoice.yaml'}, section {section}: {error} is missing or not usable") from error
    except ValidationError as error:
        raise ModelError(f"{path / 'cosyvoice.yaml'}, section {section}: {error}") from error
    load_strictly(network, convert.from_released(read_checkpoint(path / file)), str(path / file))
    return network


def _geometry(path: Path, hyper: Mapping[str, Any]) -> tuple[Clock, MelConfig]:
    try:
        rate = int(hyper["sample_rate"])
        features = hyper.get("feat_extractor") or {}
        mel = MelConfig(
            sample_rate=rate,
            n_fft=int(features.get("n_fft", 1024)),
            win=int(features.get("win_size", 1024)),
            hop=int(features.get("hop_size", 256)),
            bins=int(hyper["flow"]["output_size"]),
            fmin=float(features.get("fmin", 0)),
            fmax=None if features.get("fmax", 8000) is None else float(features.get("fmax", 8000)),
        )
        return Clock(rate, mel.hop, int(hyper["flow"]["input_frame_rate"])), mel
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path / 'cosyvoice.yaml'} does not tell the rates of the model: {error}") from error


def _read_voices(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        return {}
    voices = {}
    for name, entry in read_checkpoint(path).items():
        vector = entry.get("embedding") if isinstance(entry, dict) else None
        # Entries saved from a zero-shot prompt have `llm_embedding` instead (specification, 1.2).
        vector = entry.get("llm_embedding") if vector is None and isinstance(entry, dict) else vector
        if not isinstance(vector, torch.Tensor):
            raise ModelError(f"{path}: voice {name!r} has no embedding")
        voices[str(name)] = vector.detach().float().reshape(-1)
    return voices
