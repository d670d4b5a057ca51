"""What a start could do beside the new voice: its named voices and its other languages, said again and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cosytune.comparison.compose.material import said_all
from cosytune.data.sentences import sentences
from cosytune.evaluation.judges.base import Judge, Recording, is_silent
from cosytune.evaluation.judges.dnsmos import DnsmosJudge
from cosytune.evaluation.judges.pocketsphinx_judge import PocketsphinxJudge
from cosytune.evaluation.judges.resemblyzer_judge import ResemblyzerJudge
from cosytune.evaluation.run import HIGHEST_ERROR, SpokenItem, score_system
from cosytune.synthesis.requests import Request
from cosytune.synthesis.synthesiser import Synthesiser

__all__ = ["OLD_SENTENCES", "SEED", "Retention", "alarm", "hear_retention", "old_voices_heard", "recall", "score_of"]

OLD_VOICES, OLD_SENTENCES = 4, 2
LANGUAGE_VOICES, LANGUAGE_SENTENCES = 2, 2

SEED = 1_000_000_007
"""Of all speech that selects; what judges is spoken with the seeds of the runs (0, 1, 2, ...)."""

VOICES_ALARM = 0.15
"""Loss of similarity (cosine) of the old voices, against the untouched start, from which training is called off."""

LANGUAGE_ALARM = 0.15
"""Loss of a language's score (0 to 1, see `score_of`), against the untouched start, that does the same."""

RUNAWAY_ALARM = 1 / 3
"""Share of sentences, beyond the untouched start's, that may run away before training is called off."""


@dataclass(frozen=True)
class Retention:
    """What is asked of every checkpoint, how the untouched start answered, and who listens.

    Attributes:
        requests: by what they test: "retention" (the old voices) or "language_CODE".
        own: by voice how the untouched start speaks it, with other random numbers; of the old voices only, for a new
            one is meant to change.
        opinion: judge of quality.
        similarity: judge of the voice.
        recogniser: judge of English words, if it understands the untouched start's English.
    """

    requests: Mapping[str, Sequence[Request]]
    own: Mapping[str, Sequence[Recording]]
    opinion: Judge
    similarity: Judge
    recogniser: Judge | None = None


