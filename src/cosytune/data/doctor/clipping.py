"""Flat tops and limited peaks: what stays of a wave that was too loud for its recorder."""

from __future__ import annotations

import numpy as np

__all__ = ["crowding", "flat_share"]

FLAT = 2e-3
"""Samples this near to the largest one, as a share of it, lie on its level: 16-bit steps and dither are smaller."""

SHORTEST_RUN = 3
"""Samples: the tip of a clean wave holds one or two."""

FEWEST_RUNS = 3
"""One tip may be flat by chance; a recorder that clips does it again."""

LOUD = 0.7
NEAR = 0.99
DOUBT = 8
"""Peaks that are imagined beside those that were counted, so that three loud peaks prove nothing."""


def flat_share(wave: np.ndarray) -> float:
    """Share of the samples of a wave [N] that lie on flat tops, at whatever level the tops are.

    The two signs are looked at one by one: a recording with an offset clips on one side first.
    """
    flat = 0
    for side in (wave, -wave):
        peak = float(side.max(initial=0.0))
        if peak <= 0:
            continue
        lengths = _runs(side >= peak * (1 - FLAT))
        lengths = lengths[lengths >= SHORTEST_RUN]
        if len(lengths) >= FEWEST_RUNS:
            flat += int(lengths.sum())
    return flat / len(wave) if len(wave) else 0.0


def crowding(wave: np.ndarray) -> float:
    """Share of the loud peaks of a wave [N] that are as loud as the loudest, 0 to 1.

    A peak is a local extreme above 70 % of the largest sample. In speech few come near the largest one; a limiter, and
    clipping that was resampled or coded afterwards, bring a crowd there.
    """
    height = np.abs(wave)
    limit = float(height.max(initial=0.0))
    if limit <= 0 or len(wave) < 3:
        return 0.0
    middle = height[1:-1]
    peaks = middle[(middle >= height[:-2]) & (middle > height[2:]) & (middle >= LOUD * limit)]
    return max(0, int((peaks >= NEAR * limit).sum()) - 1) / (len(peaks) + DOUBT)


def _runs(marked: np.ndarray) -> np.ndarray:
    """Lengths of the runs of True."""
    edges = np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8))
    return np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
