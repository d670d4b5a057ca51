"""A plan before anything runs: recordings and starts looked at, settings resolved, memory and time tried out."""

from __future__ import annotations

import json
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cosytune.audio.files import wave_info
from cosytune.comparison.advice import (
    Goal,
    Keep,
    Measured,
    StartFacts,
    advise,
    cautions,
    check_goal,
)
from cosytune.comparison.compose.budgets import disk_of, listening_seconds, memory_of, part_seconds, whole_seconds
from cosytune.data.corpus import Corpus
from cosytune.data.features import FEATURES_MARKER
from cosytune.data.manifest import Utterance
from cosytune.errors import InputError
from cosytune.models.folder import Model, read_front_ends, read_model
from cosytune.models.inspection import inspect_model
from cosytune.text.tokenizers import SmallTokenizer, TextTokenizer, load_tokenizer
from cosytune.training.clips import spoken_text, spread
from cosytune.training.features import features_hash
from cosytune.training.fresh import free_memory
from cosytune.training.jobs import PartJob, Reporter, threads_for
from cosytune.training.movement import Movement
from cosytune.training.plan_results import DataFacts, PartPlan, PreflightResult, TrainingPlan, Trial
from cosytune.training.preflight import preflight
from cosytune.training.settings import LoopSettings, PartName
from cosytune.training.stages import StagePlan, resolve_settings
from cosytune.training.strategies import StrategyName, default_strategy
from cosytune.training.trial import try_part

__all__ = ["PlanRequest", "make_plan", "read_measured"]

LOOKED_AT = 200
"""Clips whose headers and texts are looked at closely: enough for shares, and quick for any corpus."""


@dataclass(frozen=True)
class PlanRequest:
    """What `cosytune plan` is asked.

    Attributes:
        goal: what is to be learned.
        corpus: prepared corpus.
        data: how the user named the recordings.
        starts: model folders.
        parts: networks to train.
        overrides: settings that replace the strategy's, by part.
        strategy: how the weights may move; None is that of `tune`.
        keep: what must not be lost.
        measured: an earlier comparison.
        options: further options of `tune` that the plan was made with; the command that it ends with repeats them.
        workers: parts trained at a time.
        listen: validation sentences that checkpoints speak.
        seed: of everything random.
        force: allow what is only unwise.
        trials: whether updates are tried and the preflight is made; off, memory and time stay unknown.
    """

    goal: Goal
    corpus: Path
    data: Path
    starts: tuple[Path, ...]
    parts: tuple[PartName, ...] = ("lm", "flow")
    overrides: Mapping[PartName, Mapping[str, Any]] = field(default_factory=dict)
    strategy: StrategyName | None = None
    keep: tuple[Keep, ...] = ()
    measured: Measured | None = None
    options: tuple[str, ...] = ()
    workers: int = 1
    listen: int = 6
    seed: int = 0
    force: bool = False
    trials: bool = True


def make_plan(
    request: PlanRequest,
    reporter: Reporter,
    *,
    trial: Callable[[PartJob], Trial] = try_part,
    check: Callable[[Sequence[PartJob]], PreflightResult] = preflight,
) -> TrainingPlan:
    """Which start and why, what it costs on this machine, and whether a minute of it works; nothing is written.

    Args:
        request: what is asked.
        reporter: hears what is being tried.
        trial: makes some updates of one part.
        check: makes the preflight of all parts.

    Raises:
        InputError, DataError: the combination cannot lead to the goal; the message says what to do instead.
        CosytuneError: corpus or a start cannot be read.
    """
    corpus = Corpus(request.corpus)
    data = data_facts(corpus)
    check_goal(request.goal, data, lm="lm" in request.parts, force=request.force)
    texts = [clip for clip in spread(corpus.utterances("train"), LOOKED_AT) if clip.text]
    facts = [_start_facts(path, texts, hashed=request.measured is not None) for path in request.starts]
    _check_names(facts)
    advice, why, said = advise(request.goal, data, facts, keep=request.keep, measured=request.measured)
    best = Path(advice[0].path)
    strategy = request.strategy or default_strategy("tune")
    parts, jobs = _parts(request, best, corpus)
    others = {start.name: _parts(request, Path(start.path), corpus)[0] for start in advice[1:] if not start.refusals}
    trials, found = _tried(jobs, request, reporter, trial, check)
    outline = read_model(best, weights=False)
    old = len(set(outline.voices) - set(data.speakers))
    parts = tuple(_priced(part, trials.get(part.part), corpus, request.listen, old, found) for part in parts)
    features = _features_seconds(best, corpus, found)
    replay = any(part.settings.get("replay") for part in parts)
    return TrainingPlan(
        goal=request.goal,
        data=data,
        starts=advice,
        why=why,
        measured=said,
        cautions=cautions(request.goal, data, request.keep, strategy, replay),
        strategy=strategy,
        parts=parts,
        others=others,
        memory=memory_of(parts, outline, request.workers, free_memory(), listens=bool(request.listen)),
        disk=disk_of(parts, outline, corpus, shutil.disk_usage(Path.cwd()).free, features is not None),
        seconds=whole_seconds(parts, request.workers, features, found),
        preflight=found,
        command=_command(request, best),
    )


