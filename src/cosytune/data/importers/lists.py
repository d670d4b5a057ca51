"""Lists without a header, cells separated by bars: GPT-SoVITS's `.list` and VITS's file lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cosytune.data.importers.fields import Row
from cosytune.data.importers.places import Places
from cosytune.data.importers.source import Entry, dropped, is_recording
from cosytune.data.importers.texts import first_line, open_text

__all__ = ["is_list", "read_list"]

_LAYOUTS = {
    2: ("audio", "text"),
    3: ("audio", "speaker", "text"),
    4: ("audio", "speaker", "language", "text"),
}
"""What the cells are, by their number."""


def is_list(path: Path) -> bool:
    """Whether the first line is one of a list: cells with bars between them, the first of them a recording.

    A file called `.list` need not show the recording's suffix.

    Raises:
        DataError: the file cannot be read or is in another encoding.
    """
    cells = first_line(path).split("|")
    return len(cells) > 1 and (path.suffix.lower() == ".list" or is_recording(Path(cells[0].strip())))


def read_list(path: Path, speaker: str) -> Iterator[Entry]:
    """The lines of a list.

    Args:
        path: lines of path|text, path|speaker|text or path|speaker|language|text, all alike.
        speaker: label where the lines have none.

    Raises:
        DataError: while it is read, the file turns out to be unreadable.
    """
    # A bar more than the longest layout has is one in the text.
    return _entries(path, _LAYOUTS[min(4, first_line(path).count("|") + 1)], speaker)


def _entries(path: Path, layout: tuple[str, ...], speaker: str) -> Iterator[Entry]:
    places = Places(path.parent)
    names = {name: name for name in layout}
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"line {number} of {path.name}"
            cells = line.strip("\r\n").split("|", len(layout) - 1)
            if len(cells) == len(layout):
                yield Row(dict(zip(layout, cells, strict=True)), names, where).entry(places, speaker)
            else:
                yield dropped(where, path, f"not a line of this list: {where} has {len(cells)} cells")
