from __future__ import annotations

import pytest
import torch

from cosytune.errors import ModelError
from cosytune.models.layers.encoder import RelativeEncoder
from cosytune.models.layers.released import (
    encoder_config_from_released,
    encoder_table,
    rename_from_released,
    rename_to_released,
    strip_prefixes,
)
from tests.unit.lm_examples import encoder_section

ONE = torch.ones(1)
TABLE = [("blocks.{i}.convs.{j}", "resblocks.{i}.layer{j}"), ("head", "out.final"), ("heads", "out")]


def test_numbers_move_to_their_place_and_the_rest_is_kept() -> None:
    released = {"resblocks.12.layer3.weight": ONE, "out.final.bias": ONE, "out.bias": ONE}
    ours = rename_from_released(released, TABLE)
    assert list(ours) == ["blocks.12.convs.3.weight", "head.bias", "heads.bias"]
    assert list(rename_to_released(ours, TABLE)) == list(released)


def test_a_pattern_ends_at_a_dot() -> None:
    with pytest.raises(ModelError, match="1 of 1 tensors are not part of this network"):
        rename_from_released({"outer.bias": ONE}, TABLE)
    with pytest.raises(ModelError, match=r"blocks\.x\.convs"):
        rename_to_released({"blocks.x.convs.1": ONE}, TABLE)


def test_two_names_for_one_tensor_are_refused() -> None:
    with pytest.raises(ModelError, match=r"would both be called 'a\.weight'"):
        rename_from_released({"x.weight": ONE, "y.weight": ONE}, [("a", "x"), ("a", "y")])


def test_what_training_leaves_around_weights_is_dropped() -> None:
    assert set(strip_prefixes({"epoch": 3, "step": 70, "module.a.weight": ONE})) == {"a.weight"}
    gan = {"module.generator.a.weight": ONE, "module.discriminator.b.weight": ONE}
    assert set(strip_prefixes(gan)) == {"a.weight"}


@pytest.mark.parametrize("norms", [("norm1", "norm2"), ("norm_mha", "norm_ff")])
def test_an_encoder_is_renamed_there_and_back(norms: tuple[str, str]) -> None:
    config = encoder_config_from_released(encoder_section(8, 2, 12, 2, input_size=4), activation="silu")
    state = {f"enc.{name}": tensor for name, tensor in RelativeEncoder(config).state_dict().items()}
    table = encoder_table("enc", "theirs", norms)
    released = rename_to_released(state, table)
    assert f"theirs.encoders.1.{norms[0]}.weight" in released
    assert "theirs.embed.out.1.bias" in released
    assert "theirs.after_norm.weight" in released
    back = rename_from_released(released, table)
    assert list(back) == list(state)
    assert all(back[name] is state[name] for name in state)


def test_sizes_are_read_from_a_section() -> None:
    section = encoder_section(8, 2, 12, 3, input_layer="linear_legacy", attention_dropout_rate=0.2)
    config = encoder_config_from_released(section, activation="relu")
    assert (config.input, config.width, config.heads, config.feed_forward, config.layers) == (8, 8, 2, 12, 3)
    assert (config.chunk, config.input_relu, config.activation) == (1, True, "relu")
    assert (config.dropout, config.position_dropout, config.attention_dropout) == (0.1, 0.1, 0.2)
    del section["static_chunk_size"]
    assert encoder_config_from_released(section, activation="relu").chunk == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"macaron_style": True}, "macaron_style=True cannot be built"),
        ({"pos_enc_layer_type": "abs_pos"}, "pos_enc_layer_type='abs_pos' cannot be built"),
        ({"input_layer": "conv2d"}, "input_layer='conv2d' cannot be built"),
    ],
)
def test_other_networks_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        encoder_config_from_released(encoder_section(8, 2, 12, 1) | change, activation="silu")


def test_a_section_without_sizes_is_refused() -> None:
    with pytest.raises(ModelError, match="lacks attention_heads, num_blocks"):
        encoder_config_from_released({"output_size": 8, "linear_units": 8}, activation="silu")
