"""Deciding on one clip by decoding it: what is damaged must be found here and not in the middle of a training."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from cosytune.audio.files import read_wave, wave_info
from cosytune.data.importers.source import Entry, dropped
from cosytune.data.manifest import Utterance
from cosytune.errors import InputError

__all__ = ["measure"]

_ROUNDED = 0.05
"""Seconds by which a table's `end` may pass the last sample: such times are often rounded."""


def measure(utterance: Utterance, shortest: float, longest: float) -> Entry:
    """Decode a clip once (twice if ffmpeg has to) and decide on it alone, so that clips can be measured in parallel.

    Args:
        utterance: as a source yields it; its id is not compared with others.
        shortest: seconds; a shorter clip is dropped.
        longest: seconds; a longer clip is dropped.

    Returns:
        The utterance with its `seconds`, or a ledger line that says why it cannot be used.
    """

    def refuse(reason: str, seconds: float | None = None) -> Entry:
        return replace(dropped(utterance.id, utterance.audio, reason), seconds=seconds)

    if utterance.text is not None and not utterance.text.strip():
        return refuse("transcript empty")
    path = Path(utterance.audio)
    # Not Path.is_file, which raises for a name that is too long for the disk.
    if not os.path.isfile(path):  # noqa: PTH113
        return refuse(f"listed recording missing: there is no file {path}")
    if path.stat().st_size == 0:
        return refuse("empty: the file has no bytes")
    try:
        total = wave_info(path).seconds
    except (InputError, OSError) as error:
        return refuse(f"unreadable: {error}")
    start, end = utterance.start or 0.0, total if utterance.end is None else utterance.end
    if end > total + _ROUNDED or start >= total:
        return refuse(f"outside the recording: {start:g} to {end:g} s of {total:.2f} s")
    seconds = min(end, total) - start
    if seconds < shortest:
        return refuse(f"shorter than {shortest:g} s: it lasts {seconds:.3f} s", round(seconds, 6))
    if seconds > longest:
        return refuse(f"longer than {longest:g} s: it lasts {seconds:.1f} s; cut it into sentences", round(seconds, 6))
    try:
        read_wave(path, None, start, utterance.end)
    except (InputError, OSError) as error:
        return refuse(f"unreadable: {error}", round(seconds, 6))
    return replace(utterance, seconds=round(seconds, 6))
