from __future__ import annotations

import itertools

import pytest
import torch

from cosytune.models.speech_tokenizer import FSQConfig, VQConfig
from cosytune.models.speech_tokenizer.quantiser import FiniteScalarQuantiser, Quantiser, VectorQuantiser


def plain_fsq(*levels: int) -> FiniteScalarQuantiser:
    """A quantiser whose projections pass the numbers through."""
    quantiser = FiniteScalarQuantiser(FSQConfig(levels=levels), len(levels))
    with torch.no_grad():
        for layer in (quantiser.down, quantiser.up):
            layer.weight.copy_(torch.eye(len(levels)))
            layer.bias.zero_()
    return quantiser


def everywhere(x: torch.Tensor) -> torch.Tensor:
    return torch.ones(x.shape[:2], dtype=torch.bool)


def test_fsq_code_by_hand() -> None:
    # Digits of tanh(z) * 0.999 rounded, plus one: (2, 1, 0, 2), so 2 + 1 * 3 + 0 * 9 + 2 * 27 = 59.
    x = torch.tensor([[[2.0, 0.3, -0.9, 0.6]]])
    out = plain_fsq(3, 3, 3, 3)(x, everywhere(x))
    assert out.codes.tolist() == [[59]]
    assert out.vectors.tolist() == [[[1.0, 0.0, -1.0, 1.0]]]


def test_fsq_code_by_hand_with_mixed_levels() -> None:
    # tanh(0.8) * 0.999 * 2 = 1.33 -> 1 -> digit 3; tanh(-0.2) * 0.999 -> 0 -> digit 1; tanh(-3) * 0.999 * 3 -> -3 -> 0.
    x = torch.tensor([[[0.8, -0.2, -3.0]]])
    out = plain_fsq(5, 3, 7)(x, everywhere(x))
    assert out.codes.tolist() == [[3 + 1 * 5 + 0 * 15]]
    torch.testing.assert_close(out.vectors, torch.tensor([[[0.5, 0.0, -1.0]]]))


def test_fsq_counts_every_code_once() -> None:
    quantiser = plain_fsq(3, 5, 3)
    grid = torch.tensor(list(itertools.product([-1.0, 0.0, 1.0], [-2.0, -1.0, 0.0, 1.0, 2.0], [-1.0, 0.0, 1.0])))
    assert sorted(quantiser.codes_of(grid).tolist()) == list(range(45)) and quantiser.codebook_size == 45
    assert FSQConfig().codebook_size == 6561


def test_fsq_saturated_numbers_stay_inside() -> None:
    x = torch.tensor([[[1e9, -1e9, 1e9]]])
    out = plain_fsq(3, 5, 7)(x, everywhere(x))
    assert out.codes.tolist() == [[2 + 0 * 3 + 6 * 15]]


def test_fsq_gradient_passes_the_rounding() -> None:
    x = torch.tensor([[[0.4, -1.2]]], requires_grad=True)
    plain_fsq(3, 3)(x, everywhere(x)).vectors.sum().backward()
    torch.testing.assert_close(x.grad, 0.999 * (1 - torch.tanh(x.detach()) ** 2))


def test_fsq_has_nothing_to_revive_and_no_loss() -> None:
    x = torch.randn(1, 4, 2)
    quantiser = plain_fsq(3, 3)
    assert quantiser.revive(x, everywhere(x), torch.Generator()) == 0
    assert quantiser(x, everywhere(x)).loss == 0


def plain_vq(rows: list[list[float]], commitment: float = 0.25) -> VectorQuantiser:
    config = VQConfig(codes=len(rows), code_width=len(rows[0]), commitment=commitment)
    quantiser = VectorQuantiser(config, len(rows[0]))
    with torch.no_grad():
        quantiser.codebook.copy_(torch.tensor(rows))
        for layer in (quantiser.down, quantiser.up):
            layer.weight.copy_(torch.eye(len(rows[0])))
            layer.bias.zero_()
    return quantiser


def test_vq_takes_the_nearest_direction() -> None:
    quantiser = plain_vq([[1.0, 0.0], [0.0, 9.0], [-0.1, 0.0]])
    x = torch.tensor([[[3.0, 1.0], [0.1, 0.2], [-5.0, 1.0]]])
    out = quantiser(x, everywhere(x))
    assert out.codes.tolist() == [[0, 1, 2]]
    torch.testing.assert_close(out.vectors, torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]]))


@pytest.mark.parametrize(("rounding", "factor"), [(True, 1.25), (False, 1.0)])
def test_vq_loss_by_hand_ignores_the_padding(rounding: bool, factor: float) -> None:
    quantiser = plain_vq([[1.0, 0.0], [0.0, 1.0]])
    x = torch.tensor([[[0.8, 0.6], [0.6, -0.8], [9.0, 9.0]]])
    out = quantiser(x, torch.tensor([[True, True, False]]), round=rounding)
    # |x - e|^2 = 2 - 2 cos: 0.4 for the first, 0.8 for the second.
    assert out.loss.item() == pytest.approx(factor * 0.6, abs=1e-6)
    assert out.codes.tolist() == [[0, 0, 0]]


def test_vq_usage_is_counted_in_training_only() -> None:
    quantiser = plain_vq([[1.0, 0.0], [0.0, 1.0]])
    x = torch.tensor([[[1.0, 0.1], [0.9, 0.0], [0.0, 5.0]]])
    mask = torch.tensor([[True, True, False]])
    quantiser.eval()(x, mask)
    assert quantiser.usage.tolist() == [0.0, 0.0]
    quantiser.train()(x, mask)
    torch.testing.assert_close(quantiser.usage, torch.tensor([0.02, 0.0]))


def test_vq_revival_is_repeatable_and_moves_dead_codes_only() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 30, 4)
    mask = torch.arange(30) < torch.tensor([[30], [20]])
    quantisers = []
    for _ in range(2):
        torch.manual_seed(1)
        quantiser = VectorQuantiser(VQConfig(codes=16, code_width=4), 4)
        quantiser.usage.fill_(1.0)
        quantiser.usage[[2, 5, 11]] = 0.0
        before = quantiser.codebook.detach().clone()
        assert quantiser.revive(x, mask, torch.Generator().manual_seed(7)) == 3
        moved = (quantiser.codebook != before).any(-1).nonzero()[:, 0].tolist()
        assert moved == [2, 5, 11]
        quantisers.append(quantiser)
    assert quantisers[0].codebook.equal(quantisers[1].codebook)
    codes = quantisers[0].eval()(x, mask).codes[mask]
    assert {2, 5, 11} <= set(codes.tolist())
    assert quantisers[0].revive(x, mask, torch.Generator()) == 0  # they have credit now


def test_vq_first_revival_with_few_vectors_moves_as_many_as_there_are() -> None:
    quantiser = VectorQuantiser(VQConfig(codes=50, code_width=4), 4)
    x = torch.randn(1, 10, 4)
    assert quantiser.revive(x, everywhere(x), torch.Generator().manual_seed(0)) == 10
    assert len(quantiser.eval()(x, everywhere(x)).codes.unique()) == 10


def test_a_quantiser_must_say_how() -> None:
    with pytest.raises(NotImplementedError, match="Quantiser must say how it quantises"):
        Quantiser()(torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool))
