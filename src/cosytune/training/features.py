"""The features that training reads: made once per corpus and set of front ends."""

from __future__ import annotations

from typing import cast, get_args

from cosytune.data.corpus import Corpus, read_json
from cosytune.data.engine import EngineName, open_engine, usable_cores
from cosytune.data.extract import extract_features
from cosytune.data.features import Extractors, FeatureStore
from cosytune.data.pace import Pace
from cosytune.errors import DataError
from cosytune.files import write_json
from cosytune.models.extractors import FrontEnds
from cosytune.models.folder import Model
from cosytune.models.onnx_session import OnnxPrecision
from cosytune.training.jobs import Reporter

__all__ = ["corpus_features", "features_hash", "precision_of", "set_precision"]

PRECISION_RECORD = "onnx_precision.json"
"""In a corpus's folder of features, if it is not prepared in float32."""

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
    onnx_precision: OnnxPrecision | None = None,
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
        onnx_precision: of a released speech tokenizer; None: what the corpus was prepared in (`precision_of`). What is
            rehearsed, or tried out, beside a corpus takes the precision of that corpus.
    """
    precision = onnx_precision or precision_of(corpus, model)
    front_ends = FrontEnds(model, precision)
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
        teller, batch_seconds = _Teller(name, reporter), front_ends.batch_seconds
        store = extract_features(corpus, extractors, engine=at_work, progress=teller, batch_seconds=batch_seconds)
    if store.pace is not None and store.pace.audio_seconds:
        reporter.say(store.pace.sentence())
        if precision != "float32":
            reporter.say(f"{name}: the speech tokenizer ran in {precision}")
    return store


def precision_of(corpus: Corpus, model: Model) -> OnnxPrecision:
    """In which precision the speech tokenizer of a model listens to a corpus.

    It is a property of the corpus, chosen when it was prepared: whoever needs its features finds those, and they are
    never mixed with others. Networks of our own run in float32 whatever was chosen.

    Raises:
        DataError: the corpus's record is damaged.
    """
    path = corpus.path / "features" / PRECISION_RECORD
    if "speech_tokenizer" not in model.onnx or not path.exists():
        return "float32"
    found = read_json(path)
    if found not in get_args(OnnxPrecision):
        raise DataError(f"{path} is damaged; prepare the corpus again with --onnx-precision")
    return cast(OnnxPrecision, found)


def set_precision(corpus: Corpus, precision: OnnxPrecision) -> None:
    """Choose the precision for a corpus from now on; features made in the other stay where they are, and are unused."""
    path = corpus.path / "features" / PRECISION_RECORD
    if precision == "float32":
        path.unlink(missing_ok=True)
    else:
        path.parent.mkdir(exist_ok=True)
        write_json(path, precision)


def features_hash(corpus: Corpus, model: Model) -> str:
    """Identity of the features that `corpus_features` makes.

    Raises:
        ModelError: the model lacks a front end.
        DataError: the corpus's record is damaged.
    """
    return model.extractor_hash(precision_of(corpus, model))


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
