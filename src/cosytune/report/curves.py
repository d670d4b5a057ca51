"""Training curves of all arms, read from their run folders and gathered into pictures' data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cosytune.comparison.plan import Arm
from cosytune.errors import TrainingError
from cosytune.training.results import MetricPoint, PartResult, Speed, read_metrics, read_speeds

__all__ = ["Curve", "Measured", "Panel", "Style", "arm_name", "arm_styles", "curve_file", "read_panels"]

MOST_POINTS = 150
"""A training curve has at most so many points: each is the mean over a stretch."""

COLOURS = (
    ("#2f74d0", "#3fa9dc", "#6f66d6"),
    ("#dd6f12", "#d9a018", "#c2503c"),
    ("#21915d", "#6ca52b", "#1f9a9a"),
    ("#a04fc4", "#c868b0", "#84599b"),
)
"""Neighbouring hues for the runs of one start, another family for the next; legible on white and on black."""

MARKERS = ("o", "s", "^", "D")
"""A shape per seed, for those who do not see colours."""


@dataclass(frozen=True)
class Style:
    """How an arm is drawn: colour and matplotlib marker."""

    colour: str
    marker: str


@dataclass(frozen=True)
class Measured:
    """What is drawn: a title, the unit for the axis, the training value in the same unit, if any, and what the thick
    line is."""

    title: str
    unit: str
    train: str | None
    thick: str = "Validation"


MEASURED: dict[tuple[str, str], Measured] = {
    ("lm", "cross_entropy"): Measured("cross-entropy", "nats per speech token", "cross_entropy"),
    ("lm", "accuracy"): Measured("accuracy", "share of speech tokens", "accuracy"),
    ("flow", "velocity"): Measured("velocity error", "mean squared error", "velocity"),
    ("flow", "prior"): Measured("prior error", "mean |difference| of log-mel", "prior"),
    ("speech_tokenizer", "ctc"): Measured("CTC", "nats per text token", "ctc"),
    ("speaker_encoder", "accuracy"): Measured("accuracy", "share of clips", "accuracy"),
    ("vocoder", "log_mel"): Measured("spectral error", "mean |difference| of log-mel", None),
    ("vocoder", "f0_hz"): Measured("pitch error", "Hz", None),
}


SPEEDS: dict[str, Measured] = {
    "audio_seconds_per_second": Measured("speed", "seconds of speech learned a second", None, "Measured"),
    "data_wait_share": Measured("waiting for data", "share of training time", None, "Measured"),
}
"""What the clock says, from `speed.jsonl`."""


@dataclass(frozen=True)
class Curve:
    """One arm in one metric: (updates, values) of the thin and of the thick line, and the value of the untouched start.

    The thick line is validation, or what was measured where there are no two sides.
    """

    arm: str
    start: str
    style: Style
    train: tuple[list[float], list[float]]
    validation: tuple[list[float], list[float]]
    untouched: float | None


@dataclass(frozen=True)
class Panel:
    """One picture: a validation metric or the speed of one part, all arms."""

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
        return (
            f"{self.part}, {self.measured.title} in {self.measured.unit} over updates. {self.measured.thick}: {ends}."
        )


def arm_name(arm: Arm) -> str:
    """How the page calls an arm."""
    return f"{arm.start}, seed {arm.seed}"


def curve_file(arm: Arm, part: str) -> Path:
    """Where the run beside the arm's model keeps the curves of one part."""
    model = Path(arm.model)
    return model.with_name(f"{model.name}.run") / part / "metrics.jsonl"


def arm_styles(arms: Sequence[Arm]) -> dict[str, Style]:
    """A colour and a shape for every arm: the family of hues is its start's, the shape its seed's."""
    starts = list(dict.fromkeys(arm.start for arm in arms))
    seeds = sorted({arm.seed for arm in arms})
    styles = {}
    for arm in arms:
        family, turn = COLOURS[starts.index(arm.start) % len(COLOURS)], seeds.index(arm.seed)
        styles[arm_name(arm)] = Style(family[turn % len(family)], MARKERS[turn % len(MARKERS)])
    return styles


def read_panels(arms: Sequence[Arm]) -> tuple[list[Panel], list[str]]:
    """Pictures' data of every part and validation metric, and in words what could not be read."""
    styles, problems = arm_styles(arms), list[str]()
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
            panel = _panel(name, metric, results, read, styles)
            if any(curve.validation[0] for curve in panel.curves):
                panels.append(panel)
        speeds, damaged = _speed_panels(name, [arm for arm, _ in results], styles)
        panels += speeds
        problems += damaged
    return panels, problems


def _speed_panels(name: str, arms: Sequence[Arm], styles: dict[str, Style]) -> tuple[list[Panel], list[str]]:
    """Speed and waiting of one part; runs that did not write them down have none."""
    measured, problems = dict[str, list[Speed]](), list[str]()
    for arm in arms:
        path = curve_file(arm, name).with_name("speed.jsonl")
        try:
            points = {speed.step: speed for speed in read_speeds(path)}  # of what was done twice the later counts
        except (TrainingError, OSError, UnicodeDecodeError) as error:
            problems.append(f"{arm_name(arm)}, {name}: the speed in {path} cannot be read: {error}")
            continue
        if points:
            measured[arm_name(arm)] = [points[step] for step in sorted(points)]
    panels = []
    for metric, what in SPEEDS.items() if measured else ():
        curves = []
        for arm in arms:
            own = measured.get(arm_name(arm), [])
            line = _stretches([float(speed.step) for speed in own], [getattr(speed, metric) for speed in own])
            curves.append(Curve(arm_name(arm), arm.start, styles[arm_name(arm)], ([], []), line, None))
        panels.append(Panel(name, metric, what, tuple(curves), None, ""))
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
    styles: dict[str, Style],
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
                style=styles[arm_name(arm)],
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
