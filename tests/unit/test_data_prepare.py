from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cosytune.audio.files import write_wave
from cosytune.data import extract
from cosytune.data.corpus import Corpus
from cosytune.data.features import FEATURES_MARKER, Extractors, FeatureStore
from cosytune.data.prepare import extract_features, prepare_corpus
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


class Models:
    """Extractors that keep account of what they were given."""

    def __init__(self, name: str = "models") -> None:
        self.batches: list[int] = []
        self.extractors = Extractors(
            hash=name,
            sample_rate=4000,
            tokens=self.tokens,
            embedding=self.embedding,
            mel=self.mel,
            frames_per_token=2.0,
        )

    def tokens(self, waves: list[np.ndarray]) -> list[np.ndarray]:
        self.batches.append(len(waves))
        return [np.arange(len(wave) // 640) + round(float(wave[0]) * 1000) % 7 for wave in waves]

    def embedding(self, waves: list[np.ndarray]) -> np.ndarray:
        return np.stack([np.array([wave.mean(), wave.std(), len(wave)], np.float32) for wave in waves])

    def mel(self, wave: np.ndarray) -> np.ndarray:
        frames = len(wave) // 80 + 1
        return np.outer(np.arange(3), np.ones(frames)).astype(np.float32) + wave[0]


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
    assert len(prepare_corpus(folder, corpus.path, longest=0.5).utterances()) < 25


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


def test_nothing_usable_is_said_with_reasons(tmp_path: Path) -> None:
    record(tmp_path / "in" / "a.wav", "Too long.", 2.0)
    with pytest.raises(DataError, match="1 clips came in: 0 kept, 0 fixed, 1 dropped; dropped: 1 longer than 1 s"):
        prepare_corpus(tmp_path / "in", tmp_path / "out", longest=1.0)
    assert not (tmp_path / "out").exists()


def test_features_are_what_the_extractors_made(corpus: Corpus) -> None:
    models = Models()
    told: list[tuple[int, int]] = []
    store = extract_features(
        corpus, models.extractors, shard_size=10, batch_seconds=2.0, progress=lambda done, of: told.append((done, of))
    )
    assert store.columns == ("speech_token", "utt_embedding", "mel", "spk_embedding")
    assert store.ids == tuple(item.id for item in corpus.utterances())
    assert told[-1] == (24, 24)
    assert max(models.batches) > 2
    assert sum(models.batches) == 24
    for item, features in zip(corpus.utterances(), store, strict=True):
        assert (features.id, features.text, features.speaker) == (item.id, item.text, item.speaker)
        assert features.speech_tokens is not None and features.mel is not None
        assert features.speech_tokens.dtype == np.int64
        assert features.mel.shape == (3, 2 * len(features.speech_tokens))
        assert len(features.speech_tokens) == pytest.approx(item.seconds * 25, abs=1)
        assert features.utterance_vector is not None
        assert features.utterance_vector[2] == pytest.approx(item.seconds * 16000, abs=1)
    assert [f.id for f in store.read(["s1/03", "s0/00"])] == ["s1/03", "s0/00"]
    with pytest.raises(DataError, match="'ghost' has no features"):
        store.read(["ghost"])


def test_the_speaker_vector_is_the_mean_direction_over_the_train_side(corpus: Corpus) -> None:
    store = extract_features(corpus, Models().extractors, shard_size=7)
    trained = {item.id for item in corpus.utterances("train")}
    for speaker in ("s0", "s1"):
        mine = [f for f in store if f.speaker == speaker]
        vectors = [f.utterance_vector for f in mine if f.id in trained and f.utterance_vector is not None]
        expected = np.mean([vector / np.linalg.norm(vector) for vector in vectors], axis=0)
        np.testing.assert_allclose(store.speaker_vectors[speaker], expected, rtol=1e-6)
        for features in mine:
            assert features.speaker_vector is not None
            np.testing.assert_array_equal(features.speaker_vector, store.speaker_vectors[speaker])


def test_shards_have_the_upstream_columns(corpus: Corpus) -> None:
    store = extract_features(corpus, Models().extractors)
    table = pq.read_table(store.path / "shard-00000.parquet")
    kinds = {field.name: field.type for field in table.schema}
    upstream = ("utt", "wav", "text", "spk", "speech_token", "utt_embedding", "spk_embedding")
    assert set(upstream) <= set(kinds)
    assert kinds["speech_token"] == pa.list_(pa.int32())
    assert kinds["spk_embedding"] == kinds["utt_embedding"] == pa.list_(pa.float32())
    assert table.column("audio_hash").to_pylist() == [corpus.audio_hash(i.audio) for i in corpus.utterances()]


def test_tokens_and_frames_stay_whole_where_no_whole_number_ties_them(corpus: Corpus) -> None:
    whole = extract_features(corpus, replace(Models().extractors, hash="other", frames_per_token=1.72))
    features = whole.read([whole.ids[0]])[0]
    assert features.speech_tokens is not None and features.mel is not None
    assert features.mel.shape[1] != 2 * len(features.speech_tokens)


def test_columns_that_nobody_makes_are_absent(corpus: Corpus) -> None:
    store = extract_features(corpus, Extractors("only tokens", 4000, tokens=Models().tokens))
    features = store.read([store.ids[0]])[0]
    assert store.columns == ("speech_token",)
    assert store.speaker_vectors == {}
    assert features.mel is None and features.utterance_vector is None and features.speaker_vector is None


def test_finished_shards_are_not_made_again(corpus: Corpus, folder: Path) -> None:
    first, second = Models(), Models()

    def fails_late(waves: list[np.ndarray]) -> list[np.ndarray]:
        if sum(first.batches) >= 10:
            raise RuntimeError("the machine was switched off")
        return Models.tokens(first, waves)

    broken = replace(first.extractors, tokens=fails_late)
    with pytest.raises(RuntimeError, match="switched off"):
        extract_features(corpus, broken, shard_size=5)
    with pytest.raises(DataError, match="holds no finished features"):
        FeatureStore(corpus.features_folder("models"))
    store = extract_features(corpus, second.extractors, shard_size=5)
    assert len(store) == 24
    assert sum(second.batches) == 14
    third = Models()
    extract_features(corpus, third.extractors, shard_size=5)
    assert third.batches == []
    fresh = extract_features(corpus, replace(Models().extractors, hash="fresh"), shard_size=5)
    for mine, theirs in zip(store, fresh, strict=True):
        np.testing.assert_array_equal(mine.speech_tokens, theirs.speech_tokens)
        np.testing.assert_array_equal(mine.speaker_vector, theirs.speaker_vector)
        np.testing.assert_array_equal(mine.mel, theirs.mel)


def test_finished_features_are_not_touched_while_another_run_reads_them(corpus: Corpus) -> None:
    store = extract_features(corpus, Models().extractors, shard_size=10)
    before = {path.name: path.stat().st_mtime_ns for path in store.path.iterdir()}
    seen: list[bool] = []

    def watch(done: int, total: int) -> None:
        seen.append((store.path / FEATURES_MARKER).is_file() and done == total)

    assert extract_features(corpus, Models().extractors, shard_size=10, progress=watch).ids == store.ids
    assert seen == [True]
    assert {path.name: path.stat().st_mtime_ns for path in store.path.iterdir()} == before
    (store.path / FEATURES_MARKER).write_text("{ha")
    assert extract_features(corpus, Models().extractors, shard_size=10).ids == store.ids


def test_damaged_and_changed_shards_are_made_again(corpus: Corpus, folder: Path) -> None:
    store = extract_features(corpus, Models().extractors, shard_size=10)
    (store.path / "shard-00001.parquet").write_bytes(b"half a sh")
    models = Models()
    extract_features(corpus, models.extractors, shard_size=10)
    assert sum(models.batches) == 10
    record(folder / "s0" / "00.wav", None, 0.9, seed=50)
    models = Models()
    again = extract_features(prepare_corpus(folder, corpus.path), models.extractors, shard_size=10)
    assert sum(models.batches) == 10
    np.testing.assert_array_equal(again.read(["s0/02"])[0].speaker_vector, again.speaker_vectors["s0"])
    extract_features(corpus, Models().extractors, shard_size=100)
    assert [path.name for path in sorted(store.path.glob("*.parquet"))] == ["shard-00000.parquet"]


def test_features_of_another_model_cannot_be_used(corpus: Corpus) -> None:
    store = extract_features(corpus, Models("models").extractors)
    with pytest.raises(DataError, match="made by extractors models, but the model at hand has other"):
        FeatureStore(store.path, extractors="other")
    assert FeatureStore(store.path, extractors="models").ids == store.ids
    assert corpus.features_folder("models") != corpus.features_folder("other")
    with pytest.raises(ValueError, match="extractors need a hash"):
        Extractors("", 4000)


def test_one_bad_clip_never_stops_the_job(corpus: Corpus, folder: Path) -> None:
    models = Models()
    (folder / "s0" / "00.wav").unlink()
    record(folder / "s0" / "02.wav", None, 0.3, seed=77)
    stem = {"short": corpus.utterances()[5], "odd": corpus.utterances()[6], "none": corpus.utterances()[7]}
    lengths = {name: round(item.seconds * 16000) for name, item in stem.items()}

    def tokens(waves: list[np.ndarray]) -> list[np.ndarray]:
        if any(abs(len(wave) - lengths["odd"]) < 9 for wave in waves):
            raise ValueError("this one is odd")
        made = models.tokens(waves)
        return [t[:0] if abs(len(w) - lengths["none"]) < 9 else t for t, w in zip(made, waves, strict=True)]

    def embedding(waves: list[np.ndarray]) -> np.ndarray:
        made = models.embedding(waves)
        made[[abs(len(wave) - lengths["short"]) < 9 for wave in waves]] = np.nan
        return made

    store = extract_features(corpus, replace(models.extractors, tokens=tokens, embedding=embedding))
    reasons = {line.id: line.reason for line in store.ledger.lines if line.decision == "dropped"}
    assert len(store) == 19 == store.ledger.kept
    assert store.ledger.seen == 24
    assert reasons.pop("s0/00").startswith("unreadable: ")
    assert "has changed since the corpus was prepared; prepare it again" in reasons.pop("s0/02")
    assert reasons.pop(stem["short"].id).startswith("not finite: ")
    assert reasons.pop(stem["odd"].id) == "refused by an extractor: this one is odd"
    assert reasons.pop(stem["none"].id).startswith("no speech tokens: ")
    assert not reasons


def test_no_clip_left_is_an_error(corpus: Corpus) -> None:
    def refuse(waves: list[np.ndarray]) -> list[np.ndarray]:
        raise InputError("no")

    with pytest.raises(DataError, match=r"no clip of .* could be turned into features: .* 24 refused by an extractor"):
        extract_features(corpus, replace(Models().extractors, tokens=refuse))


def test_a_part_of_a_recording_is_what_is_extracted(tmp_path: Path) -> None:
    record(tmp_path / "in" / "all.wav", None, 3.0)
    rows = [
        {"id": f"p{i}", "audio": "all.wav", "speaker": "s", "language": "en", "start": float(i), "end": i + 0.5}
        for i in range(3)
    ]
    (tmp_path / "in" / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    store = extract_features(prepare_corpus(tmp_path / "in", tmp_path / "out"), Models().extractors)
    vectors = [f.utterance_vector for f in store]
    assert [vector[2] for vector in vectors if vector is not None] == pytest.approx([8000] * 3, abs=1)
    assert len({float(vector[0]) for vector in vectors if vector is not None}) == 3


def test_a_clip_is_kept_in_memory_only_within_the_budget(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    path = extract_features(corpus, Models().extractors).path
    large, none = FeatureStore(path), FeatureStore(path, cache_bytes=0)
    assert large.read(["s0/00"])[0] is large.read(["s0/00"])[0]
    assert none.read(["s0/00"])[0] is not none.read(["s0/00"])[0]


def test_writing_is_atomic(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        extract_features(corpus, Models().extractors)
    assert not list(corpus.features_folder("models").glob("shard-*"))
    assert extract.extract_features is extract_features
