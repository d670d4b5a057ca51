"""Let one system speak the held-out sentences and have it scored, in a process of its own if asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cosytune.audio.files import read_wave, write_wave
from cosytune.comparison.plan import Sample
from cosytune.data.corpus import Corpus
from cosytune.data.features import FeatureStore
from cosytune.data.manifest import Utterance
from cosytune.errors import InputError
from cosytune.evaluation.judges.base import Judge, Recording
from cosytune.evaluation.judges.dnsmos import DnsmosJudge
from cosytune.evaluation.judges.pocketsphinx_judge import PocketsphinxJudge
from cosytune.evaluation.judges.resemblyzer_judge import ResemblyzerJudge
from cosytune.evaluation.results import Damage, Score
from cosytune.evaluation.run import SpokenItem, score_system, sees_damage
from cosytune.files import write_json
from cosytune.models.folder import Model, read_model
from cosytune.synthesis.requests import Request
from cosytune.synthesis.synthesiser import Synthesiser
from cosytune.text.language import is_chinese
from cosytune.training.jobs import threads_for

__all__ = ["SystemJob", "SystemScores", "offline_judges", "run_system", "sentences_of"]

REFERENCES = 8
"""Recordings of the voice that similarity is measured against: from the training side, so that none is an item."""


@dataclass(frozen=True)
class SystemJob:
    """One system to be heard.

    Attributes:
        name: of the system in scores and report.
        kind: "recordings", "copy" (through tokens, flow and vocoder), "model", or "others" (other people's recordings).
        model: model folder, or None for recordings.
        corpus: prepared corpus whose test side is spoken.
        folder: where waves and scores go; finished scores there are read, not made again.
        seeds: of speaking.
        sentences: ids of the test utterances.
        workers: how many such jobs share the machine.
        damage: also try which metrics see graded noise (recordings only).
    """

    name: str
    kind: str
    model: Path | None
    corpus: Path
    folder: Path
    seeds: tuple[int, ...]
    sentences: tuple[str, ...]
    workers: int = 1
    damage: bool = False


@dataclass(frozen=True)
class SystemScores:
    """What came of one system."""

    scores: list[Score]
    samples: list[Sample]
    failures: list[str]
    damage: dict[str, Damage]


def offline_judges(texts: Sequence[str]) -> list[Judge]:
    """The judges whose models come with their packages; the English recogniser only for English texts."""
    judges: list[Judge] = [DnsmosJudge(), ResemblyzerJudge()]
    if not any(is_chinese(text) for text in texts):
        judges.insert(0, PocketsphinxJudge())
    return judges


def sentences_of(corpus: Corpus, count: int) -> list[Utterance]:
    """Up to `count` held-out utterances, one per sentence, dealt evenly over speakers, always the same ones.

    Raises:
        InputError: the test side has no transcribed sentence.
    """
    by_speaker: dict[str, list[Utterance]] = {}
    seen: set[str] = set()
    for clip in corpus.utterances("test"):
        if clip.text and clip.text not in seen:
            seen.add(clip.text)
            by_speaker.setdefault(clip.speaker, []).append(clip)
    if not by_speaker:
        raise InputError(
            f"the test side of {corpus.path} has no transcribed clip to speak; add transcripts or more recordings"
        )
    rounds = max(len(clips) for clips in by_speaker.values())
    dealt = [clips[turn] for turn in range(rounds) for _, clips in sorted(by_speaker.items()) if turn < len(clips)]
    return dealt[:count]


def run_system(job: SystemJob) -> SystemScores:
    """Speak, save and score; what was finished earlier is read."""
    done = job.folder / "scores.json"
    if done.exists():
        return _read(done)
    torch.set_num_threads(threads_for(job.workers))
    corpus = Corpus(job.corpus)
    chosen = {clip.id: clip for clip in corpus.utterances("test")}
    clips = [chosen[clip_id] for clip_id in job.sentences]
    judges = offline_judges([clip.text or "" for clip in clips])
    items, failures = _speak_all(job, corpus, clips)
    samples = []
    for speaker_items in items.values():
        for item in speaker_items:
            if item.wave is not None:
                path = job.folder / f"{_file_name(item.sentence)}-{item.seed}.flac"
                write_wave(path, item.wave, item.sample_rate)
                samples.append(Sample(job.name, item.sentence, item.text, item.seed, str(path)))
    scores: list[Score] = []
    damage: dict[str, Damage] = {}
    for speaker, speaker_items in items.items():
        references = _references(corpus, speaker)
        scores += score_system(job.name, speaker_items, judges, references=references)
        if job.damage and not damage:
            for judge in judges:
                damage |= sees_damage(judge, speaker_items[:4], references=references)
    result = SystemScores(scores, samples, failures, damage)
    write_json(
        done,
        {
            "scores": [score.to_json() for score in scores],
            "samples": [asdict(sample) for sample in samples],
            "failures": failures,
            "damage": {name: found.to_json() for name, found in damage.items()},
        },
    )
    return result


def _read(path: Path) -> SystemScores:
    value = json.loads(path.read_text(encoding="utf-8"))
    return SystemScores(
        [Score.from_json(entry) for entry in value["scores"]],
        [Sample(**entry) for entry in value["samples"]],
        value["failures"],
        {name: Damage.from_json(entry) for name, entry in value["damage"].items()},
    )


def _file_name(sentence: str) -> str:
    return sentence.replace("/", "_")


def _speak_all(
    job: SystemJob, corpus: Corpus, clips: Sequence[Utterance]
) -> tuple[dict[str, list[SpokenItem]], list[str]]:
    """What the system says, by intended speaker, and what it could not say."""
    recorded = {clip.id: read_wave(Path(clip.audio), None, clip.start or 0.0, clip.end) for clip in clips}
    items: dict[str, list[SpokenItem]] = {}
    failures: list[str] = []
    synthesiser = None if job.model is None else Synthesiser(_with_voices(read_model(job.model), corpus))
    for clip in clips:
        wave, rate = recorded[clip.id]
        for seed in job.seeds:
            spoken: np.ndarray | None = wave
            spoken_rate = rate
            if synthesiser is not None:
                spoken_rate = synthesiser.sample_rate
                spoken = _spoken(job, synthesiser, clip, wave, rate, seed, failures)
            item = SpokenItem(clip.id, clip.text or "", spoken, spoken_rate, seed, len(wave) / rate)
            items.setdefault(clip.speaker, []).append(item)
    return items, failures


def _spoken(
    job: SystemJob,
    synthesiser: Synthesiser,
    clip: Utterance,
    wave: np.ndarray,
    rate: int,
    seed: int,
    failures: list[str],
) -> np.ndarray | None:
    try:
        if job.kind == "copy":
            return synthesiser.resynthesise(wave, rate, vector=synthesiser.model.voices.get(clip.speaker), seed=seed)
        return synthesiser.speak(Request(clip.text or "", clip.speaker, seed=seed, name=clip.id)).wave
    except InputError as error:
        failures.append(f"{job.name}: {error}")
        return None


def _with_voices(model: Model, corpus: Corpus) -> Model:
    """The model with the corpus's speakers as voices, as its own front ends hear them on the training side."""
    identity = model.extractor_hash()
    store = FeatureStore(corpus.features_folder(identity), extractors=identity)
    vectors = {speaker: torch.from_numpy(vector) for speaker, vector in store.speaker_vectors.items()}
    return replace(model, voices=model.voices | vectors)


def _references(corpus: Corpus, speaker: str) -> list[Recording]:
    own = [clip for clip in corpus.utterances("train") if clip.speaker == speaker]
    step = max(1, len(own) // REFERENCES)
    return [
        Recording(*read_wave(Path(clip.audio), None, clip.start or 0.0, clip.end)) for clip in own[::step][:REFERENCES]
    ]
