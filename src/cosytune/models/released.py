"""Released CosyVoice 1 folders (`cosyvoice.yaml llm.pt flow.pt hift.pt spk2info.pt`), read as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cosytune.audio.mel import MelConfig
from cosytune.errors import ModelError
from cosytune.models.flow import convert as flow_convert
from cosytune.models.flow.model import Flow
from cosytune.models.folder import Model, TokenizerFile, build, read_checkpoint
from cosytune.models.layers.released import BOOKKEEPING
from cosytune.models.lm import convert as lm_convert
from cosytune.models.lm.model import LM
from cosytune.models.released_yaml import read_hyper_parameters
from cosytune.models.vocoder import convert as vocoder_convert
from cosytune.models.vocoder.model import Vocoder
from cosytune.units import Clock

__all__ = ["read_released"]

_YAML = "cosyvoice.yaml"
_LARGEST_YAML = 1_000_000
_FILES = {
    "lm": ("llm", "llm.pt", LM, lm_convert),
    "flow": ("flow", "flow.pt", Flow, flow_convert),
    "vocoder": ("hift", "hift.pt", Vocoder, vocoder_convert),
}
_ONNX = {"speech_tokenizer": "speech_tokenizer_v1.onnx", "speaker_encoder": "campplus.onnx"}


def read_released(path: Path) -> Model:
    """Read a released folder; its speech tokenizer and speaker encoder (ONNX) are opened when they are needed.

    Raises:
        ModelError: a file is missing or damaged, the yaml lacks a number, or tensors do not match it.
    """
    hyper = read_hyper_parameters(_read_yaml(path / _YAML), str(path / _YAML))
    parts = {name: _read_part(path, hyper, *entry) for name, entry in _FILES.items()}
    clock, mel = _geometry(path, hyper, parts)
    return Model(
        name=path.resolve().name,
        stage="released",
        clock=clock,
        mel=mel,
        parts=parts,
        tokenizer=TokenizerFile("whisper"),
        voices=_read_voices(path / "spk2info.pt"),
        path=path,
        onnx={name: path / file for name, file in _ONNX.items()},
    )


def _read_yaml(file: Path) -> str:
    size = file.stat().st_size
    if size > _LARGEST_YAML:
        raise ModelError(f"{file} has {size:,} bytes; released ones have about 8,000, so it is refused")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(f"{file} is not UTF-8 text; get the released file again") from error


def _read_part(
    path: Path, hyper: Mapping[str, Any], section: str, file: str, network_type: Callable[..., nn.Module], convert: Any
) -> nn.Module:
    if not isinstance(hyper.get(section), dict):
        raise ModelError(f"{path / _YAML} has no section {section!r}; give the yaml of a released CosyVoice 1 model")
    try:
        config = convert.config_from_released(hyper[section])
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path / _YAML}, section {section}: {error} is missing or not usable") from error
    except ValueError as error:
        raise ModelError(f"{path / _YAML}, section {section}: {error}") from error
    return build(network_type, config, convert.from_released(_tensors(path / file)), str(path / file))


def _tensors(file: Path) -> dict[str, Any]:
    state = read_checkpoint(file)
    for name, value in state.items():
        if not isinstance(name, str) or (name not in BOOKKEEPING and not isinstance(value, Tensor)):
            raise ModelError(
                f"{file}: entry {name!r} is a {type(value).__name__}, but a released checkpoint is a flat dictionary "
                "of names and tensors; take the weights out of their wrapping"
            )
    return state


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
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path / _YAML} does not tell the rates of the model: {error}") from error


def _read_voices(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        return {}
    voices = {}
    for name, entry in read_checkpoint(path).items():
        vector = entry.get("embedding") if isinstance(entry, dict) else None
        # Entries saved from a zero-shot prompt have `llm_embedding` instead (specification, 1.2).
        vector = entry.get("llm_embedding") if vector is None and isinstance(entry, dict) else vector
        if not isinstance(vector, Tensor):
            raise ModelError(f"{path}: voice {name!r} has no embedding; remove that voice, or get the file again")
        voices[str(name)] = vector.detach().float().reshape(-1)
    return voices
