"""The U-Net: sizes as data, padding that does not matter, attention against its formula."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from cosytune.models.flow import estimator as estimator_module
from cosytune.models.flow.config import EstimatorConfig, FlowConfig
from cosytune.models.flow.estimator import Attention, Estimator, TimeEmbedding
from cosytune.models.layers.masks import length_mask
from tests.unit.flow_models import TINY

BINS = 8


def build(*channels: int, reference_padding: bool = False) -> Estimator:
    torch.manual_seed(len(channels))
    config = EstimatorConfig(channels=channels, blocks=1, mid_blocks=1, heads=2, head_width=4)
    return Estimator(config, BINS, reference_padding).eval()


def inputs(rows: int, frames: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x, mu, t, speaker, condition."""
    generator = torch.Generator().manual_seed(3)
    x, mu, condition = (torch.randn(rows, BINS, frames, generator=generator) for _ in range(3))
    return x, mu, torch.rand(rows, generator=generator), torch.randn(rows, BINS, generator=generator), condition


@torch.no_grad()
@pytest.mark.parametrize("channels", [(8,), (16, 16), (8, 16, 24)])
@pytest.mark.parametrize("frames", [1, 2, 9, 13])
def test_batch_equals_single_for_every_depth_and_length(channels: tuple[int, ...], frames: int) -> None:
    estimator = build(*channels)
    x, mu, t, speaker, condition = inputs(2, 16)
    mask = length_mask(torch.tensor([16, frames]), 16)
    batch = estimator(x, mask, mu, t, speaker, condition)
    short = [part[1:, :, :frames] for part in (x, mu, condition)]
    alone = estimator(short[0], mask[1:, :frames], short[1], t[1:], speaker[1:], short[2])
    torch.testing.assert_close(batch[1:, :, :frames], alone, atol=1e-5, rtol=1e-5)
    assert batch.shape == x.shape
    assert batch[1, :, frames:].abs().sum() == 0


@torch.no_grad()
def test_counting_padding_makes_a_row_depend_on_its_batch() -> None:
    estimator = build(16, 16, reference_padding=True)
    x, mu, t, speaker, condition = inputs(1, 16)
    mask = length_mask(torch.tensor([9]), 16)
    padded = estimator(x, mask, mu, t, speaker, condition)[:, :, :9]
    alone = estimator(x[:, :, :9], mask[:, :9], mu[:, :, :9], t, speaker, condition[:, :, :9])
    assert (padded - alone).abs().max() > 1e-3


@pytest.mark.parametrize("most", [0, 7])
def test_attention_in_bfloat16_is_that_in_float32(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Fused and plain, values and gradients; the reference is computed from the same rounded numbers."""
    monkeypatch.setattr(estimator_module, "MOST_FRAMES_UNFUSED", most)
    torch.manual_seed(0)
    keys = length_mask(torch.tensor([7, 4]), 7)[:, None, None]
    low = [torch.randn(2, 3, 7, 8).bfloat16().requires_grad_() for _ in range(3)]
    high = [part.detach().float().requires_grad_() for part in low]
    made, expected = estimator_module._attend(*low, keys), estimator_module._attend(*high, keys)
    assert made.dtype == torch.bfloat16
    torch.testing.assert_close(made.float(), expected, atol=0.02, rtol=0.02)
    for part in (made, expected):
        part.float().square().sum().backward()
    for one, other in zip(low, high, strict=True):
        torch.testing.assert_close(one.grad.float(), other.grad, atol=0.1, rtol=0.05)
    assert low[1].grad[1, :, 4:].abs().sum() == low[2].grad[1, :, 4:].abs().sum() == 0


@torch.no_grad()
def test_attention_is_its_formula() -> None:
    torch.manual_seed(0)
    attention = Attention(12, heads=3, head_width=8, dropout=0.0)
    x, mask = torch.randn(2, 7, 12), length_mask(torch.tensor([7, 4]), 7)

    def heads(layer: torch.nn.Linear) -> Tensor:
        return layer(x).reshape(2, 7, 3, 8).permute(0, 2, 1, 3)

    scores = heads(attention.query) @ heads(attention.key).transpose(2, 3) / 8**0.5
    scores = scores + torch.where(mask, 0.0, -1e10)[:, None, None]
    mixed = scores.softmax(dim=-1) @ heads(attention.value)
    expected = attention.output(mixed.permute(0, 2, 1, 3).reshape(2, 7, 24))
    torch.testing.assert_close(attention(x, mask[:, None, None]), expected, atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("reference_padding", [True, False])
@pytest.mark.parametrize("autocast", [True, False])
def test_a_row_of_padding_only_is_zero_and_harms_nobody(reference_padding: bool, autocast: bool) -> None:
    estimator = build(16, 16, reference_padding=reference_padding)
    x, mu, t, speaker, condition = inputs(2, 8)
    mask = length_mask(torch.tensor([8, 0]), 8)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        velocity = estimator(x, mask, mu, t, speaker, condition)
    velocity.float().square().sum().backward()
    assert velocity[0].abs().sum() > 0
    assert velocity[1].abs().sum() == 0
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in estimator.parameters())


@torch.no_grad()
def test_attention_is_never_left_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fused attention makes of a row without keys (zeros or NaN) depends on the kernel, so none is asked."""
    masks: list[Tensor] = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def watch(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor) -> Tensor:
        masks.append(attn_mask)
        return fused(query, key, value, attn_mask=attn_mask)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watch)
    x, mu, t, speaker, condition = inputs(3, 8)
    build(16, 16)(x, length_mask(torch.tensor([8, 0, 1]), 8), mu, t, speaker, condition)
    assert len(masks) == 5
    assert all(mask.any(dim=-1).all() for mask in masks)


