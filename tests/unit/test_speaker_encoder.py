from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from cosytune.errors import InputError
from cosytune.models.speaker_encoder import MarginSoftmax, SpeakerEncoder, SpeakerEncoderConfig
from cosytune.models.speaker_encoder.model import MaskedBatchNorm, pooled_statistics

TINY = SpeakerEncoderConfig(
    bins=16,
    speaker_width=12,
    front_channels=4,
    front_blocks=(1, 1),
    tdnn_channels=16,
    growth=8,
    bottleneck=8,
    blocks=(2, 2),
    dilations=(1, 2),
    segment=10,
)


def tiny(seed: int = 0) -> SpeakerEncoder:
    """A small network whose running statistics are not the initial ones."""
    torch.manual_seed(seed)
    encoder = SpeakerEncoder(TINY)
    with torch.no_grad():
        for _ in range(3):
            encoder(torch.randn(4, 50, TINY.bins), torch.full((4,), 50))
    return encoder


def voices(speakers: int, takes: int, take: int, frames: int = 40) -> tuple[Tensor, Tensor]:
    """Noise coloured by one spectral envelope per speaker: what a speaker encoder must hear."""
    envelope = torch.randn(speakers, 1, 1, TINY.bins, generator=torch.Generator().manual_seed(3))
    noise = torch.randn(speakers, takes, frames, TINY.bins, generator=torch.Generator().manual_seed(take))
    rhythm = torch.sin(torch.arange(frames) * 0.3)[:, None]
    features = 2.0 * envelope * rhythm + noise
    return features.flatten(0, 1), torch.arange(speakers).repeat_interleave(takes)


def test_full_size_is_the_published_one() -> None:
    # 3D-Speaker publishes 7.18 M parameters for its 512-wide CAM++.
    with torch.device("meta"):
        encoder = SpeakerEncoder(SpeakerEncoderConfig(speaker_width=512))
    assert sum(p.numel() for p in encoder.parameters()) == 7_176_224


def test_config_survives_json() -> None:
    assert SpeakerEncoderConfig.model_validate_json(TINY.model_dump_json()) == TINY


