"""One stage from start folder to result folder: which parts train, on what, in which order, and the lineage."""

from __future__ import annotations

import statistics
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from cosytune import __version__
from cosytune.data.corpus import Corpus
from cosytune.data.prepare import prepare_corpus
from cosytune.errors import DataError, InputError, TrainingError
from cosytune.files import hash_json, lock, write_json
from cosytune.models.agreement import check_text_tokens
from cosytune.models.checkpoints import read_checkpoint
from cosytune.models.folder import Model, TokenizerFile, read_model, write_model
from cosytune.models.inspection import inspect_model
from cosytune.models.loading import load_strictly, network_of
from cosytune.models.sizes import family_size
from cosytune.models.voices import Voice
from cosytune.text.language import base_language
from cosytune.text.tokenizers import SmallTokenizer, load_tokenizer
from cosytune.training.clips import has_words, spoken_text
from cosytune.training.features import corpus_features, precision_of
from cosytune.training.jobs import PartJob, Reporter, default_workers, run_jobs, threads_for
from cosytune.training.movement import Movement
from cosytune.training.precision import fast_bfloat16
from cosytune.training.preflight import preflight_once
from cosytune.training.processes import joined, size
from cosytune.training.rehearsal import rehearsal_languages, speak_rehearsal
from cosytune.training.results import PartResult, StageResult, read_record, read_record_as
from cosytune.training.run import RunOptions
from cosytune.training.selection import Listener
from cosytune.training.settings import PARTS, LoopSettings, PartName, StageName, takes
from cosytune.training.strategies import Situation, StrategyName, check_range, default_strategy, resolve

__all__ = ["DEFAULT_PARTS", "StagePlan", "initial_model", "read_stage_result", "resolve_settings", "run_stage"]

DEFAULT_PARTS: dict[StageName, tuple[PartName, ...]] = {
    "pretrain": PARTS,
    "sft": ("lm", "flow"),
    "tune": ("lm", "flow"),
}
_FRONT_ENDS = ("speech_tokenizer", "speaker_encoder")
_NEED_FEATURES = ("lm", "flow")


@dataclass(frozen=True)
class StagePlan:
    """What one stage is asked to do.

    Attributes:
        stage: "pretrain", "sft" or "tune".
        start: model folder to begin from.
        corpus: prepared corpus.
        output: model folder to write.
        parts: networks to train.
        overrides: settings that replace the stage's defaults, by part.
        seed: of everything random.
        workers: parts trained at a time.
        label: what progress calls this stage.
        strategy: how the weights may move; None is the stage's own (`strategies.default_strategy`).
        listener: who hears checkpoints and so chooses among them; None: the last one is kept.
        rehearsal: prepared corpus to rehearse; None: what is to be rehearsed, the start speaks itself.
        rehearsal_languages: in which it does; none: those its vocabulary was made for.
        force: allow rates and budgets that nothing measured supports, and go on after a preflight that failed.
        preflight: try everything for a minute before training (see `training.preflight`); for starts that speak.
        options: what the runs do beside learning; a killed run may go on with others.
        fast_bfloat16: whether the machine multiplies faster in bfloat16; None: looked up. A comparison that goes on on
            another machine says here what the first one could, or its arms would learn in different precisions.
    """

    stage: StageName
    start: Path
    corpus: Path
    output: Path
    parts: tuple[PartName, ...]
    overrides: Mapping[PartName, Mapping[str, Any]] = field(default_factory=dict)
    seed: int = 0
    workers: int = field(default_factory=default_workers)
    label: str = ""
    strategy: StrategyName | None = None
    force: bool = False
    preflight: bool = False
    listener: Listener | None = None
    rehearsal: Path | None = None
    rehearsal_languages: tuple[str, ...] = ()
    options: RunOptions = field(default_factory=RunOptions)
    fast_bfloat16: bool | None = None

    @property
    def run_folder(self) -> Path:
        """Where curves, checkpoints and the result record live: beside the model."""
        return self.output.with_name(self.output.name + ".run")


def initial_model(size: str, texts: Sequence[str], seed: int) -> Model:
    """A model of random weights, with a text tokenizer trained on `texts` if the size asks for one.

    Raises:
        InputError: unknown size.
        DataError: a text tokenizer has to be trained and there are no transcripts.
    """
    family = family_size(size)
    if family.text_vocabulary:
        tokenizer, vocabulary = TokenizerFile("whisper"), family.text_vocabulary
    else:
        spoken = [words for text in texts if (words := spoken_text(text))]
        if not spoken:
            raise DataError(
                f"size {size} trains its own text tokenizer and the corpus has no transcripts; "
                "add some, or start from a model that has a tokenizer (--start)"
            )
        small = SmallTokenizer.train(spoken, family.small_vocabulary + _letters_without_case(spoken))
        tokenizer, vocabulary = TokenizerFile("small", small.to_bytes()), small.vocabulary_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = {name: network_of(config) for name, config in family.parts(vocabulary).items()}
    return Model(f"{size}-initial", "initial", family.clock, family.mel, parts, tokenizer)


