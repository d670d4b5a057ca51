from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from cosytune.errors import ModelError
from cosytune.models.lm.sampling import GREEDY, REFERENCE_SAMPLING, SamplingConfig, _drawn, nucleus, sample
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


def draw(
    logits: Tensor | list[float],
    config: SamplingConfig,
    generator: torch.Generator,
    history: Sequence[int] = (),
    forbid_end: bool = False,
) -> int:
    """One row alone."""
    return sample(torch.as_tensor(logits)[None], [history], config, [generator], [forbid_end])[0]


def many(
    logits: Tensor, config: SamplingConfig, count: int, history: Sequence[int] = (), forbid_end: bool = False
) -> list[int]:
    """Rows that differ in their seed only."""
    generators = [seeded(seed) for seed in range(count)]
    return sample(logits.expand(count, -1), [history] * count, config, generators, [forbid_end] * count)


def taken(logits: Tensor, top_p: float, top_k: int) -> list[int]:
    """What the nucleus of one row holds."""
    ids, probabilities = nucleus(logits[None], top_p, top_k)
    return [token for token, probability in zip(ids[0].tolist(), probabilities[0].tolist(), strict=True) if probability]


def test_nucleus_of_the_recorded_logits() -> None:
    row = torch.from_numpy(12 * uniform("in:logits", 4097)).float()
    ids, probabilities = nucleus(torch.stack((row.flip(0), row)), 0.8, 25)
    assert ids[1].tolist() == RECORDED_NUCLEUS
    assert ids[0].tolist() == [4096 - token for token in RECORDED_NUCLEUS]
    assert probabilities[1, 0].item() == pytest.approx(0.002826, abs=5e-7)
    assert probabilities[1, -1].item() == pytest.approx(0.002646, abs=5e-7)


@pytest.mark.parametrize(
    ("top_p", "top_k", "size"), [(0.82, 25, 3), (0.8, 25, 2), (0.49, 25, 1), (0.01, 25, 1), (1.0, 25, 4), (1.0, 2, 2)]
)
def test_the_class_that_crosses_top_p_is_the_last(top_p: float, top_k: int, size: int) -> None:
    probabilities = torch.tensor([0.125, 0.5, 0.0625, 0.3125])
    assert taken(probabilities.log(), top_p, top_k) == [1, 3, 0, 2][:size]


def test_a_nucleus_that_reaches_top_p_exactly_is_full() -> None:
    assert taken(torch.zeros(2), 0.5, 25) == [0]
    assert taken(torch.zeros(8), 0.75, 25) == [0, 1, 2, 3, 4, 5]


def test_classes_behind_the_last_weigh_nothing_and_the_others_what_the_model_says() -> None:
    ids, probabilities = nucleus(torch.tensor([[0.25, 0.5, 0.125, 0.125], [0.9, 0.05, 0.03, 0.02]]).log(), 0.7, 3)
    assert ids.tolist() == [[1, 0, 2], [0, 1, 2]]
    torch.testing.assert_close(probabilities, torch.tensor([[0.5, 0.25, 0.0], [0.9, 0.0, 0.0]]))


def test_of_equal_tokens_the_lower_id_comes_first() -> None:
    two_heights = torch.tensor([[1.0, 2.0] * 40, [2.0, 1.0] * 40])
    ids, _ = nucleus(two_heights, top_p=1.0, top_k=60)
    assert ids[0].tolist() == [*range(1, 80, 2), *range(0, 40, 2)]
    assert ids[1].tolist() == [*range(0, 80, 2), *range(1, 40, 2)]
    assert taken(torch.zeros(4097), 1.0, 25) == list(range(25))


def test_nearly_equal_tokens_are_not_taken_for_equal() -> None:
    # One step of float32 apart, the likelier one with the highest id.
    higher = torch.nextafter(torch.tensor(9.0), torch.tensor(10.0)).item()
    assert taken(torch.tensor([9.0] + [0.0] * 4095 + [higher]), 0.1, 1) == [4096]


def test_a_number_on_a_border_belongs_to_the_next_class_that_weighs_something() -> None:
    ids, weights = torch.tensor([[7, 8, 9, 5]]), torch.tensor([[0.0, 0.25, 0.0, 0.25]])
    for uniform_number, expected in ((0.0, 8), (0.49, 8), (0.5, 5), (1 - 2.0**-53, 5)):
        assert _drawn(ids, weights, torch.tensor([uniform_number], dtype=torch.float64)) == [expected]