@settings(max_examples=8, deadline=None)
@given(lengths=st.lists(st.integers(1, 61), min_size=1, max_size=4), extra=st.integers(0, 30), seed=st.integers(0, 9))
def test_padding_changes_nothing(lengths: list[int], extra: int, seed: int) -> None:
    encoder = tiny().eval()
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(length, TINY.bins, generator=generator) for length in lengths]
    batch = torch.full((len(rows), max(lengths) + extra, TINY.bins), 1e4)  # garbage where nothing may look
    for index, row in enumerate(rows):
        batch[index, : len(row)] = row
    together = encoder(batch, torch.tensor(lengths))
    alone = torch.cat([encoder(row[None], torch.tensor([len(row)])) for row in rows])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_padding_changes_nothing_in_training() -> None:
    short, padded = tiny(), tiny()
    features = torch.randn(3, 37, TINY.bins)
    lengths = torch.tensor([37, 36, 20])
    wide = torch.cat([features, torch.full((3, 11, TINY.bins), 99.0)], dim=1)
    for index, length in enumerate(lengths):
        wide[index, length:] = 99.0
    torch.testing.assert_close(padded(wide, lengths), short(features, lengths), atol=1e-5, rtol=1e-4)
    for ours, theirs in zip(padded.buffers(), short.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_masked_and_unmasked_paths_agree() -> None:
    encoder = tiny().eval()
    features = torch.randn(2, 45, TINY.bins)
    unmasked = encoder(features, torch.tensor([45, 45]))
    masked = encoder(torch.nn.functional.pad(features, (0, 0, 0, 1)), torch.tensor([45, 45]))
    torch.testing.assert_close(masked, unmasked, atol=1e-5, rtol=1e-5)


def test_masked_batch_norm_by_hand() -> None:
    norm = MaskedBatchNorm(2)
    x = torch.randn(2, 2, 3, 5)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    out = norm(x, mask)
    valid = torch.cat([x[0], x[1, :, :, :2]], dim=-1)  # [C, M, 7]
    mean, deviation = valid.mean((1, 2)), (valid.var((1, 2), unbiased=False) + norm.eps).sqrt()
    expected = (x - mean.view(1, 2, 1, 1)) / deviation.view(1, 2, 1, 1)
    torch.testing.assert_close(out, expected * mask.view(2, 1, 1, 5), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(norm.running_mean, 0.1 * mean)


def test_statistics_of_one_frame_have_a_gradient() -> None:
    x = torch.randn(2, 3, 4, requires_grad=True)
    mask = torch.tensor([[True, False, False, False], [True, True, True, True]])
    pooled = pooled_statistics(x, mask)
    torch.testing.assert_close(pooled[1, 3:], x[1].std(-1, unbiased=False))
    pooled.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and not x.grad[0, :, 1:].any()


@pytest.mark.parametrize("bfloat16", [False, True])
def test_learns_synthetic_voices(bfloat16: bool) -> None:
    torch.manual_seed(0)
    encoder, criterion = SpeakerEncoder(TINY), MarginSoftmax(TINY.speaker_width, 5)
    lengths = torch.full((20,), 40)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *criterion.parameters()], lr=2e-2)
    losses = []
    for step in range(20):
        features, labels = voices(speakers=5, takes=4, take=step)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss, accuracy = criterion(encoder(features, lengths), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert loss.dtype == torch.float32
    assert accuracy == 1.0 and losses[-1] < 0.1 * losses[0]
    with torch.no_grad():
        for step in range(100, 120):  # at this rate the running statistics are behind the weights
            encoder(voices(speakers=5, takes=4, take=step)[0], lengths)
        unit = torch.nn.functional.normalize(encoder.eval()(voices(speakers=5, takes=4, take=1000)[0], lengths))
    same = labels[:, None] == labels[None]
    cosine = unit @ unit.t()
    assert cosine[same].mean() > cosine[~same].mean() + 0.4


@pytest.mark.parametrize("frames", [[30, 30, 30], [30, 21, 12]])
def test_gradient_reaches_every_parameter(frames: list[int]) -> None:
    encoder, criterion = tiny(), MarginSoftmax(TINY.speaker_width, 3)
    criterion(encoder(torch.randn(3, 30, TINY.bins), torch.tensor(frames)), torch.arange(3))[0].backward()
    parameters = [*encoder.named_parameters(), *criterion.named_parameters()]
    silent = [name for name, p in parameters if p.grad is None or not p.grad.any()]
    assert not silent


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"blocks": (2, 2, 2)}, "dilations has 2 entries for 3 blocks; give one per block"),
        ({"kernel": 4}, "kernel 4 is even"),
        ({"bins": 20}, "bins 20 is not a multiple of 8"),
        ({"growth": 0}, "growth"),
        ({"bottleneck": 1}, "bottleneck"),
        ({"chanels": 3}, "chanels"),
    ],
)
def test_wrong_sizes_are_refused_in_words(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SpeakerEncoderConfig.model_validate({**TINY.model_dump(), **change})


@pytest.mark.parametrize(
    ("shape", "lengths", "words"),
    [
        ((2, 20, 15), [20, 20], r"give \[batch, frames, 16\]"),
        ((2, 20, 16), [20], "give one length each"),
        ((2, 20, 16), [20, 21], r"lengths \[20, 21\] must lie between 1 and the 20 frames"),
        ((2, 20, 16), [0, 20], "leave empty utterances out"),
        ((1, 20, 16), [20], "one utterance alone cannot be batch-normalised"),
    ],
)
def test_wrong_input_is_refused_in_words(shape: tuple[int, ...], lengths: list[int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        SpeakerEncoder(TINY)(torch.randn(shape), torch.tensor(lengths))
