"""Robust statistics: what is far from its own kind, where the kind holds outliers itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["median_slope", "pace_line", "robust_scores"]

NORMAL = 1.4826
"""Median absolute deviation of a normal distribution to its standard deviation."""

MOST_POINTS = 1500
"""Their pairs are a million; more points do not move a median."""


def robust_scores(values: Sequence[float] | np.ndarray, *, least_spread: float) -> np.ndarray:
    """Distances from the median in robust standard deviations [n].

    Args:
        values: at least one.
        least_spread: the smallest standard deviation that is believed: where all values are nearly the same, a tiny
            difference is no outlier.
    """
    numbers = np.asarray(values, dtype=np.float64)
    middle = np.median(numbers)
    spread = max(NORMAL * float(np.median(np.abs(numbers - middle))), least_spread)
    return (numbers - middle) / spread


def pace_line(characters: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Seconds that speech takes before any character, and per character: a line through most clips (Theil-Sen).

    Short texts have a higher price per character than long ones (the last syllable is drawn out, consonants are counted
    that are not long), so that one rate would call every single word slow. Slope and offset are not negative; with one
    length of text the line goes through the origin.
    """
    x, y = np.asarray(characters, dtype=np.float64), np.asarray(seconds, dtype=np.float64)
    origin = float(np.median(y / np.maximum(x, 1)))
    slope = median_slope(x, y)
    offset = float(np.median(y - slope * x))
    return (offset, slope) if slope > 0 and offset >= 0 else (0.0, origin)


def median_slope(x: np.ndarray, y: np.ndarray) -> float:
    """The median slope between two points of x [n] and y [n], over the pairs of at most 1500 of them; 0 without any."""
    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_POINTS)).astype(int))
    left, right = np.triu_indices(len(chosen), 1)
    run = x[chosen][right] - x[chosen][left]
    apart = run != 0
    return float(np.median((y[chosen][right] - y[chosen][left])[apart] / run[apart])) if apart.any() else 0.0