def old_voices_heard(known: int, sentences: int) -> int:
    """How many of `known` named voices are asked for whenever `sentences` of the new ones are heard."""
    return min(known, OLD_VOICES, max(1, sentences // OLD_SENTENCES))


def recall(
    synthesiser: Synthesiser, old: Sequence[str], new: Sequence[str], texts: Sequence[Request], languages: Sequence[str]
) -> Retention:
    """Let the untouched start say what checkpoints will be asked for.

    Args:
        synthesiser: of the start, which also knows the new voices by their vectors.
        old: voices that are asked for again: some that the start has and the recordings do not teach.
        new: voices that are taught; they say the languages if there are no old ones.
        texts: sentences that old voices are to say, whatever voice they name.
        languages: that the start speaks and the recordings do not.
    """
    requests = {"retention": _by_each(old, texts, SEED)} if old else {}
    own: dict[str, list[Recording]] = {voice: [] for voice in old}
    asked = _by_each(old, texts, SEED + 1)
    for request, wave in zip(asked, said_all(synthesiser, asked), strict=True):
        # A similarity judge refuses silent references, in the middle of a training.
        if wave is not None and not is_silent(wave, synthesiser.sample_rate):
            own[request.voice or ""].append(Recording(wave, synthesiser.sample_rate))
    for language in languages:
        requests[f"language_{language}"] = _in_language(language, (old or new)[:LANGUAGE_VOICES])
    recogniser = _recogniser(synthesiser, requests.get("language_en", ()))
    return Retention(requests, own, DnsmosJudge(), ResemblyzerJudge(), recogniser)


def _by_each(voices: Sequence[str], texts: Sequence[Request], seed: int) -> list[Request]:
    return [
        Request(text.text, voice, language=text.language, seed=seed, name=f"{voice} {text.name}")
        for voice in voices
        for text in texts[:OLD_SENTENCES]
    ]


def _in_language(language: str, voices: Sequence[str]) -> list[Request]:
    return [
        Request(sentence.text, voice, language=language, seed=SEED, name=f"{voice} {language} {number}")
        for voice in voices
        for number, sentence in enumerate(sentences(LANGUAGE_SENTENCES, seed=SEED, language=language))
    ]


def _recogniser(synthesiser: Synthesiser, requests: Sequence[Request]) -> Judge | None:
    """The English recogniser, if it gets most of what the start says: of a babbler nobody can tell more."""
    judge = PocketsphinxJudge()
    errors = [
        _scores(_item(request, wave, synthesiser), [judge])["cer"]
        for request, wave in zip(requests, said_all(synthesiser, requests), strict=True)
    ]
    return judge if errors and float(np.mean(errors)) <= HIGHEST_ERROR else None


def hear_retention(retention: Retention, synthesiser: Synthesiser) -> dict[str, float]:
    """Similarity of the old voices to themselves ("retention") and a score from 0 to 1 of each language."""
    asked = [(what, request) for what, requests in retention.requests.items() for request in requests]
    found: dict[str, list[float]] = {}
    waves = said_all(synthesiser, [request for _, request in asked])
    for (what, request), wave in zip(asked, waves, strict=True):
        score = _alike if what == "retention" else _in_all
        found.setdefault(what, []).append(score(retention, request, _item(request, wave, synthesiser)))
    return {what: float(np.mean(scores)) for what, scores in found.items()}


def _item(request: Request, wave: np.ndarray | None, synthesiser: Synthesiser) -> SpokenItem:
    return SpokenItem(request.name, request.text, wave, synthesiser.sample_rate, request.seed)


def _alike(retention: Retention, request: Request, item: SpokenItem) -> float:
    """Similarity to how the start spoke that voice; what could not be said at all is not like it."""
    references = retention.own[request.voice or ""]
    if item.wave is None or not references:
        return 0.0
    return _scores(item, [retention.similarity], references)["sim"]


def _in_all(retention: Retention, request: Request, item: SpokenItem) -> float:
    """`score_of` one sentence of a language; one that ran away or was not said counts nothing."""
    references = retention.own.get(request.voice or "", ())
    recogniser = retention.recogniser if request.language == "en" else None
    judges = [retention.opinion]
    if references:
        judges.append(retention.similarity)
    if recogniser is not None:
        judges.append(recogniser)
    values = _scores(item, judges, references)
    if not values["spoken"] or values["runaway"]:
        return 0.0
    return score_of(values)


def _scores(item: SpokenItem, judges: Sequence[Judge], references: Sequence[Recording] = ()) -> dict[str, float]:
    scores = score_system("checkpoint", [item], judges, references=references, pitch=False)
    return {score.metric: score.value for score in scores}


def score_of(values: Mapping[str, float]) -> float:
    """One number from 0 to 1: the mean of opinion, and of similarity and right characters where they were judged.

    Opinion (DNSMOS, 1 to 5) is mapped to 0 to 1; a character error rate counts as 0 right characters from 1 on.
    """
    terms = [(values["dnsmos_ovrl"] - 1) / 4]
    if "sim" in values:
        terms.append(values["sim"])
    if "cer" in values:
        terms.append(1 - min(1.0, values["cer"]))
    return float(np.mean(terms))


def alarm(values: Mapping[str, float], start: Mapping[str, float]) -> str:
    """Why training should end, in words; nothing if what the start could do is still there."""
    if values["runaway"] > start["runaway"] + RUNAWAY_ALARM:
        return f"speech runs away in {values['runaway']:.0%} of the sentences, the start's in {start['runaway']:.0%}"
    if "retention" in start and values["retention"] < start["retention"] - VOICES_ALARM:
        return (
            f"the start's own voices are going: their similarity is {values['retention']:.2f}, "
            f"untouched it was {start['retention']:.2f}"
        )
    for what in (name for name in start if name.startswith("language_")):
        if values[what] < start[what] - LANGUAGE_ALARM:
            return (
                f"the start's language {what.removeprefix('language_')} is going: its score is {values[what]:.2f}, "
                f"untouched it was {start[what]:.2f}"
            )
    return ""
