from __future__ import annotations

import pytest
import torch

from cosytune.models.layers.dropout import Dropout, dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_the_share_that_goes_and_the_scale_of_what_stays(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    made = dropout(torch.ones(401, 500, dtype=dtype), p, training=True)
    assert made.dtype == dtype
    assert (made == 0).float().mean().item() == pytest.approx(p, abs=0.003)
    kept = made[made != 0].float()
    assert kept.min() == kept.max()
    assert kept[0].item() == pytest.approx(1 / (1 - p), rel=1e-2 if dtype == torch.bfloat16 else 2e-4)


def test_decisions_do_not_depend_on_each_other() -> None:
    """Four come from one number: neighbours, and what lies one number apart, must go as if drawn each for itself."""
    torch.manual_seed(1)
    gone = (dropout(torch.ones(400_000), 0.3, training=True) == 0).double()
    for distance in (1, 2, 3, 4):
        both = (gone[:-distance] * gone[distance:]).mean().item()
        assert both == pytest.approx(0.09, abs=0.002)
    for place in range(4):
        assert gone[place::4].mean().item() == pytest.approx(0.3, abs=0.005)


def test_the_gradient_goes_where_the_values_went() -> None:
    torch.manual_seed(2)
    x = torch.randn(7, 33, requires_grad=True)
    made = dropout(x, 0.4, training=True)
    made.sum().backward()
    torch.testing.assert_close(x.grad * x, made)


def test_the_seed_decides() -> None:
    layer, x = Dropout(0.2), torch.ones(5, 41)
    torch.manual_seed(3)
    first, second = layer(x), layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)


def test_nothing_happens_in_eval_mode_or_with_probability_zero() -> None:
    x = torch.ones(3, 3)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


@pytest.mark.parametrize("shape", [(0,), (1,), (2, 0, 3), (3, 5, 7)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    assert dropout(torch.ones(shape), 0.1, training=True).shape == shape
    turned = torch.ones(shape).transpose(0, -1)
    assert dropout(turned, 0.1, training=True).shape == turned.shape
