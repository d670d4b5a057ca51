"""The flow at its full size (105 M parameters), filled by rule, against the numbers of golden.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cosytune.models.flow.config import EstimatorConfig, FlowConfig
from cosytune.models.flow.convert import from_released, to_released
from cosytune.models.flow.model import Flow
from cosytune.models.flow.regulator import speech_segments
from cosytune.models.flow.solver import integrate, synthesise
from cosytune.models.layers.encoder import EncoderConfig
from cosytune.units import Clock
from tests.golden_fill import filled_input, filled_weights

CLOCK = Clock(sample_rate=22050, hop=256, token_rate=50)
TOKENS = (61 * torch.arange(60) % 4096)[None]

FULL = FlowConfig(
    speech_codebook=4096,
    token_width=512,
    mel_bins=80,
    speaker_width=192,
    encoder=EncoderConfig(input=512, width=512, heads=8, feed_forward=2048, layers=6, attention_dropout=0.1),
    estimator=EstimatorConfig(channels=(256, 256), blocks=4, mid_blocks=12, heads=8, head_width=64),
    reference_padding=True,  # the recorded estimator batch has a padded row
)


@pytest.fixture(scope="module")
def flow() -> Flow:
    with torch.device("meta"):
        network = Flow(FULL)
    released = filled_weights(to_released(network.state_dict()))
    network.load_state_dict(from_released(released), strict=True, assign=True)
    return network.eval()


@pytest.fixture(scope="module")
def recorded(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "golden.json").read_text(encoding="utf-8"))


def assert_agrees(value: Tensor, expected: dict[str, Any]) -> None:
    assert list(value.shape) == expected["shape"]
    flat = value.flatten()
    torch.testing.assert_close(flat[: len(expected["first"])], torch.tensor(expected["first"]), atol=1e-4, rtol=0.0)
    torch.testing.assert_close(flat[-len(expected["last"]) :], torch.tensor(expected["last"]), atol=1e-4, rtol=0.0)
    assert value.mean().item() == pytest.approx(expected["mean"], abs=1e-5)
    assert value.abs().mean().item() == pytest.approx(expected["absmean"], abs=1e-5)


def reference_noise() -> Tensor:
    """What the reference draws for prompt and speech after seeding the global generator, [1, 80, 103]."""
    return torch.randn(1, 80, 103, generator=torch.Generator().manual_seed(1986))


def estimator_inputs(frames: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x, mask, mu, t, speaker, condition."""
    x, mu, condition = (filled_input(name, (2, 80, 50))[:, :, :frames] for name in ("in:x", "in:mu", "in:cond"))
    mask = torch.ones(2, frames, dtype=torch.bool)
    mask[1, 41:] = False
    return x, mask, mu, torch.tensor([0.25, 0.75]), filled_input("in:spks", (2, 80)), condition


@torch.no_grad()
def test_encoder(flow: Flow, recorded: dict[str, Any]) -> None:
    assert_agrees(flow.encoder(flow.embedding(TOKENS)), recorded["v1flow.encoder"])


@torch.no_grad()
def test_regulator_in_training(flow: Flow, recorded: dict[str, Any]) -> None:
    lengths, frames = torch.tensor([60]), torch.tensor([100])
    mu = flow.regulate(flow.encode(TOKENS, lengths), lengths, frames, 100)
    assert_agrees(mu.transpose(1, 2), recorded["v1flow.lr_train"])


@torch.no_grad()
def test_regulator_at_synthesis(flow: Flow, recorded: dict[str, Any]) -> None:
    prompt, prompt_frames, speech, frames = (torch.tensor([count]) for count in (10, 17, 50, 86))
    segments = speech_segments(prompt, prompt_frames, speech, frames, CLOCK.frames_per_token)
    mu = flow.regulator(flow.encode(TOKENS, prompt + speech), segments, torch.ones(1, 103, dtype=torch.bool))
    assert_agrees(mu.transpose(1, 2), recorded["v1flow.lr_infer"])


@torch.no_grad()
@pytest.mark.parametrize(("name", "frames"), [("v1flow.estimator", 50), ("v1flow.estimator_odd", 49)])
def test_estimator(flow: Flow, recorded: dict[str, Any], name: str, frames: int) -> None:
    assert_agrees(flow.estimator(*estimator_inputs(frames)), recorded[name])


def test_euler_steps(flow: Flow, recorded: dict[str, Any]) -> None:
    _, mask, mu, _, speaker, condition = (part[:1] for part in estimator_inputs(50))
    noise = filled_input("in:z", (1, 80, 50), 3.4641016)
    assert_agrees(integrate(flow, noise, mask, mu, speaker, condition), recorded["v1flow.euler"])


def test_synthesis_from_a_seed(flow: Flow, recorded: dict[str, Any]) -> None:
    frames = CLOCK.frames_of_tokens(50)
    mel = synthesise(
        flow,
        TOKENS[:, 10:],
        TOKENS[:, :10],
        filled_input("in:pf", (1, 17, 80)).transpose(1, 2),
        filled_input("in:spk", (1, 192)),
        frames,
        frames_per_token=CLOCK.frames_per_token,
        noise=reference_noise(),
    )
    assert_agrees(mel, recorded["v1flow.inference_seed1986"])


@torch.no_grad()
def test_noise_and_mu_that_streaming_keeps(flow: Flow, recorded: dict[str, Any]) -> None:
    """The reference's cache: noise and mu of the prompt's frames and of the last 34, beside each other."""
    prompt, prompt_frames, speech, frames = (torch.tensor([count]) for count in (10, 17, 50, 86))
    segments = speech_segments(prompt, prompt_frames, speech, frames, CLOCK.frames_per_token)
    mu = flow.regulator(flow.encode(TOKENS, prompt + speech), segments, torch.ones(1, 103, dtype=torch.bool))
    noise = reference_noise()
    kept = torch.cat((torch.arange(17), torch.arange(103 - 34, 103)))
    assert_agrees(torch.stack((noise, mu), dim=-1)[:, :, kept], recorded["v1flow.cache"])
