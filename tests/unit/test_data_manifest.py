from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.data.manifest import Utterance, read_manifest, write_manifest
from cosytune.data.results import Ledger, LedgerLine
from cosytune.errors import DataError

GOOD = {"id": "a", "audio": "a.wav", "speaker": "s", "language": "en"}

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
seconds = st.floats(0, 1e6, allow_nan=False)


@st.composite
def utterances(draw: st.DrawFn) -> Utterance:
    start = draw(st.none() | seconds)
    end = draw(st.none() | st.floats(0.1, 100).map(lambda length: (start or 0.0) + length))
    optional = st.none() | names
    return Utterance(
        draw(names), "/" + draw(st.from_regex(r"[\w .-]{1,9}", fullmatch=True)), draw(optional), draw(names),
        draw(names), draw(optional), start, end, draw(seconds), draw(optional),
    )  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(st.lists(utterances(), max_size=5))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, items: list[Utterance]) -> None:
    path = tmp_path_factory.mktemp("manifest") / "manifest.jsonl"
    write_manifest(path, items)
    assert list(read_manifest(path)) == items


def test_relative_audio_is_taken_from_the_manifests_folder_and_blank_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text("\ufeff" + json.dumps(GOOD | {"audio": "声音/一 二.wav", "text": None}) + "\n\n", encoding="utf-8")
    (item,) = read_manifest(path)
    assert item == Utterance("a", str(tmp_path / "声音/一 二.wav"), None, "s", "en")


def test_reading_streams(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps(GOOD) + "\nnot json\n")
    lines = read_manifest(path)
    assert next(lines).id == "a"
    with pytest.raises(DataError, match=r"m\.jsonl, line 2: not JSON"):
        next(lines)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (GOOD | {"speaker": None}, "line 1: field 'speaker' is missing"),
        ({k: v for k, v in GOOD.items() if k != "language"}, "line 1: field 'language' is missing"),
        (GOOD | {"id": ""}, "field 'id' is missing"),
        (GOOD | {"text": 7}, "field 'text' is 7, but it must be a string"),
        (GOOD | {"start": -1}, "field 'start' is -1, but it must be a number of seconds"),
        (GOOD | {"end": True}, "field 'end' is True"),
        (GOOD | {"seconds": "3"}, "field 'seconds' is '3'"),
        (GOOD | {"seconds": float("inf")}, "field 'seconds' is inf"),
        (GOOD | {"start": 2, "end": 2}, "field 'end' is 2 s, which is not after 'start'"),
        (GOOD | {"txt": "hello"}, "unknown field 'txt'; the fields are id, audio, text"),
        ([1], "line 1: a list, but each line must be one JSON object"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, row: object, message: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps(row))
    with pytest.raises(DataError, match=message):
        list(read_manifest(path))


def test_an_unreadable_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        list(read_manifest(tmp_path / "absent.jsonl"))
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xe9"}')
    with pytest.raises(DataError, match="UTF-8"):
        list(read_manifest(tmp_path / "latin.jsonl"))


LINES = (
    LedgerLine("a", "a.wav", "kept", seconds=2.5),
    LedgerLine("b", "b.wav", "fixed", "clipped peaks: 3 samples"),
    LedgerLine("c", "c.wav", "dropped", "longer than 30 s: it lasts 31.0 s", 31.0),
    LedgerLine("d", "d.wav", "dropped", "longer than 30 s: it lasts 44.0 s", 44.0),
    LedgerLine("e", "e.wav", "dropped", "transcript empty"),
)


def test_the_ledger_adds_up_and_survives_the_disk(tmp_path: Path) -> None:
    ledger = Ledger.of(LINES, 5, ("the language was guessed",), between=3.0)
    assert (ledger.kept, ledger.fixed, ledger.dropped, ledger.usable) == (1, 1, 3, 2)
    assert ledger.reasons("dropped") == {"longer than 30 s": 2, "transcript empty": 1}
    assert ledger.summary() == (
        "5 clips came in (1.3 min): 1 kept (0.0 min), 1 fixed, 3 dropped (1.2 min); 0.1 min lie "
        "between the clips; fixed: 1 clipped peaks; dropped: 2 longer than 30 s, 1 transcript empty. "
        "The language was guessed."
    )
    ledger.write(tmp_path / "ledger.jsonl")
    assert Ledger.read(tmp_path / "ledger.jsonl") == ledger


def test_a_clip_lost_silently_is_a_fault() -> None:
    with pytest.raises(ValueError, match="6 clips came in, but 1 were kept, 1 fixed and 3 dropped"):
        Ledger.of(LINES, 6)
    with pytest.raises(ValueError, match="dropped without a reason"):
        LedgerLine("a", "a.wav", "dropped")
    with pytest.raises(ValueError, match="one of kept, fixed, dropped, not 'lost'"):
        LedgerLine("a", "a.wav", "lost", "why")  # type: ignore[arg-type]


def test_a_tampered_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    Ledger.of(LINES, 5).write(path)
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    with pytest.raises(DataError, match="prepare the corpus again"):
        Ledger.read(path)
    with pytest.raises(DataError, match="cannot be read"):
        Ledger.read(tmp_path / "absent.jsonl")


def test_records_are_read_without_torch() -> None:
    rooms = ", ".join(
        f"cosytune.data.{name}" for name in ("manifest", "results", "importers", "splits", "prepare", "synthesised")
    )
    code = f"import sys, {rooms}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
