"""The flow against the recorded numbers of the reference's small model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from cosytune.models.flow.convert import from_released
from cosytune.models.flow.loss import FlowDraws, flow_loss
from cosytune.models.flow.model import Flow
from cosytune.models.flow.solver import synthesise
from cosytune.units import Clock
from tests.unit.flow_models import NANO

CLOCK = Clock(sample_rate=22050, hop=256, token_rate=50)


def assert_close(value: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(value, expected, atol=1e-4, rtol=0.0)


@pytest.fixture(scope="module")
def recorded(golden: Path) -> dict[str, Tensor]:
    values = load_file(golden / "nano" / "expected.safetensors")
    return {name.removeprefix("flow."): value for name, value in values.items() if name.startswith("flow.")}


def load(golden: Path, *, reference_padding: bool) -> Flow:
    state = from_released(torch.load(golden / "nano" / "flow.pt", weights_only=True))
    flow = Flow(NANO.model_copy(update={"reference_padding": reference_padding}))
    flow.load_state_dict(state, strict=True)
    return flow.eval()


def encode_and_regulate(flow: Flow, recorded: dict[str, Tensor], rows: slice) -> tuple[Tensor, Tensor]:
    token_lengths, frame_lengths = recorded["in.token_len"][rows].long(), recorded["in.feat_len"][rows].long()
    tokens = recorded["in.token"][rows, : int(token_lengths.max())]
    encoded = flow.encode(tokens, token_lengths)
    return encoded, flow.regulate(encoded, token_lengths, frame_lengths, int(frame_lengths.max()))


@torch.no_grad()
def test_the_encoder_agrees_at_every_position(golden: Path, recorded: dict[str, Tensor]) -> None:
    encoded, _ = encode_and_regulate(load(golden, reference_padding=False), recorded, slice(0, 2))
    assert_close(encoded, recorded["out.encoded"])


@torch.no_grad()
def test_the_padded_regulator_agrees_in_both_rows(golden: Path, recorded: dict[str, Tensor]) -> None:
    _, mu = encode_and_regulate(load(golden, reference_padding=True), recorded, slice(0, 2))
    assert_close(mu.transpose(1, 2), recorded["out.regulated"])


@torch.no_grad()
def test_the_exact_regulator_agrees_where_nothing_is_padded(golden: Path, recorded: dict[str, Tensor]) -> None:
    _, mu = encode_and_regulate(load(golden, reference_padding=False), recorded, slice(0, 2))
    assert_close(mu[0].T, recorded["out.regulated"][0])


@torch.no_grad()
def test_exact_rows_are_what_the_reference_makes_of_the_row_alone(golden: Path, recorded: dict[str, Tensor]) -> None:
    _, batch = encode_and_regulate(load(golden, reference_padding=False), recorded, slice(0, 2))
    _, alone = encode_and_regulate(load(golden, reference_padding=True), recorded, slice(1, 2))
    assert_close(batch[1, :, :38], alone[0])


@torch.no_grad()
@pytest.mark.parametrize(("reference_padding", "rows"), [(True, 2), (False, 1)])
def test_the_velocity_agrees(golden: Path, recorded: dict[str, Tensor], reference_padding: bool, rows: int) -> None:
    flow = load(golden, reference_padding=reference_padding)
    mask = torch.arange(52) < recorded["in.feat_len"][:, None]
    velocity = flow.estimator(
        recorded["in.x"],
        mask,
        recorded["out.regulated"].transpose(1, 2),
        recorded["in.t"],
        flow.project_speaker(recorded["in.embedding"]),
        recorded["in.cond"],
    )
    assert_close(velocity[:rows], recorded["out.velocity"][:rows])


@torch.no_grad()
def test_the_training_loss_agrees(golden: Path, recorded: dict[str, Tensor]) -> None:
    draws = FlowDraws(
        t=recorded["train.t"],
        noise=recorded["train.noise"],
        keep_condition=recorded["train.keep_condition"].bool(),
        prompt_frames=recorded["train.prompt_frames"],
    )
    loss = flow_loss(
        load(golden, reference_padding=True),
        recorded["in.token"],
        recorded["in.token_len"].long(),
        recorded["in.feat"].transpose(1, 2),
        recorded["in.feat_len"].long(),
        recorded["in.embedding"],
        draws,
    )
    assert_close(loss, recorded["train.loss"][0])


@pytest.mark.parametrize("reference_padding", [True, False])
def test_synthesis_with_a_prompt_agrees(golden: Path, recorded: dict[str, Tensor], reference_padding: bool) -> None:
    mel = synthesise(
        load(golden, reference_padding=reference_padding),
        recorded["in.token"][:1, 10:30],
        recorded["in.token"][:1, :10],
        recorded["in.feat"][:1, :17].transpose(1, 2),
        recorded["in.embedding"][:1],
        CLOCK.frames_of_tokens(20),
        frames_per_token=CLOCK.frames_per_token,
        noise=recorded["infer.noise"],
    )
    assert_close(mel, recorded["infer.mel"])
