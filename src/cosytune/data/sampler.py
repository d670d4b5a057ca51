"""Which clips make a batch: clips of like length together, in an order that only seed and epoch decide."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
from lhotse import MonoCut
from lhotse.dataset.sampling.dynamic_bucketing import DynamicBucketingSampler, FixedBucketBatchSizeConstraint

from cosytune.data.clip_index import IndexedClips, clips_at
from cosytune.data.manifest import Utterance
from cosytune.errors import DataError

__all__ = ["BatchPlan", "batches", "endless", "endless_places"]

_BUFFERED = 1000
"""Clips that Lhotse has at hand, at least. Few do, because the whole order is shuffled before it sees any."""


@dataclass(frozen=True)
class BatchPlan:
    """How the clips of an epoch are dealt into batches; as many batches in each epoch, whatever the order.

    Attributes:
        edges: seconds of the longest clip of each bucket, rising.
        sizes: clips of a full batch of each bucket; the last batch of a bucket in an epoch may have fewer.
        steps: batches of an epoch.
    """

    edges: tuple[float, ...]
    sizes: tuple[int, ...]
    steps: int

    @classmethod
    def of(cls, durations: np.ndarray, seconds: float, buckets: int = 10) -> BatchPlan:
        """Buckets of about the same number of seconds each; clips beyond the budget are among themselves.

        Args:
            durations: float64 [N], seconds of each clip.
            seconds: budget of a batch: number of clips times the longest of their bucket, which padding may make of it.
            buckets: classes of duration, at most; few clips make fewer.

        Raises:
            DataError: no clips, one without duration, or a budget that is not positive.
        """
        if not len(durations):
            raise DataError("there are no clips to make batches of; prepare a corpus with at least one on this side")
        if seconds <= 0:
            raise DataError(f"a batch of {seconds} s holds nothing; give a positive number of seconds")
        if durations.min() <= 0:
            raise DataError("an utterance has no duration; prepare the corpus, which measures the recordings")
        ordered = np.sort(durations)
        until = np.cumsum(ordered)
        wanted = until[-1] * np.arange(1, buckets) / max(1, buckets)
        longest = np.r_[ordered[np.searchsorted(until, wanted).clip(max=len(ordered) - 1)], ordered[-1]]
        inside = ordered[ordered <= seconds]
        edges = np.unique(np.r_[longest, inside[-1:]])
        counts = np.diff(np.r_[0, np.searchsorted(ordered, edges, side="right")])
        sizes = np.maximum(1, np.floor(seconds / edges)).astype(np.int64)
        return cls(tuple(edges.tolist()), tuple(sizes.tolist()), int(-(-counts // sizes).sum()))

    def position(self, step: int) -> tuple[int, int]:
        """Epoch, and batches of it that are done, after `step` batches.

        Raises:
            DataError: `step` is negative.
        """
        if step < 0:
            raise DataError(f"a run cannot start at step {step}; give 0 or the number of steps already done")
        return divmod(step, self.steps)


def batches(
    clips: Sequence[Utterance],
    *,
    seconds: float,
    seed: int,
    epoch: int,
    shuffle: bool = True,
    buckets: int = 10,
    rank: int = 0,
    world_size: int = 1,
) -> list[list[str]]:
    """All batches of one epoch as utterance ids; each utterance is in exactly one (see `endless` for ranks).

    Lhotse's bucketing sampler fills each batch from one bucket of similar durations. The same arguments give the same
    list on every machine.

    Args:
        clips: with durations.
        seconds: budget of a batch (`BatchPlan.of`).
        seed: of the whole run.
        epoch: from 0.
        shuffle: False keeps the order within a bucket (for validation).
        buckets: classes of duration, at most.
        rank: this process, from 0.
        world_size: processes that train together.

    Raises:
        DataError: as `endless`.
    """
    durations = _durations(clips)
    plan = BatchPlan.of(durations, seconds, buckets)
    _check_rank(rank, world_size)
    dealt = _epoch(durations, plan, seed, epoch, shuffle)
    return [_ids(clips, _share(places, rank, world_size)) for places in dealt]


def endless(
    clips: Sequence[Utterance],
    *,
    seconds: float,
    seed: int,
    start_step: int = 0,
    shuffle: bool = True,
    buckets: int = 10,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[list[str]]:
    """Batches for ever, epoch after epoch; from `start_step` on exactly what an uninterrupted run would see.

    `seconds` is the budget of all ranks together, and the order of batches does not depend on how many ranks there
    are: each takes every `world_size`-th clip of the same batch. So all ranks make the same number of steps, their
    clips are of like length, and together they see what one process would. A batch of fewer clips than ranks (clips as
    long as the whole budget, the last batch of a bucket) is the one exception: its clips are given out again from the
    first until every rank has one, and whoever adds up gradients has to count them once.

    Args:
        clips: with durations; `IndexedClips` where they are many.
        seconds: budget of a batch (`BatchPlan.of`).
        seed: of the whole run.
        start_step: batches already done; epochs are passed over at once, batches of the last one are drawn again.
        shuffle: False keeps the order within a bucket.
        buckets: classes of duration, at most.
        rank: this process, from 0.
        world_size: processes that train together.

    Raises:
        DataError: no clips, one without duration, two with one id, a budget that is not positive, a negative
            `start_step`, or no such rank.
    """
    places = endless_places(
        _durations(clips),
        seconds=seconds,
        seed=seed,
        start_step=start_step,
        shuffle=shuffle,
        buckets=buckets,
        rank=rank,
        world_size=world_size,
    )
    return (_ids(clips, batch) for batch in places)


def endless_places(
    durations: np.ndarray,
    *,
    seconds: float,
    seed: int,
    start_step: int = 0,
    shuffle: bool = True,
    buckets: int = 10,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[list[int]]:
    """`endless` for who knows only the durations (float64 [N], seconds): batches of places among them."""
    plan = BatchPlan.of(durations, seconds, buckets)
    _check_rank(rank, world_size)
    first, done = plan.position(start_step)

    def all_batches() -> Iterator[list[int]]:
        for epoch in count(first):
            begin = done if epoch == first else 0
            for batch in islice(_epoch(durations, plan, seed, epoch, shuffle), begin, None):
                yield _share(batch, rank, world_size)

    return all_batches()


def _epoch(durations: np.ndarray, plan: BatchPlan, seed: int, epoch: int, shuffle: bool) -> Iterator[list[int]]:
    """The batches of one epoch as places among the clips."""
    order = np.arange(len(durations))
    if shuffle:
        np.random.default_rng(random.Random(f"{seed} {epoch}").getrandbits(64)).shuffle(order)
    sampler = DynamicBucketingSampler(
        (MonoCut(id=str(place), start=0.0, duration=float(durations[place]), channel=0) for place in order),
        constraint=FixedBucketBatchSizeConstraint(list(plan.edges), list(plan.sizes)),
        duration_bins=list(plan.edges),
        # With fewer at hand, no bucket might have a whole batch before all clips were read.
        buffer_size=max(_BUFFERED, 2 * sum(plan.sizes)),
        drop_last=False,
        world_size=1,
        rank=0,
    )
    for batch in sampler:
        yield [int(cut.id) for cut in batch]


def _share(batch: list[int], rank: int, world_size: int) -> list[int]:
    return batch[rank::world_size] or [batch[rank % len(batch)]]


def _check_rank(rank: int, world_size: int) -> None:
    if not 0 <= rank < world_size:
        raise DataError(f"there is no rank {rank} among {world_size}; ranks count from 0 to {world_size - 1}")


def _durations(clips: Sequence[Utterance]) -> np.ndarray:
    if isinstance(clips, IndexedClips):
        return clips.seconds
    if len({item.id for item in clips}) < len(clips):
        raise DataError("two utterances have one id; ids must be unique")
    silent = next((item for item in clips if item.seconds <= 0), None)
    if silent is not None:
        raise DataError(f"utterance {silent.id!r} has no duration; prepare the corpus, which measures the recordings")
    return np.array([item.seconds for item in clips], np.float64)


def _ids(clips: Sequence[Utterance], places: list[int]) -> list[str]:
    return [clip.id for clip in clips_at(clips, places)]
