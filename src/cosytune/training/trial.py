"""How much memory and time training one part takes: some real updates, the longest batch of the corpus first."""

from __future__ import annotations

import statistics
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cosytune.data.clip_index import ClipIndex
from cosytune.data.corpus import Corpus
from cosytune.data.features import Features
from cosytune.data.manifest import Utterance
from cosytune.data.sampler import BatchPlan, endless_places
from cosytune.errors import TrainingError
from cosytune.models.folder import Model, read_model
from cosytune.training.clips import spread
from cosytune.training.fresh import free_memory, in_fresh_process, peak_memory
from cosytune.training.jobs import PartJob
from cosytune.training.loop import train
from cosytune.training.parts import check_sides, task_of
from cosytune.training.plan_results import Trial
from cosytune.training.processes import device
from cosytune.training.run import PartRun
from cosytune.training.settings import LoopSettings, PartName, takes
from cosytune.training.task import Task

__all__ = ["StandIns", "longest_batch", "try_part"]

TYPICAL = 3
"""Updates on batches as the corpus gives them; a checkpoint is written before the last one."""

VALIDATED = 4
ATTENTION_SECONDS = 9.0
"""Length of a clip from which attention takes more memory than all else in the released LM: 5 heads x length against
34 x width of a layer (Korthikanti et al. 2022, section 4.1), with 16 heads, width 1024 and 50 tokens a second."""

_OUT_OF_MEMORY = (
    "does not fit: {why}. Give a smaller batch_seconds (--settings), accumulate 2 or more (LM and flow: the same "
    "gradients in pieces), strategy lora, or cut long recordings"
)

Caller = Callable[..., Any]


def try_part(job: PartJob, *, call: Caller = in_fresh_process) -> Trial:
    """Make four real updates in another process and in a temporary folder: the longest batch, then typical ones.

    Lengths are those of the corpus; tokens, vectors and mel are stand-ins, so that no features are needed.

    Raises:
        CosytuneError: corpus or model cannot be used.
    """
    limit = None if torch.cuda.is_available() else free_memory()
    try:
        with tempfile.TemporaryDirectory(prefix="cosytune-trial-") as place:
            found: Trial = call(_try, job, Path(place), limit=limit)
            return found
    except BrokenProcessPool:
        return Trial(fits=False, words=_OUT_OF_MEMORY.format(why="the system ended the process for want of memory"))


def longest_batch(durations: np.ndarray, seconds: float) -> list[int]:
    """Places of the clips that together make the most demanding batch of an epoch.

    Args:
        durations: float64 [N], seconds of each clip.
        seconds: budget of a batch.
    """
    plan = BatchPlan.of(durations, seconds)
    demands = [size * edge * (1 + edge / ATTENTION_SECONDS) for edge, size in zip(plan.edges, plan.sizes, strict=True)]
    worst = int(np.argmax(demands))
    inside = np.flatnonzero(durations <= plan.edges[worst])
    longest_first = inside[np.argsort(-durations[inside], kind="stable")]
    return [int(place) for place in longest_first[: plan.sizes[worst]]]


class StandIns:
    """Features of the right shapes for clips that have none yet; their numbers are random, the same ones every time."""

    def __init__(self, model: Model, clips: Sequence[Utterance]) -> None:
        self._clips = {clip.id: clip for clip in clips}
        self._clock, self._bands = model.clock, model.mel.bins
        self._codes, self._width = model.speech_codebook() or 1, model.speaker_width() or 1

    def read(self, ids: Sequence[str]) -> list[Features]:
        """See `FeatureStore.read`."""
        return [self._one(self._clips[identity]) for identity in ids]

    def _one(self, clip: Utterance) -> Features:
        random = np.random.default_rng(zlib.crc32(clip.id.encode()))
        tokens = max(1, self._clock.tokens_of_seconds(clip.seconds))
        frames = max(1, self._clock.frames_of_tokens(tokens))
        vector = random.standard_normal(self._width).astype(np.float32)
        return Features(
            id=clip.id,
            text=clip.text,
            speaker=clip.speaker,
            speech_tokens=random.integers(0, self._codes, tokens),
            utterance_vector=vector,
            speaker_vector=vector,
            mel=random.standard_normal((self._bands, frames)).astype(np.float32),
        )


