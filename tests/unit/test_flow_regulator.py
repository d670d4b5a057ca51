"""Interpolation by segments and the convolution stack behind it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.models.flow.norm import FrameGroupNorm
from cosytune.models.flow.regulator import LengthRegulator, Segments, interpolate, speech_segments
from cosytune.models.layers.masks import length_mask
from cosytune.units import Clock

V1 = Clock(sample_rate=22050, hop=256, token_rate=50)


def lengths(*values: int) -> torch.Tensor:
    return torch.tensor(values)


@given(tokens=st.integers(1, 60), frames=st.integers(1, 150))
@settings(max_examples=50, deadline=None)
def test_one_piece_is_pytorchs_linear_interpolation(tokens: int, frames: int) -> None:
    x = torch.randn(1, tokens, 3, generator=torch.Generator().manual_seed(tokens))
    expected = F.interpolate(x.transpose(1, 2), size=frames, mode="linear").transpose(1, 2)
    torch.testing.assert_close(interpolate(x, Segments.whole(lengths(tokens), lengths(frames)), frames), expected)


@given(
    pieces=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 20)), min_size=1, max_size=5),
    padding=st.integers(0, 4),
)
@settings(max_examples=50, deadline=None)
def test_pieces_are_stretched_by_themselves_and_padding_is_zero(pieces: list[tuple[int, int]], padding: int) -> None:
    tokens, frames = zip(*pieces, strict=True)
    x = torch.randn(1, sum(tokens) + padding, 2, generator=torch.Generator().manual_seed(len(pieces)))
    parts = [
        F.interpolate(part.transpose(1, 2), size=count, mode="linear").transpose(1, 2)
        for part, count in zip(x[:, : sum(tokens)].split(list(tokens), dim=1), frames, strict=True)
        if count
    ]
    segments = Segments(torch.tensor([tokens]), torch.tensor([frames]))
    stretched = interpolate(x, segments, sum(frames) + padding)
    torch.testing.assert_close(stretched, torch.cat([*parts, torch.zeros(1, padding, 2)], dim=1))


def test_the_ends_of_long_speech_keep_their_length() -> None:
    tokens = lengths(40, 41, 50, 50)
    frames = lengths(68, 70, 86, 68)
    cut = speech_segments(lengths(10, 0, 10, 0), lengths(17, 0, 17, 0), tokens, frames, V1.frames_per_token)
    assert cut.tokens.tolist() == [[10, 0, 40, 0], [0, 20, 1, 20], [10, 20, 10, 20], [0, 0, 50, 0]]
    # The last row is asked to be so fast that the middle would be empty.
    assert cut.frames.tolist() == [[17, 0, 68, 0], [0, 34, 2, 34], [17, 34, 18, 34], [0, 0, 68, 0]]
    assert cut.frame_lengths.tolist() == [85, 70, 103, 68]


def test_a_whole_ratio_keeps_the_ends_at_that_ratio() -> None:
    cut = speech_segments(lengths(0), lengths(0), lengths(100), lengths(150), 2.0)
    assert cut.frames.tolist() == [[0, 40, 70, 40]]


def test_batch_equals_single() -> None:
    torch.manual_seed(0)
    regulator = LengthRegulator(8, 3)
    encoded = torch.randn(2, 12, 8)
    tokens, frames = lengths(12, 7), lengths(20, 11)
    batch = regulator(encoded, Segments.whole(tokens, frames), length_mask(frames, 20))
    alone = regulator(encoded[1:, :7], Segments.whole(tokens[1:], frames[1:]), length_mask(frames[1:], 11))
    torch.testing.assert_close(batch[1:, :, :11], alone, atol=1e-6, rtol=1e-5)
    assert batch[1, :, 11:].abs().max() == 0


@pytest.mark.parametrize("groups", [1, 4])
def test_group_norm_leaves_padding_out(groups: int) -> None:
    norm = FrameGroupNorm(groups, 8, count_padding=False)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x, mask = torch.randn(2, 8, 10), length_mask(lengths(10, 6), 10)[:, None]
    torch.testing.assert_close(norm(x, mask)[0], F.group_norm(x[:1], groups, norm.weight, norm.bias)[0])
    alone = F.group_norm(x[1:, :, :6], groups, norm.weight, norm.bias)
    torch.testing.assert_close(norm(x, mask)[1:, :, :6], alone)
    counted = FrameGroupNorm(groups, 8, count_padding=True)
    assert not torch.allclose(counted(x, mask)[1:, :, :6], F.group_norm(x[1:, :, :6], groups))
