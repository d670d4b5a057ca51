"""A prepared corpus as lists of Parquet shards that upstream's training reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cosytune.audio.files import read_wave
from cosytune.data.corpus import Contents, Corpus, write_corpus
from cosytune.data.exporting import write_upstream_lists
from cosytune.data.features import Features
from cosytune.data.manifest import Utterance
from cosytune.data.results import LedgerLine
from cosytune.errors import DataError
from cosytune.files import hash_file
from tests.unit.import_examples import kept, tone


class Store:
    """Features of all clips but "s0/4", as a `FeatureStore` hands them out."""

    columns = ("speech_token", "utt_embedding", "mel", "spk_embedding")

    def __contains__(self, identity: str) -> bool:
        return identity != "s0/4"

    def read(self, ids: list[str]) -> list[Features]:
        number = int(ids[0][-1])
        mean = np.full(4, 9, np.float32) if number % 2 else None
        vector = np.full(4, number, np.float32)
        return [Features(ids[0], "", "", np.arange(number + 1), vector, mean, np.zeros((2, 8), np.float32))]


def prepared(folder: Path) -> Corpus:
    """Eight clips; number 2 is a part, 3 has no text, 4 no features, 5 has changed since and 6 an instruction."""
    items = []
    for number in range(8):
        path = tone(folder / f"in/{number} 声.wav", 0.5 + number / 10)
        speaker = f"s{number % 2}"
        items.append(Utterance(f"{speaker}/{number}", str(path), f"Text {number}.", speaker, "en", seconds=1.5))
    items[2] = replace(items[2], start=0.1, end=0.5)
    items[3] = replace(items[3], text=None)
    items[6] = replace(items[6], instruct="softly")
    hashes = {item.audio: hash_file(Path(item.audio)) for item in items}
    sides = ["train", "validation", "train", "train", "train", "train", "train", "train"]
    lines = [LedgerLine(item.id, item.audio, "kept") for item in items]
    utterances = [(item, side, hashes[item.audio]) for item, side in zip(items, sides, strict=True)]
    contents = Contents(utterances, sorted(hashes.items()), lines, 8, (), 0.0, {}, {})  # type: ignore[arg-type]
    corpus = write_corpus(folder / "corpus", contents)
    tone(Path(items[5].audio), 2.0)
    return corpus


def test_a_corpus_is_written_for_upstream(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    ledger = write_upstream_lists(prepared(tmp_path), Store(), folder, rows=4)  # type: ignore[arg-type]
    assert (ledger.seen, ledger.kept, ledger.dropped) == (8, 5, 3)
    assert ledger.reasons("dropped") == {"unreadable": 1, "without features": 1, "without transcript": 1}
    assert (ledger.seconds["kept"], ledger.seconds["dropped"]) == (7.5, 4.5)
    shards = [Path(line) for line in (folder / "train/data.list").read_text().splitlines()]
    assert [path.name for path in shards] == ["parquet_000000000.tar", "parquet_000000001.tar"]
    rows = [row for path in shards for row in pq.read_table(path).to_pylist()]
    assert [row["utt"] for row in rows] == ["s0/0", "s0/2", "s0/6", "s1/7"]
    first, part, told, last = rows
    assert list(first) == ["utt", "audio_data", "wav", "text", "spk", "utt_embedding", "spk_embedding", "speech_token"]
    assert first["audio_data"] == Path(first["wav"]).read_bytes()
    assert (first["text"], first["spk"], first["speech_token"]) == ("Text 0.", "s0", [0])
    assert part["audio_data"][:4] == b"fLaC"
    # A speaker without training clips has the clip's own vector.
    assert (part["spk_embedding"], last["spk_embedding"]) == ([2.0] * 4, [9.0] * 4)
    assert (told["instruct"], last["instruct"]) == ("softly", "")
    assert "instruct" not in first
    ((name, shard),) = json.loads(Path((folder / "validation/utt2data.list").read_text().strip()).read_text()).items()
    assert (name, shard) == ("s1/1", (folder / "validation/data.list").read_text().strip())
    assert json.loads(Path((folder / "train/spk2data.list").read_text().split()[0]).read_text()) == {
        "s0": str(shards[0])
    }
    assert (folder / "test/data.list").read_text() == ""


def test_what_was_written_is_a_source_again(tmp_path: Path) -> None:
    write_upstream_lists(prepared(tmp_path), Store(), tmp_path / "out")  # type: ignore[arg-type]
    found = kept(tmp_path / "out/train/data.list", media=tmp_path / "media")
    assert {item.id: item.text for item in found.values()} == {
        "s0/0": "Text 0.", "s0/2": "Text 2.", "s0/6": "Text 6.", "s1/7": "Text 7.",
    }  # fmt: skip
    wave, rate = read_wave(Path(found["s0/2"].audio))
    assert len(wave) == round(0.4 * rate)


def test_nothing_is_overwritten_and_nothing_empty_is_left(tmp_path: Path) -> None:
    corpus = prepared(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("x")
    with pytest.raises(DataError, match="is there and not empty; give the name of a new folder"):
        write_upstream_lists(corpus, Store(), tmp_path / "full")  # type: ignore[arg-type]

    class Empty(Store):
        def __contains__(self, identity: str) -> bool:
            return False

    with pytest.raises(DataError, match=r"nothing of .* can be written for upstream's training: 8 clips came in"):
        write_upstream_lists(corpus, Empty(), tmp_path / "out")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
