"""What a run takes in memory, disk and time, from trials of its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cosytune.comparison.compose.retention import OLD_SENTENCES, old_voices_heard
from cosytune.data.corpus import Corpus
from cosytune.data.manifest import Utterance
from cosytune.models.folder import Model
from cosytune.models.memory import FLOAT
from cosytune.training import flow, lm, speaker_encoder, speech_tokenizer, vocoder
from cosytune.training.clips import spread
from cosytune.training.plan_results import PartPlan, PreflightResult, Trial
from cosytune.training.run import KEEP_CHECKPOINTS

__all__ = ["disk_of", "listening_seconds", "memory_of", "part_seconds", "whole_seconds"]

VALIDATED_CLIPS: Mapping[str, int] = {
    "speech_tokenizer": speech_tokenizer.VALIDATION_CLIPS,
    "speaker_encoder": speaker_encoder.VALIDATION_CLIPS,
    "vocoder": vocoder.VALIDATION_CLIPS,
    "lm": lm.VALIDATION_CLIPS,
    "flow": flow.VALIDATION_CLIPS,
}
"""Held-out clips that each part validates on, at most."""

_SMALL_FEATURES = 1000
"""Bytes a second of tokens, vectors and texts beside the mel."""


def part_seconds(part: PartPlan, trial: Trial, held_out: Sequence[Utterance], listening: float) -> dict[str, float]:
    """Wall time of one part by what it is spent on, from what a trial measured."""
    steps, every = part.settings["steps"], part.settings
    validated = sum(clip.seconds for clip in spread(held_out, VALIDATED_CLIPS[part.part]))
    validations = 2 + (steps - 1) // every["validate_every"]
    checkpoints = 1 + (steps - 1) // every["checkpoint_every"]
    return {
        "updates": steps * (trial.step_seconds or 0.0),
        "validation": validations * validated * trial.validate_seconds,
        "checkpoints": checkpoints * trial.save_seconds,
        "listening": listening,
    }


def listening_seconds(part: PartPlan, sentences: int, old_voices: int, spoken_seconds: float | None) -> float:
    """Wall time of speaking for whoever hears checkpoints; judging what was spoken comes on top.

    Args:
        part: the hearings follow from its settings.
        sentences: validation sentences, 0 where nobody listens.
        old_voices: named voices of the start.
        spoken_seconds: wall time of a sentence; None if none was spoken.
    """
    if not sentences or spoken_seconds is None:
        return 0.0
    hearings = 1 + -(-part.settings["steps"] // part.settings["score_every"])
    old = old_voices_heard(old_voices, sentences) * min(sentences, OLD_SENTENCES)
    return hearings * (sentences + old) * spoken_seconds


def whole_seconds(
    parts: Sequence[PartPlan], workers: int, features: float | None, found: PreflightResult | None
) -> dict[str, float]:
    """Wall time of the run; parts that are trained side by side take as long as the slowest of them."""
    if found is None or not all(part.seconds for part in parts):
        return {}
    each = sorted((sum(part.seconds.values()) for part in parts), reverse=True)
    training = sum(each[:: max(1, workers)])
    total = {"features": features or 0.0, "preflight": found.seconds, "training": training}
    return {**total, "all": sum(total.values())}


def memory_of(
    parts: Sequence[PartPlan], outline: Model, workers: int, free: int, *, listens: bool
) -> dict[str, int | None]:
    """Bytes that are free, and that all processes of the run need at the same time.

    Measured are the processes that train. Added are the whole model once for the process that leads, and once for each
    that listens to checkpoints.
    """
    peaks = [part.trial.peak_bytes for part in parts if part.trial is not None]
    if len(peaks) < len(parts) or any(peak is None for peak in peaks):
        return {"free": free, "needed": None}
    model = FLOAT * sum(outline.parameters().values())
    together = sorted((peak or 0 for peak in peaks), reverse=True)[: max(1, workers)]
    return {"free": free, "needed": sum(together) + model * (1 + (len(together) if listens else 0))}


def disk_of(
    parts: Sequence[PartPlan], outline: Model, corpus: Corpus, free: int, with_features: bool
) -> dict[str, int]:
    """Bytes that are free and needed at the fullest moment: checkpoints, kept ones, results, features."""
    if any(part.trial is None or not part.trial.checkpoint_bytes for part in parts):
        return {}
    checkpoints = kept = weights = 0
    for part in parts:
        assert part.trial is not None
        # One more than are kept: a new one is whole before the oldest goes.
        checkpoints += (KEEP_CHECKPOINTS + 1) * part.trial.checkpoint_bytes
        kept += (part.settings["keep_best"] + 1) * part.trial.weights_bytes
        weights += FLOAT * part.parameters
    mel = FLOAT * outline.mel.bins * outline.clock.frame_rate
    features = round(corpus.info["seconds"] * (mel + _SMALL_FEATURES)) if with_features else 0
    onnx = sum(path.stat().st_size for path in outline.onnx.values() if path.is_file())
    model = FLOAT * sum(outline.parameters().values()) + onnx
    # A model folder is written beside and renamed.
    found = {"checkpoints": checkpoints, "best": kept, "weights": weights, "model": model, "features": features}
    return {"free": free, "needed": sum(found.values()), **found}
