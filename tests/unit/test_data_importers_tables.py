"""Tables and lists of other programs, as people have them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.data.importers import open_source, source_files
from cosytune.data.importers.disk_index import DiskIndex
from cosytune.data.importers.fields import language_code
from cosytune.errors import DataError
from tests.unit.import_examples import kept, read, reasons, tone


def test_common_voice(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        tone(tmp_path / "clips" / f"common_voice_{name}.mp3")
    head = "client_id\tpath\tsentence_id\tsentence\tup_votes\tlocale\n"
    rows = [
        'x1\tcommon_voice_a.mp3\t7\tSay "hi" now.\t2\tzh-CN\n',
        'x2\tcommon_voice_b.mp3\t8\t"""Hi,"" he said"\t2\ten\n',
    ]
    (tmp_path / "validated.tsv").write_text(head + "".join(rows))
    (tmp_path / "train.tsv").write_text(head + rows[0])
    (tmp_path / "clip_durations.tsv").write_text("clip\tduration[ms]\ncommon_voice_a.mp3\t500\n")
    assert open_source(tmp_path).layout == "table"
    assert {item.id: (item.text, item.speaker, item.language) for item in kept(tmp_path).values()} == {
        "common_voice_a": ('Say "hi" now.', "x1", "zh"),
        "common_voice_b": ('"Hi," he said', "x2", "en"),
    }
    assert reasons(tmp_path) == {"clips/common_voice_c": "not listed in validated.tsv"}
    # A table that is named is read, and it alone.
    assert list(kept(tmp_path / "train.tsv")) == ["common_voice_a"] and not reasons(tmp_path / "train.tsv")


def test_what_a_spreadsheet_saves(tmp_path: Path) -> None:
    folder = tmp_path / "我的 voice"
    tone(folder / "录音/一 二.wav")
    tone(folder / "b.flac")
    rows = [
        "File Name;Transcript;Speaker;Start;End;Language",
        "录音\\一 二.wav;你好;王;0,1;;",
        'b;"one; ""two""\r\n three";;0.1;0.4;English',
        "b.flac;whole",
        ";nothing;;;;",
        "b.flac;x;;;;;;stray",
        "https://example.org/c.wav;web;;;;",
        "b.flac;late;;0.4;0.2;",
        "gone.wav;gone;;;;",
    ]
    (folder / "表.csv").write_bytes(("\ufeff" + "\r\n".join(rows) + "\r\n\r\n").encode())
    found = kept(folder)
    assert found["b@0.1-0.4"].text == 'one; "two" three'
    assert (found["b@0.1-0.4"].speaker, found["b@0.1-0.4"].language) == ("我的 voice", "en")
    assert found["b"].text == "whole"
    assert found["gone"].audio == str(folder / "gone.wav")
    dropped = reasons(folder)
    assert dropped["录音/一 二"] == "start is no number of seconds ('0,1'): line 2 of 表.csv"
    assert dropped["line 6 of 表.csv"] == "no recording named: line 6 of 表.csv"
    assert dropped["line 7 of 表.csv"] == "not a row of this table: line 7 of 表.csv has 8 cells, the header has 6"
    assert dropped["https://example.org/c.wav"].startswith("a web address instead of a file: download")
    assert dropped["b"].startswith("end before start (0.2 s is not after 0.4 s)")


def test_windows_paths_and_decomposed_accents_are_found(tmp_path: Path) -> None:
    tone(tmp_path / "s/cafe\u0301.wav")
    (tmp_path / "t.tsv").write_text("wav\ttext\ns\\caf\u00e9.wav\tx\ns/caf\u00e9\ty\n")
    assert [Path(entry.audio).is_file() for entry in read(tmp_path / "t.tsv")] == [True, True]


def test_an_unknown_table_names_its_columns_and_ours(tmp_path: Path) -> None:
    table = tmp_path / "x.csv"
    table.write_text("name,words\na,b\n")
    with pytest.raises(DataError, match=r"columns name, words, and none .*rename them: audio: audio, .*speaker: "):
        open_source(table)
    # In a folder a table of something else is passed over, but not one with transcripts.
    tone(tmp_path / "a.wav")
    assert open_source(tmp_path).layout == "plain"
    table.write_text("name,text\na,b\n")
    with pytest.raises(DataError, match="columns name, text"):
        open_source(tmp_path)


