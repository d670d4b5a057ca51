"""The flow prepared for speaking against the flow that was trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cosytune.errors import InputError
from cosytune.models.flow import prepared as layers
from cosytune.models.flow.config import EstimatorConfig
from cosytune.models.flow.estimator import DoubleRate
from cosytune.models.flow.inference import for_inference
from cosytune.models.flow.model import Flow
from cosytune.models.flow.prepared import Frames, doubling
from cosytune.models.flow.solver import SolverConfig, synthesise
from cosytune.models.layers.masks import length_mask
from tests.unit.flow_models import TINY, tiny_flow

BINS = TINY.mel_bins


def flow_of_depth(*channels: int) -> Flow:
    estimator = EstimatorConfig(channels=channels, blocks=2, mid_blocks=1, heads=2, head_width=8)
    return tiny_flow(TINY.model_copy(update={"estimator": estimator}))


def inputs(lengths: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x, mask, mu, t, speaker, condition; the padding of x and mu holds garbage."""
    generator = torch.Generator().manual_seed(3)
    rows, frames = len(lengths), max(lengths)
    x, mu, condition = (torch.randn(rows, BINS, frames, generator=generator) for _ in range(3))
    mask = length_mask(torch.tensor(lengths), frames)
    t, speaker = torch.rand(rows, generator=generator), torch.randn(rows, BINS, generator=generator)
    return x, mask, mu, t, speaker, condition


