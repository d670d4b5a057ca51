"""From starts and a corpus to tuned models, scores, verdict and report."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from cosytune import __version__
from cosytune.comparison.compose.systems import SystemJob, SystemScores, offline_judges, run_system, sentences_of
from cosytune.comparison.plan import COPY, RECORDINGS, Arm, ComparisonPlan, ComparisonResult
from cosytune.comparison.verdict import give_verdict
from cosytune.data.corpus import MARKER, Corpus
from cosytune.data.prepare import prepare_corpus
from cosytune.errors import InputError
from cosytune.evaluation.results import Evaluation, JudgeInfo
from cosytune.evaluation.run import decide_votes, metrics_of
from cosytune.files import write_json
from cosytune.models.folder import read_model
from cosytune.training.features import corpus_features
from cosytune.training.jobs import Reporter
from cosytune.training.stages import StagePlan, run_stage

__all__ = ["compare", "corpus_of", "evaluate"]


def corpus_of(data: Path, place: Path) -> Corpus:
    """The corpus `data`, or one prepared from the folder of recordings `data` and kept in `place`.

    Raises:
        InputError: there is no such folder.
        DataError: it cannot be used.
    """
    if not data.is_dir():
        raise InputError(f"there is no folder {data}; give a folder of recordings or a prepared corpus")
    return Corpus(data) if (data / MARKER).is_file() else prepare_corpus(data, place)


def compare(plan: ComparisonPlan, reporter: Reporter) -> ComparisonResult:
    """Tune every start with every seed, let all speak, score and judge; a killed comparison goes on where it was.

    Raises:
        InputError: fewer than two starts.
        CosytuneError: whatever a stage raises.
    """
    if len(plan.starts) < 2:
        raise InputError("a comparison needs at least two starts; give --start twice")
    corpus = Corpus(plan.corpus)
    arms = [_tune(plan, name, seed, reporter) for seed in plan.seeds for name in plan.starts]
    for start in plan.starts.values():
        corpus_features(corpus, read_model(start), reporter)
    jobs = _jobs(plan, corpus)
    heard = _run_systems(jobs, plan.workers, reporter)
    merged = _merge_runs(plan, heard)
    evaluation = _evaluation(corpus, plan, merged)
    starts = {_tuned(name): _untouched(name) for name in plan.starts}
    verdict = give_verdict(evaluation, list(starts), starts=starts)
    result = ComparisonResult(
        corpus=f"{corpus.path.name}: {corpus.ledger.summary()}",
        corpus_hash=corpus.hash,
        arms=arms,
        evaluation=evaluation,
        verdict=verdict,
        samples=[sample for found in merged.values() for sample in found.samples],
        failures=[line for found in merged.values() for line in found.failures],
        environment=environment(),
    )
    write_json(plan.output / "result.json", _to_json(result))
    return result


def evaluate(model: Path, corpus: Corpus, output: Path, sentences: int, workers: int, reporter: Reporter) -> Evaluation:
    """Score one model on the held-out sentences of a corpus, beside the recordings and their copy-synthesis."""
    loaded = read_model(model)
    corpus_features(corpus, loaded, reporter)
    chosen = tuple(clip.id for clip in sentences_of(corpus, sentences))

    def job(name: str, kind: str, path: Path | None, damage: bool = False) -> SystemJob:
        return SystemJob(name, kind, path, corpus.path, output / name, (0,), chosen, workers, damage)

    jobs = [job(RECORDINGS, "recordings", None, True), job(COPY, "copy", model), job(loaded.name, "model", model)]
    heard = _run_systems(jobs, workers, reporter)
    evaluation = _evaluation_of(corpus, chosen, heard)
    write_json(output / "evaluation.json", evaluation.to_json())
    return evaluation


def environment() -> dict[str, str]:
    """Versions and machine, for the report."""
    packages = ("torch", "numpy", "pocketsphinx", "speechmos", "Resemblyzer")
    found = {"cosytune": __version__, "python": platform.python_version(), "machine": platform.platform()}
    for package in packages:
        try:
            found[package] = version(package)
        except ImportError:
            found[package] = "not installed"
    return found


def _untouched(name: str) -> str:
    return f"{name} untouched"


def _tuned(name: str) -> str:
    return f"{name} tuned"


def _tune(plan: ComparisonPlan, name: str, seed: int, reporter: Reporter) -> Arm:
    output = plan.output / "arms" / f"{name}-seed{seed}"
    stage = StagePlan(
        "tune",
        plan.starts[name],
        plan.corpus,
        output,
        plan.parts,
        plan.overrides,
        seed,
        plan.workers,
        label=f"{name} seed {seed}",
    )
    return Arm(name, seed, str(output), run_stage(stage, reporter))


def _jobs(plan: ComparisonPlan, corpus: Corpus) -> list[SystemJob]:
    """The systems to be heard. Tuned runs are one job per seed; `_merge_runs` puts them together."""
    chosen = tuple(clip.id for clip in sentences_of(corpus, plan.sentences))
    folder = plan.output / "systems"

    def job(
        name: str, kind: str, model: Path | None, place: str, seeds: Sequence[int], damage: bool = False
    ) -> SystemJob:
        return SystemJob(name, kind, model, plan.corpus, folder / place, tuple(seeds), chosen, plan.workers, damage)

    jobs = [job(RECORDINGS, "recordings", None, RECORDINGS, [0], damage=True)]
    for name, path in plan.starts.items():
        jobs.append(job(f"{COPY} {name}", "copy", path, f"{COPY}-{name}", [0]))
        jobs.append(job(_untouched(name), "model", path, f"{name}-untouched", plan.seeds))
        jobs += [
            job(_tuned(name), "model", plan.output / "arms" / f"{name}-seed{seed}", f"{name}-tuned-{seed}", [seed])
            for seed in plan.seeds
        ]
    return jobs


def _run_systems(jobs: Sequence[SystemJob], workers: int, reporter: Reporter) -> list[SystemScores]:
    name = "speaking and scoring"
    reporter.start(name, len(jobs))
    results: list[SystemScores] = []
    if workers == 1:
        for job in jobs:
            results.append(run_system(job))
            reporter.move(name, len(results))
        return results
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = [pool.submit(run_system, job) for job in jobs]
        for done, _ in enumerate(concurrent.futures.as_completed(futures), start=1):
            reporter.move(name, done)
        return [future.result() for future in futures]


def _merge_runs(plan: ComparisonPlan, heard: Sequence[SystemScores]) -> dict[str, SystemScores]:
    merged: dict[str, SystemScores] = {}
    names = [job.name for job in _jobs(plan, Corpus(plan.corpus))]
    for name, found in zip(names, heard, strict=True):
        earlier = merged.get(name)
        merged[name] = (
            found
            if earlier is None
            else SystemScores(
                earlier.scores + found.scores,
                earlier.samples + found.samples,
                earlier.failures + found.failures,
                earlier.damage,
            )
        )
    return merged


def _evaluation(corpus: Corpus, plan: ComparisonPlan, merged: dict[str, SystemScores]) -> Evaluation:
    chosen = [clip.id for clip in sentences_of(corpus, plan.sentences)]
    return _evaluation_of(corpus, chosen, list(merged.values()))


def _evaluation_of(corpus: Corpus, chosen: Sequence[str], heard: Sequence[SystemScores]) -> Evaluation:
    texts = [clip.text or "" for clip in corpus.utterances("test") if clip.id in set(chosen)]
    judges = offline_judges(texts)
    metrics = metrics_of(judges)
    recordings = heard[0]
    votes = decide_votes(recordings.scores, metrics, damage=recordings.damage)
    systems = list(dict.fromkeys(score.system for found in heard for score in found.scores))
    return Evaluation(
        systems=tuple(systems),
        scores=tuple(score for found in heard for score in found.scores),
        metrics=metrics,
        votes=tuple(votes),
        judges=tuple(JudgeInfo(judge.name, judge.version) for judge in judges),
    )


def _to_json(result: ComparisonResult) -> dict[str, object]:
    return {
        **asdict(result),
        "evaluation": result.evaluation.to_json(),
        "verdict": result.verdict.to_json(),
    }
