"""The features that training reads: made once per corpus and set of front ends."""

from __future__ import annotations

from cosytune.data.corpus import Corpus
from cosytune.data.features import Extractors, FeatureStore
from cosytune.data.prepare import extract_features
from cosytune.models.extractors import FrontEnds
from cosytune.models.folder import Model
from cosytune.training.jobs import Reporter

__all__ = ["corpus_features"]


def corpus_features(corpus: Corpus, model: Model, reporter: Reporter) -> FeatureStore:
    """Speech tokens, speaker vectors and mel of a corpus as this model's front ends hear them; resumable."""
    front_ends = FrontEnds(model)
    extractors = Extractors(
        hash=front_ends.hash,
        sample_rate=front_ends.sample_rate,
        tokens=front_ends.tokens,
        embedding=front_ends.embedding,
        mel=front_ends.mel,
        frames_per_token=front_ends.clock.frames_per_token,
    )
    name = f"features of {corpus.path.name}"
    reporter.start(name, len(corpus.utterances()))
    return extract_features(corpus, extractors, progress=lambda done, total: reporter.move(name, done))
