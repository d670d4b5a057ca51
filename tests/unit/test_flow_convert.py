"""Released names and configurations of the flow."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from cosytune.errors import ModelError
from cosytune.models.flow.config import EstimatorConfig, FlowConfig
from cosytune.models.flow.convert import config_from_released, from_released, to_released
from cosytune.models.flow.model import Flow
from cosytune.models.loading import _outline
from tests.unit.flow_models import NANO, TINY, tiny_flow


def section(**sizes: Any) -> dict[str, Any]:
    """The section `flow` of a released configuration of the 300M family, as a plain dict."""
    width, channels = sizes.get("width", 512), sizes.get("channels", [256, 256])
    return {
        "input_size": width,
        "output_size": 80,
        "spk_embed_dim": sizes.get("speaker", 192),
        "output_type": "mel",
        "vocab_size": sizes.get("codebook", 4096),
        "input_frame_rate": 50,
        "only_mask_loss": True,
        "encoder": {
            "output_size": width,
            "attention_heads": sizes.get("encoder_heads", 8),
            "linear_units": sizes.get("units", 2048),
            "num_blocks": sizes.get("layers", 6),
            "dropout_rate": 0.1,
            "positional_dropout_rate": 0.1,
            "attention_dropout_rate": 0.1,
            "normalize_before": True,
            "input_layer": "linear",
            "pos_enc_layer_type": "rel_pos_espnet",
            "selfattention_layer_type": "rel_selfattn",
            "input_size": width,
            "use_cnn_module": False,
            "macaron_style": False,
        },
        "length_regulator": {"channels": 80, "sampling_ratios": [1, 1, 1, 1]},
        "decoder": {
            "in_channels": 240,
            "n_spks": 1,
            "spk_emb_dim": 80,
            "cfm_params": {
                "content": {
                    "sigma_min": 1e-06,
                    "solver": "euler",
                    "t_scheduler": "cosine",
                    "training_cfg_rate": 0.2,
                    "inference_cfg_rate": 0.7,
                    "reg_loss_type": "l1",
                }
            },
            "estimator": {
                "in_channels": 320,
                "out_channels": 80,
                "channels": channels,
                "dropout": 0.0,
                "attention_head_dim": sizes.get("head_width", 64),
                "n_blocks": sizes.get("blocks", 4),
                "num_mid_blocks": sizes.get("mid_blocks", 12),
                "num_heads": sizes.get("heads", 8),
                "act_fn": "gelu",
            },
        },
    }


def test_the_full_size_has_the_released_tensors() -> None:
    flow = _outline(Flow, config_from_released(section()))
    assert len(flow.state_dict()) == 1185
    assert sum(parameter.numel() for parameter in flow.parameters()) == 104_874_752
    released = {name: tuple(tensor.shape) for name, tensor in to_released(flow.state_dict()).items()}
    assert len(released) == 1185
    assert released["input_embedding.weight"] == (4096, 512)
    assert released["length_regulator.model.12.weight"] == (80, 80, 1)
    assert released["decoder.estimator.down_blocks.0.2.conv.weight"] == (256, 256, 3)
    assert released["decoder.estimator.down_blocks.1.2.weight"] == (256, 256, 3)
    assert released["decoder.estimator.up_blocks.0.2.conv.weight"] == (256, 256, 4)
    assert released["decoder.estimator.up_blocks.1.0.block1.block.0.weight"] == (256, 512, 3)
    assert released["decoder.estimator.mid_blocks.11.1.3.ff.net.0.proj.weight"] == (1024, 256)


def test_the_recorded_small_model_has_exactly_our_names(golden: Path) -> None:
    released = torch.load(golden / "nano" / "flow.pt", weights_only=True)
    ours = from_released(released)
    shapes = {name: tensor.shape for name, tensor in ours.items()}
    assert shapes == {name: tensor.shape for name, tensor in Flow(NANO).state_dict().items()}
    back = to_released(ours)
    assert set(back) == set(released)
    assert all(back[name] is tensor for name, tensor in released.items())


def test_the_recorded_small_sizes_are_read() -> None:
    sizes = section(
        width=48, speaker=24, codebook=64, encoder_heads=4, units=96, layers=2,
        channels=[32, 32], head_width=16, blocks=1, mid_blocks=2, heads=2,
    )  # fmt: skip
    assert config_from_released(sizes) == NANO


@pytest.mark.parametrize("channels", [(8,), (16, 24), (8, 16, 24)])
def test_names_go_there_and_back_at_every_depth(channels: tuple[int, ...]) -> None:
    estimator = EstimatorConfig(channels=channels, blocks=2, mid_blocks=0, heads=1, head_width=4)
    state = tiny_flow(TINY.model_copy(update={"estimator": estimator})).state_dict()
    released = to_released(state)
    assert len(released) == len(state)
    again = from_released(released)
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())
    last = len(channels) - 1
    assert f"decoder.estimator.down_blocks.{last}.2.weight" in released
    assert f"decoder.estimator.up_blocks.{last}.2.weight" in released


def test_what_training_left_around_the_weights_is_dropped() -> None:
    state = tiny_flow().state_dict()
    wrapped: dict[str, Any] = {f"module.{name}": tensor for name, tensor in to_released(state).items()}
    assert set(from_released({**wrapped, "epoch": 3, "step": 10})) == set(state)


def test_a_tensor_of_another_network_is_refused() -> None:
    with pytest.raises(ModelError, match="llm_decoder"):
        from_released({"llm_decoder.weight": torch.zeros(1)})
    with pytest.raises(ModelError, match="text_embedding"):
        to_released({"text_embedding.weight": torch.zeros(1)})


def changed(path: str, value: object) -> dict[str, Any]:
    result = copy.deepcopy(section())
    *parents, last = path.split(".")
    inner = result
    for key in parents:
        inner = inner[key]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return result


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("pre_lookahead_len", 3, "flow sets pre_lookahead_len, which this network does not have"),
        ("decoder.estimator.static_chunk_size", 50, "estimator sets static_chunk_size"),
        ("vocab_size", None, "lacks 'vocab_size': give a complete cosyvoice.yaml"),
        ("decoder.cfm_params.content.sigma_min", None, "lacks 'sigma_min'"),
        ("length_regulator.sampling_ratios", [1, 2], r"sampling_ratios=\[1, 2\] cannot be built: only \[1, 1\]"),
        ("length_regulator.channels", 60, "channels=60 cannot be built: only 80"),
        ("decoder.spk_emb_dim", 64, "spk_emb_dim=64 cannot be built: only 80"),
        ("decoder.estimator.in_channels", 240, "in_channels=240 cannot be built: only 320"),
        ("decoder.estimator.out_channels", 81, "out_channels=81 cannot be built: only 80"),
        ("decoder.estimator.act_fn", "snakebeta", "act_fn='snakebeta' cannot be built: only 'gelu'"),
        ("decoder.cfm_params.content.solver", "midpoint", "solver='midpoint' cannot be built: only 'euler'"),
        ("decoder.cfm_params.content.t_scheduler", "linear", "t_scheduler='linear' cannot be built: only 'cosine'"),
        ("encoder.macaron_style", True, "macaron_style"),
    ],
)
def test_another_network_is_refused_in_words(path: str, value: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        config_from_released(changed(path, value))


def test_the_configuration_holds_no_default_of_ours() -> None:
    config = config_from_released(changed("decoder.cfm_params.content.inference_cfg_rate", 0.5))
    assert config == FlowConfig(**{**config_from_released(section()).model_dump(), "guidance": 0.5})
