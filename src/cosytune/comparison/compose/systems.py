"""Let one system speak the held-out sentences and have it scored, in a process of its own if asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from cosytune import __version__
from cosytune.audio.files import write_wave
from cosytune.comparison.compose.material import (
    file_name,
    offline_judges,
    recorded,
    references_of,
    request_of,
    said,
    with_voices,
)
from cosytune.comparison.plan import Sample
from cosytune.data.corpus import Corpus
from cosytune.data.manifest import Utterance
from cosytune.evaluation.judges.base import Judge, Recording
from cosytune.evaluation.results import OPINION, SIMILARITY, Damage, Score
from cosytune.evaluation.run import SpokenItem, score_system, sees_damage
from cosytune.files import hash_json, write_json
from cosytune.models.folder import identity_of, read_model
from cosytune.synthesis.guards import GuardConfig
from cosytune.synthesis.synthesiser import Synthesiser
from cosytune.training.jobs import threads_for

__all__ = ["SystemJob", "SystemScores", "finished", "run_system"]

DAMAGED_RECORDINGS = 4
"""Recordings that graded noise is added to, to see which metrics hear it."""


@dataclass(frozen=True)
class SystemJob:
    """One system to be heard; everything is named by path, so that another process can do it.

    Attributes:
        name: of the system in scores and report.
        kind: "recordings", "copy" (recordings through tokens, flow and vocoder) or "model".
        model: model folder, or None for recordings.
        corpus: prepared corpus whose test side is spoken.
        folder: where waves and scores go; scores of the very same job there are read, not made again.
        seeds: of speaking.
        sentences: ids of the test utterances.
        workers: how many such jobs share the machine.
        damage: also try which metrics hear graded noise and tell other speakers apart (recordings only).
    """

    name: str
    kind: Literal["recordings", "copy", "model"]
    model: Path | None
    corpus: Path
    folder: Path
    seeds: tuple[int, ...]
    sentences: tuple[str, ...]
    workers: int = 1
    damage: bool = False


@dataclass(frozen=True)
class SystemScores:
    """What came of one system.

    Attributes:
        scores: of everything it said.
        samples: waves that can be played.
        failures: what it could not say.
        damage: which metrics hear graded noise in the recordings.
        strangers: similarity of the recordings to other speakers of the corpus, if it has any.
    """

    scores: list[Score]
    samples: list[Sample]
    failures: list[str]
    damage: dict[str, Damage]
    strangers: list[Score] = field(default_factory=list)


def run_system(job: SystemJob) -> SystemScores:
    """Speak, save and score; what the very same job finished earlier is read.

    Raises:
        CosytuneError: model, corpus or judges cannot be used. A sentence that the model fails on is no error: it is
            listed and scored as silence.
    """
    if (earlier := finished(job)) is not None:
        return earlier
    corpus, clips, judges = _materials(job)
    identity = _identity(job, corpus, judges)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads_for(job.workers))
    try:
        items, failures = _speak_all(job, corpus, clips)
    finally:
        torch.set_num_threads(threads)
    samples = [
        Sample(job.name, item.sentence, item.text, item.seed, str(_save(job.folder, item, item.wave)))
        for spoken in items.values()
        for item in spoken
        if item.wave is not None
    ]
    scores, damage = _score_all(job, corpus, items, judges)
    strangers = _score_strangers(corpus, items, judges) if job.damage else []
    result = SystemScores(scores, samples, failures, damage, strangers)
    _write(job, identity, result)
    return result


def finished(job: SystemJob) -> SystemScores | None:
    """What the very same job left earlier: same weights, sound, sentences, seeds and judges; else None."""
    corpus, _, judges = _materials(job)
    return _read(job, _identity(job, corpus, judges))


def _materials(job: SystemJob) -> tuple[Corpus, list[Utterance], list[Judge]]:
    corpus = Corpus(job.corpus)
    held_out = {clip.id: clip for clip in corpus.utterances("test")}
    clips = [held_out[identity] for identity in job.sentences]
    return corpus, clips, offline_judges(clips)


def _identity(job: SystemJob, corpus: Corpus, judges: Sequence[Judge]) -> str:
    """A hash of everything that decides the scores: other weights, sound, sentences or judges never share them."""
    return hash_json(
        {
            "cosytune": __version__,
            "name": job.name,
            "kind": job.kind,
            "model": None if job.model is None else identity_of(job.model),
            "corpus": corpus.hash,
            "sentences": job.sentences,
            "seeds": job.seeds,
            "damage": job.damage,
            "judges": [[judge.name, judge.version] for judge in judges],
        }
    )


def _write(job: SystemJob, identity: str, result: SystemScores) -> None:
    # Waves are named without their folder, so that a comparison that was moved is not made again.
    samples = [{**asdict(sample), "path": Path(sample.path).name} for sample in result.samples]
    value: dict[str, Any] = {
        "identity": identity,
        "scores": [score.to_json() for score in result.scores],
        "samples": samples,
        "failures": result.failures,
        "damage": {name: found.to_json() for name, found in result.damage.items()},
        "strangers": [score.to_json() for score in result.strangers],
    }
    write_json(job.folder / "scores.json", value)


def _read(job: SystemJob, identity: str) -> SystemScores | None:
    """What an earlier run of this very job left; None if there is none, or a wave of it is gone."""
    path = job.folder / "scores.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except ValueError:
        return None
    if not isinstance(value, dict) or value.get("identity") != identity:
        return None
    samples = [Sample(**{**entry, "path": str(job.folder / entry["path"])}) for entry in value["samples"]]
    if not all(Path(sample.path).is_file() for sample in samples):
        return None
    return SystemScores(
        [Score.from_json(entry) for entry in value["scores"]],
        samples,
        value["failures"],
        {name: Damage.from_json(entry) for name, entry in value["damage"].items()},
        [Score.from_json(entry) for entry in value["strangers"]],
    )


def _save(folder: Path, item: SpokenItem, wave: np.ndarray) -> Path:
    path = folder / f"{file_name(item.sentence)}-{item.seed}.flac"
    write_wave(path, wave, item.sample_rate)
    return path


def _score_all(
    job: SystemJob, corpus: Corpus, items: dict[str, list[SpokenItem]], judges: Sequence[Judge]
) -> tuple[list[Score], dict[str, Damage]]:
    scores: list[Score] = []
    damage: dict[str, Damage] = {}
    for speaker, spoken in items.items():
        references = references_of(corpus, speaker)
        scores += score_system(job.name, spoken, judges, references=references)
        if job.damage and not damage:
            # Only opinions need the test for their vote; a recogniser's vote hangs on its errors on the recordings.
            for judge in (j for j in judges if any(info.unit == OPINION for info in j.metrics)):
                damage |= sees_damage(judge, spoken[:DAMAGED_RECORDINGS], references=references)
    return scores, damage


def _score_strangers(corpus: Corpus, items: dict[str, list[SpokenItem]], judges: Sequence[Judge]) -> list[Score]:
    """Recordings of each speaker against the next speaker's references: what a voice that is not meant scores."""
    alike = [judge for judge in judges if any(info.unit == SIMILARITY for info in judge.metrics)]
    speakers = sorted(items)
    if len(speakers) < 2:
        return []
    scores: list[Score] = []
    for speaker, other in zip(speakers, [*speakers[1:], speakers[0]], strict=True):
        scores += score_system("strangers", items[speaker], alike, references=references_of(corpus, other), pitch=False)
    return scores