def _letters_without_case(texts: Sequence[str]) -> int:
    """How many letters of such scripts (Han, kana, Hangul, Arabic and more) occur twice or oftener.

    Each gets a text token of its own: spelled in half bytes a Chinese character takes six, more than there are speech
    tokens to align them with.
    """
    counts = Counter(character for text in texts for character in text if unicodedata.category(character) == "Lo")
    return sum(count > 1 for count in counts.values())


def run_stage(plan: StagePlan, reporter: Reporter) -> StageResult:
    """Train the parts of a plan and write the result folder; a killed run goes on where it was.

    Raises:
        InputError: no parts, parts that this stage does not train, settings that do not fit.
        DataError, ModelError: corpus or start cannot be used.
        TrainingError: `output` belongs to something else, or training failed. In all cases nothing half-finished is
            left under `output`.
    """
    start = read_model(plan.start)
    corpus = Corpus(plan.corpus)
    settings = resolve_settings(plan, start, corpus, reporter)
    start_hash = start.hash()
    identity = {
        "stage": plan.stage,
        "start": start_hash,
        "corpus": corpus.hash,
        "settings": {part: chosen.model_dump(mode="json") for part, chosen in settings.items()},
        "listener": None if plan.listener is None else plan.listener.identity,
        "rehearsal": None if plan.rehearsal is None else Corpus(plan.rehearsal).hash,
        **_heard_in(corpus, start),
    }
    _check(plan, start, corpus)
    _check_movement(plan, settings)
    _say_taught_again(plan, start, corpus, reporter)
    _say_idle(settings, corpus, reporter)
    _claim(plan, identity)
    try:
        held = lock(plan.run_folder / ".lock", wait=False)
    except BlockingIOError as error:
        raise TrainingError(
            f"another command is at work in {plan.run_folder}; wait until it ends, or give another --output"
        ) from error
    with held:
        return _run(plan, start, corpus, settings, start_hash, reporter)


def resolve_settings(plan: StagePlan, start: Model, corpus: Corpus, reporter: Reporter) -> dict[PartName, LoopSettings]:
    """Settings of each part: the strategy's numbers for this start and corpus, and what the plan replaces in them.

    Raises:
        InputError: no parts, parts that this stage does not train, settings that do not fit or are far outside their
            known range.
    """
    if plan.options.shard and not joined():
        raise InputError(
            "--shard splits the weights over several processes, and this one is alone; start it with a launcher "
            "(torchrun --nproc-per-node 2 --no-python -- cosytune ...), or leave --shard out"
        )
    if not plan.parts:
        raise InputError(f"stage {plan.stage} was given no parts; parts are {', '.join(DEFAULT_PARTS[plan.stage])}")
    if unknown := [part for part in plan.overrides if part not in plan.parts]:
        raise InputError(
            f"settings are given for {unknown[0]}, which is not trained; parts are {', '.join(plan.parts)}"
        )
    strategy = plan.strategy or default_strategy(plan.stage)
    kind = inspect_model(plan.start).identity.kind
    minutes = sum(clip.seconds for clip in corpus.stream("train")) / 60
    fast = fast_bfloat16() if plan.fast_bfloat16 is None else plan.fast_bfloat16
    resolved: dict[PartName, LoopSettings] = {}
    for part in plan.parts:
        parameters = sum(weight.numel() for weight in start.part(part).parameters())
        situation = Situation(plan.stage, kind, parameters, minutes, fast)
        changes = {"seed": plan.seed, **_precision_begun_with(plan, part), **plan.overrides.get(part, {})}
        resolved[part], reason = resolve(strategy, part, situation, changes)
        if not plan.force:
            check_range(resolved[part], part, situation)
        reporter.say(f"{part}: {reason}")
    return resolved


def _precision_begun_with(plan: StagePlan, part: PartName) -> dict[str, Any]:
    """A run that goes on keeps its precision, also on a machine where a new run would get another."""
    path = plan.run_folder / "plan.json"
    begun = read_record(path).get("settings", {}).get(part, {}) if path.exists() else {}
    return {"precision": begun["precision"]} if "precision" in begun else {}


