"""Hearing checkpoints while they are trained: validation sentences, spoken and judged, as one score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cosytune.audio.files import encode_wave
from cosytune.comparison.compose.material import (
    file_name,
    offline_judges,
    recorded,
    references_of,
    request_of,
    said_all,
    sentences_of,
    with_voices,
)
from cosytune.comparison.compose.retention import (
    SEED,
    Retention,
    alarm,
    hear_retention,
    old_voices_heard,
    recall,
    score_of,
)
from cosytune.data.corpus import Corpus
from cosytune.data.manifest import Utterance
from cosytune.errors import InputError
from cosytune.evaluation.judges.base import Judge, Recording
from cosytune.evaluation.run import HIGHEST_ERROR, SpokenItem, score_system
from cosytune.models.folder import Model, read_model
from cosytune.synthesis.guards import GuardConfig
from cosytune.synthesis.synthesiser import Synthesiser
from cosytune.text.language import base_language
from cosytune.training.rehearsal import rehearsal_languages
from cosytune.training.selection import Heard

__all__ = ["ValidationListener"]

SAMPLES = 3
"""Sentences of each checkpoint that are kept to be played."""
SAMPLE_SECONDS = 20.0


@dataclass(frozen=True)
class ValidationListener:
    """Hears a network say validation sentences in the voices that are being taught, and what the start could do beside.

    Nothing that a verdict uses is touched: sentences and recordings of the voice are of the validation side, and the
    random numbers are its own.

    Attributes:
        model: folder of the start; the other parts speak as they are there.
        corpus: prepared corpus, with the start's features.
        sentences: how many are spoken, at most.
    """

    model: Path
    corpus: Path
    sentences: int = 6

    def __post_init__(self) -> None:
        if self.sentences < 1:
            raise InputError(f"{self.sentences} sentences cannot be heard; give 1 or more, or do not listen")

    @property
    def identity(self) -> str:
        """See `training.selection.Listener`."""
        return f"{self.sentences} validation sentences, version 3"

    def check(self) -> None:
        """Refuse before training what could not be heard during it.

        Raises:
            InputError: the validation side has no transcribed sentence of a voice with training clips.
        """
        try:
            sentences_of(Corpus(self.corpus), self.sentences, "validation")
        except InputError as error:
            raise InputError(f"{error}; or keep the last checkpoint without listening (--listen 0)") from error

    def __call__(self, part: str, network: nn.Module) -> Heard:
        """See `training.selection.Listener`."""
        known = _known(self)
        heard = known.untouched
        if not _equal(network, known.model.part(part)):
            heard = _hear(known, replace(known.model, parts={**known.model.parts, part: network}))
        values = heard.values
        return Heard(score_of(values), values, alarm(values, known.untouched.values), _samples(heard.items))


@dataclass(frozen=True)
class _Spoken:
    """What a model said and the means over it."""

    items: Sequence[SpokenItem]
    values: Mapping[str, float]


@dataclass(frozen=True)
class _Known:
    """What does not change from checkpoint to checkpoint."""

    model: Model
    clips: Sequence[Utterance]
    references: Mapping[str, list[Recording]]
    judges: Sequence[Judge]
    retention: Retention
    untouched: _Spoken


@lru_cache(maxsize=2)
def _known(listener: ValidationListener) -> _Known:
    corpus = Corpus(listener.corpus)
    clips = sentences_of(corpus, listener.sentences, "validation")
    own = read_model(listener.model)
    model = with_voices(own, corpus)
    references = {clip.speaker: references_of(corpus, clip.speaker, "validation") for clip in clips}
    texts = [request_of(clip, SEED) for clip in clips]
    old = sorted(set(own.voices) - set(references))
    old = old[: old_voices_heard(len(old), listener.sentences)]
    retention = recall(_synthesiser(model), old, sorted(references), texts, _other_languages(own, corpus))
    known = _Known(model, clips, references, _judges_that_work(clips), retention, _Spoken([], {}))
    return replace(known, untouched=_hear(known, model))


def _equal(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have the same weights: the untouched start need not be heard twice."""
    weights, others = one.state_dict(), other.state_dict()
    return weights.keys() == others.keys() and all(
        torch.equal(value.cpu(), others[name].cpu()) for name, value in weights.items()
    )


def _other_languages(start: Model, corpus: Corpus) -> list[str]:
    """What the start speaks and the recordings do not."""
    taught = {base_language(clip.language) for clip in corpus.utterances("train")}
    return [language for language in rehearsal_languages(start) if language not in taught]


def _synthesiser(model: Model) -> Synthesiser:
    # No second tries: a checkpoint that babbles must be heard babbling.
    return Synthesiser(model, guards=GuardConfig(retries=0), device="cuda" if torch.cuda.is_available() else "cpu")


def _judges_that_work(clips: Sequence[Utterance]) -> list[Judge]:
    """All but a recogniser that gets too much wrong on the recordings themselves."""
    items = [SpokenItem(clip.id, clip.text or "", *recorded(clip), SEED) for clip in clips]
    judges = []
    for judge in offline_judges(clips):
        if any(info.name == "cer" for info in judge.metrics):
            scores = score_system("recordings", items, [judge], references=[], pitch=False)
            if np.mean([score.value for score in scores if score.metric == "cer"]) > HIGHEST_ERROR:
                continue
        judges.append(judge)
    return judges


def _hear(known: _Known, model: Model) -> _Spoken:
    """Let a model speak; means of every metric that has a direction, and how much of the old is still there."""
    synthesiser = _synthesiser(model)
    waves = said_all(synthesiser, [request_of(clip, SEED) for clip in known.clips])
    items = [
        SpokenItem(clip.id, clip.text or "", wave, synthesiser.sample_rate, SEED)
        for clip, wave in zip(known.clips, waves, strict=True)
    ]
    found: dict[str, list[float]] = {}
    for clip, item in zip(known.clips, items, strict=True):
        references = known.references[clip.speaker]
        for score in score_system("checkpoint", [item], known.judges, references=references, pitch=False):
            found.setdefault(score.metric, []).append(score.value)
    wanted = {"spoken", "runaway", "too_short", *(info.name for judge in known.judges for info in judge.metrics)}
    values = {name: float(np.mean(found.get(name, [0.0]))) for name in sorted(wanted)}
    return _Spoken(items, values | hear_retention(known.retention, synthesiser))


def _samples(items: Sequence[SpokenItem]) -> dict[str, bytes]:
    """The first sentences as files: speech as FLAC, cut where it never ends, and its text beside it."""
    files: dict[str, bytes] = {}
    for item in items[:SAMPLES]:
        name = file_name(item.sentence)
        files[f"{name}.txt"] = item.text.encode("utf-8")
        if item.wave is not None:
            wave = item.wave[: round(SAMPLE_SECONDS * item.sample_rate)]
            files[f"{name}.flac"] = encode_wave(wave, item.sample_rate, "flac")
    return files
