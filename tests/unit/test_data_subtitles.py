"""Subtitles as they are found in the wild."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosytune.data import subtitles
from cosytune.data.subtitles import Cue, find_subtitles, read_subtitles
from cosytune.errors import DataError


def cues_of(path: Path, text: str | bytes) -> list[Cue]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_subtitles(path)


SRT = (
    "1\n00:00:01,000 --> 00:00:02,500\nHello <i>you</i>!\n\n"
    "2\n00:01:03,5 --> 01:00:04,000\n{\\an8}Two\nlines &amp; more.\n"
)
HELLO = [Cue(1.0, 2.5, "Hello you!"), Cue(63.5, 3604.0, "Two lines & more.")]


@pytest.mark.parametrize(
    "data",
    [
        SRT.encode(),
        b"\xef\xbb\xbf" + SRT.encode(),
        SRT.replace("\n", "\r\n").encode(),
        SRT.replace("\n", "\r").encode(),
        SRT.encode("utf-16"),
        SRT.replace("\n\n", "\n").encode(),
        SRT.replace(",", ".").encode(),
        SRT.replace(" --> ", "-->").encode(),
    ],
    ids=["plain", "BOM", "CRLF", "CR", "UTF-16", "no empty lines", "points", "no spaces"],
)
def test_subrip_in_every_dress(tmp_path: Path, data: bytes) -> None:
    assert cues_of(tmp_path / "a.srt", data) == HELLO


def test_webvtt_with_everything_that_is_not_said(tmp_path: Path) -> None:
    text = """WEBVTT - a title

NOTE the pysubs2 parser reads a comment in the middle as words

STYLE
::cue { color: red }

intro
00:01.000 --> 00:02.500 align:start position:0%
<v.loud Mary>Hello <c.red>you</c>

NOTE
01:00 is no cue

second-identifier
00:00:03.000 --> 00:00:04.000
World<00:00:03.500> again
"""
    assert cues_of(tmp_path / "a.vtt", text) == [
        Cue(1.0, 2.5, "Hello you", "", "Mary"),
        Cue(3.0, 4.0, "World again"),
    ]


@pytest.mark.parametrize(
    ("lines", "text", "reason"),
    [
        ("♪ la la ♪", "♪ la la ♪", "it is sung"),
        ("[Music]", "[Music]", "nobody speaks"),
        ("(laughs)\n*coughs*", "(laughs) *coughs*", "nobody speaks"),
        ("...", "...", "nobody speaks"),
        ("", "", "nobody speaks"),
        ("- Who?\n- Me.", "Who? Me.", "two people speak in one subtitle"),
        ("<v Ann>Yes.\n<v Bob>No.", "Yes. No.", "two people speak in one subtitle"),
        ("MARY ANN: I see (sighs) it.", "I see it.", ""),
        ("- One person", "One person", ""),
        (">> JOHN: -5 degrees", "-5 degrees", ""),
        ("a < b and b > a", "a < b and b > a", ""),
        ("Note: this is said", "Note: this is said", ""),
    ],
)
def test_what_is_said_is_kept(tmp_path: Path, lines: str, text: str, reason: str) -> None:
    (cue,) = cues_of(tmp_path / "a.srt", f"1\n00:00:01,000 --> 00:00:02,000\n{lines}\n")
    assert (cue.text, cue.reason) == (text, reason)


def test_impossible_times_are_told_and_not_believed(tmp_path: Path) -> None:
    early, back = cues_of(
        tmp_path / "a.srt", "-00:00:01,000 --> 00:00:02,500\nearly\n\n00:00:09,000 --> 00:00:08,000\nback\n"
    )
    assert early.reason == "its times are impossible (-1 to 2.5 s)" and early.start == 0.0
    assert back.reason == "its times are impossible (9 to 8 s)" and back.end == back.start


def test_rolling_captions_are_said_once(tmp_path: Path) -> None:
    text = """WEBVTT

00:00:00.000 --> 00:00:02.000
so today we
want to talk

00:00:02.000 --> 00:00:02.010
want to talk

00:00:02.010 --> 00:00:04.000
want to talk
about bread

