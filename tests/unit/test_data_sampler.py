from __future__ import annotations

import random
import warnings
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.data.manifest import Utterance
from cosytune.data.sampler import batches, endless
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