def _check(plan: StagePlan, start: Model, corpus: Corpus) -> None:
    """Everything that a part would stop at after the parts before it have trained for hours."""
    if "lm" in plan.parts:
        check_text_tokens(start, load_tokenizer(start.tokenizer.kind, start.tokenizer.data).vocabulary_size)
    if "lm" in plan.parts and plan.stage != "pretrain" and not any(map(has_words, corpus.stream("train"))):
        raise DataError(
            f"no training clip of {corpus.path} has a transcript, and an LM tuned on them forgets to read; add "
            "transcripts (cosytune data prepare --transcribe), give --parts flow, which needs none, or train with "
            "cosytune pretrain, where the LM learns from such clips to go on speaking"
        )
    if "speech_tokenizer" in plan.parts and not any(clip.text for clip in corpus.stream("train")):
        raise DataError(
            f"no training clip of {corpus.path} has a transcript, and a speech tokenizer learns from transcripts; "
            "add transcripts, or start from a model that has a speech tokenizer (--start) and train other --parts"
        )
    if "speaker_encoder" in plan.parts and len({clip.speaker for clip in corpus.stream("train")}) < 2:
        raise DataError(
            f"the training side of {corpus.path} has fewer than two speakers, and a speaker encoder learns from "
            "differences; add speakers, or start from a model that has one (--start) and train other --parts"
        )


def _check_movement(plan: StagePlan, settings: Mapping[PartName, LoopSettings]) -> None:
    """Names to freeze and layers for adapters, tried on an outline: features may take hours before they are needed."""
    outline = read_model(plan.start, weights=False)
    for part, chosen in settings.items():
        Movement(outline.part(part), chosen)


def _say_taught_again(plan: StagePlan, start: Model, corpus: Corpus, reporter: Reporter) -> None:
    """A voice of the start that the recordings teach too gets their vector, which two people of one name would lose."""
    if plan.stage == "pretrain" or not start.voices:
        return
    for name in sorted({clip.speaker for clip in corpus.stream("train")} & start.voices.keys()):
        reporter.say(
            f"{name}: {start.name} has a voice of this name, which is now taught again and gets the vector of these "
            "recordings; if they are of somebody else, name the speaker otherwise, or the old voice is lost"
        )


def _say_idle(settings: Mapping[PartName, LoopSettings], corpus: Corpus, reporter: Reporter) -> None:
    """More processes than clips in a batch: some of them work for nothing."""
    if not joined():
        return
    whole = statistics.median(clip.seconds for clip in corpus.stream("train"))
    for part, chosen in settings.items():
        seconds = chosen.crop_seconds if takes(part, "crop_seconds") else whole
        if chosen.batch_seconds < size() * seconds:
            reporter.say(
                f"{part}: a batch of {chosen.batch_seconds:g} s is dealt to {size()} processes and holds about "
                f"{chosen.batch_seconds / seconds:.1f} clips, so that some processes work for nothing; give "
                f"batch_seconds of {size() * seconds:.0f} or more (--settings), or fewer processes"
            )


def _run(
    plan: StagePlan,
    start: Model,
    corpus: Corpus,
    settings: Mapping[PartName, LoopSettings],
    start_hash: str,
    reporter: Reporter,
) -> StageResult:
    """Train the phases one after the other; what an earlier call finished is read."""
    result_path = plan.run_folder / "stage.json"
    if result_path.exists() and (plan.output / "model.json").exists():
        return read_stage_result(plan.run_folder)
    model, results = start, list[PartResult]()
    rehearsal = _rehearsal(plan, start, settings, reporter)
    for number, parts in enumerate(_phases(plan.parts)):
        folder = plan.start
        if number:
            folder = plan.run_folder / "front-ends"
            write_model(model, folder)
            # Workers read the front ends from the model's folder: those that were just trained, not the start's.
            model = replace(model, path=folder)
        if plan.listener is not None or any(part in _NEED_FEATURES for part in parts):
            corpus_features(corpus, model, reporter)
            if rehearsal is not None:
                precision = precision_of(corpus, model)
                corpus_features(rehearsal, model, reporter, onnx_precision=precision)
        jobs = _jobs(plan, folder, parts, settings, rehearsal)
        if plan.preflight:
            preflight_once(jobs, plan.run_folder, reporter, force=plan.force)
        finished = run_jobs(jobs, _workers(plan, parts), reporter)
        for part in finished:
            path = plan.run_folder / part.part / "weights.pt"
            load_strictly(model.part(part.part), read_checkpoint(path), str(path))
            reporter.say(part.in_words())
        results += finished
    listener = "" if plan.listener is None else plan.listener.identity
    result = StageResult(plan.stage, str(plan.start), start_hash, corpus.hash, plan.seed, results, listener)
    write_model(_described(model, plan, corpus, result, reporter), plan.output)
    write_json(result_path, result.to_json())
    return result


