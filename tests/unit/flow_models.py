"""Small flow networks and batches for the flow's tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cosytune.models.flow.config import EstimatorConfig, FlowConfig
from cosytune.models.flow.model import Flow
from cosytune.models.layers.encoder import EncoderConfig

NANO = FlowConfig(
    speech_codebook=64,
    token_width=48,
    mel_bins=80,
    speaker_width=24,
    encoder=EncoderConfig(input=48, width=48, heads=4, feed_forward=96, layers=2, attention_dropout=0.1),
    estimator=EstimatorConfig(channels=(32, 32), blocks=1, mid_blocks=2, heads=2, head_width=16),
)
"""The sizes of the recorded small model (tests/golden/nano)."""

TINY = FlowConfig(
    speech_codebook=20,
    token_width=16,
    mel_bins=8,
    speaker_width=6,
    encoder=EncoderConfig(input=16, width=16, heads=2, feed_forward=32, layers=1),
    regulator_layers=2,
    estimator=EstimatorConfig(channels=(16, 24), blocks=1, mid_blocks=1, heads=2, head_width=8),
)


def tiny_flow(config: FlowConfig = TINY, seed: int = 0) -> Flow:
    """A random network in eval mode; biases and norms are moved away from 0 and 1 so that a slip shows."""
    torch.manual_seed(seed)
    flow = Flow(config).eval()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return flow


def tiny_batch(token_lengths: list[int], frame_lengths: list[int], seed: int = 1) -> dict[str, Any]:
    """Random inputs for `flow_loss`; padding holds garbage on purpose."""
    generator = torch.Generator().manual_seed(seed)
    rows = len(token_lengths)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "tokens": torch.randint(0, TINY.speech_codebook, (rows, max(token_lengths)), generator=generator),
        "token_lengths": torch.tensor(token_lengths),
        "mel": normal(rows, TINY.mel_bins, max(frame_lengths)),
        "frame_lengths": torch.tensor(frame_lengths),
        "speaker": normal(rows, TINY.speaker_width),
    }