def _speak_all(
    job: SystemJob, corpus: Corpus, clips: Sequence[Utterance]
) -> tuple[dict[str, list[SpokenItem]], list[str]]:
    """What the system says, by intended speaker, and what it could not say."""
    items: dict[str, list[SpokenItem]] = {}
    failures: list[str] = []
    synthesiser = None
    if job.model is not None:
        # No second tries: a model that babbles is to be heard babbling, or two models could not be told apart by it.
        synthesiser = Synthesiser(with_voices(read_model(job.model), corpus), guards=GuardConfig(retries=0))
    for clip in clips:
        recording = Recording(*recorded(clip))
        seconds = len(recording.wave) / recording.sample_rate
        for seed in job.seeds:
            wave: np.ndarray | None = recording.wave
            rate = recording.sample_rate
            if synthesiser is not None:
                rate = synthesiser.sample_rate
                wave, failure = _spoken(job, synthesiser, clip, recording, seed)
                failures += [] if failure is None else [f"{job.name}, {clip.id}, seed {seed}: {failure}"]
            items.setdefault(clip.speaker, []).append(SpokenItem(clip.id, clip.text or "", wave, rate, seed, seconds))
    return items, failures


def _spoken(
    job: SystemJob, synthesiser: Synthesiser, clip: Utterance, recording: Recording, seed: int
) -> tuple[np.ndarray | None, str | None]:
    """The wave [N], or None and why."""
    if job.kind != "copy":
        return said(lambda: synthesiser.speak(request_of(clip, seed)).wave)
    voice = synthesiser.model.voices.get(clip.speaker)
    vector = None if voice is None else voice.vector
    return said(lambda: synthesiser.resynthesise(recording.wave, recording.sample_rate, vector=vector, seed=seed))
