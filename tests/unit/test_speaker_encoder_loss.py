from __future__ import annotations

import math

import pytest
import torch

from cosytune.errors import InputError, ModelError
from cosytune.models.speaker_encoder import MarginSoftmax


def test_margin_is_added_to_the_angle_of_the_own_speaker() -> None:
    criterion = MarginSoftmax(2, 2, margin=0.3, scale=4.0)
    angle = 0.7
    with torch.no_grad():
        criterion.weight.copy_(torch.tensor([[5.0, 0.0], [0.0, 0.1]]))
    vector = 3.0 * torch.tensor([[math.cos(angle), math.sin(angle)]])
    loss, accuracy = criterion(vector, torch.tensor([0]))
    own, other = 4.0 * math.cos(angle + 0.3), 4.0 * math.sin(angle)
    assert loss.item() == pytest.approx(math.log(math.exp(own) + math.exp(other)) - own, abs=1e-5)
    assert accuracy == 1.0  # 0.7 rad is nearer to speaker 0, though 0.7 + 0.3 is not


def test_logit_falls_with_the_angle_all_the_way() -> None:
    criterion = MarginSoftmax(2, 2, margin=0.5)
    cosine = torch.linspace(0.999, -0.999, 400)
    assert (criterion._with_margin(cosine).diff() < 0).all()


def test_without_margin_it_is_cross_entropy_of_cosines() -> None:
    torch.manual_seed(0)
    criterion, vectors, labels = (
        MarginSoftmax(6, 4, margin=0.0, scale=8.0),
        torch.randn(9, 6),
        torch.randint(0, 4, (9,)),
    )
    cosine = torch.nn.functional.cosine_similarity(vectors[:, None], criterion.weight[None], dim=-1)
    loss, _ = criterion(vectors, labels)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(8.0 * cosine, labels), atol=1e-5, rtol=1e-5)


def test_gradient_is_finite_at_the_own_direction() -> None:
    criterion = MarginSoftmax(4, 3)
    vectors = criterion.weight.detach().clone().requires_grad_()
    criterion(vectors, torch.arange(3))[0].backward()
    assert vectors.grad is not None and vectors.grad.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"width": 0, "speakers": 3}, "give a positive width and at least 2 speakers"),
        ({"width": 4, "speakers": 1}, "for 1 speakers separates nothing"),
        ({"width": 4, "speakers": 3, "margin": 1.6}, "margin 1.6 is outside 0 to 1.57 radians; 0.2 is usual"),
        ({"width": 4, "speakers": 3, "scale": 0.0}, "scale 0.0 must be positive; 32 is usual"),
    ],
)
def test_wrong_settings_are_refused_in_words(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        MarginSoftmax(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "labels", "words"),
    [
        ((2, 5), [0, 1], r"give \[batch, 4\] and \[batch\]"),
        ((2, 4), [0], r"give \[batch, 4\] and \[batch\]"),
        ((2, 4), [0, 3], r"labels \[0, 3\] must lie between 0 and 2, the training speakers"),
        ((2, 4), [-1, 2], "must lie between 0 and 2"),
    ],
)
def test_wrong_input_is_refused_in_words(shape: tuple[int, ...], labels: list[int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        MarginSoftmax(4, 3)(torch.randn(shape), torch.tensor(labels))