def reference_draw(row: Tensor, history: Sequence[int], config: SamplingConfig, seed: int, forbid_end: bool) -> int:
    """The rule in words: walk down the sorted classes; a repeated token is struck out and drawn for once more."""
    first, second = torch.rand(2, generator=seeded(seed), dtype=torch.float64).tolist()
    row = row.clone()
    if forbid_end:
        row[-1] = -torch.inf

    def chosen(ids: list[int], uniform: float) -> int:
        probabilities = row.softmax(0)
        weights = [probabilities[token].item() for token in ids]
        goal, reached = uniform * sum(weights), 0.0
        for token, weight in zip(ids, weights, strict=True):
            reached += weight
            if reached > goal:
                return token
        raise AssertionError("the goal lies below the sum")

    def walked() -> list[int]:
        probabilities, order = row.softmax(0).sort(descending=True, stable=True)
        reached = [0.0, *probabilities.cumsum(0).tolist()]
        threshold = torch.tensor(config.top_p).item()
        return [token for place, token in enumerate(order.tolist()[: config.top_k]) if reached[place] < threshold]

    token = chosen(walked(), first)
    repetitions = list(history[-config.window :]).count(token) if config.window else 0
    if config.window and repetitions >= config.window * config.tau:
        row[token] = -torch.inf
        token = chosen(walked() if config.redraw == "nucleus" else list(range(len(row))), second)
    return token


configs = st.builds(
    SamplingConfig,
    top_p=st.sampled_from((0.3, 0.8, 1.0)),
    top_k=st.sampled_from((1, 4, 25)),
    window=st.sampled_from((0, 3, 10)),
    tau=st.sampled_from((0.1, 0.35)),
    redraw=st.sampled_from(("nucleus", "full")),
)


@settings(max_examples=200, deadline=None)
@given(
    logits=logits_lists,
    history=st.lists(st.integers(0, 4), max_size=14),
    config=st.one_of(st.sampled_from((SamplingConfig(), REFERENCE_SAMPLING)), configs),
    seed=st.integers(0, 99),
    forbid=st.booleans(),
)
def test_sampling_is_the_rule(
    logits: list[float], history: list[int], config: SamplingConfig, seed: int, forbid: bool
) -> None:
    drawn = draw(logits, config, seeded(seed), history, forbid)
    assert drawn == reference_draw(torch.tensor(logits), history, config, seed, forbid)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 999),
    rows=st.lists(
        st.tuples(st.lists(st.integers(0, 11), max_size=14), st.integers(0, 9), st.booleans()), min_size=1, max_size=6
    ),
    config=st.one_of(st.just(GREEDY), configs),
)
def test_rows_do_not_depend_on_each_other(
    seed: int, rows: list[tuple[list[int], int, bool]], config: SamplingConfig
) -> None:
    logits = 4 * torch.randn(len(rows), 12, generator=seeded(seed))
    histories, seeds, forbidden = (list(column) for column in zip(*rows, strict=True))
    together = sample(logits, histories, config, [seeded(each) for each in seeds], forbidden)
    alone = [
        draw(row, config, seeded(seed), history, forbid)
        for row, (history, seed, forbid) in zip(logits, rows, strict=True)
    ]
    assert together == alone


@settings(max_examples=100, deadline=None)
@given(logits=logits_lists, history=st.lists(st.integers(0, 11), max_size=14), seed=st.integers(0, 99))
def test_second_draw_avoids_the_token_and_stays_in_the_nucleus(
    logits: list[float], history: list[int], seed: int
) -> None:
    config = SamplingConfig(top_k=4)
    token = draw(logits, config, seeded(seed), history)
    first = draw(logits, config.model_copy(update={"window": 0}), seeded(seed), history)
    assert first in taken(torch.tensor(logits), 0.8, 4)
    if first not in history[-10:]:
        assert token == first
        return
    remaining = torch.tensor(logits)
    remaining[first] = -torch.inf
    assert token != first
    assert token in taken(remaining, 0.8, 4)


def test_the_second_draw_may_repeat_another_token() -> None:
    # It is one more draw, not a search: with everything repeated something must be said.
    logits = torch.tensor([3.0, 2.5, -9.0])
    assert set(many(logits, SamplingConfig(), 50, history=[0, 1, 0, 1])) == {0, 1}


def test_the_default_second_draw_keeps_out_what_the_model_holds_for_impossible() -> None:
    # Two likely tokens, both repeated, and 4000 tokens that hold a tenth of the mass together.
    logits = torch.full((4002,), -8.0)
    logits[:2] = torch.tensor([4.0, 3.5])

    def drawn(config: SamplingConfig) -> set[int]:
        return set(many(logits, config, 200, history=[0, 1], forbid_end=True))

    assert drawn(SamplingConfig()) == {0, 1}
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
        token = draw(logits, config, seeded(3), history)
        assert (token != 0) == repeated, (config, history)


