"""Intervals, p-values and what a comparison could have seen; vectorised numpy, the same numbers for the same seed.

Two kinds of uncertainty are kept apart. *Sentences*: another set of sentences would have given other scores; the paired
bootstrap answers this. *Runs*: the same recipe with another seed would have given another model; only several seeds
answer this, and with one seed nothing here speaks about it (`Interval.runs` is 1).

Differences are arrays [R, n]: R runs, n sentences, each the second system's score minus the first's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from cosytune.errors import InputError
from cosytune.evaluation.results import Interval

__all__ = [
    "Spread",
    "hierarchical",
    "holm",
    "p_value",
    "paired_bootstrap",
    "sign_flip",
    "smallest_detectable",
    "spread",
]

BLOCK = 2_000_000
"""Random indices drawn at a time, so that memory stays small for any number of sentences."""

SMALLEST_TAIL = 1e-12
"""Where the search for a p-value ends."""


@dataclass(frozen=True)
class Spread:
    """Where the uncertainty of a mean difference comes from.

    Attributes:
        estimate: mean over all runs and sentences.
        runs_variance: squared standard error due to runs, with the residual of run and sentence in it; 0 for one run.
        sentences_variance: squared standard error due to sentences, without that residual if there are several runs.
        runs: R.
        n: sentences.
    """

    estimate: float
    runs_variance: float
    sentences_variance: float
    runs: int
    n: int

    def half_width(self, tail: float) -> float:
        """Half the width of a symmetric interval that leaves `tail` out on each side.

        Each part has its own t quantile, R - 1 and n - 1 degrees of freedom, and their squares are added: the method of
        variance estimates recovery (Zou & Donner, Statistics in Medicine 27, 2008). Satterthwaite's single
        quantile is narrower but covers only 87 to 93 % where 95 % were asked, with two or three runs.
        """
        runs = stats.t.isf(tail, self.runs - 1) if self.runs > 1 else 0.0
        sentences = stats.t.isf(tail, self.n - 1)
        return math.sqrt(runs**2 * self.runs_variance + sentences**2 * self.sentences_variance)


def _matrix(differences: np.ndarray) -> np.ndarray:
    """Differences as [R, n] of float64, checked."""
    matrix = np.atleast_2d(np.asarray(differences, dtype=np.float64))
    if matrix.ndim != 2 or matrix.shape[0] < 1 or matrix.shape[1] < 2:
        raise InputError(
            f"differences of shape {list(np.shape(differences))} cannot be tested; give [n] or [runs, n] with at least "
            "two sentences"
        )
    if not np.isfinite(matrix).all():
        raise InputError("some differences are not finite numbers; leave out the sentences that were not measured")
    return matrix


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise InputError(f"a level of {level} is not possible; give one between 0 and 1, such as 0.95")


def spread(differences: np.ndarray) -> Spread:
    """Split the uncertainty of the mean of differences [n] or [R, n] into runs and sentences.

    Several runs: the two-way random-effects model difference = mean + run + sentence + residual, with mean squares MS:
    the mean's squared standard error is (MS_run + max(MS_sentence - MS_residual, 0)) / (R n) (Gallas, Academic
    Radiology 13, 2006, has the same for readers and cases). MS_run / (R n) is the variance of the seed means over R;
    it estimates the residual's share plus the runs' own, so where a few runs agree by luck (scores that are counts can
    agree to the last digit) the residual's share is what is taken.

    Raises:
        InputError: fewer than two sentences, or numbers that are not finite.
    """
    matrix = _matrix(differences)
    runs, n = matrix.shape
    mean = float(matrix.mean())
    by_sentence = matrix.mean(axis=0)
    if runs == 1:
        return Spread(mean, 0.0, float(by_sentence.var(ddof=1)) / n, runs, n)
    by_run = matrix.mean(axis=1)
    residual = matrix - by_run[:, None] - by_sentence + mean
    ms_residual = float(np.square(residual).sum()) / ((runs - 1) * (n - 1))
    excess = max(runs * float(by_sentence.var(ddof=1)) - ms_residual, 0.0)
    runs_variance = max(float(by_run.var(ddof=1)) / runs, ms_residual / (runs * n))
    return Spread(mean, runs_variance, excess / (runs * n), runs, n)


def _resampled_means(values: np.ndarray, samples: int, generator: np.random.Generator) -> np.ndarray:
    """Means of `samples` draws with replacement from values [n]."""
    n = len(values)
    means = np.empty(samples)
    block = max(1, BLOCK // n)
    for start in range(0, samples, block):
        stop = min(samples, start + block)
        means[start:stop] = values[generator.integers(0, n, size=(stop - start, n))].mean(axis=1)
    return means


def paired_bootstrap(differences: np.ndarray, *, level: float = 0.95, samples: int = 10_000, seed: int = 0) -> Interval:
    """Interval of the mean of paired differences [n] over sentences.

    Percentile bootstrap (Efron & Tibshirani 1993, chapter 13), its deviations widened by sqrt(n / (n - 1)) and by
    t(n - 1) / z, since the percentile interval is too narrow for few sentences (Hesterberg, The American Statistician
    69, 2015, who moves the percentiles instead). It covers 95 % where 95 % are asked for symmetric differences down to
    five sentences; very skewed ones (exponential) 91 % at twenty. It speaks of sentences only, never of another run.

    Raises:
        InputError: not [n], fewer than two sentences, numbers that are not finite, or a level outside (0, 1).
    """
    if np.ndim(differences) != 1:
        raise InputError(
            f"the paired bootstrap takes one difference a sentence, got the shape {list(np.shape(differences))}; "
            "for several runs use `hierarchical`"
        )
    return hierarchical(differences, level=level, samples=samples, seed=seed)


def hierarchical(differences: np.ndarray, *, level: float = 0.95, samples: int = 10_000, seed: int = 0) -> Interval:
    """Interval of the mean of differences [R, n] for other sentences *and* other runs; [n] or R = 1: sentences only.

    Two intervals are made and joined. Runs: t(R - 1) times the standard error of the seed means. Sentences: the
    widened percentile bootstrap of `paired_bootstrap`, over sentences of the means over runs, scaled to the share of
    the variance that is the sentences' own (`spread`). On each side the squares of their distances from the estimate
    are added, as in `Spread.half_width`. In simulations it covers 94 to 99 % where 95 % are asked. With two or three
    runs that differ, t makes it wide: that is all that two or three runs can say.

    Raises:
        InputError: fewer than two sentences, numbers that are not finite, or a level outside (0, 1).
    """
    _check_level(level)
    matrix = _matrix(differences)
    parts = spread(matrix)
    by_sentence = matrix.mean(axis=0)
    means = _resampled_means(by_sentence, samples, np.random.default_rng(seed))
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail]) - by_sentence.mean()
    bootstrap_error = math.sqrt(float(by_sentence.var()) / parts.n)
    share = math.sqrt(parts.sentences_variance) / bootstrap_error if bootstrap_error > 0 else 0.0
    wider = share * float(stats.t.isf(tail, parts.n - 1) / stats.norm.isf(tail))
    runs = float(stats.t.isf(tail, parts.runs - 1)) * math.sqrt(parts.runs_variance) if parts.runs > 1 else 0.0
    below, above = math.hypot(runs, wider * float(low)), math.hypot(runs, wider * float(high))
    return Interval(parts.estimate, parts.estimate - below, parts.estimate + above, level, parts.n, parts.runs)


def p_value(differences: np.ndarray, *, samples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value that the mean of differences [n] or [R, n] is zero.

    One run: `sign_flip`. Several runs: the level at which the symmetric interval of `Spread.half_width` just touches
    zero, so that it fits `hierarchical`.

    Raises:
        InputError: fewer than two sentences, or numbers that are not finite.
    """
    matrix = _matrix(differences)
    if len(matrix) == 1:
        return sign_flip(matrix[0], samples=samples, seed=seed)
    parts = spread(matrix)
    distance = abs(parts.estimate)
    if distance == 0.0:
        return 1.0
    if parts.half_width(SMALLEST_TAIL) <= distance:
        return 2.0 * SMALLEST_TAIL
    return 2.0 * float(optimize.brentq(lambda tail: parts.half_width(tail) - distance, SMALLEST_TAIL, 0.5))


