from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosytune.audio.files import write_wave
from cosytune.data.corpus import Corpus
from cosytune.data.prepare import Preparation, prepare_corpus
from cosytune.data.sentences import sentences
from cosytune.errors import DataError, InputError

RATE = 8000


def record(path: Path, text: str | None, seconds: float = 0.4, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * RATE)).astype(np.float32)
    write_wave(path, noise, RATE)
    if text is not None:
        path.with_suffix(".txt").write_text(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, sentence in enumerate(sentences(24)):
        record(tmp_path / "in" / f"s{index % 2}" / f"{index:02d}.wav", sentence.text, 0.2 + 0.02 * index, index)
    return tmp_path / "in"


@pytest.fixture
def corpus(folder: Path, tmp_path: Path) -> Corpus:
    return prepare_corpus(folder, tmp_path / "corpus")


def test_a_corpus_holds_what_the_folder_held(corpus: Corpus, folder: Path) -> None:
    assert len(corpus.utterances()) == 24
    sides = {side: corpus.utterances(side) for side in ("train", "validation", "test")}
    assert sum(map(len, sides.values())) == 24
    assert corpus.info["sides"] == {side: len(items) for side, items in sides.items()}
    assert min(map(len, sides.values())) >= 2
    assert corpus.ledger.kept == 24
    assert corpus.info["seconds"] == pytest.approx(sum(item.seconds for item in corpus.utterances()), abs=0.01)
    assert all(Path(item.audio).is_relative_to(folder) for item in corpus.utterances())
    with pytest.raises(DataError, match="no side 'dev'; the sides are train, validation, test"):
        corpus.utterances("dev")  # type: ignore[arg-type]


def test_preparing_again_does_nothing_until_something_changes(corpus: Corpus, folder: Path) -> None:
    marker = corpus.path / "corpus.json"
    written = marker.stat().st_mtime_ns
    assert prepare_corpus(folder, corpus.path).hash == corpus.hash
    assert marker.stat().st_mtime_ns == written
    record(folder / "s0" / "new.wav", "One more sentence arrives.")
    more = prepare_corpus(folder, corpus.path)
    assert len(more.utterances()) == 25
    assert more.hash != corpus.hash
    assert {identity: more.splits[identity] for identity in corpus.splits} == corpus.splits
    changed = prepare_corpus(folder, corpus.path, seed=5)
    assert {identity: changed.splits[identity] for identity in corpus.splits} != corpus.splits
    assert len(prepare_corpus(folder, corpus.path, longest=0.5, cut=False).utterances()) < 25


def test_the_hash_is_of_the_content_wherever_it_lies(corpus: Corpus, folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where" / "in"
    shutil.copytree(folder, elsewhere)
    assert prepare_corpus(elsewhere, tmp_path / "other").hash == corpus.hash
    record(elsewhere / "s0" / "00.wav", None, 0.2, seed=99)
    assert prepare_corpus(elsewhere, tmp_path / "other").hash != corpus.hash


def test_unfinished_and_foreign_folders_are_refused(corpus: Corpus, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is the folder of recordings itself"):
        prepare_corpus(folder, folder)
    with pytest.raises(DataError, match="is not a corpus: it holds s0; give a new or an empty folder"):
        prepare_corpus(tmp_path / "x", folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file"):
        prepare_corpus(folder, tmp_path / "file")
    info = json.loads((corpus.path / "corpus.json").read_text())
    (corpus.path / "corpus.json").write_text(json.dumps(info | {"format": 99}))
    with pytest.raises(DataError, match="corpus format 99, this version of cosytune reads 2"):
        Corpus(corpus.path)
    (corpus.path / "corpus.json").unlink()
    with pytest.raises(DataError, match=r"not a finished corpus .* run: cosytune data prepare FOLDER"):
        Corpus(corpus.path)
    assert prepare_corpus(folder, corpus.path).splits == corpus.splits
    (corpus.path / "sides.jsonl").write_text("{")
    with pytest.raises(DataError, match=r"sides\.jsonl cannot be read .* prepare the corpus again"):
        _ = Corpus(corpus.path).splits


def test_nothing_usable_is_said_with_what_to_do(tmp_path: Path) -> None:
    record(tmp_path / "in" / "a.wav", "Too long.", 2.0)
    (tmp_path / "in" / "b.wav").write_bytes(b"")
    with pytest.raises(DataError) as error:
        prepare_corpus(tmp_path / "in", tmp_path / "out", longest=1.0, cut=False)
    assert "2 clips came in and all were dropped: 1 longer than 1 s (leave --no-cut out" in str(error.value)
    assert "1 empty (copy the files again)" in str(error.value)
    with pytest.raises(DataError, match="not a finished corpus"):
        Corpus(tmp_path / "out")


def test_most_clips_dropped_is_said_with_what_to_do(tmp_path: Path) -> None:
    for number, seconds in enumerate((0.5, 2.0, 2.0)):
        record(tmp_path / "in" / f"{number}.wav", f"Sentence number {number}.", seconds, number)
    corpus = prepare_corpus(tmp_path / "in", tmp_path / "out", longest=1.0, cut=False)
    assert "Most clips were dropped, 2 of 3: 2 longer than 1 s (leave --no-cut out" in corpus.ledger.summary()
    assert corpus.ledger.seconds["dropped"] == pytest.approx(4.0), "their length is known"


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"shortest": 40.0}, InputError, "clips of 40 to 30 s were asked for, which no clip can be; give 0 <="),
        ({"shortest": float("nan")}, InputError, "clips of nan to 30 s"),
        ({"shortest": -1.0}, InputError, "clips of -1 to 30 s"),
        ({"longest": float("nan")}, InputError, "clips of 0.1 to nan s"),
        ({"longest": 0.0}, InputError, "clips of 0.1 to 0 s"),
        ({"language": " "}, InputError, "the language is empty; give a code such as en or zh, or none"),
        ({"validation": float("nan")}, DataError, "shares of nan for validation and 0.1 for test cannot be cut"),
        ({"validation": 0.5, "test": 0.5}, DataError, "whose sum is below 1"),
    ],
)
def test_settings_that_leave_nothing_are_refused(how: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Preparation(**how)
