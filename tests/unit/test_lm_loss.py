from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.models.lm import LMOutput, lm_loss
from cosytune.models.lm.loss import divergence


def example(seed: int = 0) -> LMOutput:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, 6, 5, generator=generator)
    targets = torch.randint(-1, 5, (3, 6), generator=generator)
    targets[0, 0] = 2
    return LMOutput(logits, targets)


def test_without_smoothing_it_is_cross_entropy() -> None:
    output = example()
    result = lm_loss(output)
    expected = F.cross_entropy(output.logits.flatten(0, 1), output.targets.flatten(), ignore_index=-1)
    torch.testing.assert_close(result.loss, expected)
    valid = output.targets != -1
    assert result.tokens == valid.sum()
    hits = (output.logits.argmax(-1) == output.targets)[valid].float().mean()
    torch.testing.assert_close(result.accuracy, hits)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), smoothing=st.floats(0.001, 0.9))
def test_smoothing_is_the_divergence_from_the_smoothed_target(seed: int, smoothing: float) -> None:
    output = example(seed)
    valid = output.targets != -1
    target = torch.full((int(valid.sum()), 5), smoothing / 4)
    target.scatter_(1, output.targets[valid].unsqueeze(1), 1 - smoothing)
    expected = F.kl_div(output.logits[valid].log_softmax(-1), target, reduction="sum")
    result = lm_loss(output, smoothing=smoothing)
    torch.testing.assert_close(result.loss * result.tokens, expected, atol=1e-4, rtol=1e-5)


def test_a_perfect_smoothed_model_has_no_loss() -> None:
    target = torch.full((1, 1, 5), 0.2 / 4)
    target[0, 0, 3] = 0.8
    loss = lm_loss(LMOutput(target.log(), torch.tensor([[3]])), smoothing=0.2).loss
    torch.testing.assert_close(loss, torch.tensor(0.0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_sum_can_be_divided_by_the_batch_size(smoothing: float) -> None:
    output = example()
    by_token = lm_loss(output, smoothing)
    by_row = lm_loss(output, smoothing, length_normalised=False)
    torch.testing.assert_close(by_row.loss * 3, by_token.loss * by_token.tokens)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_nothing_to_predict_is_no_loss(smoothing: float) -> None:
    logits = torch.randn(1, 2, 5, requires_grad=True)
    result = lm_loss(LMOutput(logits, torch.full((1, 2), -1)), smoothing)
    result.loss.backward()
    assert (result.loss, result.accuracy, result.tokens) == (0, 0, 0)
    assert logits.grad is not None and logits.grad.eq(0).all()


def test_smoothing_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not 1\.0"):
        lm_loss(example(), smoothing=1.0)


def test_the_divergence_is_that_of_torch_over_predicting_positions() -> None:
    start, now = example(1), example(2)
    now = LMOutput(now.logits, start.targets)
    valid = start.targets != -1
    expected = F.kl_div(
        now.logits[valid].log_softmax(-1), start.logits[valid].log_softmax(-1), reduction="batchmean", log_target=True
    )
    torch.testing.assert_close(divergence(start, now), expected)
    torch.testing.assert_close(divergence(start, start), torch.tensor(0.0))
