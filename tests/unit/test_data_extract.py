"""Features on disk: made once, whatever happens, and read clip by clip."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.audio.files import write_wave
from cosytune.data.corpus import Contents, Corpus, write_corpus
from cosytune.data.engine import open_engine
from cosytune.data.extract import extract_features
from cosytune.data.feature_shards import clip_address, shard_count, shard_of, shard_path
from cosytune.data.features import FEATURES_MARKER, Extractors, FeatureStore
from cosytune.data.manifest import Utterance
from cosytune.data.pace import Pace
from cosytune.data.results import LedgerLine
from cosytune.data.splits import Side
from cosytune.errors import DataError, InputError
from cosytune.files import hash_file
from tests.unit.feature_models import Fatal, Models

RATE = 8000
SIDES: tuple[Side, ...] = ("validation", "test", "train", "train", "train", "train")


def record(path: Path, seconds: float, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * RATE)).astype(np.float32)
    write_wave(path, noise, RATE)


def utterance(path: Path, number: int, **changes: object) -> Utterance:
    speaker = f"s{number % 2}"
    plain = Utterance(f"{speaker}/{number:02d}", str(path), f"Text {number}.", speaker, "en")
    return replace(plain, **{"seconds": 0.2 + 0.02 * number, **changes})  # type: ignore[arg-type]


def make_corpus(folder: Path, utterances: Sequence[Utterance]) -> Corpus:
    hashes = {item.audio: hash_file(Path(item.audio)) for item in utterances}
    contents = Contents(
        utterances=[(item, SIDES[index % len(SIDES)], hashes[item.audio]) for index, item in enumerate(utterances)],
        recordings=sorted(hashes.items()),
        lines=[LedgerLine(item.id, item.audio, "kept") for item in utterances],
        seen=len(utterances),
        notes=(),
        between=0.0,
        splits={},
        source={},
    )
    return write_corpus(folder, contents)


def recorded(folder: Path, numbers: Sequence[int]) -> list[Utterance]:
    """Clips of 0.2 s and more, each 20 ms longer than the one before."""
    found = []
    for number in numbers:
        path = folder / f"{number:02d}.wav"
        if not path.exists():
            record(path, 0.2 + 0.02 * number, number)
        found.append(utterance(path, number))
    return found


@pytest.fixture
def clips(tmp_path: Path) -> list[Utterance]:
    return recorded(tmp_path / "in", range(24))


@pytest.fixture
def corpus(clips: list[Utterance], tmp_path: Path) -> Corpus:
    return make_corpus(tmp_path / "corpus", clips)


def shards(store: FeatureStore) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(store.path.glob("*.parquet"))}


# What is stored


def test_features_are_what_the_extractors_made(corpus: Corpus) -> None:
    models = Models()
    told: list[Pace] = []
    store = extract_features(corpus, models.extractors, shard_size=10, batch_seconds=2.0, progress=told.append)
    assert store.columns == ("speech_token", "utt_embedding", "mel", "spk_embedding")
    assert store.ids == tuple(item.id for item in corpus.utterances())
    assert len(store) == 24
    assert (told[-1].done, told[-1].total) == (24, 24)
    assert told[-1].audio_seconds == pytest.approx(corpus.info["seconds"])
    assert told[-1].hours_per_hour > 0
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
    assert "s1/03" in store and "ghost" not in store and 3 not in store
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


def test_a_speaker_without_training_clips_has_no_vector(clips: list[Utterance], tmp_path: Path) -> None:
    only_held_out = [replace(clips[0], speaker="rare"), *clips[1:]]
    store = extract_features(make_corpus(tmp_path / "rare", only_held_out), Models().extractors)
    assert "rare" not in store.speaker_vectors
    assert store.read(["s0/00"])[0].speaker_vector is None


def test_shards_have_the_upstream_columns(corpus: Corpus) -> None:
    store = extract_features(corpus, Models().extractors)
    table = pq.read_table(shard_path(store.path, 0, 1))
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


def test_a_part_of_a_recording_is_what_is_extracted(tmp_path: Path) -> None:
    record(tmp_path / "all.wav", 3.0, 0)
    parts = [utterance(tmp_path / "all.wav", i, start=float(i), end=i + 0.5, seconds=0.5) for i in range(3)]
    store = extract_features(make_corpus(tmp_path / "out", parts), Models().extractors)
    vectors = [f.utterance_vector for f in store]
    assert [vector[2] for vector in vectors if vector is not None] == pytest.approx([8000] * 3, abs=1)
    assert len({float(vector[0]) for vector in vectors if vector is not None}) == 3


def test_a_clip_that_is_listed_twice_is_made_once(clips: list[Utterance], tmp_path: Path) -> None:
    models = Models()
    store = extract_features(
        make_corpus(tmp_path / "c", [*clips[:3], replace(clips[1], id="again")]), models.extractors
    )
    assert sum(models.batches) == 3
    np.testing.assert_array_equal(store.read(["again"])[0].mel, store.read(["s1/01"])[0].mel)


# What is not made again


def test_finished_shards_are_not_made_again(corpus: Corpus) -> None:
    first, second = Models(), Models()

    def fails_late(waves: list[np.ndarray]) -> list[np.ndarray]:
        if sum(first.batches) >= 10:
            raise KeyboardInterrupt
        return Models.tokens(first, waves)

    broken = replace(first.extractors, tokens=fails_late)
    with pytest.raises(KeyboardInterrupt):
        extract_features(corpus, broken, shard_size=5)
    with pytest.raises(DataError, match="holds no finished features"):
        FeatureStore(corpus.features_folder("models"))
    store = extract_features(corpus, second.extractors, shard_size=5)
    assert len(store) == 24
    assert sum(first.batches) + sum(second.batches) == 24
    third = Models()
    extract_features(corpus, third.extractors, shard_size=5)
    assert third.batches == []
    fresh = extract_features(corpus, replace(Models().extractors, hash="fresh"), shard_size=5)
    for mine, theirs in zip(store, fresh, strict=True):
        np.testing.assert_array_equal(mine.speech_tokens, theirs.speech_tokens)
        np.testing.assert_array_equal(mine.speaker_vector, theirs.speaker_vector)
        np.testing.assert_array_equal(mine.mel, theirs.mel)


def test_added_clips_cost_only_themselves(corpus: Corpus, tmp_path: Path) -> None:
    extract_features(corpus, Models().extractors, shard_size=4)
    models = Models()
    # Inserted first and last; with 4 more the number of shards doubles, too.
    more = make_corpus(corpus.path, recorded(tmp_path / "in", [40, *range(24), *range(41, 52)]))
    store = extract_features(more, models.extractors, shard_size=4)
    assert (sum(models.batches), models.embedded, models.drawn) == (12, 12, 12)
    assert store.ids == tuple(item.id for item in more.utterances())
    fresh = extract_features(make_corpus(tmp_path / "new", more.utterances()), Models().extractors, shard_size=4)
    assert shards(store) == shards(fresh)
    less = make_corpus(corpus.path, more.utterances()[3:9])
    models = Models()
    assert len(extract_features(less, models.extractors, shard_size=4)) == 6
    assert models.batches == []


def test_only_the_column_whose_extractor_changed_is_made(corpus: Corpus) -> None:
    hashes = {"speech_token": "t", "utt_embedding": "e", "mel": "m"}
    extract_features(corpus, replace(Models("first").extractors, hashes=hashes), shard_size=6)
    models = Models("second")
    changed = replace(models.extractors, hashes={**hashes, "utt_embedding": "other"})
    store = extract_features(corpus, changed, shard_size=12)
    assert (models.batches, models.embedded, models.drawn) == ([], 24, 0)
    assert len(store) == 24


def test_other_texts_and_speakers_cost_nothing(corpus: Corpus, clips: list[Utterance]) -> None:
    extract_features(corpus, Models().extractors)
    models = Models()
    renamed = make_corpus(corpus.path, [replace(clip, text="New.", speaker="one") for clip in clips])
    store = extract_features(renamed, models.extractors)
    assert models.batches == []
    assert {features.text for features in store} == {"New."}
    assert list(store.speaker_vectors) == ["one"]


def test_finished_features_are_not_touched_while_another_run_reads_them(corpus: Corpus) -> None:
    store = extract_features(corpus, Models().extractors, shard_size=10)
    before = {path.name: path.stat().st_mtime_ns for path in store.path.iterdir()}
    seen: list[bool] = []

    def watch(pace: Pace) -> None:
        seen.append((store.path / FEATURES_MARKER).is_file() and pace.done == pace.total)
        assert pace.sentence() == "features of all 24 clips were there already"

    assert extract_features(corpus, Models().extractors, shard_size=10, progress=watch).ids == store.ids
    assert seen == [True]
    assert {path.name: path.stat().st_mtime_ns for path in store.path.iterdir()} == before
    for harm in ("{ha", "[]"):
        (store.path / FEATURES_MARKER).write_text(harm)
        models = Models()
        assert extract_features(corpus, models.extractors, shard_size=10).ids == store.ids
        assert models.batches == []


def test_damaged_and_changed_shards_are_made_again(corpus: Corpus, clips: list[Utterance]) -> None:
    store = extract_features(corpus, Models().extractors, shard_size=10)
    damaged = shard_path(store.path, 1, 4)
    lost = len(pq.read_table(damaged))
    damaged.write_bytes(b"half a sh")
    models = Models()
    extract_features(corpus, models.extractors, shard_size=10)
    assert sum(models.batches) == lost > 0
    record(Path(clips[0].audio), 0.9, 50)
    models = Models()
    again = extract_features(make_corpus(corpus.path, clips), models.extractors, shard_size=10)
    assert sum(models.batches) == 1
    np.testing.assert_array_equal(again.read(["s0/02"])[0].speaker_vector, again.speaker_vectors["s0"])
    models = Models()
    extract_features(Corpus(corpus.path), models.extractors, shard_size=100)
    assert models.batches == []
    assert [path.name for path in sorted(store.path.glob("*.parquet"))] == ["shard-00000-of-00001.parquet"]


def test_a_damaged_body_is_made_again_too(corpus: Corpus) -> None:
    store = extract_features(corpus, Models().extractors)
    (path,) = store.path.glob("*.parquet")
    data = bytearray(path.read_bytes())
    data[: len(data) // 2] = bytes(len(data) // 2)
    path.write_bytes(data)
    (store.path / FEATURES_MARKER).unlink()
    # The note at the end of the file is whole, so only another corpus makes the body be looked at.
    models = Models()
    make_corpus(corpus.path, corpus.utterances()[1:])
    extract_features(Corpus(corpus.path), models.extractors)
    assert sum(models.batches) == 23


def test_features_of_another_model_cannot_be_used(corpus: Corpus) -> None:
    store = extract_features(corpus, Models("models").extractors)
    with pytest.raises(DataError, match="made by extractors models, but the model at hand has other"):
        FeatureStore(store.path, extractors="other")
    assert FeatureStore(store.path, extractors="models").ids == store.ids
    assert corpus.features_folder("models") != corpus.features_folder("other")
    with pytest.raises(ValueError, match="extractors need a hash"):
        Extractors("", 4000)


def test_an_index_that_is_gone_or_damaged_is_said_and_made_again(corpus: Corpus) -> None:
    store = extract_features(corpus, Models().extractors)
    (store.path / "index.sqlite").write_bytes(b"no base" * 1000)
    with pytest.raises(DataError, match=r"index.sqlite cannot be read .* extract the features again"):
        FeatureStore(store.path)
    models = Models()
    assert len(extract_features(corpus, models.extractors)) == 24
    assert models.batches == []
    (store.path / "index.sqlite").unlink()
    with pytest.raises(DataError, match=r"index\.sqlite cannot be read"):
        FeatureStore(store.path)


def test_a_store_that_is_made_anew_under_its_reader_is_noticed(corpus: Corpus, clips: list[Utterance]) -> None:
    store = extract_features(corpus, Models().extractors)
    extract_features(make_corpus(corpus.path, clips[::-1]), Models().extractors)
    with pytest.raises(DataError, match="were made anew while they were read; start again"):
        store.read(["s0/00"])


# What goes wrong


def test_one_bad_clip_never_stops_the_job(corpus: Corpus, clips: list[Utterance]) -> None:
    models = Models()
    Path(clips[0].audio).unlink()
    record(Path(clips[2].audio), 0.3, 77)
    stem = {"short": clips[5], "odd": clips[6], "none": clips[7], "large": clips[8]}
    lengths = {name: round(item.seconds * 16000) for name, item in stem.items()}

    def is_near(wave: np.ndarray, name: str) -> bool:
        return abs(len(wave) - lengths[name]) < 9

    def tokens(waves: list[np.ndarray]) -> list[np.ndarray]:
        if any(is_near(wave, "odd") for wave in waves):
            raise ValueError("this one is odd")
        if any(is_near(wave, "large") for wave in waves):
            raise RuntimeError("not enough memory: you tried to allocate 99 GB")
        made = models.tokens(waves)
        return [t[:0] if is_near(w, "none") else t for t, w in zip(made, waves, strict=True)]

    def embedding(waves: list[np.ndarray]) -> np.ndarray:
        made = models.embedding(waves)
        made[[is_near(wave, "short") for wave in waves]] = np.nan
        return made

    store = extract_features(corpus, replace(models.extractors, tokens=tokens, embedding=embedding))
    reasons = {line.id: line.reason for line in store.ledger.lines if line.decision == "dropped"}
    assert len(store) == 18 == store.ledger.kept
    assert store.ledger.seen == 24
    assert reasons.pop("s0/00").startswith("unreadable: ")
    assert "has changed since the corpus was prepared; prepare it again" in reasons.pop("s0/02")
    assert reasons.pop(stem["short"].id).startswith("not finite: ")
    assert reasons.pop(stem["odd"].id) == "refused by an extractor: this one is odd"
    assert reasons.pop(stem["large"].id).startswith("refused by an extractor: not enough memory")
    assert reasons.pop(stem["none"].id).startswith("no speech tokens: ")
    assert not reasons


def test_a_fault_of_the_program_stops_the_job(corpus: Corpus) -> None:
    def wrong(waves: list[np.ndarray]) -> list[np.ndarray]:
        raise TypeError("a fault of the program")

    with pytest.raises(TypeError, match="a fault of the program"):
        extract_features(corpus, replace(Models().extractors, tokens=wrong))
    assert not list(corpus.features_folder("models").glob(".index*"))


def test_no_clip_left_is_an_error(corpus: Corpus) -> None:
    def refuse(waves: list[np.ndarray]) -> list[np.ndarray]:
        raise InputError("no")

    with pytest.raises(DataError, match=r"no clip of .* could be turned into features: .* 24 refused by an extractor"):
        extract_features(corpus, replace(Models().extractors, tokens=refuse))


def test_a_clip_that_kills_its_process_is_one_line_of_the_ledger(corpus: Corpus, clips: list[Utterance]) -> None:
    with open_engine("local", 2) as engine:
        fatal = Fatal(round(clips[20].seconds * 16000)).extractors
        store = extract_features(corpus, fatal, engine=engine, shard_size=12, batch_seconds=4.0)
        plain = extract_features(corpus, Models().extractors, engine=engine, shard_size=12, batch_seconds=4.0)
    dropped = {line.id: line.reason for line in store.ledger.lines if line.decision == "dropped"}
    assert dropped == {"s0/20": "killed its process: most often for want of memory"}
    # The shards of the parallel engine are those of this process, byte for byte.
    alone = extract_features(
        make_corpus(corpus.path.parent / "alone", corpus.utterances()),
        Models().extractors,
        shard_size=12,
        batch_seconds=4.0,
    )
    assert shards(alone) == shards(plain)


def test_kill_minus_nine_loses_only_what_was_under_way(corpus: Corpus, tmp_path: Path) -> None:
    script = tmp_path / "extract.py"
    script.write_text(
        "import sys, time\n"
        "from pathlib import Path\n"
        "from cosytune.data.corpus import Corpus\n"
        "from cosytune.data.extract import extract_features\n"
        "from tests.unit.feature_models import Models\n"
        "def watch(pace):\n"
        "    print(pace.done, flush=True)\n"
        "    if pace.done >= 10: time.sleep(60)\n"
        "extract_features(Corpus(Path(sys.argv[1])), Models().extractors, shard_size=3, progress=watch)\n"
    )
    command = [sys.executable, str(script), str(corpus.path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert running.stdout is not None
    done = 0
    while done < 10:
        done = int(running.stdout.readline())
    time.sleep(0.05)
    running.kill()
    running.wait()
    models = Models()
    store = extract_features(corpus, models.extractors, shard_size=3)
    assert len(store) == 24
    assert 24 - done <= sum(models.batches) < 24
    untroubled = extract_features(
        make_corpus(tmp_path / "other", corpus.utterances()), Models().extractors, shard_size=3
    )
    assert shards(store) == shards(untroubled)
    assert not list(store.path.glob(".*.partial"))


def test_writing_is_atomic(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        extract_features(corpus, Models().extractors)
    assert [path.name for path in corpus.features_folder("models").iterdir()] == [".lock"]


def test_a_clip_is_kept_in_memory_only_within_the_budget(corpus: Corpus) -> None:
    path = extract_features(corpus, Models().extractors).path
    large, none = FeatureStore(path), FeatureStore(path, cache_bytes=0)
    assert large.read(["s0/00"])[0] is large.read(["s0/00"])[0]
    assert none.read(["s0/00"])[0] is not none.read(["s0/00"])[0]


# Where clips lie


@settings(max_examples=50, deadline=None)
@given(st.text(), st.integers(0, 6), st.integers(1, 3))
def test_doubling_the_shards_splits_each_in_two(audio_hash: str, power: int, more: int) -> None:
    clip = clip_address(audio_hash, None, 1.0)
    few, many = 2**power, 2 ** (power + more)
    assert shard_of(clip, many) % few == shard_of(clip, few)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**7), st.integers(1, 1000))
def test_shards_hold_the_size_asked_for_on_average(clips: int, size: int) -> None:
    count = shard_count(clips, size)
    assert clips / count <= size
    assert count == 1 or clips / (count / 2) > size


def test_the_address_is_of_the_sound_alone() -> None:
    assert clip_address("a", None, None) == clip_address("a", 0.0, None)
    assert (
        len({clip_address(*key) for key in (("a", 0.0, None), ("a", 0.0, 1.0), ("a", 1.0, None), ("b", 0.0, None))})
        == 4
    )
