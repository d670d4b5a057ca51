"""Released `llm.pt` and the `llm` section of its configuration <-> ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cosytune.errors import ModelError
from cosytune.models.layers.released import (
    encoder_config_from_released,
    encoder_table,
    rename_from_released,
    rename_to_released,
    strip_prefixes,
)
from cosytune.models.lm.config import LMConfig

__all__ = ["config_from_released", "from_released", "to_released"]

TABLE = (
    ("text_embedding", "text_embedding"),
    *encoder_table("text_encoder", "text_encoder"),
    ("text_projection", "text_encoder_affine_layer"),
    ("mark_embedding", "llm_embedding"),
    ("speaker_projection", "spk_embed_affine_layer"),
    ("speech_embedding", "speech_embedding"),
    *encoder_table("decoder", "llm", norms=("norm1", "norm2")),
    ("head", "llm_decoder"),
)


def from_released(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Released tensors under our names; `epoch`, `step` and `module.` are accepted and dropped.

    Raises:
        ModelError: a tensor is not part of this network.
    """
    return rename_from_released(strip_prefixes(state), TABLE)


def to_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under the released names.

    Raises:
        ModelError: a tensor is not part of this network.
    """
    return rename_to_released(state, TABLE)


def config_from_released(hyper: Mapping[str, Any]) -> LMConfig:
    """Sizes from the `llm` section of cosyvoice.yaml as a plain dict, tags dropped and references resolved.

    Raises:
        ModelError: a size is missing, two contradict each other, or the section describes another network.
    """
    needed = ("text_token_size", "speech_token_size", "text_encoder", "llm")
    missing = [key for key in needed if key not in hyper]
    if missing:
        raise ModelError(f"the llm section lacks {', '.join(missing)}: give the cosyvoice.yaml of a 300M-type model")
    config = LMConfig(
        text_vocabulary=hyper["text_token_size"],
        speech_codebook=hyper["speech_token_size"],
        speaker_width=hyper.get("spk_embed_dim", 192),
        text_encoder=encoder_config_from_released(hyper["text_encoder"], activation="silu"),
        decoder=encoder_config_from_released(hyper["llm"], activation="relu"),
    )
    _agree(hyper, "text_encoder_input_size", config.text_encoder.input)
    _agree(hyper, "llm_input_size", config.decoder.input)
    _agree(hyper, "llm_output_size", config.decoder.width)
    return config


def _agree(hyper: Mapping[str, Any], key: str, size: int) -> None:
    given = hyper.get(key, size)
    if given != size:
        raise ModelError(f"{key} is {given} but the encoder it feeds or reads has {size}: make them the same number")