def _rehearsal(
    plan: StagePlan, start: Model, settings: Mapping[PartName, LoopSettings], reporter: Reporter
) -> Corpus | None:
    """The corpus to rehearse, if any part is to: the given one, or what the start says in its own voices."""
    if not any(chosen.replay for chosen in settings.values()):
        return None
    if plan.rehearsal is not None:
        return Corpus(plan.rehearsal)
    recordings = plan.run_folder / "rehearsal"
    languages = plan.rehearsal_languages or rehearsal_languages(start)
    speak_rehearsal(start, recordings, languages, reporter, seed=plan.seed)
    return prepare_corpus(recordings, plan.run_folder / "rehearsal.corpus", validation=0.0, test=0.0)


def read_stage_result(run_folder: Path) -> StageResult:
    """The record of a finished stage.

    Raises:
        TrainingError: there is none, it is damaged, or another version of cosytune wrote it.
    """
    path = run_folder / "stage.json"
    if not path.is_file():
        raise TrainingError(f"{run_folder} holds no finished run; give a folder made by pretrain, sft or tune")
    return read_record_as(path, StageResult.from_json)


def _phases(parts: Sequence[PartName]) -> list[list[PartName]]:
    """LM and flow learn from the tokens and vectors of finished front ends; the vocoder needs neither."""
    first: list[PartName] = [part for part in PARTS if part in parts and part in _FRONT_ENDS]
    rest: list[PartName] = [part for part in PARTS if part in parts and part not in _FRONT_ENDS]
    if first and "vocoder" in rest:
        rest.remove("vocoder")
        first.append("vocoder")
    return [phase for phase in (first, rest) if phase]


def _workers(plan: StagePlan, parts: Sequence[PartName]) -> int:
    return 1 if joined() else max(1, min(plan.workers, len(parts)))


def _jobs(
    plan: StagePlan,
    folder: Path,
    parts: Sequence[PartName],
    settings: Mapping[PartName, LoopSettings],
    rehearsal: Corpus | None,
) -> list[PartJob]:
    threads = threads_for(_workers(plan, parts))
    prefix = f"{plan.label} " if plan.label else ""
    return [
        PartJob(
            f"{prefix}{part}",
            part,
            plan.stage,
            folder,
            plan.corpus,
            plan.run_folder / part,
            settings[part],
            threads,
            plan.listener,
            rehearsal.path if rehearsal is not None and settings[part].replay else None,
            plan.options,
        )
        for part in parts
    ]


def _claim(plan: StagePlan, identity: dict[str, Any]) -> None:
    """Refuse an output that belongs to something else, so that nothing is overwritten."""
    path = plan.run_folder / "plan.json"
    if path.exists():
        if read_record(path) != identity:
            raise TrainingError(
                f"{plan.run_folder} holds a run from another start, corpus or settings; "
                "give another --output, or delete that folder and the model beside it"
            )
    elif plan.output.exists():
        raise TrainingError(f"{plan.output} exists and was not made by this run; give another --output")
    else:
        write_json(path, identity)


def _taught(corpus: Corpus | None) -> dict[str, Any]:
    """What an LM learned to read, for the record of its model: languages, and whether there were instructions."""
    languages, instructions = set[str](), False
    for clip in corpus.stream("train") if corpus is not None else ():
        instructions = instructions or bool(clip.instruct)
        if has_words(clip):
            languages.add(base_language(clip.language))
    return {"instructions": instructions, "languages": sorted(languages)}


def _heard_in(corpus: Corpus, model: Model) -> dict[str, str]:
    """For the record: the precision in which a released speech tokenizer listened, if it is not its usual one."""
    precision = precision_of(corpus, model)
    return {} if precision == "float32" else {"onnx_precision": precision}


def _described(model: Model, plan: StagePlan, corpus: Corpus, result: StageResult, reporter: Reporter) -> Model:
    """The trained model with name, lineage and, after sft and tune, the corpus's speakers as named voices."""
    # Vectors of another speaker encoder mean nothing to this one.
    voices = {} if "speaker_encoder" in plan.parts else dict(model.voices)
    if plan.stage != "pretrain":
        vectors = corpus_features(corpus, model, reporter).speaker_vectors
        voices |= {speaker: Voice(torch.from_numpy(vector)) for speaker, vector in vectors.items()}
    described = replace(model, name=plan.output.name, stage=plan.stage, voices=voices)
    entry = {
        "stage": plan.stage,
        "start": model.name,
        "start_hash": result.start_hash,
        "corpus_hash": corpus.hash,
        "strategy": plan.strategy or default_strategy(plan.stage),
        "settings": {part.part: part.settings for part in result.parts},
        "settings_hash": hash_json([part.settings for part in result.parts]),
        "parts": [part.part for part in result.parts],
        **_heard_in(corpus, model),
        **_taught(corpus if "lm" in plan.parts else None),
        "seed": plan.seed,
        "cosytune": __version__,
        "result_hash": described.hash(),
    }
    return replace(described, lineage=[*model.lineage, entry])
