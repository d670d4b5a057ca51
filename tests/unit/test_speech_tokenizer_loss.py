from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from cosytune.errors import InputError
from cosytune.models.speech_tokenizer import Tokenized, constant_ctc_baseline, ctc_loss, greedy_ctc


def tokenized(logits: Tensor, lengths: list[int]) -> Tokenized:
    return Tokenized(torch.zeros(logits.shape[:2], dtype=torch.int64), torch.tensor(lengths), logits, torch.zeros(()))


def collapse(path: tuple[int, ...], blank: int) -> list[int]:
    return [symbol for symbol, _ in itertools.groupby(path) if symbol != blank]


def brute_force(probabilities: Tensor, target: list[int]) -> float:
    """Minus log of the summed probability of all paths that collapse to `target`."""
    T, symbols = probabilities.shape
    total = 0.0
    for path in itertools.product(range(symbols), repeat=T):
        if collapse(path, symbols - 1) == target:
            total += math.prod(float(probabilities[t, s]) for t, s in enumerate(path))
    return -math.log(total)


def test_loss_is_the_sum_over_all_alignments() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 4)
    targets, target_lengths = torch.tensor([[0, 2, 2], [1, 77, -5]]), torch.tensor([3, 1])  # padding is never read
    result = ctc_loss(tokenized(logits, [5, 3]), targets, target_lengths)
    p = logits.softmax(-1)
    expected = (brute_force(p[0], [0, 2, 2]) + brute_force(p[1, :3], [1])) / 4
    assert result.loss.item() == pytest.approx(expected, abs=1e-5)
    assert result.too_short == 0.0


def test_too_short_utterances_are_counted_and_leave_no_trace() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 5, 4, requires_grad=True)
    # Row 1 needs 3 tokens for "0 0" and has 2; row 2 needs 3 for three symbols and has 2.
    targets = torch.tensor([[0, 0, 1], [0, 0, 9], [0, 1, 2], [1, 2, 9]])
    result = ctc_loss(tokenized(logits, [5, 2, 2, 2]), targets, torch.tensor([3, 2, 3, 2]))
    assert result.too_short == 0.5 and result.symbols == 5
    p = logits.detach().softmax(-1)
    expected = (brute_force(p[0], [0, 0, 1]) + brute_force(p[3, :2], [1, 2])) / 5
    assert result.loss.item() == pytest.approx(expected, abs=1e-5)
    result.loss.backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    assert not logits.grad[1:3].any() and logits.grad[0].any() and logits.grad[3].any()


def test_nothing_can_be_aligned() -> None:
    logits = torch.randn(1, 2, 3, requires_grad=True)
    result = ctc_loss(tokenized(logits, [1]), torch.tensor([[0, 1]]), torch.tensor([2]))
    assert result.too_short == 1.0 and result.loss == 0.0 and result.symbols == 0
    result.loss.backward()  # still a graph


def test_a_silent_utterance_may_have_no_text() -> None:
    logits = torch.zeros(2, 2, 2)
    result = ctc_loss(tokenized(logits, [2, 2]), torch.tensor([[0], [0]]), torch.tensor([1, 0]))
    # One symbol: 3 of 4 paths; no symbol: 1 of 4; one symbol in all.
    assert result.loss.item() == pytest.approx(-math.log(0.75) - math.log(0.25), abs=1e-5)


def test_broken_logits_are_seen() -> None:
    logits = torch.full((1, 3, 3), float("nan"))
    assert not ctc_loss(tokenized(logits, [3]), torch.tensor([[0]]), torch.tensor([1])).loss.isfinite()


def test_loss_is_float32_under_autocast() -> None:
    logits = torch.randn(1, 6, 4, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        result = ctc_loss(tokenized(logits, [6]), torch.tensor([[0, 1]]), torch.tensor([2]))
    assert result.loss.dtype == torch.float32


def test_greedy_merges_repeats_and_drops_blanks() -> None:
    blank = 3
    paths = [[0, 0, blank, 0, 1, 1, 2], [blank, 2, 2, blank, blank, 1, 1], [blank] * 7]
    logits = torch.nn.functional.one_hot(torch.tensor(paths), 4).float()
    assert greedy_ctc(logits, torch.tensor([7, 5, 7])) == [[0, 0, 1, 2], [2], []]


def test_baseline_is_the_best_constant_of_the_grid() -> None:
    targets, target_lengths, lengths = torch.tensor([[0, 1, 0]]), torch.tensor([3]), torch.tensor([6])
    baseline = constant_ctc_baseline(targets, target_lengths, lengths, symbols=3)
    for blank in (0.1, 0.3, 0.5, 0.7, 0.9):
        frame = torch.tensor([2 / 3, 1 / 3, 0.0, 1.0]) * torch.tensor([1 - blank] * 3 + [blank])
        assert baseline.loss <= brute_force(frame.expand(6, 4), [0, 1, 0]) / 3 + 1e-5
    frame = torch.tensor([2 / 3, 1 / 3, 0.0, 1.0]) * torch.tensor([1 - baseline.blank] * 3 + [baseline.blank])
    assert baseline.loss == pytest.approx(brute_force(frame.expand(6, 4), [0, 1, 0]) / 3, abs=1e-5)


def test_baseline_leaves_out_what_is_too_short() -> None:
    targets, target_lengths = torch.tensor([[0, 1, 0], [0, 0, 0]]), torch.tensor([3, 3])
    both = constant_ctc_baseline(targets, target_lengths, torch.tensor([6, 4]), symbols=2)
    assert math.isfinite(both.loss)


@pytest.mark.parametrize(
    ("targets", "target_lengths", "lengths", "words"),
    [
        ([[0, 1]], [2, 2], [5], "do not fit; give"),
        ([[0, 1]], [2], [5, 5], "do not fit; give"),
        ([[0, 1]], [3], [5], r"target lengths \[3\] must lie between 0 and the 2 symbols given"),
        ([[0, 3]], [2], [5], "targets hold symbols from 0 to 3; the head reads 0 to 2"),
        ([[-1, 1]], [2], [5], "text tokenizer and speech tokenizer belong together"),
    ],
)
def test_wrong_input_is_refused_in_words(
    targets: list[list[int]], target_lengths: list[int], lengths: list[int], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        ctc_loss(tokenized(torch.zeros(1, 5, 4), lengths), torch.tensor(targets), torch.tensor(target_lengths))
    with pytest.raises(InputError, match=words):
        constant_ctc_baseline(torch.tensor(targets), torch.tensor(target_lengths), torch.tensor(lengths), 3)


def test_baseline_refuses_what_has_no_baseline() -> None:
    with pytest.raises(InputError, match="all transcripts given are empty"):
        constant_ctc_baseline(torch.tensor([[0]]), torch.tensor([0]), torch.tensor([4]), 2)
    with pytest.raises(InputError, match="every utterance has fewer tokens than its transcript needs"):
        constant_ctc_baseline(torch.tensor([[0, 0]]), torch.tensor([2]), torch.tensor([2]), 2)