def sign_flip(differences: np.ndarray, *, samples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value that paired differences [n] are symmetric about zero, by flipping their signs.

    All 2^n patterns if they are no more than `samples`, else `samples` random ones with the observed one counted in, so
    that p is never zero (Phipson & Smyth, Statistical Applications in Genetics and Molecular Biology 9, 2010).

    Raises:
        InputError: fewer than two sentences, or numbers that are not finite.
    """
    matrix = _matrix(differences)
    if matrix.shape[0] != 1:
        raise InputError("flipping signs takes one run; for several runs use `p_value`")
    values = matrix[0]
    n = len(values)
    # Rounding must not make a pattern look smaller than the observed one that it equals.
    observed = abs(values.sum()) - 1e-9 * float(np.abs(values).sum())
    if 2**n <= samples:
        patterns = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return float(np.mean(np.abs((1 - 2 * patterns) @ values) >= observed))
    generator = np.random.default_rng(seed)
    reached, block = 0, max(1, BLOCK // n)
    for start in range(0, samples, block):
        signs = generator.integers(0, 2, size=(min(samples, start + block) - start, n), dtype=np.int8) * 2 - 1
        reached += int((np.abs(signs @ values) >= observed).sum())
    return (reached + 1) / (samples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the given order: comparing each with alpha keeps the chance of any false find at alpha.

    Source: Holm, Scandinavian Journal of Statistics 6, 1979.

    Raises:
        InputError: a value outside [0, 1].
    """
    values = np.asarray(p_values, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"p-values lie between 0 and 1, got {list(p_values)}")
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


def smallest_detectable(differences: np.ndarray, level: float = 0.95, power: float = 0.8) -> float | None:
    """The smallest true mean difference that a comparison like this one finds with probability `power`.

    (t(1 - alpha / 2) + t(power)) times the standard error of differences [n] (Bloom, Evaluation Review 19, 1995); for
    [R, n] each summand is the half width of `Spread`. None if all differences are equal: without spread there is no
    answer.

    Raises:
        InputError: fewer than two sentences, numbers that are not finite, or a level or power out of range.
    """
    _check_level(level)
    if not 0.5 <= power < 1.0:
        raise InputError(f"a power of {power} is not possible; give one from 0.5 to below 1, such as 0.8")
    parts = spread(differences)
    if parts.runs_variance + parts.sentences_variance == 0.0:
        return None
    return parts.half_width((1.0 - level) / 2.0) + parts.half_width(1.0 - power)
