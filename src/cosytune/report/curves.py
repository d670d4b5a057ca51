"""Training curves of all arms, read from their run folders and gathered into pictures' data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cosytune.comparison.plan import Arm
from cosytune.errors import TrainingError
from cosytune.training.results import MetricPoint, PartResult, read_metrics

__all__ = ["Curve", "Measured", "Panel", "arm_colours", "arm_name", "curve_file", "read_panels"]

MOST_POINTS = 150
"""A training curve has at most so many points: each is the mean over a stretch."""

COLOURS = ("#2f7fd1", "#dd7a1f", "#2c9c69", "#a161d6", "#cc4b5a", "#8a8f1d")
"""One hue per start; legible on white and on black."""

GREY = (0x8C, 0x8C, 0x8C)


@dataclass(frozen=True)
class Measured:
    """What a validation metric is: a title, its unit for the axis, and the training value in the same unit, if any."""

    title: str
    unit: str
    train: str | None


MEASURED: dict[tuple[str, str], Measured] = {
    ("lm", "cross_entropy"): Measured("cross-entropy", "nats per speech token", "loss"),
    ("lm", "accuracy"): Measured("accuracy", "share of speech tokens", "accuracy"),
    ("flow", "velocity"): Measured("velocity error", "mean squared error", "velocity"),
    ("flow", "prior"): Measured("prior error", "mean |difference| of log-mel", "prior"),
    ("vocoder", "log_mel"): Measured("spectral error", "mean |difference| of log-mel", None),
    ("vocoder", "f0_hz"): Measured("pitch error", "Hz", None),
}


@dataclass(frozen=True)
class Curve:
    """One arm in one metric: (updates, values) of both sides and the value of the untouched start."""

    arm: str
    start: str
    colour: str
    train: tuple[list[float], list[float]]
    validation: tuple[list[float], list[float]]
    untouched: float | None


@dataclass(frozen=True)
class Panel:
    """One picture: a validation metric of one part, all arms."""

    part: str
    metric: str
    measured: Measured
    curves: tuple[Curve, ...]
    baseline: float | None
    baseline_name: str

    @property
    def words(self) -> str:
        """What the picture shows, for those who cannot see it."""
        ends = "; ".join(
            f"{curve.arm} from {curve.validation[1][0]:.4g} to {curve.validation[1][-1]:.4g}"
            for curve in self.curves
            if curve.validation[1]
        )
        return f"{self.part}, {self.measured.title} in {self.measured.unit} over updates. Validation: {ends}."


def arm_name(arm: Arm) -> str:
    """How the page calls an arm."""
    return f"{arm.start}, seed {arm.seed}"


def curve_file(arm: Arm, part: str) -> Path:
    """Where the run beside the arm's model keeps the curves of one part."""
    model = Path(arm.model)
    return model.with_name(f"{model.name}.run") / part / "metrics.jsonl"


def arm_colours(arms: Sequence[Arm]) -> dict[str, str]:
    """A colour for every arm: the hue is its start's, later seeds are paler."""
    starts = list(dict.fromkeys(arm.start for arm in arms))
    colours = {}
    for place, start in enumerate(starts):
        own = [arm for arm in arms if arm.start == start]
        for turn, arm in enumerate(own):
            paler = 0.6 * turn / max(1, len(own) - 1) if turn else 0.0
            colours[arm_name(arm)] = _mixed(COLOURS[place % len(COLOURS)], paler)
    return colours


def _mixed(colour: str, share: float) -> str:
    channels = [int(colour[begin : begin + 2], 16) for begin in (1, 3, 5)]
    mixed = (round(own + share * (grey - own)) for own, grey in zip(channels, GREY, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def read_panels(arms: Sequence[Arm]) -> tuple[list[Panel], list[str]]:
    """Pictures' data of every part and validation metric, and in words what could not be read."""
    colours, problems = arm_colours(arms), list[str]()
    read: dict[tuple[str, str], list[MetricPoint]] = {}
    for arm in arms:
        for part in arm.result.parts:
            points, problem = _read(curve_file(arm, part.part))
            read[arm_name(arm), part.part] = points
            if problem:
                problems.append(f"{arm_name(arm)}, {part.part}: {problem}")
    panels = []
    for name in dict.fromkeys(part.part for arm in arms for part in arm.result.parts):
        results = [(arm, part) for arm in arms for part in arm.result.parts if part.part == name]
        for metric in dict.fromkeys(metric for _, part in results for metric in part.end):
            panel = _panel(name, metric, results, read, colours)
            if any(curve.validation[0] for curve in panel.curves):
                panels.append(panel)
    return panels, problems


def _read(path: Path) -> tuple[list[MetricPoint], str | None]:
    """Points in order; where updates were done twice after a crash, the later ones count."""
    try:
        points = {(point.side, point.name, point.step): point for point in read_metrics(path)}
    except (TrainingError, OSError, UnicodeDecodeError) as error:
        return [], f"the curves in {path} cannot be read: {error}"
    if not points:
        return [], f"there are no curves in {path}"
    return sorted(points.values(), key=lambda point: point.step), None


def _panel(
    name: str,
    metric: str,
    results: Sequence[tuple[Arm, PartResult]],
    read: dict[tuple[str, str], list[MetricPoint]],
    colours: dict[str, str],
) -> Panel:
    measured = MEASURED.get((name, metric), Measured(metric.replace("_", " "), f"as {name} reports it", None))
    curves = []
    for arm, part in results:
        points = read[arm_name(arm), name]
        train = _side(points, "train", measured.train) if measured.train else ([], [])
        curves.append(
            Curve(
                arm=arm_name(arm),
                start=arm.start,
                colour=colours[arm_name(arm)],
                train=_stretches(*train),
                validation=_side(points, "validation", metric),
                untouched=part.start.get(metric),
            )
        )
    first = results[0][1]
    return Panel(name, metric, measured, tuple(curves), first.baseline.get(metric), first.baseline_name)


def _side(points: Sequence[MetricPoint], side: str, name: str) -> tuple[list[float], list[float]]:
    own = [point for point in points if point.side == side and point.name == name and np.isfinite(point.value)]
    return [float(point.step) for point in own], [point.value for point in own]


def _stretches(steps: list[float], values: list[float]) -> tuple[list[float], list[float]]:
    """At most `MOST_POINTS` points: means over equal stretches of neighbours."""
    pieces = min(MOST_POINTS, len(steps))
    if not pieces:
        return [], []
    return (
        [float(piece.mean()) for piece in np.array_split(np.array(steps), pieces)],
        [float(piece.mean()) for piece in np.array_split(np.array(values), pieces)],
    )
