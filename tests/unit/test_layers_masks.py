from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cosytune.models.layers.masks import chunk_mask, length_mask


def test_length_mask_marks_the_first_positions() -> None:
    mask = length_mask(torch.tensor([0, 2, 3], dtype=torch.int32), 3)
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[False] * 3, [True, True, False], [True] * 3]


@given(size=st.integers(1, 20), chunk=st.integers(0, 25))
def test_chunk_mask_is_the_formula(size: int, chunk: int) -> None:
    mask = chunk_mask(size, chunk)
    for i in range(size):
        for j in range(size):
            assert mask[i, j].item() == (chunk == 0 or j < (i // chunk + 1) * chunk)


def test_chunk_one_is_causal() -> None:
    assert torch.equal(chunk_mask(6, 1), torch.ones(6, 6).tril().bool())


def test_a_negative_chunk_is_refused() -> None:
    with pytest.raises(ValueError, match="not -1"):
        chunk_mask(3, -1)
