from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from cosytune.errors import InputError
from cosytune.models.sizes import family_size
from cosytune.models.speech_tokenizer import (
    FSQConfig,
    SpeechTokenizer,
    SpeechTokenizerConfig,
    VQConfig,
    ctc_loss,
    greedy_ctc,
)
from cosytune.models.speech_tokenizer.model import FrontEnd, rotary_table, rotate
from cosytune.units import Clock

QUANTISERS = {"fsq": FSQConfig(levels=(3,) * 6), "vq": VQConfig(codes=64, code_width=8)}
BINS, SYMBOLS = 12, 7


def tiny(kind: str, strides: tuple[int, ...] = (2, 2)) -> SpeechTokenizer:
    torch.manual_seed(1)
    config = SpeechTokenizerConfig.model_validate(
        {
            "symbols": SYMBOLS,
            "bins": BINS,
            "strides": strides,
            "width": 32,
            "heads": 2,
            "feed_forward": 64,
            "layers_before": 1,
            "layers_after": 1,
            "memory_kernel": 5,
            "quantiser": QUANTISERS[kind].model_dump(),
        }
    )
    return SpeechTokenizer(config)


def sentences() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four utterances in which each symbol sounds for 16 frames: features, lengths, targets, target lengths."""
    generator = torch.Generator().manual_seed(5)
    sound = torch.randn(SYMBOLS, BINS, generator=generator)
    target_lengths = torch.tensor([6, 5, 4, 6])
    targets = torch.randint(0, SYMBOLS, (4, 6), generator=generator)
    features = sound[targets].repeat_interleave(16, dim=1).transpose(1, 2)
    features = features + 0.1 * torch.randn(features.shape, generator=generator)
    return features, target_lengths * 16, targets, target_lengths


@pytest.mark.parametrize("rate", [25, 50])
def test_token_counts_are_the_clocks_for_all_lengths(rate: int) -> None:
    strides = {25: (2, 2), 50: (1, 2)}[rate]
    config = SpeechTokenizerConfig.model_validate(
        {"symbols": 1, "bins": 1, "width": 2, "heads": 1, "feed_forward": 1, "strides": strides}
    )
    assert config.token_rate == rate
    clock, front = Clock(16_000, 320, rate), FrontEnd(config)
    _, counted = front(torch.zeros(3000, 1, 1), torch.arange(1, 3001))
    assert counted.tolist() == [clock.tokens_of_feature_frames(length) for length in range(1, 3001)]
    for length in [*range(1, 200), *range(2990, 3001)]:  # what the convolutions make must be as many
        assert front(torch.zeros(1, 1, length), torch.tensor([length]))[0].shape[1] == counted[length - 1]


@pytest.mark.parametrize("kind", QUANTISERS)
def test_shapes_and_types(kind: str) -> None:
    tokenizer = tiny(kind)
    out = tokenizer(torch.randn(3, BINS, 33), torch.tensor([33, 32, 1]))
    assert out.codes.shape == (3, 9) and out.codes.dtype == torch.int64
    assert out.lengths.tolist() == [9, 8, 1]
    assert out.ctc_logits.shape == (3, 9, SYMBOLS + 1)
    assert out.quantiser_loss.shape == () and (out.quantiser_loss > 0) == (kind == "vq")
    assert tokenizer.codebook_size == {"fsq": 729, "vq": 64}[kind]
    assert not out.codes[1, 8:].any() and not out.codes[2, 1:].any()
    assert out.codes.min() >= 0 and out.codes.max() < tokenizer.codebook_size


@pytest.mark.parametrize("kind", QUANTISERS)
@pytest.mark.parametrize("strides", [(2, 2), (1, 2)])
def test_batch_equals_single(kind: str, strides: tuple[int, ...]) -> None:
    tokenizer = tiny(kind, strides).eval()
    lengths = torch.tensor([1, 2, 3, 4, 5, 37, 50, 64])
    features = torch.randn(8, BINS, 70)
    features[torch.arange(70) >= lengths[:, None, None].expand(8, BINS, 1)] = 1e4  # garbage where nothing may look
    codes, token_lengths = tokenizer.encode(features, lengths)
    logits = tokenizer(features, lengths).ctc_logits
    for row, length in enumerate(lengths.tolist()):
        alone = features[row : row + 1, :, :length]
        code, token_length = tokenizer.encode(alone, lengths[row : row + 1])
        assert token_length == token_lengths[row]
        assert code[0].tolist() == codes[row, : int(token_length)].tolist()
        assert not codes[row, int(token_length) :].any()
        single = tokenizer(alone, lengths[row : row + 1])
        assert single.codes.equal(code)
        torch.testing.assert_close(single.ctc_logits[0], logits[row, : int(token_length)], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("kind", QUANTISERS)
def test_learns_one_batch(kind: str, bfloat16: bool) -> None:
    tokenizer = tiny(kind)
    features, lengths, targets, target_lengths = sentences()
    tokenizer.revive_codes(features, lengths, torch.Generator().manual_seed(0))
    optimiser = torch.optim.AdamW(tokenizer.parameters(), lr=5e-3)
    for step in range(80):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            out = tokenizer(features, lengths, round=step >= 20)
        result = ctc_loss(out, targets, target_lengths)
        optimiser.zero_grad()
        (result.loss + out.quantiser_loss).backward()
        optimiser.step()
    assert result.loss.dtype == torch.float32 and result.loss.item() < 0.1 and result.too_short == 0
    expected = [row[:length].tolist() for row, length in zip(targets, target_lengths, strict=True)]
    with torch.no_grad():
        out = tokenizer.eval()(features, lengths)
    assert greedy_ctc(out.ctc_logits, out.lengths) == expected


@pytest.mark.parametrize("rounding", [False, True])
@pytest.mark.parametrize("kind", QUANTISERS)
def test_gradient_reaches_every_parameter(kind: str, rounding: bool) -> None:
    tokenizer = tiny(kind)
    features, lengths, targets, target_lengths = sentences()
    out = tokenizer(features, lengths, round=rounding)
    (ctc_loss(out, targets, target_lengths).loss + out.quantiser_loss).backward()
    silent = [name for name, p in tokenizer.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


@pytest.mark.parametrize("kind", QUANTISERS)
def test_rounding_can_be_switched_off(kind: str) -> None:
    tokenizer = tiny(kind).eval()
    features, lengths = torch.randn(2, BINS, 40), torch.tensor([40, 40])
    smooth, rounded = tokenizer(features, lengths, round=False), tokenizer(features, lengths)
    assert smooth.codes.equal(rounded.codes)
    assert not torch.allclose(smooth.ctc_logits, rounded.ctc_logits)


@pytest.mark.parametrize("kind", QUANTISERS)
def test_untrained_codes_cover_many_values(kind: str) -> None:
    tokenizer = tiny(kind).eval()
    features, lengths = torch.randn(16, BINS, 200), torch.full((16,), 200)
    tokenizer.revive_codes(features, lengths, torch.Generator().manual_seed(0))
    used = tokenizer.encode(features, lengths)[0].unique()
    assert len(used) > {"fsq": 100, "vq": 55}[kind]


def test_rotary_scores_depend_on_distance_only() -> None:
    query, key = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    rotation = rotary_table(20, 8, torch.device("cpu"))
    scores = rotate(query.expand(1, 1, 20, 8), rotation) @ rotate(key.expand(1, 1, 20, 8), rotation).transpose(-1, -2)
    for offset in range(-19, 20):
        diagonal = scores[0, 0].diagonal(offset)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=1e-4)
    assert scores[0, 0, 0].std() > 0.01


def test_full_sizes_are_the_released_ones() -> None:
    second, first = SpeechTokenizerConfig(symbols=100), family_size("300m").parts(100)["speech_tokenizer"]
    assert isinstance(first, SpeechTokenizerConfig)
    assert (second.token_rate, second.quantiser.codebook_size) == (25, 6561)
    assert (first.token_rate, first.quantiser.codebook_size) == (50, 4096)


@pytest.mark.parametrize("kind", QUANTISERS)
def test_config_survives_json(kind: str) -> None:
    config = tiny(kind).config
    assert SpeechTokenizerConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"strides": (2, 2, 2)}, r"strides \[2, 2, 2\] multiply to 8, which does not divide 100 Hz"),
        ({"strides": (3,)}, "strides"),
        ({"width": 30}, "width 30 does not give 4 heads an even width each"),
        ({"width": 12}, "width 12 does not give 4 heads an even width each"),
        ({"memory_kernel": 4}, "memory_kernel 4 is even"),
        ({"quantiser": {"kind": "fsq", "levels": [3, 4]}}, r"levels \[3, 4\] must all be odd and at least 3"),
        ({"quantiser": {"kind": "fsq", "levels": [1]}}, "must all be odd and at least 3"),
        ({"quantiser": {"kind": "pq"}}, "pq"),
        ({"quantiser": {"kind": "vq", "codes": 1}}, "codes"),
    ],
)
def test_wrong_sizes_are_refused_in_words(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SpeechTokenizerConfig.model_validate({"symbols": 5, "width": 32, "heads": 4, **change})


@pytest.mark.parametrize(
    ("shape", "lengths", "words"),
    [
        ((2, 13, 20), [20, 20], r"give \[batch, 12, frames\]"),
        ((2, 12, 20), [20], "give one length each"),
        ((2, 12, 20), [20, 21], r"lengths \[20, 21\] must lie between 1 and the 20 frames"),
        ((2, 12, 20), [0, 20], "leave empty utterances out"),
    ],
)
def test_wrong_input_is_refused_in_words(shape: tuple[int, ...], lengths: list[int], words: str) -> None:
    tokenizer = tiny("fsq")
    with pytest.raises(InputError, match=words):
        tokenizer(torch.randn(shape), torch.tensor(lengths))
    with pytest.raises(InputError, match=words):
        tokenizer.encode(torch.randn(shape), torch.tensor(lengths))
