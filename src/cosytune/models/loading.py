"""From a configuration and tensors to a network: all names and shapes must match, or nothing is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cosytune.errors import ModelError
from cosytune.models.flow.config import FlowConfig
from cosytune.models.flow.model import Flow
from cosytune.models.layers.config import PartConfig
from cosytune.models.lm.config import LMConfig
from cosytune.models.lm.model import LM
from cosytune.models.speaker_encoder.config import SpeakerEncoderConfig
from cosytune.models.speaker_encoder.model import SpeakerEncoder
from cosytune.models.speech_tokenizer.config import SpeechTokenizerConfig
from cosytune.models.speech_tokenizer.model import SpeechTokenizer
from cosytune.models.vocoder.config import VocoderConfig
from cosytune.models.vocoder.model import Vocoder

__all__ = ["KINDS", "build", "load_strictly", "network_of"]

KINDS: dict[str, tuple[type[PartConfig], type[nn.Module]]] = {
    "speech_tokenizer": (SpeechTokenizerConfig, SpeechTokenizer),
    "speaker_encoder": (SpeakerEncoderConfig, SpeakerEncoder),
    "lm": (LMConfig, LM),
    "flow": (FlowConfig, Flow),
    "vocoder": (VocoderConfig, Vocoder),
}
"""Part -> its configuration and its network."""

_UNBUILDABLE = (RuntimeError, OverflowError, TypeError, ValueError, MemoryError, ZeroDivisionError)
"""What torch raises on sizes that are no sizes (beyond 64 bits, not divisible by what divides them)."""

_FEWEST_TENSORS = 1000
"""A configuration of so few layers is quick to lay out even if it is wrong, and then its tensors can be listed."""

_NAMES_LISTED = 5

_DRAWING = {"normal_", "uniform_", "kaiming_uniform_"}
"""What all of `torch.nn.init` comes down to that fills its first argument with random numbers."""


class _WithoutDrawing(TorchFunctionMode):
    """Inside, layers keep the memory they got as it was: their weights are about to be replaced.

    To draw the weights of a 300M model takes longer than to read them, and to draw or measure those of an outline makes
    torch import its compiler, as do windows and ranges there. Every other buffer is computed as ever.
    """

    def __init__(self, *, outline: bool = False) -> None:
        super().__init__()
        self._outline = outline

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.randn or (self._outline and func is torch.hann_window):
            return torch.empty(*args, **kwargs)
        if self._outline and func is torch.arange:
            return torch.empty(len(range(*args)), **{"dtype": torch.int64, **kwargs})
        if func is torch.nn.functional.normalize:
            return args[0]
        if func is torch.norm_except_dim:
            return _unmeasured(*args, **kwargs)
        if getattr(func, "__name__", "") in _DRAWING:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _unmeasured(weight: Tensor, power: int = 2, dim: int = 0) -> Tensor:
    """What `torch.norm_except_dim` gives, without numbers."""
    return weight.new_empty([size if place == dim else 1 for place, size in enumerate(weight.shape)])


def network_of(config: PartConfig) -> nn.Module:
    """The network that a configuration describes, with fresh weights.

    Raises:
        ModelError: it is not the configuration of one of the five parts.
    """
    for config_type, network_type in KINDS.values():
        if type(config) is config_type:
            return network_type(config)
    raise ModelError(f"{type(config).__name__} describes no part of a model")


def build(
    network_type: Callable[[Any], nn.Module],
    config: PartConfig,
    tensors: Mapping[str, Tensor],
    source: str,
    *,
    weights: bool = True,
) -> nn.Module:
    """A network with these tensors; its memory is taken only after names and shapes have been compared.

    Args:
        network_type: makes the network of a configuration.
        config: its sizes.
        tensors: by our names, given away: the network takes them as its weights where it can; of any floating type
            where the network has float32.
        source: the file they come from, for messages.
        weights: off for an outline: the tensors may be on the `meta` device, and stay there in their stored types.

    Raises:
        ModelError: the sizes are none that can be built; or tensors are missing, unexpected, of another shape or type,
            and then they are listed.
    """
    _check_counts(config, tensors, source)
    try:
        outline = None if weights else _outline(network_type, config)
        wanted = _tensors_of(network_type, config) if outline is None else outline.state_dict()
    except _UNBUILDABLE as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{source}: no network can be built with the sizes of its configuration ({first})") from error
    _compare(wanted, tensors, source)
    if outline is not None:
        outline.load_state_dict(dict(tensors), strict=True, assign=True)
        return outline
    with _WithoutDrawing():
        network = network_type(config)
    network.load_state_dict(_apart(tensors, wanted), strict=True, assign=True)
    return network


def _outline(network_type: Callable[[Any], nn.Module], config: PartConfig) -> nn.Module:
    """The network of a configuration without memory for its weights."""
    with torch.device("meta"), _WithoutDrawing(outline=True):
        return network_type(config)


@lru_cache(maxsize=16)
def _tensors_of(network_type: Callable[[Any], nn.Module], config: PartConfig) -> Mapping[str, Tensor]:
    """Names, shapes and types of a network's tensors; models of the same sizes are laid out once."""
    return MappingProxyType(_outline(network_type, config).state_dict())