def test_a_metadata_table_with_a_header_is_a_table(tmp_path: Path) -> None:
    tone(tmp_path / "wavs/a.wav")
    (tmp_path / "metadata.csv").write_text("audio_file|text|speaker_name\nwavs/a.wav|Hello, | you|me\nwavs/a|x|me\n")
    assert open_source(tmp_path).layout == "table"
    assert kept(tmp_path)["wavs/a"].speaker == "me"
    (tmp_path / "metadata.csv").write_text("name,words\n")
    with pytest.raises(DataError, match="columns name, words"):
        open_source(tmp_path)


def test_ids_name_recordings_where_no_column_does(tmp_path: Path) -> None:
    tone(tmp_path / "wavs/7.wav")
    (tmp_path / "t.csv").write_text("id,text\n7,seven\n")
    assert kept(tmp_path)["7"].audio == str(tmp_path / "wavs/7.wav")


def test_a_quotation_mark_that_is_not_closed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('audio,text\na.wav,"open\n' + "b.wav,x\n" * 20_000)
    with pytest.raises(DataError, match=r"line 2 of t\.csv begins a cell that does not end .*close the quotation"):
        read(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("audio,text\na.wav,今天天气很好\n".encode("gb18030"), "probably GB18030 .*iconv -f GB18030"),
        ("audio,text\na.wav,café\n".encode("latin-1"), "not UTF-8 text: save it as UTF-8"),
    ],
)
def test_other_encodings(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(DataError, match=reason):
        read(tmp_path / "t.csv")


def test_utf_16_says_so_itself(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("audio\ttext\na.wav\t你好\n", encoding="utf-16")
    assert kept(tmp_path / "t.tsv")["a"].text == "你好"


def test_a_damaged_gzip_file(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"cannot be read .*check the file"):
        open_source(tmp_path / "t.jsonl.gz")


def test_json_lines_of_nemo(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav", 2.0)
    rows = [
        json.dumps({"audio_filepath": "a.wav", "duration": 0.5, "offset": 0.25, "text": "part", "lang": "en"}),
        json.dumps({"audio_filepath": "a.wav", "duration": 2.0, "text": "whole"}),
        json.dumps({"audio_filepath": "a.wav", "id": 3, "text": None, "start": "x"}),
        "{broken",
        "[1]",
    ]
    for name in ("train.jsonl", "manifest.jsonl"):
        (tmp_path / name).write_text("\n".join(rows))
        found = kept(tmp_path)
        assert open_source(tmp_path).layout == "jsonl"
        assert (found["a@0.25-0.75"].start, found["a@0.25-0.75"].end) == (0.25, 0.75)
        assert (found["a"].start, found["a"].end) == (None, None)
        assert reasons(tmp_path)["3"].startswith("start is no number of seconds ('x')")
        assert reasons(tmp_path)[f"line 4 of {name}"].startswith("not JSON: line 4")
        assert reasons(tmp_path)[f"line 5 of {name}"].startswith("not a JSON object")


def test_json_lines_that_name_no_recordings(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"sound": 1}')
    with pytest.raises(DataError, match="fields sound, and none of them is known"):
        open_source(path)
    path.write_text("plain words")
    with pytest.raises(DataError, match="no file of JSON lines: write one object a line"):
        open_source(path)


def test_a_list_of_gpt_sovits(tmp_path: Path) -> None:
    for name in "abc":
        tone(tmp_path / f"{name}.wav")
    (tmp_path / "train.list").write_text("a.wav|王|ZH|你好|世界\nb.wav|me|EN|Hi.\r\nbroken|x\n")
    found = kept(tmp_path)
    assert open_source(tmp_path).layout == "list"
    assert (found["a"].text, found["a"].speaker, found["a"].language) == ("你好|世界", "王", "zh")
    assert found["b"].text == "Hi."
    assert reasons(tmp_path) == {
        "line 3 of train.list": "not a line of this list: line 3 of train.list has 2 cells",
        "c": "not listed in train.list",
    }


@pytest.mark.parametrize(("line", "speaker"), [("a.wav|Hello.", None), ("a.wav|7|Hello.", "7")])
def test_a_file_list_of_vits(tmp_path: Path, line: str, speaker: str | None) -> None:
    (tmp_path / "train.txt").write_text(line)
    assert (kept(tmp_path / "train.txt")["a"].text, kept(tmp_path / "train.txt")["a"].speaker) == (
        "Hello.",
        speaker or tmp_path.name,
    )


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    for name, content in (("a.pdf", b"%PDF"), ("a.txt", b"Just words.")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="no table of recordings that is known; accepted are"):
            open_source(tmp_path / name)
    with pytest.raises(DataError, match="a recipe reads the folder"):
        open_source(tmp_path / "a.txt", recipe="vctk")


def kaldi(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("wav_scp", "wav.scp")).write_text(content, encoding="utf-8")
    return folder


def test_kaldi_without_segments(tmp_path: Path) -> None:
    tone(tmp_path / "egs/w av/r1.wav")
    folder = kaldi(
        tmp_path / "egs/data/train",
        wav_scp="r1 w av/r1.wav\nr2 sox in.wav -t wav - |\nr3 gone.wav\nr4 all.ark:17\nr5 w av/r1.wav\n",
        text="r1 hello   there\nr9 nobody\n\nr2 x\n",
        utt2spk="r1 anna\nr3 anna\n",
        utt2lang="r1 English\n",
    )
    (tmp_path / "sox").write_text("#!/bin/sh\ntouch ran\n")
    (item, lost) = kept(folder).values()
    assert (item.id, item.text, item.speaker, item.language) == ("r1", "hello there", "anna", "en")
    assert item.audio == str(tmp_path / "egs/w av/r1.wav")
    assert (lost.id, lost.text, lost.audio) == ("r3", None, str(folder / "gone.wav"))
    dropped = reasons(folder)
    assert dropped["r2"].startswith("a shell command instead of a file: 'sox in.wav -t wav - |' is never run")
    assert dropped["r4"].startswith("inside a Kaldi archive")
    assert dropped["r5"].startswith("without speaker")
    assert dropped["r9"] == "transcript without recording: a line of text"
    assert open_source(folder / "wav.scp").layout == "kaldi"


def test_kaldi_with_segments(tmp_path: Path) -> None:
    tone(tmp_path / "r1.wav", 2.0)
    folder = kaldi(
        tmp_path,
        wav_scp="r1 r1.wav\nr2 r2.wav\n",
        segments="u2 r1 1.0 -1\nu1 r1 0.25 0.5\nu3 r9 0 1\nu4 r1 1\nu5 r1 2 1\n",
        text="u1 one\nu2 two\n",
    )
    found = kept(folder)
    assert [(item.id, item.start, item.end, item.text) for item in found.values()] == [
        ("u2", 1.0, None, "two"),
        ("u1", 0.25, 0.5, "one"),
    ]
    assert {item.speaker for item in found.values()} == {tmp_path.name}
    dropped = reasons(folder)
    assert dropped["u3"] == "listed recording missing: r9 is not in wav.scp"
    assert dropped["u4"].startswith("not id recording start end: line 4")
    assert dropped["u5"].startswith("end before start")
    assert dropped["r2"].startswith("without segments")


@settings(max_examples=20, deadline=None)
@given(texts=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00\r\n"), max_size=20), max_size=6))
def test_every_text_survives_a_csv(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["audio", "text"])
        writer.writerows([f"{index}.wav", text] for index, text in enumerate(texts))
    assert [item.text for item in kept(path).values()] == [" ".join(text.split()) for text in texts]


def test_a_table_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"audio": "a.wav", "text": "x"}\n' * 10_000 + b"\xff\n")
    entries = open_source(path).entries
    assert next(entries).id == "a"
    with pytest.raises(DataError, match="not UTF-8"):
        list(entries)


def test_the_disk_index(tmp_path: Path) -> None:
    index = DiskIndex([("b", "1"), ("a", "2"), ("b", "3")])
    assert (index.take("b"), index.take("c")) == ("1", None)
    assert index.add("d", "4") and not index.add("a", "5")
    assert "a" in index and "c" not in index
    assert list(index.unused()) == [("a", "2"), ("d", "4")]


@pytest.mark.parametrize(("name", "code"), [("Chinese", "zh"), ("JP", "ja"), ("zh-HK", "yue"), ("pt-br", "pt-br")])
def test_language_codes(name: str, code: str) -> None:
    assert language_code(name) == code


def test_files_outside_of_the_folder_are_watched_too(tmp_path: Path) -> None:
    outside = tone(tmp_path / "far/a.wav")
    folder = tmp_path / "in"
    tone(folder / "b.wav")
    (folder / "t.csv").write_text(f"audio,text\n{outside},x\nb.wav,y\ngone.wav,z\n")
    assert list(source_files(folder)) == [folder / "b.wav", folder / "t.csv", outside]
    assert list(source_files(folder / "t.csv")) == [folder / "t.csv", outside, folder / "b.wav"]
