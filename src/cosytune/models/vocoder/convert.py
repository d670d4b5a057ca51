"""Released vocoder checkpoints (`hift.pt`, section `hift` of the yaml) <-> ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from cosytune.errors import ModelError
from cosytune.models.layers.released import RenameTable, rename_from_released, rename_to_released, strip_prefixes
from cosytune.models.vocoder.config import VocoderConfig

__all__ = ["config_from_released", "config_to_released", "from_released", "to_released"]

TABLE: RenameTable = (
    ("f0_predictor.layers.{i}", "f0_predictor.condnet.{i}"),
    ("f0_predictor.output", "f0_predictor.classifier"),
    ("harmonic_source.mix", "m_source.l_linear"),
    ("conv_pre", "conv_pre"),
    ("ups.{i}", "ups.{i}"),
    ("source_downs.{i}", "source_downs.{i}"),
    ("source_resblocks.{i}", "source_resblocks.{i}"),
    ("resblocks.{i}", "resblocks.{i}"),
    ("conv_post", "conv_post"),
)

NORMED = re.compile(
    r"conv_pre|conv_post|ups\.\d+|(source_)?resblocks\.\d+\.convs[12]\.\d+|f0_predictor\.condnet\.\d+",
)
"""Released names of the convolutions under weight norm."""

GAIN, DIRECTION = ".parametrizations.weight.original0", ".parametrizations.weight.original1"
OLD_NAMES = {"weight_g": GAIN, "weight_v": DIRECTION}

OPTIONS = {
    "in_channels": "mel_bins",
    "base_channels": "base_channels",
    "nb_harmonics": "harmonics",
    "sampling_rate": "sample_rate",
    "nsf_alpha": "sine_amplitude",
    "nsf_sigma": "noise_std",
    "nsf_voiced_threshold": "voiced_threshold",
    "upsample_rates": "upsample_rates",
    "upsample_kernel_sizes": "upsample_kernels",
    "resblock_kernel_sizes": "resblock_kernels",
    "resblock_dilation_sizes": "resblock_dilations",
    "source_resblock_kernel_sizes": "source_kernels",
    "source_resblock_dilation_sizes": "source_dilations",
    "lrelu_slope": "leaky_slope",
    "audio_limit": "audio_limit",
}
"""Released option -> our field, where the value is the same."""


def from_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict of a released vocoder.

    Weight norms may be written in the old way (`weight_g`, `weight_v`), the new one (`parametrizations`) or folded into
    plain weights; a `generator.` prefix, a `discriminator.` beside it, `epoch` and `step` are training's and dropped.

    Raises:
        ModelError: a name belongs to no vocoder, a weight norm is incomplete or given twice.
    """
    return rename_from_released(_parametrised(strip_prefixes(state)), TABLE)


def to_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released names, weight norms as parametrisations, of our state dict (folded ones are unfolded).

    Raises:
        ModelError: a name belongs to no vocoder.
    """
    return _parametrised(rename_to_released(state, TABLE))


def config_from_released(hyper: Mapping[str, Any]) -> VocoderConfig:
    """Sizes from the plain dict of the section `hift`.

    Raises:
        ModelError: an option is missing, unknown or describes another kind of vocoder.
    """
    section = dict(hyper)
    istft = _taken(section, "istft_params", {"n_fft", "hop_len"})
    predictor = _taken(section, "f0_predictor", {"num_class", "in_channels", "cond_channels"})
    unknown = sorted(set(section) - set(OPTIONS))
    if unknown:
        raise ModelError(
            f"the vocoder has options this version cannot build ({', '.join(unknown)}): "
            "use a model of the CosyVoice-300M family"
        )
    if predictor["num_class"] != 1:
        raise ModelError(f"an F0 predictor with num_class={predictor['num_class']} cannot be built: only 1 is known")
    values = {OPTIONS[option]: value for option, value in section.items()}
    values |= {
        "istft_n_fft": istft["n_fft"],
        "istft_hop": istft["hop_len"],
        "f0_width": predictor["cond_channels"],
        "hop": prod(section.get("upsample_rates", ())) * istft["hop_len"],
    }
    try:
        config = VocoderConfig(**values)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'sizes'}: {e['msg']}" for e in error.errors())
        raise ModelError(f"section hift of the configuration cannot be used ({wrong}): give a complete one") from error
    if predictor["in_channels"] != config.mel_bins:
        raise ModelError(
            f"the F0 predictor reads {predictor['in_channels']} mel bands and the vocoder {config.mel_bins}: "
            "in_channels must be the same in both"
        )
    return config


def config_to_released(config: VocoderConfig) -> dict[str, Any]:
    """The plain dict of the section `hift`, the inverse of `config_from_released`."""
    values = config.model_dump(mode="json")
    return {
        **{option: values[field] for option, field in OPTIONS.items()},
        "istft_params": {"n_fft": config.istft_n_fft, "hop_len": config.istft_hop},
        "f0_predictor": {"num_class": 1, "in_channels": config.mel_bins, "cond_channels": config.f0_width},
    }


def _taken(section: dict[str, Any], name: str, keys: set[str]) -> Mapping[str, Any]:
    """Remove the sub-section `name`, which must have exactly `keys`."""
    inner = section.pop(name, {})
    if not isinstance(inner, Mapping) or set(inner) != keys:
        raise ModelError(f"section hift.{name} must hold exactly {', '.join(sorted(keys))}, it holds {inner!r}")
    return inner


def _parametrised(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released names in, released names out, with every weight norm written as a parametrisation."""
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        owner, _, kind = name.rpartition(".")
        written = {name: tensor}
        if kind in OLD_NAMES:
            written = {owner + OLD_NAMES[kind]: tensor}
        elif kind == "weight" and NORMED.fullmatch(owner):
            gain, direction = _split(tensor)
            written = {owner + GAIN: gain, owner + DIRECTION: direction}
        if result.keys() & written.keys():
            raise ModelError(f"the weight norm of {owner!r} is written in two ways: keep one of them")
        result |= written
    _check_pairs(result)
    return result


def _check_pairs(state: Mapping[str, Tensor]) -> None:
    for name in state:
        for half, other in ((GAIN, DIRECTION), (DIRECTION, GAIN)):
            owner = name.removesuffix(half)
            if owner != name and owner + other not in state:
                raise ModelError(f"the weight norm of {owner!r} lacks {other!r}: the checkpoint is incomplete")


def _split(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gain [D, 1, 1] and direction of a plain weight [D, ...]; a row of zeros gets gain 0 and any direction."""
    gain = torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.dim())), keepdim=True)
    return gain, torch.where(gain == 0, torch.ones_like(weight), weight)
