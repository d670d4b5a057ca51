"""From a job (paths and settings) to a trained part: reads model and corpus, picks the task and its loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from cosytune.data.clip_index import ClipIndex, only
from cosytune.data.corpus import Corpus
from cosytune.data.features import FeatureStore
from cosytune.data.manifest import Utterance
from cosytune.errors import DataError
from cosytune.models.folder import Model, read_model
from cosytune.text.tokenizers import load_tokenizer
from cosytune.training import processes
from cosytune.training.features import features_hash
from cosytune.training.flow import FlowTask
from cosytune.training.jobs import PartJob
from cosytune.training.lm import LMTask
from cosytune.training.loop import Watch, train
from cosytune.training.pieces import can_be_cut
from cosytune.training.rehearsal import RehearsedFeatures, rehearsal_clips
from cosytune.training.results import PartResult
from cosytune.training.run import PartRun
from cosytune.training.speaker_encoder import SpeakerEncoderTask
from cosytune.training.speech_tokenizer import SpeechTokenizerTask
from cosytune.training.task import Task
from cosytune.training.vocoder import VocoderTask

__all__ = ["check_sides", "task_of", "train_part"]

_FROM_FEATURES = ("lm", "flow")


def train_part(job: PartJob, watch: Watch | None = None) -> PartResult:
    """Train one part, or read the result of a job that is done.

    Raises:
        CosytuneError: the corpus, the model or the numbers do not allow it.
    """
    settings = {"part": job.part, "stage": job.stage, **job.settings.model_dump()}
    run = PartRun(job.folder, settings, writes=processes.leads(), options=job.options)
    if (done := processes.share(run.finished())) is not None:
        return done
    # The other parts have heads, adversaries or statistics of whole batches, and fit on any device.
    shard = job.options.shard and can_be_cut(job.part)
    return train(_read_task(job), job.settings, run, watch, job.listener, shard)


def _read_task(job: PartJob) -> Task:
    """The task with its network; the model's other networks are let go, and do not lie in memory while it trains."""
    model, corpus = read_model(job.model), Corpus(job.corpus)
    train_side, validation_side = ClipIndex(corpus, "train"), ClipIndex(corpus, "validation")
    check_sides(corpus, train_side, validation_side, "clips")
    task = _task(job, model, corpus, train_side, validation_side, processes.device())
    task.start = str(job.model)
    return task


def _task(
    job: PartJob,
    model: Model,
    corpus: Corpus,
    train_side: Sequence[Utterance],
    validation_side: Sequence[Utterance],
    device: torch.device,
) -> Task:
    if job.part not in _FROM_FEATURES:
        return task_of(job, model, train_side, validation_side, device)
    identity = features_hash(corpus, model)
    features = FeatureStore(corpus.features_folder(identity), extractors=identity)
    # Clips that could not be analysed are accounted for in the store's ledger.
    train_side, validation_side = (
        only(side, lambda clip: clip.id in features) for side in (train_side, validation_side)
    )
    check_sides(corpus, train_side, validation_side, "clips with features")
    known: FeatureStore | RehearsedFeatures = features
    old: Sequence[Utterance] = ()
    if job.settings.replay:
        known, old = _rehearsed(job, model, features, identity)
    return task_of(job, model, train_side, validation_side, device, known, old)


def task_of(
    job: PartJob,
    model: Model,
    train_side: Sequence[Utterance],
    validation_side: Sequence[Utterance],
    device: torch.device,
    features: Any = None,
    rehearsal: Sequence[Utterance] = (),
) -> Task:
    """The task of a job on given clips; `features` (what has the `read` of a `FeatureStore`) for LM and flow only."""
    stage, settings = job.stage, job.settings
    if job.part == "vocoder":
        return VocoderTask(model, train_side, validation_side, settings, device)
    if job.part == "speaker_encoder":
        return SpeakerEncoderTask(model, train_side, validation_side, settings, device)
    if job.part == "flow":
        return FlowTask(model, train_side, validation_side, features, stage, settings, device, rehearsal)
    tokenizer = load_tokenizer(model.tokenizer.kind, model.tokenizer.data)
    if job.part == "speech_tokenizer":
        return SpeechTokenizerTask(model, train_side, validation_side, tokenizer, settings, device)
    return LMTask(model, train_side, validation_side, features, tokenizer, stage, settings, device, rehearsal)


def _rehearsed(
    job: PartJob, model: Model, features: FeatureStore, identity: str
) -> tuple[RehearsedFeatures, Sequence[Utterance]]:
    if job.rehearsal is None:
        raise DataError(f"the {job.part} is to rehearse in {job.settings.replay:.0%} of its updates, but has no corpus")
    corpus = Corpus(job.rehearsal)
    store = FeatureStore(corpus.features_folder(identity), extractors=identity)
    voices = {name: voice.vector.numpy() for name, voice in model.voices.items()}
    return RehearsedFeatures(features, store, voices), rehearsal_clips(ClipIndex(corpus, "train"), store)


def check_sides(corpus: Corpus, train_side: Sequence[Utterance], validation: Sequence[Utterance], what: str) -> None:
    """Refuse to train without clips on both sides.

    Raises:
        DataError: a side has none.
    """
    if not train_side or not validation:
        raise DataError(
            f"corpus {corpus.path} has {len(train_side)} training and {len(validation)} validation {what}; "
            "training needs both, add recordings or prepare the corpus with a larger --validation"
        )