def _try(job: PartJob, place: Path) -> Trial:
    """In the other process."""
    torch.set_num_threads(job.threads)
    settings = _shortened(job.settings)
    corpus = Corpus(job.corpus)
    clips, batches = _batches(ClipIndex(corpus, "train"), job.part, settings)
    held_out = spread(ClipIndex(corpus, "validation"), VALIDATED)
    check_sides(corpus, clips, held_out, "clips")
    longest = [clip.seconds for clip in clips if clip.id in batches[0]]
    size: dict[str, Any] = {"longest_clips": len(batches[0]), "longest_seconds": max(longest)}
    try:
        task = _read_task(replace(job, settings=settings), clips, held_out)
        measured = _measured(task, settings, place, batches, sum(clip.seconds for clip in held_out))
    except (TrainingError, MemoryError) as error:
        why = str(error).split(";")[0] or "memory ran out"
        return Trial(fits=False, words=_OUT_OF_MEMORY.format(why=why), **size)
    return _told(measured, settings.accumulate, size)


def _read_task(job: PartJob, clips: Sequence[Utterance], held_out: Sequence[Utterance]) -> Task:
    """As training reads it: only one network stays in memory."""
    model = read_model(job.model)
    return task_of(job, model, clips, held_out, device(), StandIns(model, [*clips, *held_out]))


def _shortened(settings: LoopSettings) -> LoopSettings:
    """The same updates, four of them, with one checkpoint after the third."""
    steps = 1 + TYPICAL
    return settings.model_copy(
        update={
            "steps": steps,
            "adversarial_share": 1.0 if settings.adversarial_share else 0.0,
            "checkpoint_every": TYPICAL,
            "validate_every": steps,
        }
    )


def _batches(index: ClipIndex, part: PartName, settings: LoopSettings) -> tuple[list[Utterance], list[list[str]]]:
    """The clips that are needed, and the batches: the most demanding one, then the first ones of the run."""
    durations = index.seconds
    if takes(part, "crop_seconds"):
        durations = np.full(len(durations), settings.crop_seconds)
    seconds = settings.batch_seconds
    typical = list(islice(endless_places(durations, seconds=seconds, seed=settings.seed), TYPICAL))
    places = [longest_batch(durations, seconds), *typical]
    wanted = sorted({place for batch in places for place in batch})
    clips = dict(zip(wanted, index.read(wanted), strict=True))
    return list(clips.values()), [[clips[place].id for place in batch] for batch in places]


def _measured(
    task: Task,
    settings: LoopSettings,
    place: Path,
    batches: Sequence[list[str]],
    held_out_seconds: float,
) -> dict[str, Any]:
    began = time.perf_counter()
    task.validate()
    validate_seconds = (time.perf_counter() - began) / held_out_seconds
    run = PartRun(place / task.part, {"part": task.part})
    marks: list[float] = []
    sizes: dict[str, int] = {}

    def watch(step: int) -> None:
        marks.append(time.perf_counter())
        # Now, because at the end adapters are merged and checkpoints dropped.
        sizes["weights"] = sum(p.numel() * p.element_size() for p in task.network.parameters() if p.requires_grad)
        sizes["checkpoint"] = max(path.stat().st_size for path in run.folder.glob("checkpoints/*.pt"))

    with torch.random.fork_rng(devices=[]):
        result = train(task, settings, run, watch, batches=batches)
    steps = np.diff(marks).tolist()
    usual = statistics.mean([*steps[:-2], steps[-1]])
    return {
        "pieces": result.pieces,
        "peak_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_memory(),
        "step_seconds": usual,
        "validate_seconds": validate_seconds,
        "save_seconds": max(0.0, steps[-2] - usual),
        "checkpoint_bytes": sizes["checkpoint"],
        "weights_bytes": sizes["weights"],
    }


def _told(measured: Mapping[str, Any], accumulate: int, size: Mapping[str, Any]) -> Trial:
    peak = measured["peak_bytes"] / 1e9
    said = f"the longest batch ({size['longest_clips']} clips of up to {size['longest_seconds']:.1f} s)"
    if measured["pieces"] > accumulate:
        words = (
            f"{said} fits only in {measured['pieces']} pieces ({peak:.1f} GB), into which training cuts it by itself, "
            f"with the same gradients; give accumulate {measured['pieces']} (--settings) to have it from the start, a "
            "smaller batch_seconds, or strategy lora"
        )
        return Trial(fits=False, words=words, **size, **measured)
    return Trial(fits=True, words=f"{said} takes {peak:.1f} GB", **size, **measured)
