"""Which clips make a batch: clips of like length together, in an order that only seed and epoch decide."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from itertools import count

from lhotse import MonoCut
from lhotse.dataset.sampling import DynamicBucketingSampler

from cosytune.data.manifest import Utterance
from cosytune.errors import DataError

__all__ = ["batches", "endless"]


def batches(
    utterances: Sequence[Utterance],
    *,
    seconds: float,
    seed: int,
    epoch: int,
    shuffle: bool = True,
    buckets: int = 10,
) -> list[list[str]]:
    """All batches of one epoch as utterance ids; each utterance is in exactly one.

    Lhotse's bucketing sampler fills each batch from one bucket of similar durations. The same arguments give the same
    list on every machine, so a position in it is all that a resumed run needs.

    Args:
        utterances: with durations.
        seconds: budget of a batch: number of clips times the longest of them, which is what padding makes of it. The
            last clip of a batch may pass it by the width of its bucket; a clip beyond the budget is a batch of its own.
        seed: of the whole run.
        epoch: from 0.
        shuffle: False keeps the order within a bucket (for validation).
        buckets: classes of duration, at most; few clips make fewer.

    Raises:
        DataError: no utterances, one without duration, two with one id, or a budget that is not positive.
    """
    _check(utterances, seconds)
    order = list(utterances)
    if shuffle:
        random.Random(f"{seed} {epoch}").shuffle(order)
    cuts = [MonoCut(id=item.id, start=0.0, duration=item.seconds, channel=0) for item in order]
    sampler = DynamicBucketingSampler(
        cuts,
        max_duration=seconds,
        duration_bins=_bins([item.seconds for item in utterances], buckets, seconds),
        shuffle=shuffle,
        drop_last=False,
        seed=seed,
        world_size=1,
        rank=0,
    )
    sampler.set_epoch(epoch)
    with warnings.catch_warnings():
        # Lhotse warns of each clip beyond the budget; what happens to it is said above.
        warnings.filterwarnings("ignore", message="We have exceeded the max_duration", category=UserWarning)
        return [[cut.id for cut in batch] for batch in sampler]


def endless(
    utterances: Sequence[Utterance],
    *,
    seconds: float,
    seed: int,
    start_step: int = 0,
    shuffle: bool = True,
    buckets: int = 10,
) -> Iterator[list[str]]:
    """Batches for ever, epoch after epoch; from `start_step` on exactly what an uninterrupted run would see.

    Raises:
        DataError: as `batches`, or `start_step` is negative.
    """
    if start_step < 0:
        raise DataError(f"a run cannot start at step {start_step}; give 0 or the number of steps already done")
    skip = start_step
    for epoch in count():
        epoch_batches = batches(utterances, seconds=seconds, seed=seed, epoch=epoch, shuffle=shuffle, buckets=buckets)
        yield from epoch_batches[skip:]
        skip = max(0, skip - len(epoch_batches))


def _check(utterances: Sequence[Utterance], seconds: float) -> None:
    if not utterances:
        raise DataError("there are no clips to make batches of; prepare a corpus with at least one on this side")
    if seconds <= 0:
        raise DataError(f"a batch of {seconds} s holds nothing; give a positive number of seconds")
    silent = next((item for item in utterances if item.seconds <= 0), None)
    if silent is not None:
        raise DataError(f"utterance {silent.id!r} has no duration; prepare the corpus, which measures the recordings")
    if len({item.id for item in utterances}) < len(utterances):
        raise DataError("two utterances have one id; ids must be unique")


def _bins(durations: list[float], buckets: int, budget: float) -> list[float]:
    """Edges between buckets of about the same number of seconds each; clips beyond the budget are among themselves."""
    ordered = sorted(durations)
    share = sum(ordered) / max(1, buckets)
    edges: list[float] = []
    total = 0.0
    for duration in ordered:
        total += duration
        if total >= share * (len(edges) + 1) and len(edges) < buckets - 1 and duration < ordered[-1]:
            edges.append(duration)
    # Lhotse wants at least one edge, and it may leave a bucket empty.
    return sorted({*edges, budget})
