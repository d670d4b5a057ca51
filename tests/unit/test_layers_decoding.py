from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cosytune.models.layers import decoding
from cosytune.models.layers.decoding import DecodingCache, StepwiseEncoder
from cosytune.models.layers.encoder import EncoderConfig, RelativeEncoder

LONGEST = 40


def build(chunk: int = 1, seed: int = 0, **more: object) -> RelativeEncoder:
    torch.manual_seed(seed)
    sizes = {"input": 6, "width": 16, "heads": 4, "feed_forward": 20, "layers": 2, "chunk": chunk} | more
    return RelativeEncoder(EncoderConfig.model_validate(sizes)).eval()


@torch.no_grad()
def whole(encoder: RelativeEncoder, x: Tensor) -> Tensor:
    """What the encoder makes of one row [T, input] alone, in one go."""
    return encoder(x[None])[0]


def assert_near(got: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(got, expected, atol=tolerance, rtol=0)


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers that are too small from the start, so that they grow and are moved on the way."""
    monkeypatch.setattr(decoding, "FIRST_CAPACITY", 2)


class Schedule:
    """Rows that enter, step and leave; every output is compared with the row alone."""

    def __init__(self, encoder: RelativeEncoder, slots: int = 1) -> None:
        self.stepwise = StepwiseEncoder(encoder)
        self.cache = self.stepwise.new_cache(slots)
        self.at_work: list[tuple[int, int]] = []  # which row of ROWS, and how far it has come
        self.entered = 0

    def enter(self, lengths: list[int]) -> None:
        newcomers = [((self.entered + number) % len(ROWS), length) for number, length in enumerate(lengths)]
        self.entered += len(lengths)
        got = self.stepwise.enter([ROWS[row][:length] for row, length in newcomers], self.cache)
        self.at_work += newcomers
        self.compare(got, newcomers)

    def step(self) -> None:
        for number in reversed([number for number, (_, length) in enumerate(self.at_work) if length == LONGEST]):
            self.drop(number)
        x = torch.stack([ROWS[row][length] for row, length in self.at_work]) if self.at_work else torch.zeros(0, 6)
        got = self.stepwise.step(x, self.cache)
        self.at_work = [(row, length + 1) for row, length in self.at_work]
        self.compare(got, self.at_work)

    def drop(self, number: int) -> None:
        self.cache.drop(number)
        self.at_work[number] = self.at_work[-1]
        self.at_work.pop()

    def compare(self, got: Tensor, rows: list[tuple[int, int]]) -> None:
        assert got.shape == (len(rows), 16)
        assert got.dtype == torch.float32
        for output, (row, length) in zip(got, rows, strict=True):
            assert_near(output, EXPECTED[row][length - 1])
        assert [self.cache.end - start for start in self.cache.starts] == [length for _, length in self.at_work]
        assert min(self.cache.starts, default=0) >= 0
        assert self.cache.end <= self.cache.keys.shape[3] == self.cache.values.shape[3]


ENCODER = build(activation="relu", input_relu=True)
ROWS = list(torch.randn(9, LONGEST, 6, generator=torch.Generator().manual_seed(1)))
EXPECTED = [whole(ENCODER, row) for row in ROWS]

actions = st.one_of(
    st.lists(st.integers(1, 9), min_size=1, max_size=3).map(lambda lengths: ("enter", lengths)),
    st.integers(1, 9).map(lambda count: ("step", count)),
    st.integers(0, 99).map(lambda number: ("drop", number)),
)


@settings(max_examples=30, deadline=None)
@given(schedule=st.lists(actions, min_size=1, max_size=14), slots=st.integers(0, 3))
def test_rows_that_come_and_go_get_what_they_get_alone(schedule: list[tuple[str, Any]], slots: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "FIRST_CAPACITY", 2)
        run = Schedule(ENCODER, slots)
        for action, what in schedule:
            if action == "enter":
                run.enter(what)
            elif action == "step":
                for _ in range(what):
                    run.step()
            elif run.at_work:
                run.drop(what % len(run.at_work))


@pytest.mark.parametrize("leaving", [[0, 0, 0], [2, 1, 0], [1, 1, 0], [0, 1, 0]])
def test_rows_leave_in_any_order(leaving: list[int], crowded: None) -> None:
    run = Schedule(ENCODER)
    run.enter([3, 8])
    run.step()
    run.enter([1])
    for number in leaving:
        for _ in range(3):
            run.step()
        run.drop(number)
    assert run.cache.first == run.cache.end
    run.enter([12, 5])
    run.step()


@pytest.mark.parametrize("input_relu", [False, True])
@pytest.mark.parametrize("activation", ["silu", "relu"])
def test_prefix_and_steps_equal_the_whole_for_every_cut(activation: str, input_relu: bool, crowded: None) -> None:
    encoder = build(activation=activation, input_relu=input_relu)
    stepwise = StepwiseEncoder(encoder)
    x = torch.randn(11, 6)
    expected = whole(encoder, x)
    for cut in range(1, 12):
        cache = stepwise.new_cache()
        got = [stepwise.enter([x[:cut]], cache)] + [stepwise.step(x[i : i + 1], cache) for i in range(cut, 11)]
        assert_near(torch.cat(got), expected[cut - 1 :])


def test_rows_that_enter_together_equal_each_alone() -> None:
    stepwise = StepwiseEncoder(ENCODER)
    cache = stepwise.new_cache(rows=4)
    got = stepwise.enter([ROWS[0][:7], ROWS[1][:1], ROWS[2][:20]], cache)
    assert_near(got, torch.stack([EXPECTED[0][6], EXPECTED[1][0], EXPECTED[2][19]]))
    assert [cache.end - start for start in cache.starts] == [7, 1, 20]


def test_what_memory_held_before_does_no_harm() -> None:
    stepwise = StepwiseEncoder(ENCODER)
    cache = stepwise.new_cache(rows=3)  # room for the late row too: nothing is made anew on the way
    cache.keys.fill_(torch.nan)
    got = [stepwise.enter([ROWS[0][:2], ROWS[1][:5]], cache)]
    got += [stepwise.step(torch.stack((ROWS[0][2 + i], ROWS[1][5 + i])), cache) for i in range(4)]
    late = stepwise.enter([ROWS[2][:3]], cache)
    last = stepwise.step(torch.stack((ROWS[0][6], ROWS[1][9], ROWS[2][3])), cache)
    for row, length in ((0, 2), (1, 5)):
        assert_near(torch.stack(got)[:, row], EXPECTED[row][length - 1 : length + 4])
    assert_near(late[0], EXPECTED[2][2])
    assert_near(last, torch.stack((EXPECTED[0][6], EXPECTED[1][9], EXPECTED[2][3])))
    # Weights of hidden columns are 0, and 0 times not-a-number is not-a-number: values must start as zeros.
    assert cache.values.isfinite().all()


def test_a_first_capacity_that_is_enough_is_never_left() -> None:
    stepwise = StepwiseEncoder(ENCODER)
    cache = stepwise.new_cache(rows=2)
    where = (cache.keys.data_ptr(), cache.values.data_ptr())
    stepwise.enter([ROWS[0][:9], ROWS[1][:4]], cache)
    for i in range(20):
        stepwise.step(torch.stack((ROWS[0][9 + i], ROWS[1][4 + i])), cache)
    assert (cache.keys.data_ptr(), cache.values.data_ptr()) == where


def test_a_place_that_is_free_again_is_used_again(crowded: None) -> None:
    run = Schedule(ENCODER)
    for _ in range(30):  # 180 columns pass, never more than 6 of them at once
        run.enter([3])
        for _ in range(3):
            run.step()
        run.drop(0)
    assert run.cache.keys.shape[1] == 1
    assert run.cache.keys.shape[3] <= 16


def test_buffers_double() -> None:
    cache = DecodingCache(layers=1, rows=1, heads=1, width=2, like=torch.zeros(1), capacity=8)
    cache.make_room(1, before=5, after=1)
    assert (cache.end, cache.keys.shape[3]) == (5, 8)
    cache.starts = [0]
    capacities = set()
    for _ in range(60):
        cache.make_room(1, before=0, after=1)
        cache.end += 1
        capacities.add(cache.keys.shape[3])
    assert capacities == {8, 16, 32, 64, 128}
    assert (cache.end, cache.starts) == (65, [0])


def test_the_move_keeps_what_rows_remember() -> None:
    cache = DecodingCache(layers=1, rows=2, heads=1, width=1, like=torch.zeros(1), capacity=8)
    cache.starts, cache.end = [5, 6], 8
    cache.keys.zero_()
    cache.keys[0, 0, 0, 5:, 0] = torch.tensor([1.0, 2.0, 3.0])
    cache.values[0, 1, 0, 6:, 0] = torch.tensor([4.0, 5.0])
    buffer = cache.keys.data_ptr()
    cache.make_room(2, before=0, after=2)
    assert (cache.starts, cache.end, cache.first) == ([0, 1], 3, 0)
    assert cache.keys.data_ptr() == buffer
    assert cache.keys[0, 0, 0, :3, 0].tolist() == [1, 2, 3]
    assert cache.values[0, 1, 0, 1:3, 0].tolist() == [4, 5]
    cache.make_room(3, before=4, after=1)
    assert (cache.starts, cache.end, cache.keys.shape[1]) == ([1, 2], 4, 3)
    assert cache.keys[0, 0, 0, 1:4, 0].tolist() == [1, 2, 3]
    assert cache.values[0, 1, 0, 2:4, 0].tolist() == [4, 5]


def test_positions_are_projected_once_per_capacity(monkeypatch: pytest.MonkeyPatch, crowded: None) -> None:
    made: list[int] = []
    original = decoding.sinusoid_table

    def recorded(highest: int, lowest: int, width: int, like: Tensor) -> Tensor:
        made.append(highest - lowest + 1)
        return original(highest, lowest, width, like)

    monkeypatch.setattr(decoding, "sinusoid_table", recorded)
    stepwise = StepwiseEncoder(ENCODER)
    for _ in range(2):  # the second run finds everything made
        cache = stepwise.new_cache()
        stepwise.enter([ROWS[0][:3]], cache)
        for i in range(3, 17):
            stepwise.step(ROWS[0][i : i + 1], cache)
    assert made == [2, 4, 8, 16, 32]


def test_copy_and_encoder_do_not_change_each_other(crowded: None) -> None:
    encoder = build().train()
    before = copy.deepcopy(encoder.state_dict())
    x = torch.randn(12, 6)
    expected = whole(copy.deepcopy(encoder).eval(), x)
    stepwise = StepwiseEncoder(encoder)
    cache = stepwise.new_cache()
    assert_near(stepwise.enter([x[:4]], cache)[0], expected[3])
    assert encoder.training
    assert encoder.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.5
    for i in range(4, 12):  # more positions are projected on the way: from the weights that were copied
        assert_near(stepwise.step(x[i : i + 1], cache)[0], expected[i])


def test_bfloat16_stays_near_float32() -> None:
    exact, rough = StepwiseEncoder(ENCODER), StepwiseEncoder(ENCODER, torch.bfloat16)
    of_a_rough_one = StepwiseEncoder(copy.deepcopy(ENCODER).bfloat16(), torch.bfloat16)
    outputs = []
    for stepwise in (exact, rough, of_a_rough_one):
        cache = stepwise.new_cache(rows=2)
        assert cache.keys.dtype == cache.values.dtype == stepwise.dtype
        got = [stepwise.enter([ROWS[0][:4], ROWS[1][:9]], cache)]
        got += [stepwise.step(torch.stack((ROWS[0][4 + i], ROWS[1][9 + i])), cache) for i in range(12)]
        outputs.append(torch.stack(got))
    for output in outputs[1:]:
        assert output.dtype == torch.float32
        assert 0 < (output - outputs[0]).abs().max() < 0.1


def test_nothing_is_kept_for_gradients() -> None:
    stepwise = StepwiseEncoder(ENCODER)
    cache = stepwise.new_cache()
    x = ROWS[0].clone().requires_grad_()
    assert not stepwise.enter([x[:3]], cache).requires_grad
    assert not stepwise.step(x[3:4], cache).requires_grad
    assert not cache.keys.requires_grad


@pytest.mark.parametrize("chunk", [0, 4])
def test_an_encoder_that_looks_ahead_is_refused(chunk: int) -> None:
    with pytest.raises(ValueError, match=rf"only a causal encoder \(chunk 1\).*this one has chunk {chunk}"):
        StepwiseEncoder(build(chunk))