def _apart(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor in memory of its own and in the network's type, copied only if need be.

    A file may store numbers once and call them by two names: as weights they would learn as one.
    """
    own: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, given in tensors.items():
        value, place = given.detach().to(wanted[name].dtype), given.untyped_storage()
        if value.data_ptr() == given.data_ptr() and (
            place.data_ptr() in places or place.nbytes() != given.nbytes or not given.is_contiguous()
        ):
            value = value.clone(memory_format=torch.contiguous_format)
        places.add(place.data_ptr())
        own[name] = value
    return own


def load_strictly(network: nn.Module, tensors: Mapping[str, Tensor], source: str) -> int:
    """Load all tensors of a network; returns how many matched, which is all of them.

    Raises:
        ModelError: some are missing, unexpected, of another shape or of another type; they are listed.
    """
    wanted = network.state_dict()
    _compare(wanted, tensors, source)
    network.load_state_dict(dict(tensors), strict=True)
    return len(wanted)


def _check_counts(config: PartConfig, tensors: Mapping[str, Tensor], source: str) -> None:
    """A million layers take minutes to lay out, even without memory; every layer has a tensor, so count those first."""
    layers = _layers_in(config.model_dump(mode="json"))
    if layers > max(len(tensors), _FEWEST_TENSORS):
        raise ModelError(
            f"{source}: its configuration asks for {layers:,} layers, the file has {len(tensors):,} tensors; give the "
            "checkpoint and the configuration of the same model"
        )


def _layers_in(value: Any, *, counted: bool = False) -> int:
    """Layers that a configuration asks for: numbers under `layers` and `blocks`, and one for each entry of a list."""
    if isinstance(value, dict):
        return sum(_layers_in(entry, counted="layers" in key or "blocks" in key) for key, entry in value.items())
    if isinstance(value, list):
        return len(value) + sum(_layers_in(entry, counted=counted) for entry in value)
    return value if counted and isinstance(value, int) else 0


def _compare(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: str) -> None:
    shared = [name for name in wanted if name in tensors]
    misshapen = [name for name in shared if tensors[name].shape != wanted[name].shape]
    mistyped = [name for name in shared if not _converts(tensors[name].dtype, wanted[name].dtype)]
    problems = {
        "missing": sorted(set(wanted) - set(tensors)),
        "unexpected": sorted(set(tensors) - set(wanted)),
        "other shape:": [
            f"{name} is {tuple(tensors[name].shape)}, should be {tuple(wanted[name].shape)}" for name in misshapen
        ],
        "other type:": [f"{name} is {tensors[name].dtype}, should be {wanted[name].dtype}" for name in mistyped],
    }
    if any(problems.values()):
        matched = len(shared) - len({*misshapen, *mistyped})
        listed = "; ".join(f"{label} {_first(names)}" for label, names in problems.items() if names)
        raise ModelError(
            f"{source}: {matched} of {len(wanted)} tensors matched; {listed}; "
            "nothing was loaded, give the checkpoint and the configuration of the same model"
        )


def _converts(given: torch.dtype, wanted: torch.dtype) -> bool:
    """Half precision becomes float32; a counter never becomes a weight."""
    return given == wanted or (given.is_floating_point and wanted.is_floating_point)


def _first(names: list[str]) -> str:
    return f"{', '.join(names[:_NAMES_LISTED])}{' ...' if len(names) > _NAMES_LISTED else ''} ({len(names)})"
