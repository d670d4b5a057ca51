"""The vocoders at their full sizes (20 and 21 M parameters), filled by rule, against the numbers of golden.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cosytune.models.vocoder import Vocoder, VocoderConfig, for_inference
from cosytune.models.vocoder.convert import from_released, to_released
from tests.golden_fill import filled_input, filled_weights
from tests.unit.test_vocoder_model import FULL

THREE_STAGES = FULL.model_copy(
    update={
        "sample_rate": 24_000,
        "hop": 480,
        "upsample_rates": (8, 5, 3),
        "upsample_kernels": (16, 11, 7),
        "source_kernels": (7, 7, 11),
        "source_dilations": ((1, 3, 5),) * 3,
    }
)


def close_to_row(made: Tensor, row: dict[str, Any]) -> None:
    flat = made.flatten()
    assert list(made.shape) == row["shape"]
    assert flat.mean().item() == pytest.approx(row["mean"], abs=1e-4)
    assert flat.abs().mean().item() == pytest.approx(row["absmean"], abs=1e-4)
    assert flat[:6].tolist() == pytest.approx(row["first"], abs=1e-4)
    assert flat[-4:].tolist() == pytest.approx(row["last"], abs=1e-4)


@pytest.mark.parametrize(
    ("name", "config", "tensors", "parameters"),
    [("1", FULL, 227, 20_460_591), ("2", THREE_STAGES, 328, 20_821_295)],
)
def test_full_size_agrees_with_the_reference(
    golden: Path, name: str, config: VocoderConfig, tensors: int, parameters: int
) -> None:
    rows = json.loads((golden / "golden.json").read_text())
    vocoder = Vocoder(config).eval()
    released = to_released(vocoder.state_dict())
    assert len(released) == tensors
    assert sum(parameter.numel() for parameter in vocoder.parameters()) == parameters
    vocoder.load_state_dict(from_released(filled_weights(released)))
    mel = filled_input(f"in:mel{name}", (1, 80, 30))
    source = filled_input(f"in:src{name}", (1, 1, 30 * config.hop), scale=0.2)
    with torch.inference_mode():
        for network in (vocoder, for_inference(vocoder)):
            close_to_row(network.predict_f0(mel), rows[f"hift{name}.f0"])
            close_to_row(network.decode(mel, source), rows[f"hift{name}.decode"])
