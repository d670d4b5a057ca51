from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cosytune.errors import ModelError
from cosytune.models.lm import LM, config_from_released, from_released, to_released
from cosytune.models.loading import _outline
from tests.unit.lm_examples import FULL_SECTION, NANO_SECTION, nano_lm


def test_the_300m_model_has_its_tensors_and_parameters() -> None:
    lm = _outline(LM, config_from_released(FULL_SECTION))
    released = to_released(lm.state_dict())
    assert len(released) == 401
    assert sum(tensor.numel() for tensor in released.values()) == 310_718_465
    assert released["llm.encoders.13.self_attn.pos_bias_u"].shape == (16, 64)
    assert released["text_encoder.encoders.5.norm_mha.weight"].shape == (1024,)
    assert released["llm_decoder.weight"].shape == (4097, 1024)
    assert released["text_embedding.weight"].shape == (51866, 512)
    assert not list(lm.buffers())


def test_a_released_checkpoint_goes_in_and_comes_out_unchanged(golden: Path) -> None:
    released = torch.load(golden / "nano" / "llm.pt", weights_only=True)
    back = to_released(nano_lm(golden).state_dict())
    assert set(back) == set(released)
    assert all(torch.equal(back[name], released[name]) for name in released)


def test_what_training_adds_is_accepted(golden: Path) -> None:
    released = torch.load(golden / "nano" / "llm.pt", weights_only=True)
    trained = {"epoch": 2, "step": 900} | {f"module.{name}": tensor for name, tensor in released.items()}
    LM(config_from_released(NANO_SECTION)).load_state_dict(from_released(trained), strict=True)


def test_a_checkpoint_of_another_part_is_refused(golden: Path) -> None:
    flow = torch.load(golden / "nano" / "flow.pt", weights_only=True)
    with pytest.raises(ModelError, match="are not part of this network"):
        from_released(flow)
    with pytest.raises(ModelError, match="give the checkpoint of the right part"):
        to_released({"vocoder.weight": torch.ones(1)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"llm_input_size": 32}, "llm_input_size is 32 but the encoder it feeds or reads has 64"),
        ({"text_encoder_input_size": 64}, "text_encoder_input_size is 64"),
        ({"llm": {"pretrain_path": "x"}}, "lacks output_size"),
    ],
)
def test_contradicting_sections_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        config_from_released(NANO_SECTION | change)


def test_an_incomplete_section_is_refused() -> None:
    with pytest.raises(ModelError, match="lacks speech_token_size, text_encoder, llm"):
        config_from_released({"text_token_size": 4})
