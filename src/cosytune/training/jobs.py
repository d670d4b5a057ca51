"""Training of several parts side by side: one process each, results read back from their folders."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from cosytune.data.engine import end_with_parent, usable_cores
from cosytune.errors import CosytuneError, StoppedError, TrainingError
from cosytune.models.folder import Model, read_model
from cosytune.models.memory import FLOAT, estimate_memory
from cosytune.training import processes
from cosytune.training.fresh import whole_memory
from cosytune.training.results import PartResult, read_metrics
from cosytune.training.run import NOTES, RunOptions
from cosytune.training.selection import Listener
from cosytune.training.settings import LoopSettings, PartName, StageName
from cosytune.training.stopping import StopRequest, stop_request

if TYPE_CHECKING:
    from cosytune.training.loop import Watch

__all__ = [
    "PartJob",
    "Reporter",
    "default_workers",
    "end_with_parent",
    "following",
    "run_job",
    "run_jobs",
    "threads_for",
]


MEMORY_SHARE = 0.9
"""Of the machine's memory, that trainings side by side may take; the system wants some too."""

SECONDS_TO_SAVE = 120.0
"""How long a child may take to write its last checkpoint before its parent ends without it."""


class Reporter(Protocol):
    """What long work tells about itself (the command line shows it as bars)."""

    def start(self, name: str, total: int) -> None:
        """A piece of work begins that will take `total` steps."""
        ...

    def move(self, name: str, done: int) -> None:
        """It has done so many of them."""
        ...

    def say(self, line: str) -> None:
        """Something worth reading happened."""
        ...


@dataclass(frozen=True)
class PartJob:
    """One part to be trained: everything is named by path, so that another process can do it.

    Attributes:
        label: what progress calls it.
        part: which network.
        stage: decides which speaker vectors it sees.
        model: model folder whose weights it starts from.
        corpus: prepared corpus.
        folder: run folder.
        settings: the resolved loop settings.
        threads: processor threads; part of the job because sums depend on it.
        listener: who hears checkpoints; None: the last one is kept.
        rehearsal: prepared corpus that updates of `replay` are made from.
        options: what the run does beside learning.
    """

    label: str
    part: PartName
    stage: StageName
    model: Path
    corpus: Path
    folder: Path
    settings: LoopSettings
    threads: int
    listener: Listener | None = None
    rehearsal: Path | None = None
    options: RunOptions = field(default_factory=RunOptions)


