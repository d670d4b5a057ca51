"""Pictures as inline SVG: they take the page's ink, so that they are legible in the light and in the dark."""

from __future__ import annotations

import html
import io
import re
from typing import TYPE_CHECKING, Any

from cosytune.report.curves import Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_interval", "draw_panel"]

INK, FAINT = "#010203", "#040506"
"""Colours that nobody would choose; they are replaced by the page's own."""

SIZE_INCHES = (4.6, 3.0)
# matplotlib types each of its three hundred names; `Any` spares us a copy of them.
SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cosytune",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "path.simplify": False,
}


def draw_panel(panel: Panel, number: int) -> str:
    """One metric of one part as an SVG element; the same data give the same bytes.

    Args:
        panel: what to draw.
        number: of the picture on the page; its ids begin with it, so that they are unique there.
    """
    # Imported here: drawing takes a second to load, and terminal tables do not need it.
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        _draw_curves(axes, panel)
        _draw_references(axes, panel)
        axes.set_xlabel("updates", parse_math=False)
        axes.set_ylabel(panel.measured.unit, parse_math=False)
        axes.margins(x=0.02)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inlined(buffer.getvalue(), panel.words, f"picture{number}-")


def _draw_curves(axes: Axes, panel: Panel) -> None:
    for curve in panel.curves:
        axes.plot(*curve.train, color=curve.style.colour, linewidth=0.8, alpha=0.5)
    for curve in panel.curves:
        axes.plot(*curve.validation, color=curve.style.colour, marker=curve.style.marker, linewidth=1.6, markersize=4)


def _draw_references(axes: Axes, panel: Panel) -> None:
    """The untouched starts, and the trivial predictor where it does not squash the curves."""
    for curve in {curve.start: curve for curve in reversed(panel.curves)}.values():
        if curve.untouched is not None:
            axes.axhline(curve.untouched, color=curve.style.colour, linewidth=1.2, linestyle=(0, (5, 3)))
    if panel.baseline is None:
        return
    low, high = axes.get_ylim()
    room = high - low
    if low - room <= panel.baseline <= high + room:
        axes.axhline(panel.baseline, color=INK, linewidth=1.2, linestyle=(0, (1, 2)))
        return
    arrow = "↑" if panel.baseline > high else "↓"
    axes.set_title(f"trivial baseline {panel.baseline:.3g} {arrow} outside", loc="right", fontsize=9)


def _inlined(svg: str, words: str, prefix: str) -> str:
    """A standalone SVG document as an element of the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{prefix}", svg)
    svg = re.sub(r'^<svg ([^>]*?)width="[^"]*" ?', r"<svg \1", svg)
    svg = re.sub(r'^<svg ([^>]*?)height="[^"]*" ?', r"<svg \1", svg)
    svg = svg.replace(INK, "var(--ink)").replace(FAINT, "var(--line)")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(words)}" ', 1)


def draw_interval(low: float, estimate: float, high: float, *, reach: float, flipped: bool, outcome: str) -> str:
    """A difference and its interval on a line with zero in the middle; right is always the better side.

    Args:
        low: end of the interval.
        estimate: the difference.
        high: other end.
        reach: the value at both edges of the picture.
        flipped: whether lower is better.
        outcome: class of the mark.
    """
    side = -1.0 if flipped else 1.0

    def place(value: float) -> float:
        return 80.0 + 76.0 * max(-1.0, min(1.0, side * value / reach)) if reach else 80.0

    left, right = sorted((place(low), place(high)))
    return (
        f'<svg class="interval {outcome.split()[0]}" viewBox="0 0 160 20" aria-hidden="true">'
        f'<line class="axis" x1="2" y1="10" x2="158" y2="10"/><line class="zero" x1="80" y1="1" x2="80" y2="19"/>'
        f'<line class="span" x1="{left:.1f}" y1="10" x2="{right:.1f}" y2="10"/>'
        f'<circle cx="{place(estimate):.1f}" cy="10" r="4.5"/></svg>'
    )
