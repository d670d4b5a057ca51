"""Parquet tables: upstream's lists, and tables with the sound inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cosytune.audio.files import encode_wave, read_wave
from cosytune.data.importers import open_source
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
