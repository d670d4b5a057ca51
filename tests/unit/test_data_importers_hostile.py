"""Tables that are damaged, or were made to do damage: each costs its own line and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from cosytune.data.examining import Examiner
from cosytune.data.importers import open_source, source_files
from cosytune.data.manifest import Utterance
from cosytune.data.pieces import CutSettings
from cosytune.data.results import LedgerLine
from cosytune.errors import DataError
from cosytune.files import parse_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).normal(size=16_000), 16_000)
    return tmp_path


def reasons(folder: Path) -> dict[str, str]:
    """What examining makes of each entry: "" for a clip."""
    examiner = Examiner(0.1, 30.0, CutSettings(detector="energy"))
    found: dict[str, str] = {}
    for entry in open_source(folder).entries:
        if isinstance(entry, Utterance):
            examiner.key(entry)
        for own in examiner(entry).entries:
            found[own.id] = own.reason if isinstance(own, LedgerLine) else ""
    return found


def test_json_that_cannot_be_kept() -> None:
    assert parse_json('{"a": "\\u4f60\\ud83d\\ude00"}') == {"a": "你😀"}
    for text in ("[" * 100_000, '"\\ud83d"', '{"\\udc00": 1}', "{"):
        with pytest.raises(ValueError):
            parse_json(text)


def test_lines_that_are_damaged_cost_only_themselves(folder: Path) -> None:
    lines = ['{"audio": "a.wav", "text": "\\ud800"}', "[" * 100_000, '{"audio": "a.wav", "text": "fine"}']
    lines += ['{"id": "d", "audio": "a.wav", "text": {"en": "x"}}', '{"id": "n", "audio": "b\\u0000.wav", "text": "x"}']
    (folder / "x.jsonl").write_text("\n".join(lines), encoding="utf-8")
    found = reasons(folder)
    assert found["a"] == ""
    assert "half of a character" in found["line 1 of x.jsonl"] and "nested too deeply" in found["line 2 of x.jsonl"]
    assert found["d"].startswith("transcript is no text but a dict")
    assert found["n"].endswith("a null character is in it")


@pytest.mark.parametrize("name", ["no/such/folder/b.wav", "b" * 300 + ".wav", "b/" * 3000 + "c.wav"])
def test_recordings_where_no_file_is_or_can_be(folder: Path, name: str) -> None:
    (folder / "x.csv").write_text(f"id,audio,text\nb,{name},hello\na,a.wav,fine\n", encoding="utf-8")
    found = reasons(folder)
    assert found["a"] == "" and found["b"].startswith("listed recording missing")
    assert folder / "a.wav" in set(source_files(folder / "x.csv"))


def test_subtitles_in_two_languages_stop_nobody_else(folder: Path) -> None:
    for code in ("en", "de"):
        (folder / f"a.{code}.srt").write_text("1\n00:00:00,000 --> 00:00:00,900\nHello.\n", encoding="utf-8")
    assert reasons(folder)["a"].startswith("several subtitles: beside a.wav lie a.de.srt, a.en.srt")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"text": 5}, "its text is a int"),
        ({"speaker": {"x": 1}}, "its speaker is a dict"),
        ({"language": ["en"]}, "its language is a list"),
        ({"start": float("nan")}, "nan is no number"),
    ],
)
def test_lhotse_records_of_the_wrong_kind(folder: Path, change: dict[str, Any], reason: str) -> None:
    source = {"type": "file", "channels": [0], "source": str(folder / "a.wav")}
    recording = {"id": "r", "sources": [source], "sampling_rate": 16_000, "num_samples": 16_000, "duration": 1}
    said = {"id": "s", "recording_id": "r", "start": 0, "duration": 1, "channel": 0, "text": "hi"}
    cut = {"type": "MonoCut", "id": "c", "start": 0, "duration": 1, "channel": 0, "recording": recording}
    rows = [{**cut, "supervisions": [said | change]}, {**cut, "id": 9, "supervisions": [said]}]
    (folder / "cuts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (bad,) = (own for own in reasons(folder).values() if own)
    assert reason in bad
    assert reasons(folder)["9"] == ""


def test_a_manifest_of_ours_says_which_line_is_damaged(folder: Path) -> None:
    row = {"id": "a", "audio": "a.wav", "speaker": "s", "language": "en", "text": "x"}
    (folder / "manifest.jsonl").write_text(json.dumps(row) + "\n" + "[" * 100_000, encoding="utf-8")
    with pytest.raises(DataError, match=r"line 2: not JSON .*nested too deeply"):
        list(open_source(folder).entries)
