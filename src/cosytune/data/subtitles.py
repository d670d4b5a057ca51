"""Subtitles as people have them (.srt, .vtt): read tolerantly, cleaned of what nobody says."""

from __future__ import annotations

import html
import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from cosytune.errors import DataError

__all__ = ["SUBTITLE_SUFFIXES", "Cue", "find_subtitles", "read_subtitles"]

SUBTITLE_SUFFIXES = (".srt", ".vtt")
LARGEST = 64 * 2**20
"""Bytes. Subtitles of a whole day are smaller."""

ROLLING_GAP, ROLLING_SHARE = 0.2, 0.3
"""Captions roll where this share of the cues begins, within so many seconds, with the last line of the one before."""

_TIME = r"(-?)(?:(\d{1,4}):)?(\d{1,3}):(\d{1,2})(?:[.,](\d{1,3}))?"
_TIMING = re.compile(rf"^[ \t]*{_TIME}[ \t]*-{{1,2}}>[ \t]*{_TIME}(?![\d:]).*$")
_TAG = re.compile(r"</?[a-zA-Z0-9][^<>]*>|</>|\{\\[^{}]*\}|\{/?[biu]\}")
_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?[ \t]+([^<>]+)>", re.IGNORECASE)
_BETWEEN = re.compile(r"\.[a-zA-Z]{2,3}([-_][a-zA-Z0-9]{2,8})*")
_SOUND = re.compile(r"\[[^\[\]]*\]|\([^()]*\)|（[^（）]*）|【[^【】]*】|\*[^*]+\*")
_MUSIC = re.compile(r"[♪♫♬♩🎵🎶]")
_DASH = re.compile(r"^[-–—‐]\s*(?=[^\s\d-])")
_NAME = re.compile(r"^(?:>>+\s*)?[A-ZÄÖÜÉ][A-ZÄÖÜÉ .'’-]{1,30}:\s+")


@dataclass(frozen=True)
class Cue:
    """One subtitle.

    Attributes:
        start: second where it appears.
        end: second where it goes.
        text: what is said, in one line; empty where nothing is.
        reason: why it cannot be the text of speech, empty where it can.
        speaker: name that a WebVTT voice tag gives, if any.
    """

    start: float
    end: float
    text: str
    reason: str = ""
    speaker: str | None = None


def find_subtitles(audio: Path, language: str = "") -> tuple[Path, str] | None:
    """The subtitles beside a recording: `name.srt`, `name.vtt`, `name.en.srt` for `name.wav`.

    Args:
        audio: path of the recording.
        language: code of the language that is spoken, or "" if nobody said.

    Returns:
        The file and the language its name tells ("" if none), or None where there are none of this language.

    Raises:
        DataError: there are several and nothing tells which of them is of the language that is spoken.
    """
    found: dict[str, Path] = {}
    # Not Path.is_dir, which raises for a name that no disk can hold.
    if not os.path.isdir(audio.parent):  # noqa: PTH112
        return None
    for name in _subtitles_in(audio.parent, audio.parent.stat().st_mtime_ns):
        between = name[len(audio.stem) : name.rindex(".")]
        if name.startswith(audio.stem) and (not between or _BETWEEN.fullmatch(between)):
            # .srt comes before .vtt in the sorted listing, and goes first.
            found.setdefault(between[1:], audio.with_name(name))
    spoken = _primary(language)
    for code, path in found.items():
        if code and spoken and _primary(code) == spoken:
            return path, code
    if "" in found:
        return found[""], ""
    if spoken or not found:
        return None
    if len(found) > 1:
        names = ", ".join(path.name for path in found.values())
        raise DataError(
            f"several subtitles: beside {audio.name} lie {names}; say which language is spoken (--language) or keep one"
        )
    ((code, path),) = found.items()
    return path, code


@lru_cache(maxsize=16)
def _subtitles_in(folder: Path, _changed: int) -> tuple[str, ...]:
    """Sorted names; a folder of a million recordings is listed once, and again when something is added."""
    return tuple(sorted(path.name for path in folder.iterdir() if path.suffix.lower() in SUBTITLE_SUFFIXES))


