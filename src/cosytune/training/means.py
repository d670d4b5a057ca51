"""Training curves show means over the updates since their last point: the loss of one small batch jumps about."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cosytune.training.task import LossReport

__all__ = ["Sums", "add_update", "mean_values"]

Sums = dict[str, dict[str, float]]
"""By side of the curves: sums of value x items by name, the items, and the largest gradient norm. It lies in every
checkpoint, so that a resumed run writes the same curves."""

_ITEMS, _NORM = "items", "gradient_norm"


def add_update(sums: Sums, side: str, report: LossReport, norm: float) -> None:
    """Count one update in; a value that is not finite is left out together with its update.

    Args:
        sums: changed in place.
        side: "train", or "rehearsal": the two learn other speech, and a mean over both would be neither's.
        report: of the whole batch.
        norm: global norm of its gradient before clipping.
    """
    items = float(report.count)
    values = {"loss": report.loss.item(), **{name: value.item() for name, value in report.values.items()}}
    if not all(map(math.isfinite, (*values.values(), norm))):
        return
    known = sums.setdefault(side, {_ITEMS: 0.0, _NORM: 0.0})
    known[_ITEMS] += items
    known[_NORM] = max(known[_NORM], norm)
    for name, value in values.items():
        known[name] = known.get(name, 0.0) + value * items


def mean_values(sums: Mapping[str, float]) -> dict[str, float]:
    """One side's means per item (token, frame), in the order they came, and the largest gradient norm."""
    means = {name: value / sums[_ITEMS] for name, value in sums.items() if name not in (_ITEMS, _NORM)}
    return {**means, _NORM: sums[_NORM]}
