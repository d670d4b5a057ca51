"""Plain folders as they are found on disks: links, odd names, other encodings, things that are no recordings."""

from __future__ import annotations

import os
import pickle
from functools import partial
from pathlib import Path

import pytest

from cosytune.data.importers import measure, open_source, source_files
from cosytune.data.importers.source import walk
from cosytune.data.manifest import Utterance
from cosytune.data.results import LedgerLine
from tests.unit.import_examples import kept, reasons, tone


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    far = tone(tmp_path / "disk/anna/a.wav").parent
    folder = tmp_path / "voices"
    tone(folder / "bert/b.wav")
    (folder / "anna").symlink_to(far)
    (folder / "bert/self").symlink_to(folder)
    (folder / "bert/dangling.wav").symlink_to(folder / "gone.wav")
    found = kept(folder)
    assert {(item.id, item.speaker) for item in found.values()} == {
        ("anna/a", "anna"), ("bert/b", "bert"), ("bert/dangling", "bert"),
    }  # fmt: skip
    lost = measure(found["bert/dangling"], 0.1, 30.0)
    assert isinstance(lost, LedgerLine) and lost.reason.startswith("listed recording missing: there is no file")
    assert folder / "bert/dangling.wav" not in source_files(folder)


def test_a_folder_that_cannot_be_listed_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tone(tmp_path / "a/a.wav")
    tone(tmp_path / "b/b.wav")
    listed = os.scandir

    def refuse(path: str) -> object:
        if os.path.basename(path) == "b":  # noqa: PTH119
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert list(kept(tmp_path)) == ["a/a"]
    assert reasons(tmp_path) == {str(tmp_path / "b"): "unreadable folder: Permission denied"}


def test_transcripts_in_other_encodings(tmp_path: Path) -> None:
    for name, data in {
        "gbk": "今天天气很好,我们去公园。".encode("gbk"),
        "latin": "Das ist schön".encode("latin-1"),
        "windows": "Das ist schön\r\n".encode("utf-16"),
        "marked": "\ufeffHello\r\nthere".encode(),
    }.items():
        tone(tmp_path / f"{name}.wav")
        (tmp_path / f"{name}.txt").write_bytes(data)
    tone(tmp_path / "pipe.wav")
    os.mkfifo(tmp_path / "pipe.txt")
    assert {item.text for item in kept(tmp_path).values()} == {"Das ist schön", "Hello there"}
    dropped = reasons(tmp_path)
    assert dropped["gbk"] == (
        "transcript unreadable: gbk.txt is not UTF-8 text but probably GB18030 (GBK): "
        "convert it with iconv -f GB18030 -t UTF-8"
    )
    assert dropped["latin"] == "transcript unreadable: latin.txt is not UTF-8 text: save it as UTF-8"
    assert dropped["pipe"] == "transcript unreadable: pipe.txt is no regular file"


def test_a_transcript_that_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tone(tmp_path / "a.wav").with_suffix(".txt").write_text("x")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert reasons(tmp_path) == {"a": "transcript unreadable: a.txt cannot be read (Permission denied)"}


def test_a_file_name_in_another_encoding(tmp_path: Path) -> None:
    data = tone(tmp_path / "a.wav").read_bytes()
    with open(os.fsencode(tmp_path) + b"/" + "你好".encode("gbk") + b".wav", "wb") as out:  # noqa: PTH123
        out.write(data)
    assert list(kept(tmp_path)) == ["a"]
    ((name, reason),) = reasons(tmp_path).items()
    assert name.encode() and reason == "file name is not UTF-8: rename the file or its folder"


def test_every_format_is_found_and_subtitles_are_left_to_the_cutter(tmp_path: Path) -> None:
    for name in ("talk.MP3", "b.m4a", "c.opus", "d.AIFF", "e.webm"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "talk.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n")
    (tmp_path / "b.TXT").write_text("words")
    found = kept(tmp_path)
    assert {item.id: item.text for item in found.values()} == {
        "talk": None, "b": "words", "c": None, "d": None, "e": None,
    }  # fmt: skip
    assert not reasons(tmp_path)
    assert tmp_path / "talk.srt" in source_files(tmp_path)


def test_txt_goes_before_lab(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav")
    for suffix in (".lab", ".txt"):
        (tmp_path / f"a{suffix}").write_text(suffix)
    assert kept(tmp_path)["a"].text == ".txt"


def test_one_recording(tmp_path: Path) -> None:
    path = tone(tmp_path / "long talk.wav")
    tone(tmp_path / "other.wav")
    path.with_suffix(".txt").write_text("All of it.")
    assert open_source(path).layout == "plain"
    assert [(item.id, item.text) for item in kept(path).values()] == [("long talk", "All of it.")]


def test_folders_come_one_after_the_other(tmp_path: Path) -> None:
    """Nothing is held back until the end: an entry comes before the folders after it are read."""
    for name in ("a/1.wav", "b/2.wav", "c/3.wav"):
        tone(tmp_path / name)
    (tmp_path / "a/0.txt").write_text("nobody")
    entries = open_source(tmp_path).entries
    assert next(entries).id == "a/1"
    assert next(entries).id == "a/0"
    (tmp_path / "c/3.wav").rename(tmp_path / "c/4.wav")
    assert [entry.id for entry in entries] == ["b/2", "c/4"]


def test_measuring_is_a_picklable_function(tmp_path: Path) -> None:
    item = Utterance("a", str(tone(tmp_path / "a.wav", 1.5)), "x", "s", "en", start=0.25)
    decide = pickle.loads(pickle.dumps(partial(measure, shortest=0.1, longest=30.0)))  # noqa: S301
    assert decide(item).seconds == 1.25
    lost = decide(Utterance("b", "/" + "x" * 5000, None, "s", "en"))
    assert lost.reason.startswith("listed recording missing")


def test_hidden_files_are_not_looked_at(tmp_path: Path) -> None:
    for name in (".trash/a.wav", "__MACOSX/b.wav", "._c.wav", "d.wav"):
        tone(tmp_path / name)
    assert list(walk(tmp_path)) == [tmp_path / "d.wav"]