def run_job(job: PartJob, watch: Watch | None = None) -> PartResult:
    """Train one part in this process, from its last checkpoint if it has one.

    Threads and the global random state are as before afterwards: what this process computes next must not depend on
    whether it trained or left that to another.
    """
    from cosytune.training.parts import train_part

    threads = torch.get_num_threads()
    torch.set_num_threads(job.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            return train_part(job, watch)
    finally:
        torch.set_num_threads(threads)


def run_jobs(jobs: Sequence[PartJob], workers: int, reporter: Reporter) -> list[PartResult]:
    """Train all parts, `workers` at a time, in the order given.

    Raises:
        CosytuneError: the first error of a job; the others are stopped, and the same call goes on later.
    """
    for job in jobs:
        reporter.start(job.label, job.settings.steps)
    telling = _Telling(reporter, jobs)
    try:
        return _run_jobs(jobs, workers, telling)
    finally:
        telling.tell()


def _run_jobs(jobs: Sequence[PartJob], workers: int, reporter: Reporter) -> list[PartResult]:
    if workers == 1:
        results = []
        for job in jobs:
            processes.share(job)  # whoever follows (`following`) trains along
            results.append(run_job(job, _mover(reporter, job)))
            reporter.move(job.label, job.settings.steps)
        return results
    # Spawned, not forked: forked children of a process that has used torch's thread pool can hang.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent) as pool:
        futures = [pool.submit(_run_in_child, job) for job in jobs]
        try:
            with stop_request() as stop:
                _watch(jobs, futures, reporter, stop)
            return [future.result() for future in futures]
        except BaseException as error:
            # The pool has no public way to stop work that has begun. SIGTERM makes the children save and end.
            children = list(getattr(pool, "_processes", {}).values())
            for process in children:
                process.terminate()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in children:
                process.join(SECONDS_TO_SAVE)
            if isinstance(error, concurrent.futures.process.BrokenProcessPool):
                raise TrainingError(
                    "a training process was killed (most often for want of memory); "
                    "the same command goes on from the last checkpoints, with --workers 1 it needs less memory"
                ) from error
            raise


class _Telling:
    """A reporter that also says what runs note about themselves from now on, wherever they are at work."""

    def __init__(self, reporter: Reporter, jobs: Sequence[PartJob]) -> None:
        self.start, self.say = reporter.start, reporter.say
        self._reporter = reporter
        self._paths = {job.label: job.folder / NOTES for job in jobs}
        self._told = {label: _size(path) for label, path in self._paths.items()}

    def move(self, name: str, done: int) -> None:
        self._reporter.move(name, done)
        self.tell()

    def tell(self) -> None:
        for label, path in self._paths.items():
            if _size(path) == self._told[label]:
                continue
            with path.open("rb") as notes:
                notes.seek(self._told[label])
                new = notes.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._told[label] += len(whole)
            for line in whole.decode("utf-8").splitlines():
                self.say(f"{label}: {line}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextmanager
def following() -> Iterator[bool]:
    """What a command does that trains: True in the process that leads, and in a process alone.

    The processes that a launcher started beside it are given False after they have trained along, job by job, until
    the leading one has left its block. Only the leading one reads what the user asked for, prepares and writes.

    Raises:
        InputError: the launcher's configuration asks for what there is not (`processes.join`).
        TrainingError: the leading process has gone.
    """
    processes.join()
    if not processes.leads():
        while (job := _next_job()) is not None:
            run_job(job)
        processes.leave()
        yield False
        return
    yield True
    # Not after an error: the launcher ends the others when this process fails.
    processes.share(None)
    processes.leave()


def _next_job() -> PartJob | None:
    """What the leading process wants trained, None at its end."""
    try:
        return processes.share(None)
    except RuntimeError as error:  # what torch raises when the other end of a connection closes
        raise TrainingError(
            f"process {processes.rank()} ends because the leading process has; the reason is among its own words"
        ) from error


def _run_in_child(job: PartJob) -> PartResult:
    try:
        return run_job(job)
    except StoppedError:
        # Saved. The parent is on its way out and waits for this process to end.
        os._exit(StoppedError.exit_status)


def _mover(reporter: Reporter, job: PartJob) -> Callable[[int], None]:
    return lambda step: reporter.move(job.label, step)


def _watch(
    jobs: Sequence[PartJob],
    futures: Sequence[concurrent.futures.Future[PartResult]],
    reporter: Reporter,
    stop: StopRequest,
) -> None:
    """Show the steps that the children write into their curves until all are done or one fails."""
    pending = set(futures)
    while pending:
        if stop.came:
            raise StoppedError("stopped by SIGTERM; the parts in training are saved and the same command goes on")
        done, pending = concurrent.futures.wait(pending, timeout=1.0, return_when=concurrent.futures.FIRST_EXCEPTION)
        for job in jobs:
            reporter.move(job.label, _last_step(job.folder / "metrics.jsonl"))
        for future in done:
            error = future.exception()
            if isinstance(error, (CosytuneError, concurrent.futures.process.BrokenProcessPool)):
                raise error
            if error is not None:
                raise TrainingError(
                    f"training stopped unexpectedly ({type(error).__name__}: {error}); "
                    "the same command with --workers 1 goes on and shows where"
                ) from error


def _last_step(path: Path) -> int:
    return max((point.step for point in read_metrics(path)), default=0)


def default_workers(*starts: Path) -> int:
    """Parts trained at a time: two on a processor of two cores and more, whose memory is enough for both.

    One on a GPU or by several processes. What memory is free just now does not count: a run that goes on has as many
    as before.

    Args:
        starts: models that will be trained; none where nothing is, or only small ones.

    Raises:
        ModelError: a start cannot be read.
    """
    most = 1 if processes.joined() or torch.cuda.is_available() else min(2, usable_cores())
    if any(_side_by_side(read_model(start, weights=False)) > MEMORY_SHARE * whole_memory() for start in starts):
        return 1
    return most


def _side_by_side(start: Model) -> int:
    """Bytes that LM and flow of a model take while they train at the same time: an estimate, see `models.memory`.

    Beside what training takes, there are the averaged and the first weights of a careful strategy, the whole model in
    the processes that listen to checkpoints, and in the one that leads.
    """
    found, sizes = estimate_memory(start), start.parameters()
    careful = 2 * FLOAT * sum(sizes[part] for part in found.tune)
    return sum(found.tune.values()) + careful + found.weights * (len(found.tune) + 1)


def threads_for(workers: int) -> int:
    """Threads of each job so that the jobs share the cores."""
    return max(1, usable_cores() // (workers * processes.local_size()))
