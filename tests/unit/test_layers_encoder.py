from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from cosytune.models.layers import encoder as encoder_module
from cosytune.models.layers.encoder import EncoderConfig, RelativeEncoder
from cosytune.models.layers.masks import length_mask


def build(chunk: int, **more: object) -> RelativeEncoder:
    torch.manual_seed(0)
    sizes = {"input": 6, "width": 16, "heads": 4, "feed_forward": 20, "layers": 2, "chunk": chunk} | more
    return RelativeEncoder(EncoderConfig.model_validate(sizes)).eval()


def first_position(encoder: RelativeEncoder) -> nn.Linear:
    layer = encoder.get_submodule("layers.0.attention.position")
    assert isinstance(layer, nn.Linear)
    return layer


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


@pytest.mark.parametrize("cut", range(1, 11))
def test_cached_equals_full_for_every_cut(cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "FIRST_CAPACITY", 2)  # so that the buffers grow on the way
    encoder = build(1, input_relu=True, activation="relu")
    x = torch.randn(2, 11, 6)
    cache = encoder.new_cache()
    pieces = [encoder.forward_cached(x[:, :cut], cache)[0]]
    pieces += [encoder.forward_cached(x[:, i : i + 1], cache)[0] for i in range(cut, 11)]
    torch.testing.assert_close(torch.cat(pieces, 1), encoder(x), atol=1e-5, rtol=0)
    assert cache.length == 11 <= cache.capacity


def test_cached_in_blocks_equals_full() -> None:
    encoder = build(1)
    x = torch.randn(1, 300, 6)  # beyond the first capacity
    cache = encoder.new_cache()
    pieces = [encoder.forward_cached(block, cache)[0] for block in x.split(70, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, 1), encoder(x), atol=1e-5, rtol=0)


def test_positions_are_kept_by_the_cache_not_by_the_module() -> None:
    encoder = build(1)
    before = set(encoder.state_dict())
    encoder.forward_cached(torch.randn(1, 3, 6), encoder.new_cache())
    assert set(encoder.state_dict()) == before
    assert not list(encoder.buffers())
    x = torch.randn(1, 3, 6)
    with torch.no_grad():
        first_position(encoder).weight += 0.5  # a stale table would show
    fresh = encoder.forward_cached(x, encoder.new_cache())[0]
    torch.testing.assert_close(fresh, encoder(x), atol=1e-5, rtol=0)


def test_a_table_row_is_projected_once_per_run() -> None:
    encoder = build(1)
    rows: list[int] = []
    first_position(encoder).register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    cache = encoder.new_cache()
    for _ in range(300):
        encoder.forward_cached(torch.randn(1, 1, 6), cache)
    assert rows == [256, 256]


def test_only_causal_encoders_run_step_by_step() -> None:
    with pytest.raises(ValueError, match="this one has chunk 4"):
        build(4).new_cache()


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


def test_cached_decoding_works_in_autocast_and_in_bfloat16() -> None:
    encoder = build(1)
    x = torch.randn(1, 6, 6)
    exact = encoder(x)
    for convert in (False, True):
        if convert:
            encoder, x = encoder.bfloat16(), x.bfloat16()
        cache = encoder.new_cache()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not convert):
            out = torch.cat([encoder.forward_cached(piece, cache)[0] for piece in x.split(2, dim=1)], dim=1)
        assert (out.float() - exact).abs().max() < 0.1


def test_dropout_reaches_input_positions_and_attention() -> None:
    x = torch.randn(1, 8, 6)
    for name in ("dropout", "position_dropout", "attention_dropout"):
        rates = {"dropout": 0.0, "position_dropout": 0.0, "attention_dropout": 0.0} | {name: 0.5}
        encoder = build(0, **rates)
        assert torch.equal(encoder(x), encoder(x))
        encoder.train()
        assert not torch.equal(encoder(x), encoder(x)), name


def test_norms_keep_their_constants() -> None:
    encoder = build(1)
    assert encoder.norm.eps == encoder.input.norm.eps == 1e-5
    inner = [module.eps for module in encoder.layers.modules() if isinstance(module, nn.LayerNorm)]
    assert inner == [1e-12] * 4


def test_heads_that_do_not_share_the_width_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"width 18 must be even and a multiple of heads \(4\)"):
        EncoderConfig(input=4, width=18, heads=4, feed_forward=8, layers=1)