def test_frequencies_follow_the_nucleus() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    draws = many(logits, SamplingConfig(top_p=0.7, window=0), 2000)
    assert set(draws) == {0, 1}
    assert draws.count(0) / 2000 == pytest.approx(0.5 / 0.8, abs=0.04)


def test_frequencies_of_the_second_draw_follow_what_is_left() -> None:
    logits = torch.tensor([0.1, 0.6, 0.2, 0.1]).log()
    draws = many(logits, SamplingConfig(top_p=0.5, redraw="full"), 2000, history=[1])
    assert set(draws) == {0, 2, 3}
    assert draws.count(2) / 2000 == pytest.approx(0.2 / 0.4, abs=0.04)
    assert draws.count(0) / 2000 == pytest.approx(0.1 / 0.4, abs=0.04)
    # 0.2 of the remaining 0.4 reach half of it: the nucleus has one token.
    assert set(many(logits, SamplingConfig(top_p=0.49), 200, history=[1])) == {2}


def test_temperature_sharpens_and_flattens() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0])

    def share(temperature: float) -> float:
        return many(logits, SamplingConfig(temperature=temperature, window=0, top_p=1.0), 400).count(0) / 400

    assert share(0.3) > 0.9 > share(1.0) > 0.55 > share(5.0)


def test_the_end_is_forbidden_on_request_and_logits_are_left_alone() -> None:
    logits = torch.tensor([0.0, 1.0, 9.0])
    kept = logits.clone()
    for config in (SamplingConfig(), REFERENCE_SAMPLING, GREEDY):
        assert draw(logits, config, seeded(0)) == 2
        assert 2 not in many(logits, config, 20, history=[0, 1], forbid_end=True)
    mixed = sample(logits.expand(3, -1), [[]] * 3, GREEDY, [seeded(0)] * 3, [True, False, True])
    assert mixed == [1, 2, 1]
    assert torch.equal(logits, kept)


def test_greedy_ignores_repetition_and_needs_no_random_numbers() -> None:
    generator = seeded(0)
    before = generator.get_state()
    assert draw([0.0, 3.0, 1.0], GREEDY, generator, history=[1] * 10) == 1
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("config", [SamplingConfig(), REFERENCE_SAMPLING])
@pytest.mark.parametrize("history", [[], [0]])
def test_every_step_takes_two_numbers_repeated_or_not(config: SamplingConfig, history: list[int]) -> None:
    generator, other = seeded(4), seeded(4)
    for _ in range(3):
        draw([9.0, 0.0, 0.0, 0.0], config, generator, history)
        torch.rand(2, generator=other, dtype=torch.float64)
        assert torch.equal(generator.get_state(), other.get_state())


def test_the_same_seed_gives_the_same_tokens_and_leaves_the_global_one_alone() -> None:
    logits = torch.randn(200)
    state = torch.get_rng_state()
    runs = []
    for _ in range(2):
        generator = seeded(7)
        runs.append([draw(logits, SamplingConfig(), generator) for _ in range(20)])
    assert runs[0] == runs[1]
    assert len(set(runs[0])) > 1
    assert torch.equal(state, torch.get_rng_state())


def test_half_precision_scores_are_drawn_from_in_full_precision() -> None:
    logits = torch.randn(3, 50).bfloat16()
    rows = [[]] * 3, SamplingConfig()
    drawn = [sample(each, *rows, [seeded(1) for _ in range(3)], [False] * 3) for each in (logits, logits.float())]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("config", [SamplingConfig(), GREEDY])
@pytest.mark.parametrize("damage", [torch.nan, torch.inf])
def test_damaged_weights_are_told(damage: float, config: SamplingConfig) -> None:
    rows = torch.tensor([[0.0, 1.0, 2.0], [0.0, damage, 1.0]])
    with pytest.raises(ModelError, match="not-a-number scores"):
        sample(rows, [[], []], config, [seeded(0), seeded(1)], [False, False])


def test_a_class_that_is_ruled_out_is_no_damage() -> None:
    assert set(many(torch.tensor([0.0, -torch.inf, 0.0]), SamplingConfig(top_p=1.0), 40)) == {0, 2}


@pytest.mark.parametrize("wrong", [{"top_p": 0}, {"top_k": 0}, {"temperature": 0}, {"redraw": "never"}, {"topp": 0.5}])
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SamplingConfig.model_validate(wrong)
