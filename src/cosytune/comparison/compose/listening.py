"""Hearing checkpoints while they are trained: validation sentences, spoken and judged, as one score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from cosytune.comparison.compose.material import (
    offline_judges,
    recorded,
    references_of,
    request_of,
    said,
    sentences_of,
    with_voices,
)
from cosytune.data.corpus import Corpus
from cosytune.data.manifest import Utterance
from cosytune.errors import InputError
from cosytune.evaluation.judges.base import Judge, Recording
from cosytune.evaluation.judges.resemblyzer_judge import ResemblyzerJudge
from cosytune.evaluation.run import HIGHEST_ERROR, SpokenItem, score_system
from cosytune.models.folder import Model, read_model
from cosytune.synthesis.guards import GuardConfig
from cosytune.synthesis.requests import Request
from cosytune.synthesis.synthesiser import Synthesiser
from cosytune.training.selection import Heard

__all__ = ["ValidationListener", "score_of"]

RUNAWAY_ALARM = 1 / 3
"""Share of sentences, beyond the untouched start's, that may run away before training is called off."""

RETENTION_ALARM = 0.15
"""Loss of similarity (cosine) of the old voices, against the untouched start, from which training is called off."""

OLD_VOICES, OLD_SENTENCES = 4, 2
SEED = 0


@dataclass(frozen=True)
class ValidationListener:
    """Hears a network say validation sentences in the voices that are being taught, and old voices beside them.

    Nothing that a verdict uses is touched: sentences and recordings of the voice are of the validation and train sides.

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
        return f"{self.sentences} validation sentences, version 1"

    def check(self) -> None:
        """Refuse before training what could not be heard during it.

        Raises:
            InputError: the validation side has no transcribed sentence of a voice with training clips.
        """
        sentences_of(Corpus(self.corpus), self.sentences, "validation")

    def __call__(self, part: str, network: nn.Module) -> Heard:
        """See `training.selection.Listener`."""
        known = _known(self)
        values = _hear(known, replace(known.model, parts={**known.model.parts, part: network}))
        return Heard(score_of(values, known.recogniser_works), values, _alarm(values, known.start))


def score_of(values: dict[str, float], recogniser_works: bool) -> float:
    """One number from 0 to 1: the mean of similarity, opinion, and right characters where the recogniser works.

    Opinion (DNSMOS, 1 to 5) is mapped to 0 to 1; a character error rate counts as 0 right characters from 1 on.
    """
    terms = [values["sim"], (values["dnsmos_ovrl"] - 1) / 4]
    if recogniser_works:
        terms.append(1 - min(1.0, values["cer"]))
    return float(np.mean(terms))


def _alarm(values: dict[str, float], start: dict[str, float]) -> str:
    if values["runaway"] > start["runaway"] + RUNAWAY_ALARM:
        return f"speech runs away in {values['runaway']:.0%} of the sentences, the start's in {start['runaway']:.0%}"
    if "retention" in start and values["retention"] < start["retention"] - RETENTION_ALARM:
        return (
            f"the start's own voices are going: their similarity is {values['retention']:.2f}, "
            f"untouched it was {start['retention']:.2f}"
        )
    return ""


@dataclass(frozen=True)
class _Known:
    """What does not change from checkpoint to checkpoint."""

    model: Model
    clips: Sequence[Utterance]
    references: dict[str, list[Recording]]
    judges: list[Judge]
    recogniser_works: bool
    old: dict[str, list[Recording]]
    start: dict[str, float]


@lru_cache(maxsize=2)
def _known(listener: ValidationListener) -> _Known:
    corpus = Corpus(listener.corpus)
    clips = sentences_of(corpus, listener.sentences, "validation")
    own = read_model(listener.model)
    model = with_voices(own, corpus)
    judges = offline_judges(clips)
    references = {speaker: references_of(corpus, speaker) for speaker in {clip.speaker for clip in clips}}
    old_voices = sorted(set(own.voices) - set(references))[:OLD_VOICES]
    synthesiser = _synthesiser(model)
    old = {voice: _old_speech(synthesiser, voice, clips, seed=SEED + 1) for voice in old_voices}
    errors = _recognition_errors(clips, judges)
    known = _Known(model, clips, references, judges, errors is not None and errors <= HIGHEST_ERROR, old, {})
    return replace(known, start=_hear(known, model))


def _synthesiser(model: Model) -> Synthesiser:
    # No second tries: a checkpoint that babbles must be heard babbling.
    return Synthesiser(model, guards=GuardConfig(retries=0))


def _recognition_errors(clips: Sequence[Utterance], judges: Sequence[Judge]) -> float | None:
    """Character errors on the recordings themselves; None without a recogniser."""
    items = [SpokenItem(clip.id, clip.text or "", *recorded(clip), SEED) for clip in clips]
    able: Any = [judge for judge in judges if any(info.name == "cer" for info in judge.metrics)]
    scores = score_system("recordings", items, able, references=[], pitch=False) if able else []
    errors = [score.value for score in scores if score.metric == "cer"]
    return float(np.mean(errors)) if errors else None


def _hear(known: _Known, model: Model) -> dict[str, float]:
    """Means over all sentences of every metric that has a direction, and how much the old voices are themselves."""
    synthesiser = _synthesiser(model)
    found: dict[str, list[float]] = {}
    for speaker, references in known.references.items():
        items = [_item(synthesiser, clip) for clip in known.clips if clip.speaker == speaker]
        for score in score_system("checkpoint", items, known.judges, references=references, pitch=False):
            found.setdefault(score.metric, []).append(score.value)
    wanted = {"spoken", "runaway", "too_short", *(info.name for judge in known.judges for info in judge.metrics)}
    values = {name: float(np.mean(found.get(name, [0.0]))) for name in sorted(wanted)}
    if known.old:
        values["retention"] = float(np.mean([_alike(known, synthesiser, voice) for voice in known.old]))
    return values


def _item(synthesiser: Synthesiser, clip: Utterance) -> SpokenItem:
    wave, _ = said(lambda: synthesiser.speak(request_of(clip, SEED)).wave)
    return SpokenItem(clip.id, clip.text or "", wave, synthesiser.sample_rate, SEED)


def _alike(known: _Known, synthesiser: Synthesiser, voice: str) -> float:
    """Similarity of an old voice to how the untouched start spoke it."""
    if not known.old[voice]:
        return 0.0
    spoken = _old_speech(synthesiser, voice, known.clips, seed=SEED)
    items = [
        SpokenItem(f"{voice} {number}", "x", speech.wave, speech.sample_rate, SEED)
        for number, speech in enumerate(spoken)
    ]
    scores = score_system("old voices", items, [ResemblyzerJudge()], references=known.old[voice], pitch=False)
    similar = [score.value for score in scores if score.metric == "sim"]
    # What it could not say at all is not like the voice.
    return float(sum(similar)) / OLD_SENTENCES if similar else 0.0


def _old_speech(synthesiser: Synthesiser, voice: str, clips: Sequence[Utterance], seed: int) -> list[Recording]:
    found = []
    for clip in clips[:OLD_SENTENCES]:
        request = Request(clip.text or "", voice, language=clip.language, seed=seed, name=clip.id)
        wave, _ = said(lambda asked=request: synthesiser.speak(asked).wave)  # type: ignore[misc]
        if wave is not None:
            found.append(Recording(wave, synthesiser.sample_rate))
    return found
