"""Lhotse manifests, and known corpora through Lhotse's recipes on made-up trees of the same layout."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from cosytune.data.importers import open_source, source_files
from cosytune.errors import DataError
from tests.unit.import_examples import kept, read, reasons, tone


def recording(path: Path | str, seconds: float = 2.0, kind: str = "file", channels: int = 1, **more: Any) -> dict:
    sources = [{"type": kind, "channels": list(range(channels)), "source": str(path)}]
    base = {"id": Path(path).stem, "sources": sources, "sampling_rate": 8000, "num_samples": int(seconds * 8000)}
    return {**base, "duration": seconds, "channel_ids": list(range(channels)), **more}


def supervision(identity: str, recording_id: str, start: float, duration: float, **more: Any) -> dict:
    base = {"id": identity, "recording_id": recording_id, "start": start, "duration": duration, "channel": 0}
    return {**base, "text": f"text of  {identity}", "language": "English", "speaker": "anna", **more}


def cut(identity: str, of: dict | None, start: float, duration: float, *supervisions: dict, **more: Any) -> dict:
    base = {"id": identity, "start": start, "duration": duration, "channel": 0, "supervisions": list(supervisions)}
    return {**base, **({"recording": of} if of else {}), "type": "MonoCut", **more}


def write(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def test_cuts(tmp_path: Path) -> None:
    audio = recording(tone(tmp_path / "声 音/a.wav", 2.0))
    moved = {"type": "MixedCut", "id": "mixed", "tracks": []}
    rows = [
        cut("whole", audio, 0.0, 2.0, supervision("s0", "a", 0.0, 2.0)),
        cut("part", audio, 0.5, 1.0, supervision("s1", "a", 0.1, 0.5)),
        cut("silent", audio, 0.0, 1.0),
        cut("two", audio, 0.5, 1.5, supervision("s2", "a", 0.0, 0.5), supervision("s3", "a", 0.75, 0.75)),
        cut("unbound", None, 0.0, 1.0),
        cut("loud", recording("touch ran", kind="command"), 0.0, 2.0),
        cut("web", recording("https://x.org/a.wav", kind="url"), 0.0, 2.0),
        cut("left", recording(tmp_path / "声 音/a.wav", channels=2), 0.0, 2.0),
        cut("fast", {**audio, "transforms": [{"name": "Speed", "kwargs": {"factor": 1.1}}]}, 0.0, 1.8),
        cut("split", {**audio, "sources": audio["sources"] * 2}, 0.0, 2.0),
        moved,
        "broken",
    ]
    for path in (write(tmp_path / "my_cuts.jsonl.gz", rows), write(tmp_path / "in/cuts.jsonl", rows)):
        found = kept(path)
        assert open_source(path).layout == "lhotse"
        assert {item.id: (item.start, item.end, item.text) for item in found.values()} == {
            "whole": (None, None, "text of s0"),
            "part": (0.5, 1.5, "text of s1"),
            "silent": (None, 1.0, None),
            "s2": (0.5, 1.0, "text of s2"),
            "s3": (1.25, None, "text of s3"),
        }
        assert {(item.language, item.speaker) for item in found.values() if item.text} == {("en", "anna")}
        dropped = reasons(path)
        assert dropped["unbound"].startswith("not one recording: it is a MonoCut without recording; save its sound")
        assert dropped["loud"].startswith("not a file but a 'command' source, which is never run or read")
        assert dropped["web"].startswith("a web address instead of a file")
        assert dropped["left"].startswith("one of several channels: it uses [0] of [0, 1]")
        assert dropped["fast"].startswith("changed while it is read (")
        assert dropped["split"].startswith("not one file: the recording has 2 sources")
        assert dropped[f"line 12 of {path.name}"].startswith("not a Lhotse record: line 12")
        assert len(found) + len(dropped) == 13
    assert not (Path.cwd() / "ran").exists()


def test_recordings_and_supervisions(tmp_path: Path) -> None:
    for name in "ab":
        tone(tmp_path / f"audio/{name}.wav", 2.0)
    recordings = [recording("audio/b.wav"), recording("audio/a.wav"), recording("audio/b.wav")]
    supervisions = [supervision("u1", "a", 0.5, 0.5), supervision("u2", "gone", 0, 1), supervision("u3", "a", 0, 2)]
    folder = tmp_path / "data/manifests"
    write(folder / "x_recordings_all.jsonl.gz", [*recordings, "broken"])
    path = write(folder / "x_supervisions_all.jsonl.gz", [*supervisions, "broken"])
    for source in (folder, path):
        found = kept(source)
        assert {item.id: (item.audio, item.start, item.end) for item in found.values()} == {
            "u1": (str(tmp_path / "audio/a.wav"), 0.5, 1.0),
            "u3": (str(tmp_path / "audio/a.wav"), None, None),
            "b": (str(tmp_path / "audio/b.wav"), None, None),
        }
        assert (found["b"].text, found["b"].speaker) == (None, "manifests")
        dropped = reasons(source)
        assert dropped["u2"] == "listed recording missing: gone is in no manifest of recordings"
        assert dropped["b"].startswith("duplicate id: two recordings")
        assert len(dropped) == 4
    assert set(source_files(folder)) >= {tmp_path / "audio/a.wav", path}
    (folder / "x_recordings_all.jsonl.gz").unlink()
    with pytest.raises(DataError, match="supervisions name recordings by id only; put the manifest of recordings"):
        open_source(folder)


def libritts(folder: Path) -> Path:
    chapter = folder / "dev-clean/84/121123"
    rows = []
    for number in (1, 2, 3):
        name = f"84_121123_00000{number}_000000"
        tone(chapter / f"{name}.wav")
        (chapter / f"{name}.normalized.txt").write_text("not read")
        rows.append(f"{name}\tMr. {number}.\tMister {number}.")
    (chapter / "84_121123.trans.tsv").write_text("\n".join([*rows[:2], "84_121123_000009_000000\tNo.\tNo."]))
    (chapter / "84_121123.book.tsv").write_text("\n".join(f"{row.split(chr(9))[0]} x 12.5" for row in rows))
    (folder / "SPEAKERS.txt").write_text(";ID |SEX|SUBSET|MINUTES|NAME\n84 | F | dev-clean | 8 | Name\n")
    return folder


def test_libritts(tmp_path: Path) -> None:
    folder = libritts(tmp_path / "LibriTTS")
    assert open_source(folder).layout == "libritts"
    first = kept(folder)["84_121123_000001_000000"]
    assert (first.text, first.speaker, first.language) == ("Mister 1.", "84", "en")
    assert first.audio == str(folder / "dev-clean/84/121123/84_121123_000001_000000.wav")
    assert len(kept(folder)) == 2
    dropped = reasons(folder)
    unused = dropped.pop("dev-clean/84/121123/84_121123_000003_000000")
    assert unused == "not listed: lhotse's recipe libritts does not use it"
    ((warning, missing),) = dropped.items()
    assert warning == "libritts warning 1" and "84_121123_000009_000000" in missing


def test_one_damaged_recording_does_not_stop_a_recipe(tmp_path: Path) -> None:
    folder = libritts(tmp_path / "LibriTTS")
    bad = folder / "dev-clean/84/121123/84_121123_000002_000000.wav"
    bad.write_bytes(b"no sound")
    (item,) = kept(folder).values()
    assert Path(item.audio).is_file() and item.audio.startswith(str(folder))
    dropped = reasons(folder)
    assert dropped["dev-clean/84/121123/84_121123_000002_000000"].startswith("unreadable: ")
    assert len(read(folder)) == 4


def test_aishell3(tmp_path: Path) -> None:
    for part, name in (("train", "SSB00050001"), ("train", "SSB00050002"), ("test", "SSB00110001")):
        tone(tmp_path / part / "wav" / name[:7] / f"{name}.wav")
    lines = "SSB00050001.wav\t广 guang3 州 zhou1\nSSB00050009.wav\t没 mei2\n"
    (tmp_path / "train/content.txt").write_text(lines, encoding="utf-8")
    (tmp_path / "test/content.txt").write_text("SSB00110001.wav\t你 ni3 好 hao3\n", encoding="utf-8")
    (tmp_path / "train/label_train-set.txt").write_text("# head\nSSB00050001|guang3 zhou1|广州%\n", encoding="utf-8")
    (tmp_path / "spk-info.txt").write_text("# head\nSSB0005\tB:14-25\tfemale\tnorth\nSSB0011\tB\tmale\tnorth\n")
    assert open_source(tmp_path).layout == "aishell3"
    assert {(item.id, item.text, item.speaker, item.language) for item in kept(tmp_path).values()} == {
        ("SSB00050001", "广州", "SSB0005", "zh"),
        ("SSB00110001", "你好", "SSB0011", "zh"),
    }
    dropped = reasons(tmp_path)
    assert dropped.pop("train/wav/SSB0005/SSB00050002").startswith("not listed")
    assert ["SSB00050009.wav" in reason for reason in dropped.values()] == [True]


def vctk(folder: Path, *, version: str) -> Path:
    (folder / "txt/p225").mkdir(parents=True)
    newer = version == "0.92"
    for number in ("001", "002"):
        (folder / f"txt/p225/p225_{number}.txt").write_text("Please call Stella.\n")
        for name in [f"p225_{number}_mic{mic}.flac" for mic in (1, 2)] if newer else [f"p225_{number}.wav"]:
            tone(folder / ("wav48_silence_trimmed" if newer else "wav48") / "p225" / name)
    head = "ID  AGE  GENDER  ACCENTS  REGION COMMENTS\n" if newer else "ID  AGE  GENDER  ACCENTS  REGION\n"
    (folder / "speaker-info.txt").write_text(
        f"{head}{'p225' if newer else '225'}  23  F    English    Southern  England\n"
    )
    return folder


@pytest.mark.parametrize(("version", "end", "unused"), [("0.92", "_mic2", 2), ("0.80", "", 0)])
def test_vctk(tmp_path: Path, version: str, end: str, unused: int) -> None:
    folder = vctk(tmp_path, version=version)
    assert open_source(folder).layout == "vctk"
    assert {(item.id, item.text, item.speaker) for item in kept(folder).values()} == {
        (f"p225_001{end}", "Please call Stella.", "p225"),
        (f"p225_002{end}", "Please call Stella.", "p225"),
    }
    assert len(reasons(folder)) == unused


def test_ljspeech_by_name(tmp_path: Path) -> None:
    for name in ("LJ001-0001", "LJ001-0002"):
        tone(tmp_path / f"wavs/{name}.wav")
    (tmp_path / "metadata.csv").write_text("LJ001-0001|Dr. A|Doctor A\nLJ001-0009|x|x\n")
    assert open_source(tmp_path).layout == "ljspeech"
    (item,) = kept(tmp_path, recipe="ljspeech").values()
    assert (item.id, item.text, item.language, item.speaker) == ("LJ001-0001", "Dr. A", "en", "ljspeech")
    dropped = reasons(tmp_path, recipe="ljspeech")
    assert set(dropped) == {"wavs/LJ001-0002", "ljspeech warning 1"}
    assert next(iter(source_files(tmp_path, recipe="ljspeech"))) == tmp_path / "metadata.csv"


def test_recipes_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lhotse has no recipe 'nonsense'; it has .*libritts, "):
        open_source(tmp_path, recipe="nonsense")
    with pytest.raises(DataError, match=r"recipe gigaspeech needs .* beside a folder: run `lhotse prepare gigaspeech`"):
        open_source(tmp_path, recipe="gigaspeech")
    with pytest.raises(DataError, match=r"recipe ljspeech cannot read .*complete the corpus, or list its recordings"):
        read(tmp_path, recipe="ljspeech")