def data_facts(corpus: Corpus) -> DataFacts:
    """What the training side is made of; headers of some recordings are read."""
    clips = corpus.utterances("train")
    seconds = sum(clip.seconds for clip in clips)
    languages = Counter(clip.language for clip in clips)
    return DataFacts(
        name=corpus.path.name,
        hash=corpus.hash,
        clips=len(clips),
        minutes=seconds / 60,
        speakers=tuple(sorted({clip.speaker for clip in clips})),
        languages=tuple(language for language, _ in languages.most_common()),
        transcribed=sum(clip.seconds for clip in clips if clip.text) / seconds if seconds else 0.0,
        instructed=sum(bool(clip.instruct) for clip in clips) / len(clips) if clips else 0.0,
        sample_rate=min(wave_info(Path(clip.audio)).sample_rate for clip in spread(clips, LOOKED_AT)) if clips else 0,
        validation_clips=corpus.info["sides"]["validation"],
        test_clips=corpus.info["sides"]["test"],
    )


def read_measured(path: Path) -> Measured:
    """The verdict in a folder that `cosytune compare` wrote, or in its `result.json`.

    Raises:
        InputError: there is none.
    """
    file = path / "result.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"there is no {file}; give the folder that cosytune compare wrote, once it is finished")
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{file} is not JSON ({error}); run cosytune compare again, it goes on where it was"
        ) from error
    return Measured.from_json(value, str(file))


def _start_facts(path: Path, clips: Sequence[Utterance], *, hashed: bool) -> StartFacts:
    found = inspect_model(path)
    model = found.model
    able = next(ability for ability in found.abilities if ability.what == "fine-tuning")
    unknown = dense = 0.0
    if able.possible:
        tokenizer = load_tokenizer(model.tokenizer.kind, model.tokenizer.data)
        spoken = [(spoken_text(clip.text, clip.language), clip.seconds) for clip in clips]
        unknown, dense = _unknown_letters(tokenizer, [text for text, _ in spoken]), _dense(tokenizer, spoken, model)
    return StartFacts(
        name=path.resolve().name,
        path=str(path),
        kind=found.identity.kind,
        identity=found.identity.words,
        voices=tuple(sorted(model.voices)),
        sample_rate=model.clock.sample_rate,
        missing="" if able.possible else able.why,
        unknown_letters=unknown,
        dense=dense,
        hash=read_model(path).hash() if hashed else None,
    )


def _unknown_letters(tokenizer: TextTokenizer, texts: Sequence[str]) -> float:
    """Share of the letters that have no token of their own.

    A small tokenizer has one for each letter it knows and spells others in half bytes. Whisper's knows many in two
    pieces, which the released models read well; three are the bytes of one that it does not know.
    """
    letters = Counter(letter for text in texts for letter in text if letter.isalpha())
    most = 1 if tokenizer.kind == SmallTokenizer.kind else 2
    unknown = sum(count for letter, count in letters.items() if len(tokenizer.encode(letter)) > most)
    return unknown / letters.total() if letters else 0.0


def _dense(tokenizer: TextTokenizer, spoken: Sequence[tuple[str, float]], model: Model) -> float:
    over = [len(tokenizer.encode(text)) > model.clock.tokens_of_seconds(seconds) for text, seconds in spoken]
    return sum(over) / len(over) if over else 0.0


