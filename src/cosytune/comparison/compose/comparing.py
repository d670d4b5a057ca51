"""From starts and a corpus to tuned models, scores and verdict."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from cosytune import __version__
from cosytune.comparison.compose.hearing import evaluation_of, run_systems
from cosytune.comparison.compose.listening import ValidationListener
from cosytune.comparison.compose.material import sentences_of
from cosytune.comparison.compose.systems import SystemJob
from cosytune.comparison.plan import COPY, RECORDINGS, Arm, ComparisonPlan, ComparisonResult
from cosytune.comparison.verdict import give_verdict
from cosytune.data.corpus import Corpus
from cosytune.data.manifest import Utterance
from cosytune.errors import InputError
from cosytune.files import write_json
from cosytune.models.folder import read_model
from cosytune.synthesis.synthesiser import Synthesiser
from cosytune.training.features import corpus_features
from cosytune.training.jobs import Reporter
from cosytune.training.precision import fast_bfloat16
from cosytune.training.results import read_record
from cosytune.training.run import RunOptions
from cosytune.training.settings import PartName
from cosytune.training.stages import StagePlan, run_stage

__all__ = ["compare", "environment"]


def compare(plan: ComparisonPlan, reporter: Reporter) -> ComparisonResult:
    """Tune every start with every seed, let all speak, score and judge; a killed comparison goes on where it was.

    What chooses checkpoints is not what judges them: listening takes sentences and recordings of the validation side
    and random numbers of its own, the verdict the test side and references of the training side.

    Raises:
        InputError: fewer than two starts, nothing to speak on the test side or to hear on the validation side, or a
            setting that would let arms end early.
        CosytuneError: whatever a stage raises.
    """
    if len(plan.starts) < 2:
        raise InputError("a comparison needs at least two starts; give --start twice")
    corpus = Corpus(plan.corpus)
    settings = _settings(plan)
    for start in plan.starts.values():
        if (listener := _listener(plan, start)) is not None:
            listener.check()
    chosen = sentences_of(corpus, plan.sentences)
    jobs = _systems(plan, chosen)
    # What could not be spoken or heard after hours of training is refused before them, and what takes seconds to refuse
    # before what takes minutes.
    for start in plan.starts.values():
        Synthesiser(read_model(start))
    run_systems([job for job in jobs if job.kind == "recordings"], plan.workers, reporter)
    fast = _fast_bfloat16(plan.output / "begun.json")
    arms = [_tune(plan, settings, name, seed, fast, reporter) for seed in plan.seeds for name in plan.starts]
    for start in plan.starts.values():
        corpus_features(corpus, read_model(start), reporter)
    heard = run_systems(jobs, plan.workers, reporter)
    evaluation = evaluation_of(chosen, heard)
    starts = {_tuned(name): _untouched(name) for name in plan.starts}
    result = ComparisonResult(
        corpus=f"{corpus.path.name}: {corpus.ledger.summary()}",
        corpus_hash=corpus.hash,
        arms=arms,
        evaluation=evaluation,
        verdict=give_verdict(evaluation, list(starts), starts=starts),
        samples=[sample for found in heard.values() for sample in found.samples],
        failures=[line for found in heard.values() for line in found.failures],
        environment=environment(),
    )
    write_json(plan.output / "result.json", _to_json(result))
    return result


def environment() -> dict[str, str]:
    """Versions and machine, for the report."""
    packages = ("torch", "numpy", "onnxruntime", "openvino", "pocketsphinx", "speechmos", "Resemblyzer")
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


def _arm_folder(plan: ComparisonPlan, name: str, seed: int) -> Path:
    return plan.output / "arms" / f"{name}-seed{seed}"


def _settings(plan: ComparisonPlan) -> dict[PartName, dict[str, Any]]:
    """Settings by part: every arm runs its whole budget, so that what is compared had the same; stops are recorded."""
    settings: dict[PartName, dict[str, Any]] = {part: dict(changes) for part, changes in plan.overrides.items()}
    for part in plan.parts:
        if settings.setdefault(part, {}).setdefault("obey_stops", False):
            raise InputError(
                f"settings ask the {part} to obey stops, and arms that end early had less than the others: "
                "a comparison only records stops; leave obey_stops out"
            )
    return settings


def _listener(plan: ComparisonPlan, start: Path) -> ValidationListener | None:
    return ValidationListener(start, plan.corpus, plan.listen) if plan.listen else None


def _fast_bfloat16(record: Path) -> bool:
    """Whether the machine on which the comparison began multiplies faster in bfloat16.

    All arms learn in the precision that was chosen there, also those that begin after a stop on another machine.
    """
    if not record.exists():
        write_json(record, {"fast_bfloat16": fast_bfloat16()})
    return bool(read_record(record)["fast_bfloat16"])


def _tune(
    plan: ComparisonPlan,
    settings: Mapping[PartName, Mapping[str, Any]],
    name: str,
    seed: int,
    fast: bool,
    reporter: Reporter,
) -> Arm:
    output = _arm_folder(plan, name, seed)
    stage = StagePlan(
        stage="tune",
        start=plan.starts[name],
        corpus=plan.corpus,
        output=output,
        parts=plan.parts,
        overrides=settings,
        seed=seed,
        workers=plan.workers,
        label=f"{name} seed {seed}",
        strategy=plan.strategy,
        listener=_listener(plan, plan.starts[name]),
        options=RunOptions(plan.trackers, plan.disk, plan.shard),
        fast_bfloat16=fast,
    )
    return Arm(name, seed, str(output), run_stage(stage, reporter))


def _systems(plan: ComparisonPlan, chosen: Sequence[Utterance]) -> list[SystemJob]:
    """The systems to be heard: recordings, and per start its copy-synthesis, itself untouched, and each tuned run."""
    ids = tuple(clip.id for clip in chosen)

    def job(
        name: str, kind: Literal["recordings", "copy", "model"], model: Path | None, place: str, seeds: Sequence[int]
    ) -> SystemJob:
        folder = plan.output / "systems" / place
        damage = kind == "recordings"
        return SystemJob(name, kind, model, plan.corpus, folder, tuple(seeds), ids, plan.workers, damage)

    jobs = [job(RECORDINGS, "recordings", None, RECORDINGS, [0])]
    for name, start in plan.starts.items():
        jobs.append(job(f"{COPY} {name}", "copy", start, f"{COPY}-{name}", [0]))
        jobs.append(job(_untouched(name), "model", start, f"{name}-untouched", plan.seeds))
        for seed in plan.seeds:
            jobs.append(job(_tuned(name), "model", _arm_folder(plan, name, seed), f"{name}-tuned-{seed}", [seed]))
    return jobs


def _to_json(result: ComparisonResult) -> dict[str, object]:
    return {**asdict(result), "evaluation": result.evaluation.to_json(), "verdict": result.verdict.to_json()}
