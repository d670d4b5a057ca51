from __future__ import annotations

import pytest
import torch

from cosytune.errors import InputError, ModelError
from cosytune.models.lm import GREEDY, LM, Generated, SamplingConfig, generate
from tests.unit.lm_examples import small_lm

TEXT = torch.tensor([3, 1, 4, 1, 5])
SPEAKER = torch.arange(6.0)
NOTHING = torch.zeros(0, dtype=torch.int64)


def greedy(lm: LM, speaker: torch.Tensor | None = SPEAKER, text: torch.Tensor = TEXT, **ratios: float) -> Generated:
    return generate(lm, text, speaker, NOTHING, NOTHING, sampling=GREEDY, generator=None, **ratios)


def wanting_to_end(strength: float) -> LM:
    lm = small_lm()
    with torch.no_grad():
        lm.head.bias[lm.end_token] = strength
    return lm


@pytest.mark.parametrize("speaker", [SPEAKER, None])
@pytest.mark.parametrize("prompt_size", [0, 4])
@torch.no_grad()
def test_cached_decoding_equals_recomputing_everything(speaker: torch.Tensor | None, prompt_size: int) -> None:
    lm = wanting_to_end(-100)
    prompt_text, prompt_speech = torch.arange(prompt_size), torch.arange(2 * prompt_size) % 20
    got = generate(
        lm, TEXT, speaker, prompt_text, prompt_speech, sampling=GREEDY, generator=None, min_ratio=3, max_ratio=6
    )
    vector = None if speaker is None else speaker[None]
    tokens: list[int] = []
    while len(tokens) < 30:
        speech = torch.cat((prompt_speech, torch.tensor(tokens, dtype=torch.int64)))
        embedding = lm.prefix(torch.cat((prompt_text, TEXT))[None], vector, speech[None])
        tokens.append(int(lm.head(lm.decoder(embedding)[0, -1])[:-1].argmax()))
    assert got.tokens == tokens
    assert not got.stopped


def test_the_end_token_ends_it_but_not_before_the_minimum() -> None:
    ended = greedy(wanting_to_end(100), min_ratio=2.5, max_ratio=9)
    assert (len(ended.tokens), ended.stopped) == (12, True)
    at_once = greedy(wanting_to_end(100), min_ratio=0)
    assert (at_once.tokens, at_once.stopped) == ([], True)


def test_the_limit_ends_it_and_is_told() -> None:
    limited = greedy(wanting_to_end(-100), max_ratio=4)
    assert (len(limited.tokens), limited.stopped) == (20, False)


def test_the_prompt_does_not_count_for_the_ratios() -> None:
    lm = wanting_to_end(-100)
    got = generate(
        lm, TEXT, None, torch.arange(9), torch.arange(7), sampling=GREEDY, generator=None, min_ratio=1, max_ratio=2
    )
    assert len(got.tokens) == 10


def test_the_seed_decides() -> None:
    lm = small_lm()
    runs = []
    for seed in (1, 1, 2):
        generator = torch.Generator().manual_seed(seed)
        runs.append(
            generate(lm, TEXT, SPEAKER, NOTHING, NOTHING, sampling=SamplingConfig(), generator=generator, max_ratio=5)
        )
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_dropout_is_off_meanwhile_and_the_mode_comes_back() -> None:
    lm = wanting_to_end(-100)
    quiet = greedy(lm, max_ratio=4)
    lm.train()
    assert greedy(lm, max_ratio=4) == quiet
    assert lm.training


def test_there_must_be_something_to_say() -> None:
    with pytest.raises(InputError, match="there is nothing to say"):
        greedy(small_lm(), text=NOTHING)


def test_ratios_must_not_exclude_each_other() -> None:
    with pytest.raises(InputError, match="got 5 and 4"):
        greedy(small_lm(), min_ratio=5, max_ratio=4)


def test_damaged_weights_are_told() -> None:
    with pytest.raises(ModelError, match="not-a-number"):
        greedy(wanting_to_end(torch.nan))
