from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cosytune.errors import ModelError
from cosytune.models.lm.sampling import GREEDY, REFERENCE_SAMPLING, SamplingConfig, nucleus, sample
from tests.golden_fill import uniform

RECORDED_NUCLEUS = [
    1016, 4081, 2474, 3135, 925, 289, 883, 3277, 1895, 3687, 3578, 2020, 2070,
    3763, 1787, 2750, 699, 115, 340, 3373, 2581, 4054, 2383, 1529, 1930,
]  # fmt: skip

logits_lists = st.lists(
    st.floats(-8, 8, width=32),
    min_size=3,
    max_size=12,
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_nucleus_of_the_recorded_logits() -> None:
    ids, probabilities = nucleus(torch.from_numpy(12 * uniform("in:logits", 4097)).float(), 0.8, 25)
    assert ids.tolist() == RECORDED_NUCLEUS
    assert probabilities[0].item() == pytest.approx(0.002826, abs=5e-7)
    assert probabilities[-1].item() == pytest.approx(0.002646, abs=5e-7)


def test_of_equal_tokens_the_lower_id_comes_first() -> None:
    ids, _ = nucleus(torch.tensor([1.0, 2.0] * 40), top_p=1.0, top_k=60)
    assert ids.tolist() == [*range(1, 80, 2), *range(0, 40, 2)]


def reference_draw(logits: list[float], history: list[int], seed: int, forbid_end: bool) -> int:
    """The rule in words: walk down the sorted classes; a repeated token is struck out and all others are drawn from."""
    generator = seeded(seed)
    row = torch.tensor(logits)
    if forbid_end:
        row[-1] = -torch.inf
    taken: list[int] = []
    mass = 0.0
    probabilities = row.softmax(0)
    for index in probabilities.sort(descending=True, stable=True).indices.tolist():
        if mass >= 0.8 or len(taken) >= 25:
            break
        taken.append(index)
        mass += probabilities[index].item()
    token = taken[int(torch.multinomial(probabilities[taken], 1, generator=generator))]
    if history[-10:].count(token) >= 1:
        row[token] = -torch.inf
        token = int(torch.multinomial(row.softmax(0), 1, generator=generator))
    return token


@settings(max_examples=150, deadline=None)
@given(
    logits=logits_lists, history=st.lists(st.integers(0, 4), max_size=14), seed=st.integers(0, 99), forbid=st.booleans()
)
def test_reference_sampling_is_the_rule(logits: list[float], history: list[int], seed: int, forbid: bool) -> None:
    drawn = sample(torch.tensor(logits), history, REFERENCE_SAMPLING, seeded(seed), forbid)
    assert drawn == reference_draw(logits, history, seed, forbid)


@settings(max_examples=100, deadline=None)
@given(logits=logits_lists, history=st.lists(st.integers(0, 11), max_size=14), seed=st.integers(0, 99))
def test_second_draw_avoids_the_token_and_stays_in_the_nucleus(
    logits: list[float], history: list[int], seed: int
) -> None:
    config = SamplingConfig(top_k=4)
    token = sample(torch.tensor(logits), history, config, seeded(seed), forbid_end=False)
    once = nucleus(torch.tensor(logits), 0.8, 4)[0]
    first = int(once[torch.multinomial(nucleus(torch.tensor(logits), 0.8, 4)[1], 1, generator=seeded(seed))])
    if first not in history[-10:]:
        assert token == first
        return
    remaining = torch.tensor(logits)
    remaining[first] = -torch.inf
    assert token != first
    assert token in nucleus(remaining, 0.8, 4)[0].tolist()


def test_the_default_second_draw_keeps_out_what_the_model_holds_for_impossible() -> None:
    # One token repeated, one good alternative, 4000 tokens that hold a tenth of the mass together.
    logits = torch.full((4002,), -8.0)
    logits[:2] = torch.tensor([4.0, 3.5])

    def drawn(config: SamplingConfig) -> set[int]:
        generator = seeded(0)
        return {sample(logits, [0, 1], config, generator, True) for _ in range(200)}

    assert drawn(SamplingConfig()) <= {0, 1}
    assert not drawn(REFERENCE_SAMPLING) <= {0, 1}


def test_window_and_tau_say_what_counts_as_repeated() -> None:
    logits = torch.tensor([9.0, 1.0, 0.0])
    for config, history, repeated in [
        (SamplingConfig(), [0] + [1] * 9, True),
        (SamplingConfig(), [0] + [1] * 10, False),
        (SamplingConfig(window=4, tau=0.5), [0, 1, 1, 1], False),
        (SamplingConfig(window=4, tau=0.5), [0, 0, 1, 1], True),
        (SamplingConfig(window=0), [0, 0, 0, 0], False),
    ]:
        token = sample(logits, history, config, seeded(3), forbid_end=False)
        assert (token != 0) == repeated, (config, history)


def test_frequencies_follow_the_nucleus() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    config = SamplingConfig(top_p=0.7, window=0)
    generator = seeded(5)
    draws = [sample(logits, [], config, generator, forbid_end=False) for _ in range(2000)]
    assert set(draws) == {0, 1}
    assert draws.count(0) / 2000 == pytest.approx(0.5 / 0.8, abs=0.04)


def test_temperature_sharpens_and_flattens() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0])

    def share(temperature: float) -> float:
        generator = seeded(1)
        config = SamplingConfig(temperature=temperature, window=0, top_p=1.0)
        return sum(sample(logits, [], config, generator, False) == 0 for _ in range(400)) / 400

    assert share(0.3) > 0.9 > share(1.0) > 0.55 > share(5.0)


def test_the_end_is_forbidden_on_request_and_logits_are_left_alone() -> None:
    logits = torch.tensor([0.0, 1.0, 9.0])
    kept = logits.clone()
    for config in (SamplingConfig(), REFERENCE_SAMPLING, GREEDY):
        assert sample(logits, [], config, seeded(0), forbid_end=False) == 2
        assert all(sample(logits, [0, 1], config, seeded(seed), forbid_end=True) != 2 for seed in range(20))
    assert torch.equal(logits, kept)


def test_greedy_needs_no_generator_and_ignores_repetition() -> None:
    assert sample(torch.tensor([0.0, 3.0, 1.0]), [1] * 10, GREEDY, None, forbid_end=False) == 1


def test_the_same_seed_gives_the_same_tokens_and_leaves_the_global_one_alone() -> None:
    logits = torch.randn(200)
    state = torch.get_rng_state()
    runs = []
    for _ in range(2):
        generator = seeded(7)
        runs.append([sample(logits, [], SamplingConfig(), generator, False) for _ in range(20)])
    assert runs[0] == runs[1]
    assert len(set(runs[0])) > 1
    assert torch.equal(state, torch.get_rng_state())


def test_drawing_needs_a_generator() -> None:
    with pytest.raises(ValueError, match=r"needs a torch\.Generator"):
        sample(torch.zeros(3), [], SamplingConfig(), None, forbid_end=False)


def test_damaged_weights_are_told() -> None:
    with pytest.raises(ModelError, match="not-a-number scores"):
        sample(torch.tensor([0.0, torch.nan, 1.0]), [], GREEDY, None, forbid_end=False)


@pytest.mark.parametrize("wrong", [{"top_p": 0}, {"top_k": 0}, {"temperature": 0}, {"redraw": "never"}, {"topp": 0.5}])
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SamplingConfig.model_validate(wrong)
