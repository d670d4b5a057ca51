"""Rehearsal: speech that a start makes itself, in its own voices, mixed into training so that it is not forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cosytune.audio.files import encode_wave
from cosytune.data.clip_index import ClipView, only
from cosytune.data.features import Features, FeatureStore
from cosytune.data.manifest import Utterance, write_manifest
from cosytune.data.sentences import LANGUAGES, sentences
from cosytune.errors import InputError
from cosytune.files import write_folder
from cosytune.models.folder import Model
from cosytune.models.identify import begun_here
from cosytune.synthesis.requests import Failure, Request
from cosytune.synthesis.synthesiser import Synthesiser
from cosytune.training.jobs import Reporter

__all__ = [
    "RehearsedFeatures",
    "is_rehearsal",
    "mixed",
    "rehearsal_clips",
    "rehearsal_languages",
    "rehearsed_before",
    "speak_rehearsal",
]

PREFIX = "rehearsal/"
"""What the ids of rehearsal clips begin with inside a run, so that they never meet those of the corpus."""

SENTENCES = 120
"""Spoken for rehearsal in all, dealt over voices and languages."""

_PARTS = 1_000_000


def rehearsed_before(step: int, share: float) -> int:
    """How many of the updates before `step` were rehearsal: the share, rounded down, at every moment of the run."""
    return step * round(share * _PARTS) // _PARTS


def is_rehearsal(step: int, share: float) -> bool:
    """Whether update number `step` (from 0) rehearses; it depends on nothing else, so that runs resume exactly."""
    return rehearsed_before(step + 1, share) > rehearsed_before(step, share)


def mixed(new: Iterator[list[str]], old: Iterator[list[str]], share: float, start_step: int) -> Iterator[list[str]]:
    """Batches of `new` and, for the stated share of updates, of `old`; both stand where `start_step` finds them."""
    step = start_step
    while True:
        yield next(old if is_rehearsal(step, share) else new)
        step += 1


def rehearsal_clips(clips: Sequence[Utterance], store: FeatureStore) -> Sequence[Utterance]:
    """The clips that have features, under ids and speakers of their own."""
    return ClipView(
        only(clips, lambda clip: clip.id in store),
        change=lambda clip: replace(clip, id=PREFIX + clip.id, speaker=PREFIX + clip.speaker),
    )


@dataclass(frozen=True)
class RehearsedFeatures:
    """The features of a corpus and of a rehearsal corpus behind one door.

    Attributes:
        new: of the corpus.
        old: of the rehearsal corpus, asked for by ids that `rehearsal_clips` made.
        voices: vectors [E] of the start's named voices. A rehearsed voice is learned with the very vector that it will
            be asked for with, not with one heard in the rehearsal.
    """

    new: FeatureStore
    old: FeatureStore
    voices: Mapping[str, np.ndarray]

    def read(self, ids: Sequence[str]) -> list[Features]:
        """As `FeatureStore.read`."""
        return [self._old(clip[len(PREFIX) :]) if clip.startswith(PREFIX) else self.new.read([clip])[0] for clip in ids]

    def _old(self, clip: str) -> Features:
        found = self.old.read([clip])[0]
        vector = self.voices.get(found.speaker)
        return found if vector is None else replace(found, speaker_vector=vector)


def rehearsal_languages(start: Model) -> tuple[str, ...]:
    """Languages that a model can be expected to speak and that sentences can be made in (`data.sentences`).

    Those of the transcripts that its record says it was taught; for a released model, of which no record tells, Chinese
    and English; English where nothing tells any.
    """
    records = [entry.get("languages") for entry in start.lineage]
    # A stranger's record may hold anything.
    taught = [code for record in records if isinstance(record, list) for code in record if code in LANGUAGES]
    released = start.tokenizer.kind == "whisper" and not begun_here(start.lineage)
    return tuple(dict.fromkeys([*(("zh", "en") if released else ()), *taught])) or ("en",)


def speak_rehearsal(
    start: Model, folder: Path, languages: Sequence[str], reporter: Reporter, *, count: int = SENTENCES, seed: int = 0
) -> None:
    """Let a model speak sentences in all its named voices, as a folder of recordings with a manifest.

    What it fails on is left out: babble must not be rehearsed.

    Args:
        start: untouched.
        folder: to write, in one piece; an existing one is kept as it is.
        languages: of the sentences (see `data.sentences`).
        reporter: told how far it is.
        count: sentences in all, at least one for each voice and language.
        seed: of the sentences and of speaking.

    Raises:
        InputError: the model has no named voice, or says nothing right.
    """
    if (folder / "manifest.jsonl").is_file():
        return
    if not start.voices:
        raise InputError(
            f"{start.name} has no named voices that it could rehearse; give recordings of what must be kept "
            "(--replay-data), or train without --replay"
        )
    requests = _requests(start, languages, count, seed)
    name = f"rehearsal by {start.name}"
    reporter.start(name, len(requests))
    synthesiser = Synthesiser(start)
    clips: list[Utterance] = []
    with write_folder(folder) as partial:
        for done, outcome in enumerate(synthesiser.speak_all(iter(requests)), start=1):
            reporter.move(name, done)
            request, speech = outcome.request, outcome.result
            if isinstance(speech, Failure) or speech.problems:
                continue
            identity = f"{outcome.number:05d}"
            (partial / f"{identity}.flac").write_bytes(encode_wave(speech.wave, speech.sample_rate, "flac"))
            clips.append(
                Utterance(identity, f"{identity}.flac", request.text, request.voice or "", request.language or "")
            )
        if not clips:
            raise InputError(
                f"{start.name} said none of {len(requests)} sentences without babbling, so there is nothing to "
                "rehearse; give recordings (--replay-data), or train without --replay"
            )
        write_manifest(partial / "manifest.jsonl", sorted(clips, key=lambda clip: clip.id))
    reporter.say(f"{name}: {len(clips)} of {len(requests)} sentences kept")


def _requests(start: Model, languages: Sequence[str], count: int, seed: int) -> list[Request]:
    pairs = [(voice, language) for voice in sorted(start.voices) for language in languages]
    each = max(1, count // len(pairs))
    return [
        Request(sentence.text, voice, language=language, seed=seed + number)
        for place, (voice, language) in enumerate(pairs)
        # Each pair reads sentences of its own: the more different ones, the less is learned by heart.
        for number, sentence in enumerate(sentences(each, seed=seed * 10_007 + place, language=language))
    ]