def read_subtitles(path: Path) -> list[Cue]:
    """The cues of a file in order of time; repeated lines of rolling captions are said once.

    Raises:
        DataError: the file cannot be read, is no UTF-8 or UTF-16 text, is far too large, or holds no cue.
    """
    cues = [_cleaned(start, end, lines) for start, end, lines in _blocks(_lines(path))]
    if not cues:
        raise DataError(f"subtitles empty: {path.name} holds no cue such as 00:00:01,000 --> 00:00:02,500")
    return _without_repeats(sorted(cues, key=lambda cue: (cue.start, cue.end)))


def _lines(path: Path) -> list[str]:
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= LARGEST else b""
        coding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        text = data.decode(coding)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"subtitles unreadable: {path.name} is not UTF-8 text ({error}); save it as UTF-8") from error
    if size > LARGEST:
        raise DataError(f"subtitles unreadable: {path.name} has {size / 2**20:.0f} MB, more than any film; is it text?")
    return text.splitlines()


def _blocks(lines: list[str]) -> Iterator[tuple[float, float, list[str]]]:
    """Begin, end and lines of each cue: what follows its times up to an empty line.

    Numbers, WebVTT identifiers and NOTE, STYLE and REGION blocks have no times in their block and are passed over.
    """
    number = 0
    while number < len(lines):
        timing = _TIMING.match(lines[number])
        number += 1
        if timing is None:
            continue
        held = []
        while number < len(lines) and lines[number].strip() and not _TIMING.match(lines[number]):
            held.append(lines[number].strip())
            number += 1
        if number < len(lines) and _TIMING.match(lines[number]) and held and held[-1].isdigit():
            held.pop()  # the number of a cue that no empty line parts from this one
        yield _seconds(timing.groups()[:5]), _seconds(timing.groups()[5:]), held


def _seconds(groups: tuple[str | None, ...]) -> float:
    sign, hours, minutes, seconds, fraction = groups
    whole = int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    value = whole + float(f"0.{fraction or 0}")
    return -value if sign else value


def _cleaned(start: float, end: float, lines: list[str]) -> Cue:
    voices = list(dict.fromkeys(name.strip() for line in lines for name in _VOICE.findall(line)))
    plain = [" ".join(html.unescape(_TAG.sub("", line)).replace("\\N", " ").split()) for line in lines]
    written = " ".join(filter(None, plain))
    dashes = sum(bool(_DASH.match(line)) for line in plain)
    said = [_NAME.sub("", _DASH.sub("", line)) for line in plain]
    said = [" ".join(_SOUND.sub(" ", line).split()) for line in said]
    text = "\n".join(line for line in said if line)
    speaker = voices[0] if len(voices) == 1 else None
    if start < 0 or end <= start:
        return Cue(max(start, 0.0), max(end, start, 0.0), text, f"its times are impossible ({start:g} to {end:g} s)")
    if _MUSIC.search(text):
        return Cue(start, end, text, "it is sung")
    if not any(map(str.isalnum, text)):
        return Cue(start, end, written, "nobody speaks")
    if dashes > 1 or len(voices) > 1:
        return Cue(start, end, text, "two people speak in one subtitle")
    return Cue(start, end, text, "", speaker)


def _without_repeats(cues: list[Cue]) -> list[Cue]:
    """Rolling captions show the last lines again above the new one: each line is kept where it first appeared.

    In a file that does not roll, a repeated line is a line that is said twice.
    """
    repeated = [0]
    for before, cue in itertools.pairwise(cues):
        shown, lines = before.text.split("\n"), cue.text.split("\n")
        longest = min(len(shown), len(lines)) if cue.start <= before.end + ROLLING_GAP else 0
        repeated.append(next((n for n in range(longest, 0, -1) if shown[-n:] == lines[:n]), 0))
    if sum(map(bool, repeated)) < ROLLING_SHARE * len(cues):
        repeated = [0] * len(cues)
    parted = [(cue, cue.text.split("\n")[again:]) for cue, again in zip(cues, repeated, strict=True)]
    return [replace(cue, text=" ".join(fresh)) for cue, fresh in parted if fresh]


def _primary(language: str) -> str:
    return re.split(r"[-_]", language.lower(), maxsplit=1)[0]
