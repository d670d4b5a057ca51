from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cosytune.models.lm import LM, LMConfig, lm_loss
from cosytune.models.lm.model import IGNORED
from tests.unit.lm_examples import small_lm

LMODEL = small_lm()


def batch(text_lengths: list[int], speech_lengths: list[int], seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Text, lengths, speech, lengths, speaker; padded with ids that no embedding has."""
    generator = torch.Generator().manual_seed(seed)
    rows, sizes = len(text_lengths), (max(text_lengths), max(speech_lengths))
    text = torch.randint(0, 30, (rows, sizes[0]), generator=generator)
    speech = torch.randint(0, 20, (rows, sizes[1]), generator=generator)
    for row in range(rows):
        text[row, text_lengths[row] :] = -1
        speech[row, speech_lengths[row] :] = 999
    speaker = torch.randn(rows, 6, generator=generator)
    return text, torch.tensor(text_lengths), speech, torch.tensor(speech_lengths, dtype=torch.int32), speaker


lengths = st.lists(st.tuples(st.integers(1, 7), st.integers(0, 9), st.booleans()), min_size=1, max_size=4)
"""Text and speech tokens of each row, and whether its text begins with an instruction."""


@settings(max_examples=25, deadline=None)
@given(sizes=lengths, with_speaker=st.booleans())
@torch.no_grad()
def test_a_batch_equals_its_rows(sizes: list[tuple[int, int, bool]], with_speaker: bool) -> None:
    texts, speeches, instructed = ([s[place] for s in sizes] for place in range(3))
    text, text_lengths, speech, speech_lengths, speaker = batch(texts, speeches)
    vectors = speaker if with_speaker else None
    together = LMODEL(text, text_lengths, speech, speech_lengths, vectors, torch.tensor(instructed))
    heads = [2 if with_speaker and not told else 1 for told in instructed]
    assert together.logits.shape[:2] == (
        len(sizes),
        max(h + n + 1 + m for h, (n, m, _) in zip(heads, sizes, strict=True)),
    )
    for row, (head, (n, m, _)) in enumerate(zip(heads, sizes, strict=True)):
        vector = speaker[row : row + 1] if head == 2 else None
        alone = LMODEL(
            text[row : row + 1, :n],
            text_lengths[row : row + 1],
            speech[row : row + 1, :m],
            speech_lengths[row : row + 1],
            vector,
        )
        size = head + n + 1 + m
        torch.testing.assert_close(together.logits[row, :size], alone.logits[0], atol=1e-5, rtol=0)
        expected = [IGNORED] * (head + n) + speech[row, :m].tolist() + [20]
        assert alone.targets[0].tolist() == expected
        assert together.targets[row].tolist() == expected + [IGNORED] * (together.targets.shape[1] - size)


@torch.no_grad()
@pytest.mark.parametrize("with_speaker", [False, True])
@pytest.mark.parametrize("spoken", [0, 3, 8])
def test_what_the_decoder_makes_of_the_prefix_are_the_teacher_forced_logits(with_speaker: bool, spoken: int) -> None:
    text, text_lengths, speech, speech_lengths, vector = batch([5], [8])
    speaker = vector if with_speaker else None
    full = LMODEL(text, text_lengths, speech, speech_lengths, speaker).logits
    prefix = LMODEL.prefix(LMODEL.encode_text(text), speaker, speech[:, :spoken])
    assert prefix.shape == (1, (2 if with_speaker else 1) + 5 + 1 + spoken, 12)
    logits = LMODEL.head(LMODEL.decoder(prefix))
    torch.testing.assert_close(logits, full[:, : prefix.shape[1]], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("what", ["text", "speech"])
def test_the_past_does_not_see_the_future(what: str) -> None:
    text, text_lengths, speech, speech_lengths, speaker = batch([6], [7])
    before = LMODEL(text, text_lengths, speech, speech_lengths, speaker).logits[0]
    changed = text if what == "text" else speech
    changed[0, 4] = (changed[0, 4] + 1) % 20
    after = LMODEL(text, text_lengths, speech, speech_lengths, speaker).logits[0]
    position = 2 + 4 if what == "text" else 2 + 6 + 1 + 4
    assert torch.equal(before[:position], after[:position])
    assert (before[position:] - after[position:]).abs().amax(-1).gt(0).all()


@torch.no_grad()
def test_without_a_speaker_the_position_is_absent_and_everything_shifts() -> None:
    text, text_lengths, speech, speech_lengths, speaker = batch([4, 3], [5, 6])
    spoken = LMODEL(text, text_lengths, speech, speech_lengths, speaker)
    silent = LMODEL(text, text_lengths, speech, speech_lengths, None)
    assert silent.logits.shape[1] == spoken.logits.shape[1] - 1
    assert torch.equal(silent.targets, spoken.targets[:, 1:])
    encoded = LMODEL.encode_text(text[:1])
    without = LMODEL.prefix(encoded, None, speech[:1, :0])
    assert without.shape[1] == 1 + 4 + 1
    torch.testing.assert_close(LMODEL.prefix(encoded, speaker[:1], speech[:1, :0])[:, 2:], without[:, 1:])


@torch.no_grad()
def test_only_the_direction_of_the_speaker_counts() -> None:
    *rest, speaker = batch([4], [5])
    torch.testing.assert_close(LMODEL(*rest, speaker).logits, LMODEL(*rest, 7 * speaker).logits)
    assert (LMODEL(*rest, speaker).logits - LMODEL(*rest, -speaker).logits).abs().max() > 1e-4


@pytest.mark.parametrize("autocast", [False, True])
def test_every_weight_learns(autocast: bool) -> None:
    lm = small_lm(1).train()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        output = lm(*batch([4, 6], [5, 2]))
    lm_loss(output).loss.backward()
    for name, parameter in lm.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0 or name.endswith("attention.key.bias"), name


def test_the_model_can_learn_a_batch_by_heart() -> None:
    lm = small_lm(2)
    data = batch([4, 6], [5, 8])
    optimiser = torch.optim.Adam(lm.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        lm_loss(lm(*data)).loss.backward()
        optimiser.step()
    result = lm_loss(lm(*data))
    assert result.loss < 0.2
    assert result.accuracy == 1


def test_a_decoder_that_looks_ahead_is_refused() -> None:
    config = LMODEL.config
    data = config.model_dump() | {"decoder": config.decoder.model_dump() | {"chunk": 0}}
    with pytest.raises(ValidationError, match=r"must be causal \(chunk 1\), not chunk 0"):
        LMConfig.model_validate(data)


@pytest.mark.parametrize(
    ("ratios", "words"),
    [({"max_ratio": 1e300}, "less than or equal to 100"), ({"min_ratio": 30.0}, "min_ratio 30 is above max_ratio 20")],
)
def test_ratios_that_would_decode_without_end_are_refused(ratios: dict[str, float], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        LMConfig.model_validate(LMODEL.config.model_dump() | ratios)


def test_configuration_goes_through_json() -> None:
    again = LMConfig.model_validate_json(LMODEL.config.model_dump_json())
    assert again == LMODEL.config
    LM(again).load_state_dict(LMODEL.state_dict(), strict=True)