00:00:09.000 --> 00:00:10.000
about bread
"""
    assert cues_of(tmp_path / "a.vtt", text) == [
        Cue(0.0, 2.0, "so today we want to talk"),
        Cue(2.01, 4.0, "about bread"),
        Cue(9.0, 10.0, "about bread"),  # said again, later
    ]


def test_cues_come_in_order_of_time(tmp_path: Path) -> None:
    text = "00:00:05,000 --> 00:00:06,000\nlater\n\n00:00:01,000 --> 00:00:05,500\nearlier\n"
    assert [cue.text for cue in cues_of(tmp_path / "a.srt", text)] == ["earlier", "later"]


def test_ten_megabytes_are_read(tmp_path: Path) -> None:
    count = 10_000
    times = [f"{n // 3600:02d}:{n // 60 % 60:02d}:{n % 60:02d}" for n in range(count)]
    blocks = (f"{n}\n{time},000 --> {time},900\n{n} {'bottles ' * 125}\n\n" for n, time in enumerate(times))
    assert len(cues_of(tmp_path / "a.srt", "".join(blocks))) == count


def test_a_line_that_is_said_twice_is_kept_twice(tmp_path: Path) -> None:
    said = ["No.", "No.", "I said no.", "Why?", "Because."]
    text = "".join(f"00:00:0{n},000 --> 00:00:0{n},900\n{line}\n\n" for n, line in enumerate(said))
    assert [cue.text for cue in cues_of(tmp_path / "a.srt", text)] == said


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"subtitles empty: a\.srt holds no cue such as 00:00:01,000 --> 00:00:02,500"),
        (b"WEBVTT\n\nNOTE nothing\n", "subtitles empty"),
        (b"\x00" * 5000, "subtitles empty"),
        ("1\n00:00:01,000 --> 00:00:02,000\nGrüße\n".encode("cp1252"), "not UTF-8 text .*; save it as UTF-8"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        cues_of(tmp_path / "a.srt", data)


def test_a_file_that_is_no_text_by_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subtitles, "LARGEST", 10)
    with pytest.raises(DataError, match="more than any film"):
        cues_of(tmp_path / "a.srt", SRT)
    with pytest.raises(DataError, match="subtitles unreadable: absent"):
        read_subtitles(tmp_path / "absent.srt")


@pytest.mark.parametrize(
    ("names", "language", "expected"),
    [
        (["talk.srt"], "", ("talk.srt", "")),
        (["talk.srt", "talk.vtt"], "", ("talk.srt", "")),
        (["talk.en.srt", "talk.de.srt"], "de", ("talk.de.srt", "de")),
        (["talk.en-GB.vtt", "talk.srt"], "en", ("talk.en-GB.vtt", "en-GB")),
        (["talk.de.srt", "talk.srt"], "", ("talk.srt", "")),
        (["talk.de.srt"], "", ("talk.de.srt", "de")),
        (["talk.de.srt"], "en", None),
        (["talk2.srt", "talk.en.txt", "other.srt"], "", None),
        ([], "", None),
    ],
)
def test_which_subtitles_belong_to_a_recording(
    tmp_path: Path, names: list[str], language: str, expected: tuple[str, str] | None
) -> None:
    for name in names:
        (tmp_path / name).touch()
    found = find_subtitles(tmp_path / "talk.wav", language)
    assert found == (None if expected is None else (tmp_path / expected[0], expected[1]))


def test_several_languages_and_nobody_said_which(tmp_path: Path) -> None:
    for name in ("talk.de.srt", "talk.en.srt"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"beside talk\.wav lie talk\.de\.srt, talk\.en\.srt; say which"):
        find_subtitles(tmp_path / "talk.wav")


def test_hours_may_be_left_out_in_subrip_too(tmp_path: Path) -> None:
    assert cues_of(tmp_path / "a.srt", "1\n00:01,5 --> 00:02,000\nOne.\n\n2\n90:03.000 --> 90:04.000\nTwo.\n") == [
        Cue(1.5, 2.0, "One."),
        Cue(5403.0, 5404.0, "Two."),
    ]
