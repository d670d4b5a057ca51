from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cosytune.errors import InputError
from cosytune.evaluation.statistics import (
    hierarchical,
    holm,
    p_value,
    paired_bootstrap,
    sign_flip,
    smallest_detectable,
    spread,
)


def covered(make, truth, repeats, method=paired_bootstrap):
    hits = 0
    for index in range(repeats):
        interval = method(make(), samples=400, seed=index)
        hits += interval.low <= truth <= interval.high
    return hits / repeats


@pytest.mark.parametrize("n", [6, 25])
def test_the_bootstrap_covers_what_it_promises(n):
    generator = np.random.default_rng(n)
    share = covered(lambda: generator.normal(0.4, 1.0, n), 0.4, 800)
    # 800 repeats of 95 %: standard deviation 0.8 %.
    assert 0.92 < share < 0.98


@pytest.mark.parametrize(
    ("runs", "of_run", "of_sentence", "residual"), [(2, 0.5, 1.0, 1.0), (3, 1.0, 0.1, 0.1), (3, 0.0, 1.0, 1.0)]
)
def test_intervals_over_runs_cover_other_runs(runs, of_run, of_sentence, residual):
    generator = np.random.default_rng(runs)
    n = 12

    def make():
        return (
            0.3
            + generator.normal(0, of_run, (runs, 1))
            + generator.normal(0, of_sentence, (1, n))
            + generator.normal(0, residual, (runs, n))
        )

    repeats = 600
    # Nominal 95 %, less three and a half standard deviations of the share that so many repeats show.
    assert covered(make, 0.3, repeats, hierarchical) > 0.95 - 3.5 * np.sqrt(0.95 * 0.05 / repeats)


def test_sentences_alone_would_claim_too_much_about_runs():
    generator = np.random.default_rng(0)
    drawn = [generator.normal(0, 1.0, (3, 1)) + generator.normal(0, 0.2, (3, 12)) for _ in range(200)]
    naive = np.mean([_holds_zero(paired_bootstrap(x.mean(axis=0), samples=300)) for x in drawn])
    honest = np.mean([_holds_zero(hierarchical(x, samples=300)) for x in drawn])
    assert naive < 0.5 < 0.9 < honest


def _holds_zero(interval):
    return interval.low <= 0.0 <= interval.high


def test_one_run_is_marked_and_equals_the_bootstrap_over_sentences():
    differences = np.random.default_rng(3).normal(size=15)
    alone = paired_bootstrap(differences, seed=1)
    assert alone.runs == 1
    assert alone.n == 15
    assert hierarchical(differences[None], seed=1) == alone
    assert alone.estimate == pytest.approx(differences.mean())


def test_the_bootstrap_keeps_near_the_t_interval_for_normal_data():
    differences = np.random.default_rng(8).normal(1.0, 2.0, 40)
    interval = paired_bootstrap(differences, samples=20_000)
    low, high = stats.t.interval(0.95, 39, differences.mean(), stats.sem(differences))
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.05)


def test_skew_is_kept():
    interval = paired_bootstrap(np.random.default_rng(2).exponential(size=12) ** 2)
    assert interval.high - interval.estimate > 1.1 * (interval.estimate - interval.low)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    generator = np.random.default_rng(4)
    differences = generator.normal(size=(1, 20)) + 0.2 * generator.normal(size=(3, 20))
    assert hierarchical(differences, seed=5) == hierarchical(differences, seed=5)
    assert hierarchical(differences, seed=5) != hierarchical(differences, seed=6)


def test_many_sentences_are_drawn_in_blocks():
    differences = np.random.default_rng(4).normal(size=30_000)
    interval = paired_bootstrap(differences, samples=200)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 / np.sqrt(30_000), rel=0.2)


def test_runs_that_agree_leave_the_sentences_share():
    by_sentence = np.random.default_rng(7).normal(size=10)
    parts = spread(np.tile(by_sentence, (3, 1)))
    assert parts.runs_variance == pytest.approx(0.0, abs=1e-30)
    assert parts.sentences_variance == pytest.approx(by_sentence.var(ddof=1) / 10)


def test_the_spread_of_known_numbers():
    # Sentences do not differ; runs are 0 and 2: the variance of the seed means is 2, over two runs 1.
    parts = spread(np.array([[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]]))
    assert (parts.estimate, parts.runs_variance, parts.sentences_variance) == (1.0, 1.0, 0.0)
    assert parts.half_width(0.025) == pytest.approx(stats.t.isf(0.025, 1))


