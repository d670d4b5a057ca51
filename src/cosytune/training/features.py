"""The features that training reads: made once per corpus and set of front ends."""

from __future__ import annotations

from cosytune.data.corpus import Corpus
from cosytune.data.engine import EngineName, open_engine, usable_cores
from cosytune.data.extract import extract_features
from cosytune.data.features import Extractors, FeatureStore
from cosytune.data.pace import Pace
from cosytune.models.extractors import FrontEnds
from cosytune.models.folder import Model
from cosytune.training.jobs import Reporter

__all__ = ["corpus_features"]

SECONDS_FOR_PROCESSES = 600.0
"""Audio from which on the start of worker processes (some seconds each) is worth it."""
SECONDS_BETWEEN_LINES = 60.0


def corpus_features(
    corpus: Corpus,
    model: Model,
    reporter: Reporter,
    *,
    engine: EngineName = "local",
    workers: int | None = None,
    address: str | None = None,
) -> FeatureStore:
    """Speech tokens, speaker vectors and mel of a corpus as this model's front ends hear them; resumable.

    Args:
        corpus: what to analyse.
        model: whose front ends.
        reporter: told how far the work is and, once a minute, how many hours of audio it does per hour.
        engine: "local", or "ray" for a cluster whose machines all see corpus, recordings and model at these paths.
        workers: processes; None is one per core, or this process alone for a short corpus. Each of them holds the front
            ends in memory.
        address: of the Ray cluster (see `open_engine`).
    """
    front_ends = FrontEnds(model)
    extractors = Extractors(
        hash=front_ends.hash,
        sample_rate=front_ends.sample_rate,
        tokens=front_ends.tokens,
        embedding=front_ends.embedding,
        mel=front_ends.mel,
        frames_per_token=front_ends.clock.frames_per_token,
        hashes=front_ends.hashes,
    )
    if engine == "local" and workers is None:
        workers = usable_cores() if corpus.info["seconds"] >= SECONDS_FOR_PROCESSES and model.path is not None else 1
    name = f"features of {corpus.path.name}"
    with open_engine(engine, workers, address=address) as at_work:
        store = extract_features(corpus, extractors, engine=at_work, progress=_Teller(name, reporter))
    if store.pace is not None and store.pace.audio_seconds:
        reporter.say(store.pace.sentence())
    return store


class _Teller:
    """Shows a bar once there is something to do, moves it, and says the pace now and then."""

    def __init__(self, name: str, reporter: Reporter) -> None:
        self._name, self._reporter = name, reporter
        self._begun, self._said = False, 0.0

    def __call__(self, pace: Pace) -> None:
        if not pace.audio_seconds:
            return  # all there since an earlier command
        if not self._begun:
            self._begun = True
            self._reporter.start(self._name, pace.total)
        self._reporter.move(self._name, pace.done)
        if pace.wall_seconds - self._said >= SECONDS_BETWEEN_LINES:
            self._said = pace.wall_seconds
            self._reporter.say(f"{self._name}: {pace.hours_per_hour:.1f} hours of audio per hour")
