"""One model on the held-out sentences of a corpus, beside its ceilings."""

from __future__ import annotations

from pathlib import Path

from cosytune.comparison.compose.hearing import evaluation_of, run_systems
from cosytune.comparison.compose.material import sentences_of
from cosytune.comparison.compose.systems import SystemJob
from cosytune.comparison.plan import COPY, RECORDINGS
from cosytune.data.corpus import Corpus
from cosytune.evaluation.results import Evaluation
from cosytune.files import write_json
from cosytune.models.folder import read_model
from cosytune.training.features import corpus_features
from cosytune.training.jobs import Reporter

__all__ = ["evaluate"]


def evaluate(model: Path, corpus: Corpus, output: Path, sentences: int, workers: int, reporter: Reporter) -> Evaluation:
    """Score one model on the held-out sentences of a corpus, beside the recordings and their copy-synthesis.

    Raises:
        CosytuneError: model or corpus cannot be used.
    """
    chosen = sentences_of(corpus, sentences)
    loaded = read_model(model)
    corpus_features(corpus, loaded, reporter)
    ids, systems = tuple(clip.id for clip in chosen), output / "systems"
    # The name comes from the folder's description: anything may be written there, so it names no path and no ceiling.
    name = f"model {loaded.name}" if loaded.name in (RECORDINGS, COPY) else loaded.name
    jobs = [
        SystemJob(RECORDINGS, "recordings", None, corpus.path, systems / RECORDINGS, (0,), ids, workers, damage=True),
        SystemJob(COPY, "copy", model, corpus.path, systems / COPY, (0,), ids, workers),
        SystemJob(name, "model", model, corpus.path, systems / "model", (0,), ids, workers),
    ]
    heard = run_systems(jobs, workers, reporter)
    for failure in (line for found in heard.values() for line in found.failures):
        reporter.say(failure)
    evaluation = evaluation_of(chosen, heard)
    write_json(output / "evaluation.json", evaluation.to_json())
    return evaluation
