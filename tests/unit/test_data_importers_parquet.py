"""Parquet tables: upstream's lists, and tables with the sound inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cosytune.audio.files import encode_wave, read_wave
from cosytune.data.importers import open_source
from cosytune.data.importers.parquet import find_shards
from tests.unit.import_examples import kept, reasons, tone


def sound(format: str) -> bytes:
    return encode_wave(0.3 * np.sin(np.arange(8000, dtype=np.float32) / 5), 16_000, format)


def table(path: Path, **columns: list[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def upstream(folder: Path) -> Path:
    """What make_parquet_list.py writes, with a wav path that exists, one that does not, and damage."""
    there = tone(folder / "wavs/x y.wav")
    table(
        folder / "parquet_000000000.tar",
        utt=["u1", "u2", "u3", "u4"],
        audio_data=[there.read_bytes(), sound("flac"), b"no sound at all", sound("wav")],
        wav=[str(there), "/gone/z.flac", "q.wav", str(there)],
        text=["one", "two", "three", None],
        spk=["s", "t", "s", "s"],
        speech_token=[[1], [2], [3], [4]],
    )
    (folder / "data.list").write_text(f"{folder}/parquet_000000000.tar\nparquet_000000001.tar\nbad.parquet\n")
    (folder / "bad.parquet").write_bytes(b"PAR1 no more")
    return folder


def test_upstream_lists(tmp_path: Path) -> None:
    folder, media = upstream(tmp_path / "up"), tmp_path / "media"
    assert open_source(folder).layout == "parquet"
    for path in (folder, folder / "data.list"):
        found = kept(path, media=media)
        assert {item.id: (item.text, item.speaker) for item in found.values()} == {
            "u1": ("one", "s"), "u2": ("two", "t"), "u4": (None, "s"),
        }  # fmt: skip
        # Sound that is on the disk already is not copied; sound that differs from the file of that name is.
        assert found["u1"].audio == str(folder / "wavs/x y.wav")
        assert Path(found["u2"].audio).parent == media and found["u2"].audio.endswith(".flac")
        assert Path(found["u4"].audio).read_bytes() == sound("wav")
        dropped = reasons(path, media=media)
        assert dropped["u3"] == "unreadable: the sound of row 3 of parquet_000000000.tar has no known format"
        assert dropped["parquet_000000001.tar"].startswith("listed table missing: there is no file")
        assert dropped["bad.parquet"].startswith("unreadable table: ")
    assert len(list(media.iterdir())) == 2


def test_sound_inside_a_table_needs_a_folder(tmp_path: Path) -> None:
    dropped = reasons(upstream(tmp_path) / "parquet_000000000.tar")
    assert dropped["u2"] == "sound inside the table: row 2 of parquet_000000000.tar needs a folder to be written to"
    assert set(dropped) == {"u2", "u3", "u4"}


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "mp3"])
def test_written_sound_can_be_read(tmp_path: Path, format: str) -> None:
    data = sound(format)
    row = {"audio": [{"bytes": data, "path": "t.x"}], "sentence": ["hi"]}
    path = table(tmp_path / "data/train-0.parquet", **row)  # type: ignore[arg-type]
    ((identity, item),) = kept(tmp_path, media=tmp_path / "media").items()
    assert (identity, item.text, item.speaker) == ("t.x", "hi", tmp_path.name)
    assert read_wave(Path(item.audio))[1] == 16_000
    assert open_source(path).layout == "parquet"


def test_m4a_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    table(tmp_path / "a.parquet", audio_data=[b"\0\0\0\x20ftypM4A ...."], text=["x"])
    (item,) = kept(tmp_path, media=tmp_path / "media").values()
    assert (item.id, Path(item.audio).suffix) == ("row 1 of a.parquet", ".m4a")


def test_a_table_without_recordings(tmp_path: Path) -> None:
    table(tmp_path / "a.parquet", name=["a"])
    assert reasons(tmp_path)["a.parquet"].startswith("without recordings: the table has the columns name; rename")


def test_a_table_beside_recordings_is_read(tmp_path: Path) -> None:
    paths = [tone(tmp_path / f"{name}.wav") for name in ("a", "b", "c")]
    table(tmp_path / "list.parquet", utt=["u1", "u2"], wav=list(map(str, paths[:2])), text=["x", "y"], spk=["s", "t"])
    table(tmp_path / "statistics.parquet", mean=[1.0])
    assert open_source(tmp_path).layout == "parquet"
    assert {item.id: (item.text, item.speaker) for item in kept(tmp_path).values()} == {
        "u1": ("x", "s"),
        "u2": ("y", "t"),
    }
    dropped = reasons(tmp_path)
    assert dropped.pop("statistics.parquet").startswith("without recordings: the table has the columns mean")
    assert dropped == {"c": "not listed in the Parquet tables"}


def test_what_lies_beside_recordings_and_is_not_read_is_said(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav")
    table(tmp_path / "statistics.parquet", mean=[1.0])
    (tmp_path / "parquet_000000000.tar").write_bytes(b"PAR1 no more")
    for name in ("more.zip", "old/talk.CAF"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"?")
    beside = "not read: a Parquet table beside the recordings; to read it instead, give it a folder of its own, or name"
    archive = "not read: an archive; unpack it here if there are recordings in it"
    dropped = reasons(tmp_path)
    assert dropped.pop("statistics.parquet").startswith(beside)
    assert dropped.pop("parquet_000000000.tar").startswith(beside)
    foreign = "not read: .CAF files are not decoded; convert it to wav or flac"
    assert dropped == {"more.zip": archive, "old/talk.CAF": foreign}
    (tmp_path / "table.csv").write_text("file,text\na.wav,x\n")
    assert reasons(tmp_path)["more.zip"] == archive
    assert reasons(tmp_path)["statistics.parquet"].startswith("not read: a Parquet table beside table.csv; to read")


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("speakers.csv", "file,speaker\na.wav,anna\n", "a table of recordings without texts, or beside other files"),
        ("anna/speakers.csv", "file,speaker\na.wav,anna\n", "a table of recordings without texts, or beside"),
        ("anna/data.list", "x.parquet\n", "a table of recordings without texts, or beside other files that were read"),
        ("anna/metadata.csv", "name,age\na,22\n", "a table of recordings without texts, or beside other files"),
        ("anna/gbk.csv", "文件,说话人\n", "a table that cannot be read: "),
    ],
)
def test_a_table_that_is_not_read_is_said(tmp_path: Path, name: str, content: str, why: str) -> None:
    tone(tmp_path / "a.wav")
    tone(tmp_path / "b.wav")
    (tmp_path / "config.json").write_text('{\n"rate": 1}\n')
    (tmp_path / "numbers.csv").write_text("minutes,hours\n1,2\n")
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content, encoding="gb18030")
    assert open_source(tmp_path).layout == "plain"
    (reason,) = [reasons(tmp_path).pop(name)]
    assert reason.startswith(f"not read: {why}")
    assert len(reasons(tmp_path)) == 1


@pytest.mark.parametrize("name", ["data.list", "wav.scp", "manifest.jsonl"])
def test_recordings_that_a_list_leaves_out_are_said(tmp_path: Path, name: str) -> None:
    first = tone(tmp_path / "a.wav")
    tone(tmp_path / "b.wav")
    table(tmp_path / "x.parquet", utt=["a"], wav=[str(first)], text=["x"])
    lines = {
        "data.list": "x.parquet\n",
        "wav.scp": f"a {first}\n",
        "manifest.jsonl": '{"id": "a", "audio": "../' + tmp_path.name + '/a.wav", "speaker": "s", "language": "en"}\n',
    }
    (tmp_path / name).write_text(lines[name])
    assert list(kept(tmp_path)) == ["a"]
    assert reasons(tmp_path)["b"] == f"not listed in {name}"


def test_a_corpus_in_the_folder_is_no_source(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav")
    for name in ("corpus.json", "sides.jsonl"):
        (tmp_path / "corpus").mkdir(exist_ok=True)
        (tmp_path / "corpus" / name).touch()
    shard = table(tmp_path / "corpus/features/0123/shard.parquet", utt=["a"], wav=["b"], text=["x"])
    assert [open_source(tmp_path).layout, list(kept(tmp_path)), reasons(tmp_path)] == ["plain", ["a"], {}]
    assert list(find_shards(tmp_path / "corpus")) == []
    assert list(find_shards(shard.parent)) == [shard]
