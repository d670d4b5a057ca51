"""Released checkpoints and configurations of the flow <-> ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cosytune.errors import ModelError
from cosytune.models.flow.config import EstimatorConfig, FlowConfig
from cosytune.models.layers.released import (
    encoder_config_from_released,
    encoder_table,
    rename_from_released,
    rename_to_released,
    strip_prefixes,
)

__all__ = ["config_from_released", "from_released", "to_released"]

STAGE_ROWS = (
    ("residual.time", "0.mlp.1"),
    ("residual.block1.conv", "0.block1.block.0"),
    ("residual.block1.norm", "0.block1.block.1"),
    ("residual.block2.conv", "0.block2.block.0"),
    ("residual.block2.norm", "0.block2.block.1"),
    ("residual.shortcut", "0.res_conv"),
    ("blocks.{j}.norm1", "1.{j}.norm1"),
    ("blocks.{j}.attention.query", "1.{j}.attn1.to_q"),
    ("blocks.{j}.attention.key", "1.{j}.attn1.to_k"),
    ("blocks.{j}.attention.value", "1.{j}.attn1.to_v"),
    ("blocks.{j}.attention.output", "1.{j}.attn1.to_out.0"),
    ("blocks.{j}.norm2", "1.{j}.norm3"),
    ("blocks.{j}.expand", "1.{j}.ff.net.0.proj"),
    ("blocks.{j}.contract", "1.{j}.ff.net.2"),
)

ESTIMATOR_ROWS = (
    ("time.input", "time_mlp.linear_1"),
    ("time.output", "time_mlp.linear_2"),
    ("shrink.{i}", "down_blocks.{i}.2"),
    ("grow.{i}", "up_blocks.{i}.2"),
    *(
        (f"{ours}.{{i}}.{mine}", f"{released}.{{i}}.{theirs}")
        for ours, released in (("down", "down_blocks"), ("middle", "mid_blocks"), ("up", "up_blocks"))
        for mine, theirs in STAGE_ROWS
    ),
    ("final.conv", "final_block.block.0"),
    ("final.norm", "final_block.block.1"),
    ("output", "final_proj"),
)

TABLE = (
    ("embedding", "input_embedding"),
    ("speaker", "spk_embed_affine_layer"),
    *encoder_table("encoder", "encoder"),
    ("projection", "encoder_proj"),
    ("regulator.stack.{i}", "length_regulator.model.{i}"),
    *((f"estimator.{ours}", f"decoder.estimator.{released}") for ours, released in ESTIMATOR_ROWS),
)

SECTION_KEYS = {
    "input_size", "output_size", "spk_embed_dim", "output_type", "vocab_size", "input_frame_rate", "only_mask_loss",
    "encoder", "length_regulator", "decoder",
}  # fmt: skip
"""What the section of a network of this kind may say; other keys belong to other networks."""

ESTIMATOR_KEYS = {
    "in_channels", "out_channels", "channels", "dropout", "attention_head_dim", "n_blocks", "num_mid_blocks",
    "num_heads", "act_fn",
}  # fmt: skip


def from_released(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors of a released `flow.pt` under our names; training's `epoch` / `step` entries and prefixes are dropped.

    Raises:
        ModelError: a tensor belongs to another network.
    """
    return rename_from_released(strip_prefixes(state), TABLE)


def to_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under the names of a released `flow.pt`, the exact inverse of `from_released`.

    Raises:
        ModelError: a name is not one of `Flow`.
    """
    return rename_to_released(state, TABLE)


def config_from_released(hyper: Mapping[str, Any]) -> FlowConfig:
    """Sizes from the section `flow` of a released configuration (plain dict, references resolved).

    Raises:
        ModelError: the section lacks a size or describes a network with other parts.
        pydantic.ValidationError: sizes that do not fit each other.
    """
    _known("flow", hyper, SECTION_KEYS)
    regulator, decoder = _need(hyper, "length_regulator"), _need(hyper, "decoder")
    estimator, path = _need(decoder, "estimator"), _need(_need(decoder, "cfm_params"), "content")
    _known("flow.decoder.estimator", estimator, ESTIMATOR_KEYS)
    bins = _need(hyper, "output_size")
    ratios = _need(regulator, "sampling_ratios")
    _only("length_regulator.sampling_ratios", list(ratios), [1] * len(ratios))
    _only("length_regulator.groups", regulator.get("groups", 1), 1)
    _only("length_regulator.channels", _need(regulator, "channels"), bins)
    _only("decoder.spk_emb_dim", _need(decoder, "spk_emb_dim"), bins)
    _only("decoder.estimator.in_channels", _need(estimator, "in_channels"), 4 * bins)
    _only("decoder.estimator.out_channels", _need(estimator, "out_channels"), bins)
    _only("decoder.estimator.act_fn", _need(estimator, "act_fn"), "gelu")
    _only("decoder.cfm_params.solver", _need(path, "solver"), "euler")
    _only("decoder.cfm_params.t_scheduler", _need(path, "t_scheduler"), "cosine")
    return FlowConfig(
        speech_codebook=_need(hyper, "vocab_size"),
        token_width=_need(hyper, "input_size"),
        mel_bins=bins,
        speaker_width=_need(hyper, "spk_embed_dim"),
        encoder=encoder_config_from_released(_need(hyper, "encoder"), "silu"),
        regulator_layers=len(ratios),
        estimator=EstimatorConfig(
            channels=tuple(_need(estimator, "channels")),
            blocks=_need(estimator, "n_blocks"),
            mid_blocks=_need(estimator, "num_mid_blocks"),
            heads=_need(estimator, "num_heads"),
            head_width=_need(estimator, "attention_head_dim"),
            dropout=_need(estimator, "dropout"),
        ),
        sigma_min=_need(path, "sigma_min"),
        drop_rate=_need(path, "training_cfg_rate"),
        guidance=_need(path, "inference_cfg_rate"),
    )


def _need(section: Mapping[str, Any], key: str) -> Any:
    if key not in section:
        raise ModelError(f"the flow's section lacks {key!r}: give a complete cosyvoice.yaml")
    return section[key]


def _known(where: str, section: Mapping[str, Any], allowed: set[str]) -> None:
    unknown = sorted(set(section) - allowed)
    if unknown:
        raise ModelError(
            f"{where} sets {', '.join(unknown)}, which this network does not have: "
            "only the U-Net flow with a length regulator (300M family) is known here"
        )


def _only(where: str, given: object, allowed: object) -> None:
    if given != allowed:
        raise ModelError(f"flow with {where}={given!r} cannot be built: only {allowed!r} is known here")
