"""The minute before a run: one real update of each part, saved, read again by a fresh process, and a sentence spoken.

All of it happens in processes of its own and in a temporary folder: the run that follows does not notice.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cosytune.audio.files import read_wave
from cosytune.data.batch import Batch, collate, move
from cosytune.data.corpus import Corpus
from cosytune.data.sentences import LANGUAGES, sentences
from cosytune.errors import CosytuneError, DataError, TrainingError
from cosytune.files import write_json
from cosytune.models.checkpoints import read_checkpoint
from cosytune.models.extractors import FrontEnds
from cosytune.models.folder import Model, read_model, write_model
from cosytune.models.inspection import inspect_model
from cosytune.models.loading import load_strictly
from cosytune.models.voices import Voice
from cosytune.synthesis.guards import GuardConfig
from cosytune.synthesis.requests import Request
from cosytune.synthesis.synthesiser import Synthesiser
from cosytune.text.language import base_language
from cosytune.text.tokenizers import load_tokenizer
from cosytune.training.clips import spoken_text
from cosytune.training.few_clips import FewClips, few_clips
from cosytune.training.fresh import in_fresh_process
from cosytune.training.jobs import PartJob, Reporter
from cosytune.training.label_checks import alignment_check, label_check
from cosytune.training.loop import train
from cosytune.training.parts import task_of
from cosytune.training.plan_results import PreflightCheck, PreflightResult
from cosytune.training.processes import device
from cosytune.training.results import read_metrics, read_record_as
from cosytune.training.run import PartRun
from cosytune.training.settings import vector_kind

__all__ = ["RECORD", "preflight", "preflight_once"]

RECORD = "preflight.json"

TOLERANCE = 1e-4
"""Relative difference of validation values that rounding may make; on a processor there is none."""

_WORDS, _CHARACTERS = 12, 24
"""Of the spoken sentence, at most: a start that knows nothing speaks on until it is stopped."""

_MODEL = "model"

_TRIES = 5
"""Timings of the front ends, of which the quickest counts."""

Caller = Callable[..., Any]
"""Calls a function in another process, as `in_fresh_process` does."""


@dataclass(frozen=True)
class _Trained:
    """What the first process found.

    Attributes:
        values: by part, what it validated at right before it was saved; parts that failed are not there.
        feature_seconds: wall time of analysing a second of audio; None if all features were there.
    """

    checks: tuple[PreflightCheck, ...]
    values: dict[str, dict[str, float]]
    feature_seconds: float | None


def preflight_once(
    jobs: Sequence[PartJob],
    folder: Path,
    reporter: Reporter,
    *,
    force: bool,
    call: Caller = in_fresh_process,
) -> PreflightResult:
    """The preflight of a run, recorded in its folder; a resumed run finds the record and does not repeat it.

    Args:
        jobs: what is to be trained.
        folder: of the run.
        reporter: hears each check.
        force: go on although a check failed.
        call: how another process is called.

    Raises:
        TrainingError: a check failed and `force` is off.
    """
    path = folder / RECORD
    if path.is_file():
        earlier = read_record_as(path, PreflightResult.from_json)
        if force or not earlier.failed:
            return earlier
    reporter.say("preflight: one update, a reload in a fresh process and a sentence, about a minute")
    result = preflight(jobs, call=call)
    write_json(path, result.to_json())
    for check in result.checks:
        reporter.say(f"preflight: {check.in_words()}")
    if result.failed and not force:
        raise TrainingError(
            f"the preflight failed: {result.failed[0].in_words()}; nothing was trained (all checks are in {path}); "
            "mend it and give the same command, or give --force to train all the same"
        )
    return result


def preflight(jobs: Sequence[PartJob], *, call: Caller = in_fresh_process) -> PreflightResult:
    """Try everything that a run will do on a few clips.

    Raises:
        CosytuneError: corpus or model cannot be used at all.
    """
    began = time.perf_counter()
    spoken: float | None = None
    feature_seconds: float | None = None
    checks: list[PreflightCheck] = []
    with tempfile.TemporaryDirectory(prefix="cosytune-preflight-") as folder:
        place = Path(folder)
        try:
            trained: _Trained = call(_train, tuple(jobs), place)
            checks += trained.checks
            feature_seconds = trained.feature_seconds
            # Where an update failed, a network may be left with its adapters in.
            if len(trained.values) == len(jobs):
                more, spoken = call(_reload, tuple(jobs), place, trained.values)
                checks += more
        except BrokenProcessPool:
            words = "the process was killed, most often for want of memory; see `cosytune plan` for what is needed"
            checks.append(PreflightCheck("reload" if checks else "update", "", "failed", words))
    return PreflightResult(tuple(checks), time.perf_counter() - began, spoken, feature_seconds)


def _train(jobs: Sequence[PartJob], place: Path) -> _Trained:
    """First process: check labels, make one update of each part, write the model."""
    model = read_model(jobs[0].model)
    kind = inspect_model(jobs[0].model).identity.kind
    corpus = Corpus(jobs[0].corpus)
    clips = few_clips(corpus, model, place)
    checks: list[PreflightCheck] = []
    values: dict[str, dict[str, float]] = {}
    for job in jobs:
        if job.part in ("lm", "flow"):
            checks.append(_labels(job, model, clips, kind))
        check, validated = _update(job, model, clips, place)
        checks.append(check)
        if validated is not None:
            values[job.part] = validated
    vectors = clips.features.speaker_vectors
    voices = {name: Voice(torch.from_numpy(vector)) for name, vector in vectors.items()}
    write_model(replace(model, name="preflight", voices={**model.voices, **voices}), place / _MODEL)
    return _Trained(tuple(checks), values, _analysing(model, clips) if clips.made else None)


def _update(job: PartJob, model: Model, clips: FewClips, place: Path) -> tuple[PreflightCheck, dict[str, float] | None]:
    """One update by the real loop at the full rate; the values that the result validates at, None if it failed."""
    settings = job.settings.model_copy(
        # The adversary of a vocoder that is to have one takes part.
        update={"steps": 1, "adversarial_share": 1.0 if job.settings.adversarial_share else 0.0}
    )
    task = task_of(replace(job, settings=settings), model, clips.train, clips.validation, device(), clips.features)
    run = PartRun(place / job.part, {"part": job.part})
    try:
        with torch.random.fork_rng(devices=[]):
            result = train(task, settings, run, batches=[[clip.id for clip in clips.train]])
    except TrainingError as error:
        return PreflightCheck("update", job.part, "failed", str(error)), None
    curves = {point.name: point.value for point in read_metrics(run.metrics_path) if point.side == "train"}
    weights = read_checkpoint(_weights(place, job.part))
    broken = [name for name, weight in weights.items() if not torch.isfinite(weight).all()]
    if result.skipped or broken:
        what = f"weight {broken[0]} is" if broken else "the loss or its gradient is"
        words = f"{what} not finite; look for silent or damaged clips ({', '.join(c.id for c in clips.train)})"
        return PreflightCheck("update", job.part, "failed", words, curves), None
    # As a run ends: the weights that were saved (averaged, adapters merged) go back into the model, in float32.
    load_strictly(task.network, weights, "the update's weights")
    words = f"loss {curves['loss']:.3f}, gradient norm {curves['gradient_norm']:.3g}, all weights finite"
    return PreflightCheck("update", job.part, "passed", words, curves), task.validate()


def _labels(job: PartJob, model: Model, clips: FewClips, kind: str) -> PreflightCheck:
    tokenizer = load_tokenizer(model.tokenizer.kind, model.tokenizer.data)
    rows = [
        replace(row, text=spoken_text(clip.text, clip.language))
        for row, clip in zip(clips.features.read([clip.id for clip in clips.train]), clips.train, strict=True)
    ]
    batch: Batch = move(collate(rows, tokenizer.encode, speaker=vector_kind(job.stage)), device())
    network = model.part(job.part).to(device())
    if job.part == "flow":
        return alignment_check(network, batch, model.clock.frame_rate, kind)
    if not batch.text_tokens.shape[1]:
        # The text encoder cannot run over no position at all; a masked one changes nothing.
        batch = replace(batch, text_tokens=batch.text_tokens.new_zeros(len(rows), 1))
    return label_check(network, batch, kind)


def _analysing(model: Model, clips: FewClips) -> float:
    """Wall time that the front ends, already open, take for a second of audio: the quickest of some tries.

    One try of a short clip varied fifty-fold on two busy cores, and a plan multiplies it by the whole corpus.
    """
    front_ends = FrontEnds(model)
    clip = clips.train[0]
    span = (clip.start or 0.0, clip.end)
    waves = [read_wave(Path(clip.audio), rate, *span)[0] for rate in (16_000, front_ends.sample_rate)]
    seconds = []
    for _ in range(_TRIES + 1):  # the first time opens the networks
        began = time.perf_counter()
        front_ends.tokens([waves[0]])
        front_ends.embedding([waves[0]])
        front_ends.mel(waves[1])
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:]) / clip.seconds


def _reload(
    jobs: Sequence[PartJob], place: Path, values: Mapping[str, Mapping[str, float]]
) -> tuple[list[PreflightCheck], float | None]:
    """Second process: read the model, validate what was trained again, speak; also the seconds of speaking."""
    checks = []
    try:
        model = read_model(place / _MODEL)
    except CosytuneError as error:
        return [PreflightCheck("reload", "", "failed", str(error))], None
    clips = few_clips(Corpus(jobs[0].corpus), model, place)
    for job in jobs:
        task = task_of(job, model, clips.train, clips.validation, device(), clips.features)
        checks.append(_compared(job.part, values[job.part], task.validate()))
    check, seconds = _speak(model, clips)
    return [*checks, check], seconds


def _compared(part: str, before: Mapping[str, float], after: Mapping[str, float]) -> PreflightCheck:
    numbers = {f"{name} {when}": own[name] for name in before for when, own in (("saved", before), ("read", after))}
    said = ", ".join(f"{name} {before[name]:.6g} when saved, {after[name]:.6g} when read again" for name in before)
    alike = all(math.isclose(before[name], after[name], rel_tol=TOLERANCE, abs_tol=TOLERANCE) for name in before)
    return PreflightCheck("reload", part, "passed" if alike else "failed", said, numbers)


def _speak(model: Model, clips: FewClips) -> tuple[PreflightCheck, float | None]:
    """Say a short sentence in a voice of the corpus, without second tries."""
    try:
        text, language, voice = _sentence(clips)
        synthesiser = Synthesiser(model, device=device(), guards=GuardConfig(retries=0))
        began = time.perf_counter()
        speech = synthesiser.speak(Request(text, voice, language=language))
    except CosytuneError as error:
        return PreflightCheck("speak", "", "failed", str(error)), None
    seconds = time.perf_counter() - began
    numbers = {"seconds": speech.seconds, "wall_seconds": seconds}
    said = f"{speech.seconds:.1f} s of {voice!r} saying {text!r}"
    if not len(speech.wave) or not np.isfinite(speech.wave).all():
        return PreflightCheck("speak", "", "failed", f"{said}: no samples, or some that are no numbers", numbers), None
    problem = next((piece.problem for piece in speech.pieces if piece.problem), None)
    if problem is not None:
        words = f"{said}: {problem}; the start does not speak in this voice yet"
        return PreflightCheck("speak", "", "cannot tell", words, numbers), seconds
    return PreflightCheck("speak", "", "passed", said, numbers), seconds


def _sentence(clips: FewClips) -> tuple[str, str, str]:
    """Text, language and voice: a held-out transcript if there is one, else one of training, else one of our own."""
    known = clips.features.speaker_vectors
    candidates = [*clips.validation, *clips.train]
    clip = next((clip for clip in candidates if clip.text and clip.speaker in known), clips.train[0])
    if clip.speaker not in known:
        raise DataError(f"speaker {clip.speaker!r} has no vector; prepare the features of the corpus again")
    if clip.text:
        words = clip.text.split()
        return " ".join(words[:_WORDS]) if len(words) > 1 else clip.text[:_CHARACTERS], clip.language, clip.speaker
    language = base_language(clip.language)
    language = language if language in LANGUAGES else "en"
    return sentences(1, language=language)[0].text, language, clip.speaker


def _weights(place: Path, part: str) -> Path:
    return place / part / "weights.pt"
