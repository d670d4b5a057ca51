"""Folders of folders with tables of their own, and clips that come with one id."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cosytune.data.doctor import check_recordings
from cosytune.data.importers import open_source, source_files, with_distinct_ids
from cosytune.data.manifest import Utterance
from cosytune.data.results import LedgerLine
from tests.unit.import_examples import kept, reasons, tone
from tests.unit.importing import import_recordings


def ljspeech(folder: Path, *names: str) -> None:
    for name in names:
        tone(folder / "wavs" / f"{name}.wav")
    (folder / "metadata.csv").write_text("".join(f"{name}|{folder.name} says {name}.\n" for name in names))


def kaldi(folder: Path) -> None:
    tone(folder / "a.wav")
    (folder / "wav.scp").write_text("a a.wav\n")
    (folder / "text").write_text("a kaldi says a.\n")


def table(folder: Path) -> None:
    tone(folder / "a.wav")
    (folder / "clips.csv").write_text("file,text\na.wav,table says a.\n")


def json_lines(folder: Path) -> None:
    tone(folder / "a.wav")
    (folder / "train.jsonl").write_text('{"audio_filepath": "a.wav", "text": "json says a."}\n')


def listed(folder: Path) -> None:
    tone(folder / "a.wav")
    (folder / "train.list").write_text("a.wav|list says a.\n")


def test_an_ljspeech_folder_for_each_speaker(tmp_path: Path) -> None:
    ljspeech(tmp_path / "anna", "1", "2")
    ljspeech(tmp_path / "李 雷", "1", "2")
    tone(tmp_path / "李 雷" / "wavs" / "3.wav")
    assert open_source(tmp_path).layout == "folders"
    clips = kept(tmp_path)
    assert {name: (clip.speaker, clip.text) for name, clip in clips.items()} == {
        "anna/1": ("anna", "anna says 1."),
        "anna/2": ("anna", "anna says 2."),
        "李 雷/1": ("李 雷", "李 雷 says 1."),
        "李 雷/2": ("李 雷", "李 雷 says 2."),
    }
    assert reasons(tmp_path) == {"李 雷/wavs/3": "not listed: no table names it, as one does its neighbours"}
    assert {path.name for path in source_files(tmp_path)} == {"metadata.csv", "1.wav", "2.wav", "3.wav"}


@pytest.mark.parametrize("make", [kaldi, table, json_lines, listed])
def test_folders_of_every_kind_beside_plain_recordings(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "deep" / "x")
    ljspeech(tmp_path / "anna", "a")
    (tmp_path / "carl").mkdir()
    tone(tmp_path / "carl" / "c.wav").with_suffix(".txt").write_text("Carl says c.")
    clips = kept(tmp_path)
    assert {name: clip.speaker for name, clip in clips.items()} == {"anna/a": "anna", "deep/x/a": "x", "carl/c": "carl"}
    assert (clips["deep/x/a"].text or "").endswith("says a.") and clips["carl/c"].text == "Carl says c."
    assert not reasons(tmp_path)


def test_folders_of_one_name_are_different_speakers(tmp_path: Path) -> None:
    for speaker in ("anna", "bob"):
        ljspeech(tmp_path / speaker / "en", "1")
    assert {clip.speaker for clip in kept(tmp_path).values()} == {"anna/en", "bob/en"}


def test_a_recording_that_two_tables_name_is_taken_once(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        tone(tmp_path / "wav" / f"{name}.wav")
    (tmp_path / "wav" / "c.txt").write_text("It has its own.")
    for name, text in (("dev", "First."), ("train", "Second.")):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "wav.scp").write_text(
            f"{name} {tmp_path}/wav/a.wav\n{name}b {tmp_path}/wav/b.wav\n"
        )
        (tmp_path / "data" / name / "text").write_text(f"{name} {text}\n{name}b {text}\n")
    assert {name: clip.text for name, clip in kept(tmp_path).items()} == {
        "data/dev/dev": "First.",
        "data/dev/devb": "First.",
        "wav/c": "It has its own.",
    }
    twice = "listed twice: a table that was read before names this recording"
    assert reasons(tmp_path) == {
        "data/train/train": twice,
        "data/train/trainb": twice,
        "wav/d": "not listed: no table names it, as one does its neighbours",
    }


def test_a_table_that_breaks_costs_its_folder(tmp_path: Path) -> None:
    ljspeech(tmp_path / "anna", "1")
    ljspeech(tmp_path / "bob", "1", "2")
    (tmp_path / "bob" / "metadata.csv").write_bytes(("1|One.\n" + "2|Two.\n" * 5000 + "2|Zwölf.\n").encode("latin-1"))
    ljspeech(tmp_path / "carl", "1")
    (tmp_path / "carl" / "metadata.csv").write_text("name,age\n1,22\n")
    assert {"anna/1", "bob/1", "carl/wavs/1"} <= kept(tmp_path).keys()
    said = reasons(tmp_path)
    assert said["bob"].startswith("unreadable table: ") and "metadata.csv cannot be read" in said["bob"]
    assert "carl/metadata.csv" in said


def test_no_two_clips_have_one_id() -> None:
    def clip(audio: str, start: float | None = None) -> Utterance:
        return Utterance("a", audio, "Text.", "s", "en", start=start)

    entries = [clip("/x/1.wav"), clip("/y/1.wav"), clip("/x/1.mp3"), clip("/x/1.wav"), clip("/x/1.wav", 2.0)]
    entries += [clip(f"/z/{number}.wav") for number in range(20)]
    found = list(with_distinct_ids(iter(entries)))
    kept_ids = [entry.id for entry, _ in found if isinstance(entry, Utterance)]
    assert kept_ids == ["a", "a~2", "a", *(f"a~{number}" for number in range(3, 24))]
    assert [change for _, change in found][:2] == ["", "renamed: /x/1.wav has the id a already"]
    assert [entry.reason for entry, _ in found if isinstance(entry, LedgerLine)] == [
        "duplicate id: /x/1.wav has it already"
    ]


def test_of_a_recording_in_two_formats_the_first_that_can_be_read_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name in ("a.flac", "a.wav", "b.wav"):
        tone(folder / name)
    (folder / "b.m4a").write_bytes(b"not decoded here")
    for name in ("a", "b"):
        (folder / f"{name}.txt").write_text(f"The text of {name}.")
    result = check_recordings(folder, workers=1)
    assert [clip.id for clip in result.clips] == ["a", "a.wav", "b", "b.wav"]
    found = import_recordings(folder)
    assert [Path(clip.audio).name for clip in found.utterances] == ["a.flac", "b.wav"]
    assert found.ledger.reasons("dropped") == {"duplicate id": 1, "unreadable": 1}