def _check_names(facts: Sequence[StartFacts]) -> None:
    if len({start.name for start in facts}) < len(facts):
        raise InputError("two starts have the same folder name, which the plan could not tell apart; rename one")


class _Reasons:
    """A reporter that keeps what is said of each part."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}

    def start(self, name: str, total: int) -> None:
        """Nothing here takes long."""

    def move(self, name: str, done: int) -> None:
        """Nothing here takes long."""

    def say(self, line: str) -> None:
        """Keep "part: reason"."""
        part, _, reason = line.partition(": ")
        self.of[part] = reason


def _parts(request: PlanRequest, start: Path, corpus: Corpus) -> tuple[tuple[PartPlan, ...], list[PartJob]]:
    """Settings and sizes of each part, and the jobs that a run would give its processes."""
    outline, reasons = read_model(start, weights=False), _Reasons()
    stage = StagePlan(
        stage="tune",
        start=start,
        corpus=request.corpus,
        output=Path("OUTPUT"),
        parts=request.parts,
        overrides=request.overrides,
        seed=request.seed,
        workers=request.workers,
        strategy=request.strategy,
        force=request.force,
    )
    settings = resolve_settings(stage, outline, corpus, reasons)
    threads = threads_for(max(1, min(request.workers, len(request.parts))))
    folder = stage.run_folder
    jobs = [
        PartJob(part, part, "tune", start, request.corpus, folder / part, chosen, threads)
        for part, chosen in settings.items()
    ]
    return tuple(_part_plan(outline, part, chosen, reasons.of[part]) for part, chosen in settings.items()), jobs


def _part_plan(outline: Model, part: PartName, settings: LoopSettings, reason: str) -> PartPlan:
    network = outline.part(part)
    parameters = sum(weight.numel() for weight in network.parameters())
    Movement(network, settings)  # freezes, and adds the adapters
    trainable = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    minutes = settings.steps * settings.batch_seconds / 60
    return PartPlan(part, settings.model_dump(mode="json"), reason, parameters, trainable, minutes)


def _tried(
    jobs: Sequence[PartJob],
    request: PlanRequest,
    reporter: Reporter,
    trial: Callable[[PartJob], Trial],
    check: Callable[[Sequence[PartJob]], PreflightResult],
) -> tuple[dict[str, Trial], PreflightResult | None]:
    """Trials of all parts, then the preflight where they fit."""
    if not request.trials:
        return {}, None
    name = "trying updates"
    reporter.start(name, len(jobs) + 1)
    trials = dict[str, Trial]()
    for number, job in enumerate(jobs, start=1):
        trials[job.part] = trial(job)
        reporter.move(name, number)
    found = check(jobs) if all(own.fits for own in trials.values()) else None
    reporter.move(name, len(jobs) + 1)
    return trials, found


def _priced(
    part: PartPlan,
    trial: Trial | None,
    corpus: Corpus,
    listen: int,
    old_voices: int,
    found: PreflightResult | None,
) -> PartPlan:
    if trial is None or trial.step_seconds is None:
        return replace(part, trial=trial)
    listening = listening_seconds(part, listen, old_voices, None if found is None else found.spoken_seconds)
    held_out = corpus.utterances("validation")
    return replace(part, trial=trial, seconds=part_seconds(part, trial, held_out, listening))


def _features_seconds(start: Path, corpus: Corpus, found: PreflightResult | None) -> float | None:
    """Wall time of making the corpus's features for this start; None where they are made already."""
    identity = features_hash(corpus, read_front_ends(start))
    if (corpus.features_folder(identity) / FEATURES_MARKER).is_file():
        return None
    each = None if found is None else found.feature_seconds
    return 0.0 if each is None else each * corpus.info["seconds"]


def _command(request: PlanRequest, start: Path) -> str:
    words = ["cosytune", "tune", "--data", str(request.data), "--start", str(start), "-o", "OUTPUT"]
    if request.strategy is not None:
        words += ["--strategy", request.strategy]
    if request.parts != ("lm", "flow"):
        words += ["--parts", ",".join(request.parts)]
    return shlex.join([*words, *request.options])
