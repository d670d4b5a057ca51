"""Names of released checkpoints <-> ours, by an ordered table of patterns.

A pattern covers a whole tensor name or a leading part of it up to a dot; the rest of the name is kept. `{i}`, `{j}` and
the like stand for one number each and appear on both sides. The first row that fits a name decides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from cosytune.errors import ModelError
from cosytune.models.layers.encoder import EncoderConfig

__all__ = [
    "RenameTable",
    "encoder_config_from_released",
    "encoder_table",
    "rename_from_released",
    "rename_to_released",
    "strip_prefixes",
]

RenameTable = Sequence[tuple[str, str]]
"""Rows of (our pattern, released pattern)."""

BOOKKEEPING = ("epoch", "step")
WRAPPERS = ("module.", "generator.")

ENCODER_ROWS = (
    ("input.linear", "embed.out.0"),
    ("input.norm", "embed.out.1"),
    ("norm", "after_norm"),
    ("layers.{i}.attention.content_bias", "encoders.{i}.self_attn.pos_bias_u"),
    ("layers.{i}.attention.position_bias", "encoders.{i}.self_attn.pos_bias_v"),
    ("layers.{i}.attention.query", "encoders.{i}.self_attn.linear_q"),
    ("layers.{i}.attention.key", "encoders.{i}.self_attn.linear_k"),
    ("layers.{i}.attention.value", "encoders.{i}.self_attn.linear_v"),
    ("layers.{i}.attention.output", "encoders.{i}.self_attn.linear_out"),
    ("layers.{i}.attention.position", "encoders.{i}.self_attn.linear_pos"),
    ("layers.{i}.feed_forward.up", "encoders.{i}.feed_forward.w_1"),
    ("layers.{i}.feed_forward.down", "encoders.{i}.feed_forward.w_2"),
)

ENCODER_CONSTANTS = {
    "normalize_before": True,
    "pos_enc_layer_type": "rel_pos_espnet",
    "selfattention_layer_type": "rel_selfattn",
    "use_cnn_module": False,
    "macaron_style": False,
    "use_dynamic_chunk": False,
    "key_bias": True,
}
"""What `RelativeEncoder` is; a section that asks for something else is another network."""


def strip_prefixes(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Drop what training leaves around weights: `epoch` and `step` entries, `module.` and `generator.` prefixes.

    Entries of a discriminator beside a `generator.` are dropped as well: they belong to training.
    """
    tensors = {_unwrapped(name, ("module.",)): value for name, value in state.items() if name not in BOOKKEEPING}
    if any(name.startswith("generator.") for name in tensors):
        tensors = {name: value for name, value in tensors.items() if name.startswith("generator.")}
    return {_unwrapped(name, WRAPPERS): value for name, value in tensors.items()}


def rename_from_released(state: Mapping[str, Tensor], table: RenameTable) -> dict[str, Tensor]:
    """The same tensors under our names.

    Raises:
        ModelError: a name fits no row of the table, or two names become one.
    """
    return _rename(state, [(released, ours) for ours, released in table])


def rename_to_released(state: Mapping[str, Tensor], table: RenameTable) -> dict[str, Tensor]:
    """The same tensors under the released names, the exact inverse of `rename_from_released`.

    Raises:
        ModelError: a name fits no row of the table, or two names become one.
    """
    return _rename(state, list(table))


def encoder_table(ours: str, released: str, norms: tuple[str, str] = ("norm_mha", "norm_ff")) -> list[tuple[str, str]]:
    """Rows for a `RelativeEncoder` called `ours` here and `released` there.

    Args:
        norms: released names of the layer norms before attention and before the feed-forward part.
    """
    rows = [
        *ENCODER_ROWS,
        ("layers.{i}.attention_norm", f"encoders.{{i}}.{norms[0]}"),
        ("layers.{i}.feed_forward_norm", f"encoders.{{i}}.{norms[1]}"),
    ]
    return [(f"{ours}.{mine}", f"{released}.{theirs}") for mine, theirs in rows]


def encoder_config_from_released(section: Mapping[str, Any], activation: Literal["silu", "relu"]) -> EncoderConfig:
    """Sizes of an encoder from its section of the released configuration.

    Args:
        section: plain dict, e.g. with `output_size`, `attention_heads`, `linear_units`, `num_blocks`.
        activation: of the feed-forward parts; the section's class implies it and the section does not say it.

    Raises:
        ModelError: the section lacks a size or describes a network with other parts.
    """
    for key, ours in ENCODER_CONSTANTS.items():
        if section.get(key, ours) != ours:
            raise ModelError(f"encoder with {key}={section[key]!r} cannot be built: only {key}={ours!r} is known here")
    input_layer = section.get("input_layer", "linear")
    if input_layer not in ("linear", "linear_legacy"):
        raise ModelError(f"encoder with input_layer={input_layer!r} cannot be built: use 'linear' or 'linear_legacy'")
    missing = [key for key in ("output_size", "attention_heads", "linear_units", "num_blocks") if key not in section]
    if missing:
        raise ModelError(f"the encoder's section lacks {', '.join(missing)}: give a complete cosyvoice.yaml")
    return EncoderConfig(
        input=section.get("input_size", section["output_size"]),
        width=section["output_size"],
        heads=section["attention_heads"],
        feed_forward=section["linear_units"],
        layers=section["num_blocks"],
        activation=activation,
        input_relu=input_layer == "linear_legacy",
        chunk=max(section.get("static_chunk_size", 0), 0),
        dropout=section.get("dropout_rate", 0.1),
        position_dropout=section.get("positional_dropout_rate", 0.1),
        attention_dropout=section.get("attention_dropout_rate", 0.0),
    )


def _unwrapped(name: str, wrappers: tuple[str, ...]) -> str:
    for wrapper in wrappers:
        name = name.removeprefix(wrapper)
    return name


def _rename(state: Mapping[str, Tensor], rows: list[tuple[str, str]]) -> dict[str, Tensor]:
    compiled = [(_pattern(source), target) for source, target in rows]
    renamed: dict[str, Tensor] = {}
    unknown: list[str] = []
    for name, tensor in state.items():
        new = _new_name(name, compiled)
        if new is None:
            unknown.append(name)
        elif new in renamed:
            raise ModelError(f"two tensors would both be called {new!r}: the checkpoint mixes two namings, keep one")
        else:
            renamed[new] = tensor
    if unknown:
        raise ModelError(
            f"{len(unknown)} of {len(state)} tensors are not part of this network (first: {', '.join(unknown[:3])}): "
            "give the checkpoint of the right part"
        )
    return renamed


def _pattern(source: str) -> re.Pattern[str]:
    escaped = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>\\d+)", re.escape(source))
    return re.compile(escaped + r"(?=\.|$)")


def _new_name(name: str, compiled: list[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, target in compiled:
        match = pattern.match(name)
        if match:
            return target.format(**match.groupdict()) + name[match.end() :]
    return None
