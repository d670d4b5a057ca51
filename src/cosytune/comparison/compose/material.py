"""What hearing a model needs: sentences, recordings of the voice, judges, and speech that may fail."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cosytune.audio.files import read_wave
from cosytune.data.corpus import Corpus
from cosytune.data.features import FeatureStore
from cosytune.data.manifest import Utterance
from cosytune.data.splits import Side
from cosytune.errors import InputError, ModelError
from cosytune.evaluation.judges.base import Judge, Recording, is_silent
from cosytune.evaluation.judges.dnsmos import DnsmosJudge
from cosytune.evaluation.judges.pocketsphinx_judge import PocketsphinxJudge
from cosytune.evaluation.judges.resemblyzer_judge import ResemblyzerJudge
from cosytune.files import hash_json
from cosytune.models.folder import Model
from cosytune.models.voices import Voice
from cosytune.synthesis.requests import Request, Speech
from cosytune.synthesis.synthesiser import Synthesiser
from cosytune.text.language import base_language
from cosytune.training.features import features_hash

__all__ = [
    "file_name",
    "offline_judges",
    "recorded",
    "references_of",
    "request_of",
    "said",
    "said_all",
    "sentences_of",
    "with_voices",
]

REFERENCES = 8
"""Recordings of the voice that similarity is measured against, at most."""


LONGEST_STEM = 160
"""Bytes; a file name has 255, and ids are often whole sentences, three bytes a character in Chinese."""


def offline_judges(clips: Iterable[Utterance]) -> list[Judge]:
    """The judges whose models come with their packages; the English recogniser only where all clips are English."""
    judges: list[Judge] = [DnsmosJudge(), ResemblyzerJudge()]
    if all(base_language(clip.language) == "en" for clip in clips):
        judges.insert(0, PocketsphinxJudge())
    return judges


def sentences_of(corpus: Corpus, count: int, side: Side = "test") -> list[Utterance]:
    """Up to `count` held-out utterances, one per sentence, dealt evenly over speakers, always the same ones.

    Speakers without a training clip are left out: nobody can learn their voice or compare with it.

    Raises:
        InputError: that side has no transcribed sentence of a speaker that can be learned.
    """
    learned = {clip.speaker for clip in corpus.utterances("train")}
    by_speaker: dict[str, list[Utterance]] = {}
    seen: set[str] = set()
    for clip in corpus.utterances(side):
        if clip.text and clip.text not in seen and clip.speaker in learned:
            seen.add(clip.text)
            by_speaker.setdefault(clip.speaker, []).append(clip)
    if not by_speaker:
        raise InputError(
            f"the {side} side of {corpus.path} has no transcribed clip of a voice with training clips; add transcripts "
            f"or more recordings, or prepare the corpus with a larger --{side} share"
        )
    rounds = max(len(clips) for clips in by_speaker.values())
    dealt = [clips[turn] for turn in range(rounds) for _, clips in sorted(by_speaker.items()) if turn < len(clips)]
    return dealt[:count]


def references_of(corpus: Corpus, speaker: str, side: Side = "train") -> list[Recording]:
    """Recordings of one voice from one side: a verdict's from the training side, so that none is a sentence of it.

    A silent one tells nothing about the voice and is left out.
    """
    own = [clip for clip in corpus.utterances(side) if clip.speaker == speaker]
    step = max(1, len(own) // REFERENCES)
    found = [Recording(*recorded(clip)) for clip in own[::step][:REFERENCES]]
    return [recording for recording in found if not is_silent(recording.wave, recording.sample_rate)]


def recorded(clip: Utterance) -> tuple[np.ndarray, int]:
    """The wave [N] of a clip and its rate in Hz."""
    return read_wave(Path(clip.audio), None, clip.start or 0.0, clip.end)


def request_of(clip: Utterance, seed: int) -> Request:
    """Its sentence, by its speaker as a named voice, in the manner it was recorded in."""
    return Request(
        clip.text or "", clip.speaker, instruct=clip.instruct, language=clip.language, seed=seed, name=clip.id
    )


def said(speak: Callable[[], np.ndarray]) -> tuple[np.ndarray | None, str | None]:
    """The wave [N], or None and why: a model that diverged computes no numbers, and that is a result."""
    try:
        wave = speak()
    except (InputError, ModelError) as error:
        return None, str(error)
    if not len(wave) or not np.isfinite(wave).all():
        return None, "no samples came out" if not len(wave) else "samples that are not numbers came out"
    return wave, None


def said_all(synthesiser: Synthesiser, requests: Sequence[Request]) -> list[np.ndarray | None]:
    """`said` for many requests at once: a wave [N] or None for each."""
    waves: list[np.ndarray | None] = [None] * len(requests)
    try:
        for outcome in synthesiser.speak_all(iter(requests)):
            if isinstance(outcome.result, Speech):
                wave = outcome.result.wave
                waves[outcome.number] = wave if len(wave) and np.isfinite(wave).all() else None
    except ModelError:
        return [None] * len(requests)  # scores that are no numbers: such a model says nothing
    return waves


def file_name(identity: str) -> str:
    """An id as the stem of a file; ids that need changing keep apart by their hash."""
    plain = re.sub(r"[^\w.-]", "_", identity).encode()[:LONGEST_STEM].decode(errors="ignore")
    return plain if plain == identity else f"{plain}-{hash_json(identity)[:8]}"


def with_voices(model: Model, corpus: Corpus) -> Model:
    """The model with the corpus's speakers as voices, as its own front ends hear them on the training side."""
    identity = features_hash(corpus, model)
    store = FeatureStore(corpus.features_folder(identity), extractors=identity)
    heard = {speaker: Voice(torch.from_numpy(vector)) for speaker, vector in store.speaker_vectors.items()}
    return replace(model, voices=model.voices | heard)
