"""Pictures of the doctor's page: histograms, and the outline and spectrogram of a clip, drawn in the page's ink."""

from __future__ import annotations

import base64
import io
from functools import lru_cache

import numpy as np
from markupsafe import Markup

from cosytune.data.doctor_results import Exhibit, Histogram

__all__ = ["draw_clip", "draw_histogram"]

WIDTH, OUTLINE, SPECTRUM = 480, 70, 110
"""Pixels of a clip's picture: its width, the height of its outline and of its spectrogram."""

BARS_WIDTH, BARS_HEIGHT, BARS_FOOT = 320, 110, 22


def draw_histogram(histogram: Histogram) -> Markup:
    """Bars with the ends of their axis and the limits as dashed lines."""
    low, high = histogram.edges[0], histogram.edges[-1]
    most = max(histogram.counts)

    def place(value: float) -> float:
        return BARS_WIDTH * (value - low) / (high - low)

    parts = [
        f'<svg class="bars" role="img" viewBox="0 0 {BARS_WIDTH} {BARS_HEIGHT + BARS_FOOT}">'
        f"<title>{Markup.escape(_in_words(histogram))}</title>"
    ]
    for left, right, count in zip(histogram.edges, histogram.edges[1:], histogram.counts, strict=False):
        # A single clip must be seen too: it is often the one that matters.
        height = max(2.0, (BARS_HEIGHT - 6) * count / most) if count else 0.0
        x, width = place(left) + 0.5, max(0.5, place(right) - place(left) - 1)
        parts.append(f'<rect x="{x:.1f}" y="{BARS_HEIGHT - height:.1f}" width="{width:.1f}" height="{height:.1f}"/>')
    parts.append(f'<line class="axis" x1="0" y1="{BARS_HEIGHT}" x2="{BARS_WIDTH}" y2="{BARS_HEIGHT}"/>')
    for limit in histogram.limits:
        if low <= limit <= high:
            x = place(limit)
            parts.append(f'<line class="limit" x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{BARS_HEIGHT}"/>')
    foot = BARS_HEIGHT + 16
    parts.append(f'<text x="0" y="{foot}">{_short(low)}</text>')
    parts.append(f'<text x="{BARS_WIDTH}" y="{foot}" text-anchor="end">{_short(high)} {histogram.unit}</text></svg>')
    return Markup("".join(parts))


def draw_clip(exhibit: Exhibit, speech: tuple[float, float] | None, kept: tuple[float, float] | None) -> Markup:
    """The outline of a clip above its spectrogram.

    Args:
        exhibit: what is drawn.
        speech: seconds at which the speech begins and ends, marked by lines.
        kept: seconds between which the clip is kept after a fix; what is cut off is shaded.
    """
    height = OUTLINE + SPECTRUM
    middle = OUTLINE / 2
    top = max(max(-low, high) for low, high in exhibit.envelope) or 1.0
    scale = (middle - 2) / max(top, 1e-3)
    step = WIDTH / len(exhibit.envelope)
    upper = [f"{place * step:.1f},{middle - scale * high:.1f}" for place, (_, high) in enumerate(exhibit.envelope)]
    lower = [f"{place * step:.1f},{middle - scale * low:.1f}" for place, (low, _) in enumerate(exhibit.envelope)]
    parts = [
        f'<svg class="sound" viewBox="0 0 {WIDTH} {height}" aria-hidden="true">'
        f'<path class="outline" d="M{" L".join([*upper, *reversed(lower)])} Z"/>'
        f'<image x="0" y="{OUTLINE}" width="{WIDTH}" height="{SPECTRUM}" preserveAspectRatio="none" '
        f'href="data:image/jpeg;base64,{_picture(exhibit)}"/>'
    ]

    def place_of(seconds: float) -> float:
        return min(float(WIDTH), max(0.0, WIDTH * seconds / exhibit.seconds))

    if kept is not None:
        begin, end = place_of(kept[0]), place_of(kept[1])
        parts.append(f'<rect class="cut" x="0" y="0" width="{begin:.1f}" height="{height}"/>')
        parts.append(f'<rect class="cut" x="{end:.1f}" y="0" width="{WIDTH - end:.1f}" height="{height}"/>')
    for seconds in speech or ():
        x = place_of(seconds)
        parts.append(f'<line class="edge" x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{height}"/>')
    parts.append("</svg>")
    return Markup("".join(parts))


def _picture(exhibit: Exhibit) -> str:
    """The spectrogram as base64 of a JPEG: a fifth of the bytes of a PNG, and it is looked at, not measured."""
    # Imported here: it takes its time, and a result without exhibits needs no picture.
    from PIL import Image

    grey = np.stack([np.frombuffer(row, np.uint8) for row in exhibit.spectrogram])
    buffer = io.BytesIO()
    Image.fromarray(_palette()[grey]).save(buffer, format="JPEG", quality=70)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


@lru_cache(maxsize=1)
def _palette() -> np.ndarray:
    """Red, green and blue [256, 3] of each loudness."""
    from matplotlib import colormaps

    return (np.asarray(colormaps["magma"](np.arange(256)))[:, :3] * 255).round().astype(np.uint8)


def _in_words(histogram: Histogram) -> str:
    return (
        f"{histogram.title}: {sum(histogram.counts)} clips from {_short(histogram.edges[0])} to "
        f"{_short(histogram.edges[-1])} {histogram.unit}"
    )


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")
