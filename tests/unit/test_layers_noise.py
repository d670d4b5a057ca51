"""Tapes of noise: the same numbers however they are cut."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.errors import InputError
from cosytune.models.layers.noise import BLOCK, NoiseTape


@given(cuts=st.lists(st.integers(0, BLOCK + 200), min_size=1, max_size=5))
@settings(max_examples=20, deadline=None)
def test_pieces_are_the_whole(cuts: list[int]) -> None:
    whole, tape = NoiseTape(3, 7).take(sum(cuts)), NoiseTape(3, 7)
    assert torch.equal(torch.cat([tape.take(count) for count in cuts]), whole)


def test_the_numbers_are_standard_normal_and_belong_to_the_seed() -> None:
    noise = NoiseTape(80, 1).take(1000)
    assert noise.shape == (1000, 80)
    assert noise.dtype == torch.float32
    assert noise.mean().item() == pytest.approx(0.0, abs=0.01)
    assert noise.std().item() == pytest.approx(1.0, abs=0.01)
    assert not torch.equal(noise, NoiseTape(80, 2).take(1000))


def test_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    NoiseTape(2, 0).take(5)
    assert torch.equal(state, torch.get_rng_state())


def test_what_was_taken_does_not_change_later() -> None:
    tape = NoiseTape(2, 0)
    first = tape.take(5)
    kept = first.clone()
    first += 1.0
    assert torch.equal(torch.cat([kept, tape.take(5)]), NoiseTape(2, 0).take(10))


@pytest.mark.parametrize("count", [-1, -1000])
def test_a_negative_count_is_refused(count: int) -> None:
    with pytest.raises(InputError, match=f"asked for {count} vectors; give 0 or more"):
        NoiseTape(2, 0).take(count)
