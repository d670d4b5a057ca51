"""Packed linear layers against plain ones."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosytune.models.layers import packed
from cosytune.models.layers.packed import Activation, PackedLinear, pack_linears, packing_works

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}
ACTIVATIONS = {"none": lambda x: x, "relu": F.relu, "gelu": F.gelu, "swish": F.silu}


@pytest.fixture(params=["packed", "plain"])
def layout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of computing: `plain` is what other machines and devices get."""
    if request.param == "plain":
        monkeypatch.setattr(packed, "packing_works", lambda weight: False)
    elif not packing_works(torch.zeros(1, 1)):
        pytest.skip("this build of torch has no oneDNN")
    return str(request.param)


def expected(x: Tensor, linear: nn.Linear, activation: Activation, add: Tensor | None) -> Tensor:
    y = ACTIVATIONS[activation](F.linear(x, linear.weight, linear.bias))
    return y if add is None else y + add


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["none", "relu", "gelu", "swish"])
@pytest.mark.parametrize("shape", [(16,), (1, 16), (5, 16), (2, 3, 16)])
def test_a_packed_layer_is_a_linear_layer(
    layout: str, dtype: torch.dtype, bias: bool, activation: Activation, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(16, 24, bias=bias), torch.randn(shape)
    layer = PackedLinear(linear.weight, linear.bias, dtype, activation)
    add = torch.randn(*shape[:-1], 24)
    for extra in (None, add):
        made = layer(x.to(dtype), None if extra is None else extra.to(dtype))
        assert made.dtype == dtype
        assert made.shape == add.shape
        torch.testing.assert_close(
            made.float(), expected(x, linear, activation, extra), atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype]
        )


@torch.no_grad()
@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
def test_the_result_has_the_type_of_what_is_given(layout: str, given: torch.dtype) -> None:
    linear, x, add = nn.Linear(16, 24), torch.randn(3, 16, dtype=given), torch.randn(3, 24, dtype=given)
    for dtype in (torch.float32, torch.bfloat16):
        made = PackedLinear(linear.weight, linear.bias, dtype)(x, add)
        assert made.dtype == given
        torch.testing.assert_close(made.float(), linear(x.float()) + add.float(), atol=3e-2, rtol=3e-2)


@torch.no_grad()
def test_what_lies_strewn_in_memory_is_read_right(layout: str) -> None:
    linear, x = nn.Linear(16, 24), torch.randn(16, 5, 2)
    layer = PackedLinear(linear.weight, linear.bias, torch.float32)
    torch.testing.assert_close(layer(x.permute(2, 1, 0)), linear(x.permute(2, 1, 0)), atol=1e-5, rtol=0.0)


@torch.no_grad()
def test_the_layer_owns_its_numbers(layout: str) -> None:
    linear, x = nn.Linear(8, 8), torch.randn(3, 8)
    layer, before = PackedLinear(linear.weight, linear.bias, torch.float32), linear(x)
    linear.weight.zero_()
    linear.bias.zero_()
    torch.testing.assert_close(layer(x), before, atol=1e-6, rtol=0.0)


@torch.no_grad()
def test_every_linear_layer_of_a_network_is_replaced(layout: str) -> None:
    network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Sequential(nn.Linear(16, 4, bias=False)), nn.LayerNorm(4))
    changed, x = copy.deepcopy(network), torch.randn(5, 8)
    pack_linears(changed, torch.float32)
    assert [type(layer) for layer in changed.modules()].count(PackedLinear) == 2
    assert not any(type(layer) is nn.Linear for layer in changed.modules())
    torch.testing.assert_close(changed(x), network(x), atol=1e-5, rtol=0.0)


def test_packing_is_for_the_processor_and_two_types() -> None:
    assert not packing_works(torch.zeros(2, 2, dtype=torch.float64))
    assert not packing_works(torch.zeros(2, 2, device="meta"))
