from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.models.layers.attention import RelativeAttention, align_offsets, sinusoid_table
from cosytune.models.layers.masks import chunk_mask


def by_hand(attention: RelativeAttention, x: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """The formula of the module's docstring, one score at a time, for x [T, D]."""
    size, width = x.shape
    head = width // attention.heads
    query, key, value = (
        layer(x).view(size, attention.heads, head) for layer in (attention.query, attention.key, attention.value)
    )
    out = torch.zeros(size, attention.heads, head)
    for h in range(attention.heads):
        for i in range(size):
            seen = [j for j in range(size) if visible[i, j]]
            if not seen:
                continue
            scores = []
            for j in seen:
                angles = [(i - j) * 10000 ** (-2 * c / width) for c in range(width // 2)]
                sinusoid = torch.tensor([f(a) for a in angles for f in (math.sin, math.cos)])
                position = attention.position(sinusoid).view(attention.heads, head)[h]
                content = (query[i, h] + attention.content_bias[h]) @ key[j, h]
                scores.append((content + (query[i, h] + attention.position_bias[h]) @ position) / math.sqrt(head))
            out[i, h] = torch.stack(scores).softmax(0) @ value[seen, h]
    return attention.output(out.flatten(1))


@pytest.mark.parametrize("chunk", [0, 1, 3])
def test_attention_is_the_formula(chunk: int) -> None:
    torch.manual_seed(chunk)
    attention = RelativeAttention(8, 2)
    x = torch.randn(7, 8)
    visible = chunk_mask(7, chunk) & (torch.arange(7) < 5)
    table = sinusoid_table(6, -6 if chunk == 0 else 1 - chunk, 8, x)
    with torch.no_grad():
        got = attention(x[None], table, visible[None, None])[0]
        torch.testing.assert_close(got, by_hand(attention, x, visible), atol=1e-5, rtol=0)


@pytest.mark.parametrize("queries", [1, 3, 7])
@torch.no_grad()
def test_the_last_queries_alone_get_what_they_get_together(queries: int) -> None:
    attention = RelativeAttention(8, 2)
    x = torch.randn(2, 7, 8)
    visible, table = chunk_mask(7, 1), sinusoid_table(6, 0, 8, x)
    query, key, value = attention.project(x)
    got = attention.attend(
        query[:, :, -queries:], key, value, attention.project_positions(table), visible[None, None, -queries:]
    )
    torch.testing.assert_close(got, attention(x, table, visible)[:, -queries:], atol=1e-6, rtol=0)


def test_a_query_that_sees_nothing_gets_zero_and_finite_gradients() -> None:
    attention = RelativeAttention(8, 2)
    x = torch.randn(1, 4, 8, requires_grad=True)
    visible = torch.ones(4, 4, dtype=torch.bool)
    visible[2] = False
    out = attention(x, sinusoid_table(3, -3, 8, x), visible)
    torch.testing.assert_close(out[0, 2], attention.output.bias)
    out.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_half_precision_masking_does_not_overflow() -> None:
    attention = RelativeAttention(8, 2).half()
    x = (40 * torch.randn(1, 4, 8)).half()
    visible = torch.zeros(4, 4, dtype=torch.bool)
    assert attention(x, sinusoid_table(3, -3, 8, x), visible).isfinite().all()


@settings(max_examples=40)
@given(queries=st.integers(1, 6), past=st.integers(0, 5), ahead=st.integers(0, 6))
def test_align_offsets_picks_the_offset_of_each_pair(queries: int, past: int, ahead: int) -> None:
    keys = queries + past
    ahead = min(ahead, queries - 1)
    offsets = torch.arange(keys - 1, -ahead - 1, -1).float()
    aligned = align_offsets(offsets.expand(2, queries, -1), keys)
    assert aligned.shape == (2, queries, keys)
    for i in range(queries):
        for j in range(keys):
            if past + i - j >= -ahead:
                assert aligned[1, i, j] == past + i - j


def test_sinusoids_have_no_longest_sequence() -> None:
    table = sinusoid_table(20_000, 19_999, 4, torch.zeros(1))
    expected = [f(20_000 * w) for w in (1.0, 0.01) for f in (math.sin, math.cos)]
    torch.testing.assert_close(table[0], torch.tensor(expected), atol=2e-3, rtol=0)
    mirrored = sinusoid_table(3, -3, 6, torch.zeros(1))
    torch.testing.assert_close(mirrored.flip(0)[:, 0::2], -mirrored[:, 0::2])


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="width 10 cannot be shared by 4 heads"):
        RelativeAttention(10, 4)