@torch.no_grad()
@pytest.mark.parametrize("channels", [(8,), (16, 16), (8, 16, 24)])
@pytest.mark.parametrize("lengths", [[16], [17, 17], [1, 1], [17, 9], [16, 16, 2, 13, 1], [5, 0]])
def test_every_depth_and_length_gives_the_same_velocity(channels: tuple[int, ...], lengths: list[int]) -> None:
    flow = flow_of_depth(*channels)
    given = inputs(lengths)
    made = for_inference(flow).estimator(*given)
    # A group of one number (8 channels, 1 frame) is divided by the root of 1e-5, which enlarges rounding 300 times.
    torch.testing.assert_close(made, flow.estimator(*given), atol=1e-3 if 1 in lengths else 1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_field_is_the_velocity_of_both_halves() -> None:
    flow = tiny_flow()
    x, mask, mu, _, speaker, condition = inputs([13, 6])
    times = torch.tensor([0.1, 0.7])
    fields = [each.estimator.field(mask, mu, speaker, condition, times) for each in (flow, for_inference(flow))]
    for index, guided in ((0, True), (1, True), (1, False)):
        plain, quick = (field(x, index, guided) for field in fields)
        assert plain.shape[0] == (4 if guided else 2)
        torch.testing.assert_close(quick, plain, atol=1e-5, rtol=1e-5)


def request(tokens: list[int], prompts: list[int], prompt_frames: list[int], frames: list[int]) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(9)
    rows, total = len(tokens), max(a + b for a, b in zip(prompt_frames, frames, strict=True))
    return {
        "tokens": torch.randint(0, 20, (rows, max(tokens)), generator=generator),
        "prompt_tokens": torch.randint(0, 20, (rows, max(prompts)), generator=generator),
        "prompt_mel": torch.randn(rows, BINS, max(prompt_frames), generator=generator),
        "speaker": torch.randn(rows, TINY.speaker_width, generator=generator),
        "frames": torch.tensor(frames),
        "noise": torch.randn(rows, BINS, total, generator=generator),
        "token_lengths": torch.tensor(tokens),
        "prompt_token_lengths": torch.tensor(prompts),
        "prompt_frame_lengths": torch.tensor(prompt_frames),
        "frames_per_token": 1.7227,
        "solver": SolverConfig(3),
    }


UNEQUAL = ([45, 7, 30], [4, 9, 0], [6, 15, 0], [77, 12, 51])


def test_synthesis_is_the_same() -> None:
    flow, batch = tiny_flow(), request(*UNEQUAL)
    made, wanted = synthesise(for_inference(flow), **batch), synthesise(flow, **batch)
    torch.testing.assert_close(made, wanted, atol=1e-4, rtol=0.0)


def test_a_row_of_a_batch_is_what_it_is_alone() -> None:
    flow, batch = for_inference(tiny_flow()), request(*UNEQUAL)
    together = synthesise(flow, **batch)
    for row, (tokens, prompts, prompt_frames, frames) in enumerate(zip(*UNEQUAL, strict=True)):
        one = {name: value[row : row + 1] if isinstance(value, Tensor) else value for name, value in batch.items()}
        one["tokens"], one["prompt_tokens"] = one["tokens"][:, :tokens], one["prompt_tokens"][:, :prompts]
        one["prompt_mel"] = one["prompt_mel"][:, :, :prompt_frames]
        one["noise"] = one["noise"][:, :, : prompt_frames + frames]
        alone = synthesise(flow, **one)
        torch.testing.assert_close(together[row : row + 1, :, :frames], alone, atol=1e-4, rtol=0.0)
        assert together[row, :, frames:].abs().sum() == 0


def test_bfloat16_stays_near() -> None:
    flow, batch = tiny_flow(), request(*UNEQUAL)
    exact, rough = synthesise(flow, **batch), synthesise(for_inference(flow, torch.bfloat16), **batch)
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().mean() < 0.03 * exact.abs().mean()


@torch.no_grad()
@pytest.mark.parametrize("at_once", [1, 300, 1 << 20])
@pytest.mark.parametrize("frames", [1, 31, 32, 40])
def test_written_out_attention_is_attention(monkeypatch: pytest.MonkeyPatch, at_once: int, frames: int) -> None:
    monkeypatch.setattr(layers, "SCORES_AT_ONCE", at_once)
    first, second = torch.randn(2, 2, frames, 48)
    space = layers.AttentionSpace(first, 2)
    for projected in (first, second):
        made = space.attend(projected)
        torch.testing.assert_close(made, layers.attend(projected, 2), atol=1e-5, rtol=0.0)
    assert made.data_ptr() != space.attend(first).data_ptr(), "what was given out is not written over"


def test_mish_is_mish() -> None:
    x = torch.tensor([-200.0, -30.0, -1.5, -1e-6, 0.0, 0.3, 19.9, 20.1, 90.0, 1e30])
    torch.testing.assert_close(layers.mish(x), torch.nn.functional.mish(x), atol=1e-7, rtol=1e-5)
    assert layers.mish(x.bfloat16()).dtype == torch.bfloat16


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 7])
def test_a_transposed_convolution_is_a_convolution_that_doubles(frames: int) -> None:
    grow, x = DoubleRate(6), torch.randn(2, frames, 6)
    wanted = grow(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(doubling(grow.conv, torch.float32)(x), wanted, atol=1e-5, rtol=0.0)


def test_the_given_flow_is_untouched_and_not_shared() -> None:
    flow = tiny_flow().train()
    before = {name: tensor.clone() for name, tensor in flow.state_dict().items()}
    prepared = for_inference(flow)
    assert flow.training
    assert not prepared.training
    assert isinstance(prepared, Flow)
    assert prepared.config == flow.config
    assert all(torch.equal(tensor, before[name]) for name, tensor in flow.state_dict().items())
    assert all(parameter.requires_grad for parameter in flow.parameters())
    assert not any(parameter.requires_grad for parameter in prepared.parameters())
    batch = request(*UNEQUAL)
    made = synthesise(prepared, **batch)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.zero_()
    assert torch.equal(synthesise(prepared, **batch), made)


def test_types_that_are_not_computed_in_are_refused() -> None:
    with pytest.raises(InputError, match=r"compute in torch\.float16; give torch\.float32 or torch\.bfloat16"):
        for_inference(tiny_flow(), torch.float16)


def test_speech_behind_padding_is_refused() -> None:
    x, mask, *rest = inputs([9, 9])
    mask[1, 3] = False
    with pytest.raises(InputError, match="padded at their end only; put the speech in front"):
        for_inference(tiny_flow()).estimator(x, mask, *rest)


def test_neighbours_of_equal_length_are_one_run() -> None:
    frames = Frames.of([5, 5, 3, 3, 5], 5, torch.zeros(0))
    assert frames.runs == ((0, 2, 5), (2, 4, 3), (4, 5, 5))
    assert frames.mask is not None
    assert Frames.of([5, 5], 5, torch.zeros(0)).mask is None