@torch.no_grad()
def test_bfloat16_autocast_stays_near_float32() -> None:
    estimator = build(16, 16)
    x, mu, t, speaker, condition = inputs(2, 12)
    mask = length_mask(torch.tensor([12, 7]), 12)
    exact = estimator(x, mask, mu, t, speaker, condition)
    with torch.autocast("cpu", torch.bfloat16):
        rough = estimator(x, mask, mu, t, speaker, condition).float()
    assert (rough - exact).abs().mean() < 0.03 * exact.abs().mean()


def test_the_time_embedding_reads_time_in_thousandths() -> None:
    embedding = TimeEmbedding(6, 6)
    embedding.input = torch.nn.Identity()  # type: ignore[assignment]
    embedding.output = torch.nn.Identity()  # type: ignore[assignment]
    t = torch.tensor([0.25])
    angles = 250.0 * torch.tensor([1.0, 10_000.0**-0.5, 10_000.0**-1.0])
    expected = torch.nn.functional.silu(torch.cat([angles.sin(), angles.cos()]))
    torch.testing.assert_close(embedding(t)[0], expected, atol=1e-4, rtol=0.0)


def test_fresh_weights_are_kaiming_normal_with_zero_biases() -> None:
    estimator = build(64, 64)
    state = estimator.state_dict()
    assert state["down.1.residual.block1.conv.weight"].std().item() == pytest.approx((2 / (64 * 3)) ** 0.5, rel=0.05)
    assert state["down.1.residual.block1.conv.bias"].abs().sum() == 0
    assert state["grow.0.conv.bias"].abs().sum() > 0


@pytest.mark.parametrize("channels", [(20, 20), (16, 4), (0,), (-8,)])
def test_channels_that_form_no_groups_are_refused(channels: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="cannot be normalised in 8 groups; use positive multiples of 8"):
        EstimatorConfig(channels=channels, blocks=1, mid_blocks=1, heads=2, head_width=4)


def test_no_channels_are_refused() -> None:
    with pytest.raises(ValidationError, match="channels"):
        EstimatorConfig(channels=(), blocks=1, mid_blocks=1, heads=2, head_width=4)


def test_an_encoder_of_another_input_width_is_refused() -> None:
    values = {**TINY.model_dump(), "token_width": 12}
    with pytest.raises(ValidationError, match="reads 16 channels but tokens are embedded in 12"):
        FlowConfig(**values)


def test_the_configuration_survives_json() -> None:
    assert FlowConfig.model_validate_json(TINY.model_dump_json()) == TINY
