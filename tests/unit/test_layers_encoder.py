from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from cosytune.models.layers.encoder import EncoderConfig, RelativeEncoder
from cosytune.models.layers.masks import length_mask


def build(chunk: int, **more: object) -> RelativeEncoder:
    torch.manual_seed(0)
    sizes = {"input": 6, "width": 16, "heads": 4, "feed_forward": 20, "layers": 2, "chunk": chunk} | more
    return RelativeEncoder(EncoderConfig.model_validate(sizes)).eval()


@pytest.mark.parametrize("chunk", [0, 1, 4])
@torch.no_grad()
def test_a_row_does_not_depend_on_padding(chunk: int) -> None:
    encoder = build(chunk)
    x = torch.randn(3, 9, 6)
    lengths = torch.tensor([9, 4, 1])
    together = encoder(x, length_mask(lengths, 9))
    for row, length in enumerate(lengths.tolist()):
        alone = encoder(x[row : row + 1, :length])
        torch.testing.assert_close(together[row, :length], alone[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_row_without_any_valid_position_stays_finite() -> None:
    x = torch.randn(2, 5, 6)
    assert build(0)(x, length_mask(torch.tensor([5, 0]), 5)).isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize(("chunk", "first_changed"), [(0, 0), (1, 6), (4, 4)])
def test_how_far_back_a_change_reaches(chunk: int, first_changed: int) -> None:
    encoder = build(chunk)
    x = torch.randn(1, 9, 6)
    changed = x.clone()
    changed[0, 6] += 1
    difference = (encoder(x) - encoder(changed)).abs().amax(-1)[0]
    assert difference[:first_changed].eq(0).all()
    assert difference[first_changed:].gt(1e-6).all()


@pytest.mark.parametrize("chunk", [0, 1])
def test_bfloat16_autocast_stays_near_float32(chunk: int) -> None:
    encoder = build(chunk)
    x = torch.randn(2, 12, 6)
    mask = length_mask(torch.tensor([12, 5]), 12)
    exact = encoder(x, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = encoder(x, mask)
    rough.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
    assert (rough.float() - exact).abs().max() < 0.1


def test_dropout_reaches_input_positions_and_attention() -> None:
    x = torch.randn(1, 8, 6)
    for name in ("dropout", "position_dropout", "attention_dropout"):
        rates = {"dropout": 0.0, "position_dropout": 0.0, "attention_dropout": 0.0} | {name: 0.5}
        encoder = build(0, **rates)
        assert torch.equal(encoder(x), encoder(x))
        encoder.train()
        assert not torch.equal(encoder(x), encoder(x)), name


@torch.no_grad()
def test_sinusoids_are_made_on_demand_and_not_kept() -> None:
    encoder = build(1)
    before = set(encoder.state_dict())
    assert encoder(torch.randn(1, 700, 6)).isfinite().all()
    assert set(encoder.state_dict()) == before
    assert not list(encoder.buffers())


def test_norms_keep_their_constants() -> None:
    encoder = build(1)
    assert encoder.norm.eps == encoder.input.norm.eps == 1e-5
    inner = [module.eps for module in encoder.layers.modules() if isinstance(module, nn.LayerNorm)]
    assert inner == [1e-12] * 4


def test_heads_that_do_not_share_the_width_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"width 18 must be even and a multiple of heads \(4\)"):
        EncoderConfig(input=4, width=18, heads=4, feed_forward=8, layers=1)
