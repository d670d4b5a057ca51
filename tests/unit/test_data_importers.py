from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cosytune.audio.files import wave_info, write_wave
from cosytune.data.importers import source_files
from cosytune.errors import DataError
from tests.unit.importing import Imported, import_recordings


def tone(path: Path, seconds: float = 0.5, rate: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wave(path, 0.3 * np.sin(np.arange(round(seconds * rate)) / 5).astype(np.float32), rate)


def recording(path: Path, text: str | None, seconds: float = 0.5, suffix: str = ".txt") -> None:
    tone(path, seconds)
    if text is not None:
        path.with_suffix(suffix).write_text(text, encoding="utf-8")


def dropped(imported: Imported) -> dict[str, str]:
    return {line.id: line.reason for line in imported.ledger.lines if line.decision == "dropped"}


def test_a_plain_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my voice"
    recording(folder / "one two.wav", "Hello\n there. \n")
    recording(folder / "Anna/day 1/a.flac", "How are you?", suffix=".lab")
    recording(folder / "王小明/你好.wav", "你好,世界")
    recording(folder / "王小明/silent.ogg", None)
    (folder / "notes.pdf").write_bytes(b"%PDF")
    (folder / ".hidden.wav").write_bytes(b"")
    tone(folder / "__MACOSX/x.wav")
    imported = import_recordings(folder)
    assert imported.layout == "plain"
    found = {item.id: (item.text, item.speaker, item.language) for item in imported.utterances}
    assert found == {
        "one two": ("Hello there.", "my voice", "en"),
        "Anna/day 1/a": ("How are you?", "Anna", "en"),
        "王小明/你好": ("你好,世界", "王小明", "zh"),
        "王小明/silent": (None, "王小明", "en"),
    }
    assert all(
        item.seconds == pytest.approx(0.5, abs=0.02) and Path(item.audio).is_file() for item in imported.utterances
    )
    assert (imported.ledger.seen, imported.ledger.kept) == (4, 4)
    assert "guessed from the texts: en for 3, zh for 1 clips" in imported.ledger.summary()


def test_a_language_that_nothing_tells_is_not_called_guessed(tmp_path: Path) -> None:
    recording(tmp_path / "a.wav", None)
    imported = import_recordings(tmp_path)
    assert [item.language for item in imported.utterances] == ["en"]
    assert "The language was not given and nothing tells it: en was taken" in imported.ledger.summary()


def test_ids_do_not_change_when_clips_are_added(tmp_path: Path) -> None:
    recording(tmp_path / "b.wav", "b")
    before = import_recordings(tmp_path).utterances
    recording(tmp_path / "a.wav", "a")
    assert set(before) < set(import_recordings(tmp_path).utterances)


def test_a_given_language_is_taken(tmp_path: Path) -> None:
    recording(tmp_path / "a.wav", "Guten Tag")
    imported = import_recordings(tmp_path, language="de")
    assert imported.utterances[0].language == "de"
    assert not [note for note in imported.ledger.notes if "language" in note]


def test_one_short_sentence_is_read_in_the_language_of_its_speaker(tmp_path: Path) -> None:
    recording(tmp_path / "k/a.wav", "Das ist nicht der Weg, den wir mit dem Hund gehen.")
    recording(tmp_path / "k/b.wav", "Apfel")
    assert [item.language for item in import_recordings(tmp_path).utterances] == ["de", "de"]


def test_every_drop_has_its_reason(tmp_path: Path) -> None:
    recording(tmp_path / "good.wav", "good")
    recording(tmp_path / "good.ogg", None)
    recording(tmp_path / "short.wav", "hm", 0.05)
    recording(tmp_path / "long.wav", "on and on", 3.0)
    recording(tmp_path / "blank.wav", " \n")
    recording(tmp_path / "latin.wav", None)
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    (tmp_path / "noise.wav").write_bytes(b"not a recording at all")
    (tmp_path / "nothing.wav").write_bytes(b"")
    (tmp_path / "orphan.txt").write_text("nobody spoke me")
    imported = import_recordings(tmp_path, shortest=0.1, longest=2.0)
    reasons = dropped(imported)
    assert [item.id for item in imported.utterances] == ["good"]
    # good.ogg and good.wav share a stem; the first in order keeps the id.
    assert reasons.pop("good").startswith("duplicate id: ")
    assert reasons.pop("short") == "shorter than 0.1 s: it lasts 0.050 s"
    assert reasons.pop("long") == "longer than 2 s: it lasts 3.0 s; cut it into sentences"
    assert reasons.pop("blank") == "transcript empty"
    assert reasons.pop("latin").startswith("transcript unreadable: latin.txt is not UTF-8")
    assert reasons.pop("noise").startswith("unreadable: ")
    assert reasons.pop("nothing") == "empty: the file has no bytes"
    assert reasons.pop("orphan") == "transcript without recording: orphan.txt"
    assert not reasons
    assert imported.ledger.seen == 9
    assert imported.ledger.kept == 1


def test_ljspeech(tmp_path: Path) -> None:
    folder = tmp_path / "lj"
    for name in ("a.wav", "b.flac", "sub/c.wav", "unlisted.wav"):
        tone(folder / "wavs" / name)
    rows = [
        "a|First, no. 1|First, number one",
        "wavs/b.flac|Second",
        "sub/c|Third||",
        "ghost|Nobody",
        "lonely",
        "a|Again",
    ]
    (folder / "metadata.csv").write_text("\n".join([*rows, "", ""]), encoding="utf-8")
    imported = import_recordings(folder)
    assert imported.layout == "ljspeech"
    assert {item.id: item.text for item in imported.utterances} == {
        "a": "First, number one", "b": "Second", "sub/c": "Third",
    }  # fmt: skip
    assert {item.speaker for item in imported.utterances} == {"lj"}
    reasons = dropped(imported)
    assert reasons["ghost"].startswith("listed recording missing: there is no wavs/ghost with .wav")
    assert reasons["lonely"] == "not id|text: line 5 of metadata.csv has one column"
    assert reasons["a"].startswith("duplicate id: ")
    assert reasons["wavs/unlisted"] == "not listed in metadata.csv"
    assert imported.ledger.seen == 7


def test_a_metadata_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_bytes("a|café".encode("latin-1"))
    with pytest.raises(DataError, match="save it as UTF-8"):
        import_recordings(tmp_path)


def test_a_manifest(tmp_path: Path) -> None:
    tone(tmp_path / "all.wav", 4.0)
    base = {"audio": "all.wav", "speaker": "s", "language": "de", "text": "x"}
    rows = [
        base | {"id": "whole"},
        base | {"id": "part", "start": 1.0, "end": 2.5, "instruct": "softly"},
        base | {"id": "tail", "start": 3.0},
        base | {"id": "rounded", "start": 3.0, "end": 4.02},
        base | {"id": "beyond", "end": 5.0},
        base | {"id": "whole"},
        base | {"id": "gone", "audio": "gone.wav"},
        base | {"id": "blank", "text": " "},
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    imported = import_recordings(tmp_path, language="en")
    assert imported.layout == "manifest"
    lengths = {item.id: item.seconds for item in imported.utterances}
    assert lengths == pytest.approx({"whole": 4.0, "part": 1.5, "tail": 1.0, "rounded": 1.0})
    assert {item.language for item in imported.utterances} == {"de"}
    assert imported.utterances[1].instruct == "softly"
    reasons = dropped(imported)
    assert reasons["beyond"] == "outside the recording: 0 to 5 s of 4.00 s"
    assert reasons["gone"].startswith("listed recording missing: there is no file")
    assert set(reasons) == {"beyond", "whole", "gone", "blank"}
    assert tmp_path / "all.wav" in source_files(tmp_path)


@pytest.mark.parametrize("kind", ["absent", "file", "empty", "other"])
def test_what_is_accepted_is_said(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "x"
    if kind == "file":
        folder.write_text("")
    elif kind != "absent":
        folder.mkdir()
    if kind == "other":
        (folder / "film.mkv").write_bytes(b"1")
    with pytest.raises(DataError, match=r"accepted are a folder with \.wav.*LJSpeech.*manifest\.jsonl"):
        import_recordings(folder)


def every_tenth(whole: Path, folder: Path) -> Path:
    """A tenth of a corpus in the LJSpeech layout: to decode all of it takes long."""
    rows = (whole / "metadata.csv").read_text(encoding="utf-8").splitlines()[::10]
    (folder / "wavs").mkdir(parents=True)
    (folder / "metadata.csv").write_text("\n".join(rows), encoding="utf-8")
    for name in (row.split("|")[0] for row in rows):
        (folder / "wavs" / f"{name}.flac").symlink_to((whole / "wavs" / f"{name}.flac").resolve())
    return folder


@pytest.mark.parametrize(
    ("name", "layout", "clips", "speakers"),
    [("kathleen", "ljspeech", 140, 1), ("digits", "plain", 720, 6), ("raw_folder", "plain", 12, 1)],
)
def test_real_recordings(shared: Path, tmp_path: Path, name: str, layout: str, clips: int, speakers: int) -> None:
    folder = shared / "speech" / name
    imported = import_recordings(every_tenth(folder, tmp_path / name) if layout == "ljspeech" else folder)
    assert (imported.layout, imported.ledger.kept, imported.ledger.dropped) == (layout, clips, 0)
    assert len({item.speaker for item in imported.utterances}) == speakers
    assert {item.language for item in imported.utterances} == {"en"}


def test_a_recording_with_a_whole_header_and_half_a_sound_is_dropped(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    for name in ("whole", "half"):
        write_wave(tmp_path / f"{name}.flac", noise, 16_000)
    data = (tmp_path / "half.flac").read_bytes()
    (tmp_path / "half.flac").write_bytes(data[: len(data) // 2])
    assert wave_info(tmp_path / "half.flac").seconds == 2.0
    imported = import_recordings(tmp_path)
    assert [clip.id for clip in imported.utterances] == ["whole"]
    assert imported.ledger.reasons("dropped") == {"unreadable": 1}
