"""Hear many systems, some at a time, and put their scores together."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence

from cosytune.comparison.compose.material import offline_judges
from cosytune.comparison.compose.systems import SystemJob, SystemScores, finished, run_system
from cosytune.comparison.plan import RECORDINGS
from cosytune.data.manifest import Utterance
from cosytune.errors import CosytuneError
from cosytune.evaluation.results import Evaluation, JudgeInfo
from cosytune.evaluation.run import decide_votes, metrics_of
from cosytune.training.jobs import Reporter, end_with_parent

__all__ = ["evaluation_of", "run_systems"]


def run_systems(jobs: Sequence[SystemJob], workers: int, reporter: Reporter) -> dict[str, SystemScores]:
    """Run all jobs, `workers` at a time; jobs of one name (the seeds of a tuned start) are put together.

    Raises:
        CosytuneError: the first error of a job; jobs that have not begun are dropped, and finished ones are kept for
            the next call.
    """
    name = "speaking and scoring"
    reporter.start(name, len(jobs))
    found = {job.folder: scores for job in jobs if (scores := finished(job)) is not None}
    for job, scores in _run(tuple(job for job in jobs if job.folder not in found), workers):
        found[job.folder] = scores
        reporter.move(name, len(found))
    reporter.move(name, len(jobs))
    return _by_name(jobs, [found[job.folder] for job in jobs])


def _run(jobs: Sequence[SystemJob], workers: int) -> Iterator[tuple[SystemJob, SystemScores]]:
    """Each job with what came of it, in the order in which they end."""
    if workers == 1 or len(jobs) < 2:
        yield from ((job, run_system(job)) for job in jobs)
        return
    # Spawned, not forked: forked children of a process that has used torch's thread pool can hang.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent) as pool:
        waiting = {pool.submit(run_system, job): job for job in jobs}
        try:
            for future in concurrent.futures.as_completed(waiting):
                yield waiting[future], future.result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise CosytuneError(
                "a process that spoke and scored was killed (most often for want of memory); the same command goes on "
                "where it stopped, with --workers 1 it needs less memory"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _by_name(jobs: Sequence[SystemJob], found: Sequence[SystemScores]) -> dict[str, SystemScores]:
    merged: dict[str, SystemScores] = {}
    for job, new in zip(jobs, found, strict=True):
        old = merged.get(job.name, SystemScores([], [], [], {}))
        merged[job.name] = SystemScores(
            old.scores + new.scores,
            old.samples + new.samples,
            old.failures + new.failures,
            old.damage | new.damage,
            old.strangers + new.strangers,
        )
    return merged


def evaluation_of(sentences: Sequence[Utterance], heard: Mapping[str, SystemScores]) -> Evaluation:
    """All scores, and which metrics may vote; the recordings must be among the systems."""
    judges = offline_judges(sentences)
    metrics = metrics_of(judges)
    recordings = heard[RECORDINGS]
    votes = decide_votes(recordings.scores, metrics, other_speakers=recordings.strangers, damage=recordings.damage)
    return Evaluation(
        systems=tuple(heard),
        scores=tuple(score for found in heard.values() for score in found.scores),
        metrics=metrics,
        votes=tuple(votes),
        judges=tuple(JudgeInfo(judge.name, judge.version) for judge in judges),
    )
