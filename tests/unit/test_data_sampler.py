from __future__ import annotations

import random
import warnings
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.data.clip_index import ClipIndex
from cosytune.data.corpus import Contents, Corpus, write_corpus
from cosytune.data.manifest import Utterance
from cosytune.data.results import LedgerLine
from cosytune.data.sampler import BatchPlan, batches, endless, endless_places
from cosytune.data.splits import SIDES
from cosytune.errors import DataError


def clips(durations: list[float]) -> list[Utterance]:
    return [Utterance(f"u{i}", "x.wav", None, "s", "en", seconds=d) for i, d in enumerate(durations)]


def varied(count: int) -> list[Utterance]:
    rng = random.Random(5)
    return clips([rng.uniform(0.3, 12.0) for _ in range(count)])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.05, 40.0), min_size=1, max_size=60),
    st.floats(1.0, 60.0),
    st.integers(0, 3),
    st.booleans(),
    st.integers(1, 20),
)
def test_each_clip_is_in_exactly_one_batch(
    durations: list[float], seconds: float, epoch: int, shuffle: bool, buckets: int
) -> None:
    items = clips(durations)
    made = batches(items, seconds=seconds, seed=1, epoch=epoch, shuffle=shuffle, buckets=buckets)
    assert sorted(identity for batch in made for identity in batch) == sorted(item.id for item in items)
    assert made == batches(items, seconds=seconds, seed=1, epoch=epoch, shuffle=shuffle, buckets=buckets)


def test_batches_fill_the_budget_with_little_padding() -> None:
    items = varied(2000)
    lengths = {item.id: item.seconds for item in items}
    made = batches(items, seconds=60, seed=0, epoch=0)
    padded = [len(batch) * max(lengths[identity] for identity in batch) for batch in made]
    assert max(padded) < 75
    assert sum(lengths.values()) / sum(padded) > 0.85
    assert sum(size > 40 for size in padded) > 0.9 * len(padded)


def test_seed_and_epoch_change_the_order() -> None:
    items = varied(100)
    orders = [batches(items, seconds=30, seed=s, epoch=e) for s, e in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])


def test_clips_beyond_the_budget_are_alone_and_nobody_is_alarmed() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = batches(clips([50.0, 1.0, 70.0, 1.0, 60.0, 1.0]), seconds=30, seed=0, epoch=0)
    assert sorted(map(len, made)) == [1, 1, 1, 3]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.05, 40.0), min_size=1, max_size=60), st.floats(1.0, 90.0), st.integers(1, 5))
def test_ranks_share_what_one_process_sees(durations: list[float], seconds: float, world_size: int) -> None:
    items = clips(durations)
    alone = batches(items, seconds=seconds, seed=1, epoch=0)
    shares = [
        batches(items, seconds=seconds, seed=1, epoch=0, rank=r, world_size=world_size) for r in range(world_size)
    ]
    for batch, *parts in zip(alone, *shares, strict=True):
        assert all(parts)
        together = [identity for part in parts for identity in part]
        assert set(together) == set(batch)
        # Nothing is doubled but in a batch that has fewer clips than there are ranks.
        assert len(together) == max(len(batch), world_size)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_every_epoch_has_as_many_batches_and_none_is_beyond_the_budget() -> None:
    items = varied(700)
    lengths = {item.id: item.seconds for item in items}
    plan = BatchPlan.of(np.array(list(lengths.values())), 30)
    for epoch in range(4):
        made = batches(items, seconds=30, seed=2, epoch=epoch)
        assert len(made) == plan.steps
        assert max(len(batch) * max(lengths[identity] for identity in batch) for batch in made) <= 30
    assert plan.position(3 * plan.steps + 5) == (3, 5)


def test_a_corpus_is_dealt_from_the_disk(tmp_path: Path) -> None:
    items = varied(120)
    rows = [(item, SIDES[number % 3], "hash") for number, item in enumerate(items)]
    lines = [LedgerLine(item.id, item.audio, "kept") for item in items]
    contents = Contents(
        utterances=rows,
        recordings=[("/x.wav", "hash")],
        lines=lines,
        seen=120,
        notes=(),
        between=0.0,
        splits={},
        source={},
    )
    corpus = write_corpus(tmp_path, contents)
    index = ClipIndex(corpus, "train")
    train = corpus.utterances("train")
    assert len(index) == 40
    assert list(index) == list(train) == index[:]
    assert index[-1] == train[-1]
    wanted = list(islice(endless(train, seconds=20, seed=4), 60))
    assert list(islice(endless(index, seconds=20, seed=4), 60)) == wanted
    places = list(islice(endless_places(index.seconds, seconds=20, seed=4, start_step=20), 40))
    assert [[clip.id for clip in index.read(batch)] for batch in places] == wanted[20:]
    assert list(corpus.stream("train", longest=2.0)) == [item for item in train if item.seconds <= 2.0]
    assert corpus.audio_hash("/x.wav") == "hash"
    with pytest.raises(DataError, match=r"has no recording /y\.wav"):
        corpus.audio_hash("/y.wav")
    (tmp_path / "sides.jsonl").write_text('["u0", "train"]\n')
    for read in (lambda: list(corpus.stream("train")), lambda: ClipIndex(Corpus(tmp_path))):
        with pytest.raises(DataError, match="do not belong together"):
            read()


@pytest.mark.parametrize("step", [0, 1, 7, 23, 50])
def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(step: int) -> None:
    items = varied(60)
    full = list(islice(endless(items, seconds=20, seed=4), 70))
    rest = islice(endless(items, seconds=20, seed=4, start_step=step), 70 - step)
    assert list(rest) == full[step:]


def test_refusals() -> None:
    items = varied(3)
    with pytest.raises(DataError, match="no clips to make batches of"):
        batches([], seconds=10, seed=0, epoch=0)
    with pytest.raises(DataError, match="a batch of 0 s holds nothing"):
        batches(items, seconds=0, seed=0, epoch=0)
    with pytest.raises(DataError, match="'u0' has no duration"):
        batches(clips([0.0]), seconds=10, seed=0, epoch=0)
    with pytest.raises(DataError, match="two utterances have one id"):
        batches([*items, items[0]], seconds=10, seed=0, epoch=0)
    with pytest.raises(DataError, match="cannot start at step -1"):
        next(endless(items, seconds=10, seed=0, start_step=-1))
    with pytest.raises(DataError, match="no rank 2 among 2; ranks count from 0 to 1"):
        batches(items, seconds=10, seed=0, epoch=0, rank=2, world_size=2)
    with pytest.raises(DataError, match="an utterance has no duration"):
        BatchPlan.of(np.zeros(3), 10)
