"""How much memory a model takes to run and to fine-tune: an estimate from its sizes, and how it is made.

Not measured. Weights, gradients and AdamW's two moments are float32 and exact; activations follow the count of
Korthikanti et al. 2022 (arXiv 2205.05198, section 4.1) for a transformer layer, doubled for float32; the rest is a flat
sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cosytune.models.model import Model

__all__ = ["HOW", "MemoryEstimate", "estimate_memory"]

FLOAT = 4
"""Bytes of a float32."""

RUNTIME = 400_000_000
"""Bytes of Python, torch and what they keep."""

LONGEST_SECONDS = 30
"""Speech in the cache while speaking: the most that one sentence may become."""

BATCH_SECONDS = 24
"""Speech in one update."""

CLIP_SECONDS = 10
"""Length of one clip of it, which attention grows with."""

HOW = (
    f"estimate: float32 weights, {LONGEST_SECONDS} s of cache and 0.4 GB for the runtime; to fine-tune, weights, "
    f"gradients and AdamW's moments of the one network, and the activations of {BATCH_SECONDS} s of speech"
)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes.

    Attributes:
        run: to speak one sentence at a time.
        tune: to fine-tune each part in full, in a process of its own.
        weights: all networks in float32.
    """

    run: int
    tune: dict[str, int]
    weights: int


def estimate_memory(model: Model) -> MemoryEstimate:
    """What a model takes in float32 on one device."""
    parameters = model.parameters()
    onnx = sum(path.stat().st_size for path in model.onnx.values() if path.is_file())
    weights = FLOAT * sum(parameters.values())
    tune: dict[str, int] = {
        # The other networks are read too, and let go before training begins.
        part: RUNTIME + max(weights, 4 * FLOAT * parameters[part] + _activations(model, part))
        for part in ("lm", "flow")
        if part in model.parts
    }
    return MemoryEstimate(RUNTIME + weights + onnx + _cache(model), tune, weights)


def _cache(model: Model) -> int:
    """Keys and values of the LM's decoder."""
    if "lm" not in model.parts:
        return 0
    decoder: Any = model.part("lm").config.decoder
    return int(2 * FLOAT * decoder.layers * decoder.width * LONGEST_SECONDS * model.clock.token_rate)


def _activations(model: Model, part: str) -> int:
    config: Any = model.part(part).config
    if part == "lm":
        decoder = config.decoder
        return _of_layers(decoder.layers, decoder.width, decoder.heads, model.clock.token_rate)
    encoder = config.encoder
    return _of_layers(encoder.layers, encoder.width, encoder.heads, model.clock.token_rate) + _of_estimator(
        config.estimator, model.clock.frame_rate
    )


def _of_estimator(config: Any, rate: float) -> int:
    """The U-Net halves its length from level to level; its attention is fused and keeps no table of weights."""
    deepest = len(config.channels) - 1
    # A stage is a convolution block, counted as one layer, and its transformer blocks; a level has one down, one up.
    stages = [(2, level) for level in range(deepest + 1)] + [(config.mid_blocks, deepest)]
    return sum(
        _of_layers(count * (config.blocks + 1), config.channels[level], 0, rate / 2**level) for count, level in stages
    )


def _of_layers(layers: int, width: int, heads: int, rate: float) -> int:
    """Bytes that the backward pass needs: 34 x width + 5 x heads x length for a position, twice that in float32."""
    positions, length = BATCH_SECONDS * rate, CLIP_SECONDS * rate
    return int(2 * layers * positions * (34 * width + 5 * heads * length))
