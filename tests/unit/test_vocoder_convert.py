"""Released vocoders in, released vocoders out, in all three writings of the weight norm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from cosytune.errors import ModelError
from cosytune.models.vocoder import Vocoder
from cosytune.models.vocoder.convert import config_from_released, config_to_released, from_released, to_released
from tests.unit.test_vocoder_config import tiny_config
from tests.unit.test_vocoder_model import FULL, NANO

GAIN, DIRECTION = ".parametrizations.weight.original0", ".parametrizations.weight.original1"


@pytest.fixture
def released(golden: Path) -> dict[str, Tensor]:
    return torch.load(golden / "nano" / "hift.pt", weights_only=True)


def old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.replace(GAIN, ".weight_g").replace(DIRECTION, ".weight_v"): value for name, value in state.items()}


def folded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    plain = {name: value for name, value in state.items() if "parametrizations" not in name}
    for name, gain in state.items():
        if name.endswith(GAIN):
            direction = state[name.removesuffix(GAIN) + DIRECTION]
            plain[name.removesuffix(GAIN) + ".weight"] = (
                gain * direction / direction.flatten(1).norm(dim=1)[:, None, None]
            )
    return plain


def section(**changes: Any) -> dict[str, Any]:
    return config_to_released(FULL) | changes


def wave_of(state: dict[str, Tensor]) -> Tensor:
    vocoder = Vocoder(NANO).eval()
    vocoder.load_state_dict(state, strict=True)
    mel = torch.randn(1, 80, 4, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return vocoder(mel, torch.Generator().manual_seed(0))


def test_there_and_back_is_the_same(released: dict[str, Tensor]) -> None:
    back = to_released(from_released(released))
    assert back.keys() == released.keys()
    assert all(torch.equal(back[name], released[name]) for name in released)


def test_names_are_exactly_the_modules(released: dict[str, Tensor]) -> None:
    assert from_released(released).keys() == Vocoder(NANO).state_dict().keys()


@pytest.mark.parametrize("rewrite", [old_names, folded])
def test_other_writings_of_the_norm_sound_the_same(released: dict[str, Tensor], rewrite: Any) -> None:
    state = from_released(rewrite(released))
    assert state.keys() == from_released(released).keys()
    torch.testing.assert_close(wave_of(state), wave_of(from_released(released)), atol=1e-6, rtol=0)


def test_training_wrapper_is_taken_off(released: dict[str, Tensor]) -> None:
    wrapped: dict[str, Any] = {f"generator.{name}": value for name, value in released.items()}
    wrapped |= {"epoch": 3, "step": 7, "discriminator.mpd.x": torch.zeros(1)}
    assert from_released(wrapped).keys() == from_released(released).keys()


def fold_norms(vocoder: Vocoder) -> None:
    for module in list(vocoder.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def test_folded_vocoder_is_written_with_norms() -> None:
    vocoder = Vocoder(NANO)
    names = to_released(vocoder.state_dict()).keys()
    fold_norms(vocoder)
    assert to_released(vocoder.state_dict()).keys() == names


def test_folded_row_of_zeros_stays_zero(released: dict[str, Tensor]) -> None:
    plain = folded(released)
    plain["conv_post.weight"] = plain["conv_post.weight"].clone()
    plain["conv_post.weight"][3] = 0
    vocoder = Vocoder(NANO)
    vocoder.load_state_dict(from_released(plain))
    fold_norms(vocoder)
    torch.testing.assert_close(vocoder.state_dict()["conv_post.weight"], plain["conv_post.weight"])


def test_strangers_and_halves_are_refused(released: dict[str, Tensor]) -> None:
    with pytest.raises(ModelError, match=r"not part of this network \(first: encoder\.embed\.weight\)"):
        from_released({**released, "encoder.embed.weight": torch.zeros(1)})
    with pytest.raises(ModelError, match=r"not part of this network"):
        to_released({"m_source.l_linear.weight": torch.zeros(1)})
    with pytest.raises(ModelError, match=r"weight norm of 'conv_pre' is written in two ways"):
        from_released({**released, "conv_pre.weight": torch.ones(32, 80, 7)})
    lacking = {name: value for name, value in old_names(released).items() if name != "ups.1.weight_g"}
    with pytest.raises(ModelError, match=r"weight norm of 'ups.1' lacks '.parametrizations.weight.original0'"):
        from_released(lacking)
    half = {name: value for name, value in released.items() if name != "ups.1" + DIRECTION}
    with pytest.raises(ModelError, match=r"weight norm of 'ups.1' lacks '.parametrizations.weight.original1'"):
        from_released(half)


def test_sizes_there_and_back() -> None:
    for config in (FULL, NANO, tiny_config()):
        assert config_from_released(config_to_released(config)) == config


def test_sizes_of_the_released_section() -> None:
    nothing_optional = section()
    for option in ("in_channels", "nb_harmonics", "nsf_alpha", "nsf_sigma", "lrelu_slope", "audio_limit"):
        del nothing_optional[option]
    assert config_from_released(nothing_optional) == FULL


@pytest.mark.parametrize(
    ("hyper", "words"),
    [
        (section(conv_pre_look_right=4), r"options this version cannot build \(conv_pre_look_right\)"),
        (section(istft_params={"n_fft": 16}), r"section hift.istft_params must hold exactly hop_len, n_fft"),
        (section(f0_predictor=None), r"section hift.f0_predictor must hold exactly"),
        (section(upsample_rates=[8]), r"cannot be used \(sizes: .*upsample_kernels has 2 entries for 1"),
        (section(base_channels="wide"), r"cannot be used \(base_channels: "),
        (section(f0_predictor={"num_class": 2, "in_channels": 80, "cond_channels": 512}), "num_class=2"),
        (section(f0_predictor={"num_class": 1, "in_channels": 64, "cond_channels": 512}), "64 mel bands"),
        (
            {name: value for name, value in section().items() if name != "upsample_rates"},
            "upsample_rates: Field required",
        ),
    ],
)
def test_other_vocoders_are_refused_in_words(hyper: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        config_from_released(hyper)