def test_sign_flips_of_known_numbers():
    # Of the 16 patterns only all-plus and all-minus reach the observed sum.
    assert sign_flip(np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx(2 / 16)
    assert sign_flip(np.array([1.0, -1.0, 0.0])) == 1.0
    assert sign_flip(np.zeros(5)) == 1.0


def test_random_sign_flips_agree_with_the_exact_ones():
    differences = np.random.default_rng(1).normal(0.4, 1.0, 12)
    exact = sign_flip(differences, samples=4096)
    assert sign_flip(differences, samples=4000) == pytest.approx(exact, abs=0.02)
    assert sign_flip(np.full(40, 1.0), samples=999) == pytest.approx(1 / 1000)


def test_p_values_under_no_difference_are_small_as_rarely_as_they_should():
    generator = np.random.default_rng(9)
    one = [p_value(generator.normal(size=8)) for _ in range(400)]
    three = [p_value(generator.normal(size=(3, 1)) + generator.normal(size=(3, 8))) for _ in range(400)]
    assert 0.02 < np.mean(np.array(one) <= 0.05) < 0.09
    assert np.mean(np.array(three) <= 0.05) < 0.08


def test_the_p_value_over_runs_fits_the_interval():
    differences = np.random.default_rng(12).normal(0.5, 1.0, (4, 25))
    chance = p_value(differences)
    parts = spread(differences)
    assert parts.half_width(chance / 2) == pytest.approx(abs(parts.estimate))
    assert p_value(-differences) == pytest.approx(chance)
    assert p_value(np.zeros((2, 5))) == 1.0
    assert p_value(np.ones((2, 5))) < 1e-9


def test_holm_of_a_known_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0.0, 1.0), max_size=8))
def test_holm_lies_between_the_raw_values_and_bonferroni(values):
    for raw, adjusted in zip(values, holm(values), strict=True):
        assert raw <= adjusted <= min(1.0, raw * len(values)) + 1e-12


def test_holm_holds_the_family_wise_error():
    drawn = np.random.default_rng(6).uniform(size=(4000, 7))
    false_finds = np.mean([min(holm(row)) <= 0.05 for row in drawn])
    uncorrected = np.mean(drawn.min(axis=1) <= 0.05)
    assert 0.035 < false_finds < 0.062
    assert uncorrected > 0.25


def test_an_effect_of_the_smallest_detectable_size_is_found_four_times_in_five():
    generator = np.random.default_rng(5)
    n = 20
    effect = (stats.t.isf(0.025, n - 1) + stats.t.isf(0.2, n - 1)) / np.sqrt(n)
    found = np.mean([stats.ttest_1samp(generator.normal(effect, 1.0, n), 0.0).pvalue < 0.05 for _ in range(800)])
    assert found == pytest.approx(0.8, abs=0.05)
    sample = generator.normal(size=n)
    assert smallest_detectable(sample / sample.std(ddof=1)) == pytest.approx(effect)
    assert smallest_detectable(np.tile(sample, (1, 4)), 0.95) < smallest_detectable(sample, 0.95)
    assert smallest_detectable(sample, 0.99) > smallest_detectable(sample, 0.95)
    assert smallest_detectable(np.ones(5)) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired_bootstrap(np.zeros((2, 5))), "use `hierarchical`"),
        (lambda: paired_bootstrap(np.zeros(1)), "at least two sentences"),
        (lambda: hierarchical(np.zeros((2, 2, 2))), "cannot be tested"),
        (lambda: hierarchical(np.array([1.0, np.nan])), "not finite numbers"),
        (lambda: hierarchical(np.zeros(4), level=95), "a level of 95 is not possible"),
        (lambda: smallest_detectable(np.zeros(4), level=0.0), "a level of 0.0 is not possible"),
        (lambda: smallest_detectable(np.zeros(4), power=1.0), "a power of 1.0 is not possible"),
        (lambda: sign_flip(np.zeros((2, 4))), "use `p_value`"),
        (lambda: holm([0.5, 1.5]), "between 0 and 1"),
    ],
)
def test_what_cannot_be_tested_is_refused_in_words(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_runs_that_agree_by_luck_are_not_taken_for_certainty() -> None:
    """One clip of twelve differs in each run, each time another one: the seed means are equal to the last digit."""
    differences = np.zeros((3, 12))
    differences[[0, 1, 2], [1, 5, 9]] = -1.0
    interval = hierarchical(differences)
    assert interval.estimate == pytest.approx(-1 / 12)
    assert interval.low < -0.2
    assert interval.high > 0.0
    assert p_value(differences) > 0.05
