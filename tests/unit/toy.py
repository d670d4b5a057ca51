"""A family of tiny networks and a tiny spoken corpus: what tests of training run on."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cosytune.audio.mel import MelConfig
from cosytune.data.corpus import Corpus
from cosytune.data.manifest import read_manifest, write_manifest
from cosytune.data.prepare import prepare_corpus
from cosytune.data.synthesised import synthesise_corpus
from cosytune.models.flow.config import EstimatorConfig, FlowConfig
from cosytune.models.folder import write_model
from cosytune.models.layers.config import PartConfig
from cosytune.models.layers.encoder import EncoderConfig
from cosytune.models.lm.config import LMConfig
from cosytune.models.sizes import SIZES, FamilySize
from cosytune.models.speaker_encoder.config import SpeakerEncoderConfig
from cosytune.models.speech_tokenizer.config import FSQConfig, SpeechTokenizerConfig
from cosytune.models.vocoder.config import VocoderConfig
from cosytune.training.jobs import PartJob, run_job
from cosytune.training.results import PartResult, read_metrics
from cosytune.training.settings import LoopSettings, PartName
from cosytune.training.stages import initial_model
from cosytune.training.task import Draws, LossReport, Task
from cosytune.units import Clock

SILENT = "v003"
"""The voice (of four) whose clips come without transcripts."""


def loss_of(task: Task, ids: list[str], draws: Draws) -> LossReport:
    """What a task learns from clips."""
    return task.loss(task.batch(ids, draws), draws)


LOOPS: dict[PartName, dict[str, Any]] = {
    "speech_tokenizer": {"batch_seconds": 8.0, "continuous": 0.3},
    "speaker_encoder": {"batch_seconds": 6.0, "crop_seconds": 0.5},
    "vocoder": {"batch_seconds": 1.0, "crop_seconds": 0.2},
    "lm": {"batch_seconds": 12.0, "concatenate": 0.4},
    "flow": {"batch_seconds": 12.0, "prior_weight": 0.5, "average": 0.9},
}


def toy_parts(text_vocabulary: int, dropout: float = 0.1) -> dict[str, PartConfig]:
    encoder = EncoderConfig(
        input=16, width=16, heads=2, feed_forward=32, layers=1, dropout=dropout, position_dropout=0.0
    )
    causal = encoder.model_copy(update={"chunk": 1})
    return {
        "speech_tokenizer": SpeechTokenizerConfig(
            symbols=text_vocabulary, bins=80, width=16, heads=2, feed_forward=32, layers_before=1, layers_after=1,
            memory_kernel=5, dropout=dropout, quantiser=FSQConfig(levels=(3, 3, 3)),
        ),
        "speaker_encoder": SpeakerEncoderConfig(
            speaker_width=12, front_channels=2, front_blocks=(1,), tdnn_channels=16, growth=4, bottleneck=8,
            blocks=(1,), dilations=(1,),
        ),
        "lm": LMConfig(
            text_vocabulary=text_vocabulary, speech_codebook=27, speaker_width=12, text_encoder=causal, decoder=causal
        ),
        "flow": FlowConfig(
            speech_codebook=27, token_width=16, mel_bins=20, speaker_width=12, encoder=encoder, regulator_layers=1,
            estimator=EstimatorConfig(channels=(16,), blocks=1, mid_blocks=1, heads=2, head_width=8, dropout=dropout),
        ),
        "vocoder": VocoderConfig(
            sample_rate=16_000, hop=320, base_channels=8, upsample_rates=(10,), upsample_kernels=(20,),
            istft_n_fft=64, istft_hop=32, f0_width=8, mel_bins=20, resblock_kernels=(3,), resblock_dilations=((1,),),
            source_kernels=(3,), source_dilations=((1,),), harmonics=2,
        ),
    }  # fmt: skip


TOY = FamilySize(Clock(16_000, 320, 25), MelConfig(16_000, 1024, 1024, 320, 20, 0.0, 8000.0), 0, 60, toy_parts)


def make_corpus(folder: Path, *, voices: int = 4, minutes: float = 0.3, seed: int = 5) -> Corpus:
    """Some seconds of each voice, the fourth without transcripts, prepared with a fifth on each held-out side."""
    recordings = folder / "recordings"
    synthesise_corpus(recordings, voices=voices, minutes_per_voice=minutes, seed=seed, sample_rate=16_000, format="wav")
    clips = read_manifest(recordings / "manifest.jsonl")
    write_manifest(
        recordings / "manifest.jsonl",
        [replace(clip, text=None) if clip.speaker.startswith(SILENT) else clip for clip in clips],
    )
    return prepare_corpus(recordings, folder / "corpus", validation=0.2, test=0.1)


def make_model(folder: Path, corpus: Corpus, dropout: float = 0.1) -> Path:
    """The toy family with random weights, as a folder."""
    SIZES["toy"] = replace(TOY, parts=partial(toy_parts, dropout=dropout))
    try:
        texts = [clip.text for clip in corpus.utterances("train") if clip.text]
        write_model(initial_model("toy", texts, seed=3), folder)
    finally:
        del SIZES["toy"]
    return folder


def toy_settings(part: PartName, **changes: Any) -> LoopSettings:
    common = {"steps": 6, "learning_rate": 3e-3, "warmup_steps": 2, "validate_every": 3, "checkpoint_every": 2}
    return LoopSettings(**{**common, **LOOPS[part], **changes})


def toy_job(part: PartName, model: Path, corpus: Corpus, folder: Path, **changes: Any) -> PartJob:
    return PartJob(part, part, "pretrain", model, corpus.path, folder, toy_settings(part, **changes), threads=1)


def outcome(folder: Path) -> tuple[dict[str, torch.Tensor], list[Any]]:
    """Everything that two equal runs must agree in: weights and curves."""
    return torch.load(folder / "weights.pt", weights_only=True), list(read_metrics(folder / "metrics.jsonl"))


def same(first: Path, second: Path) -> bool:
    (weights, curves), (others, other_curves) = outcome(first), outcome(second)
    return (
        curves == other_curves
        and weights.keys() == others.keys()
        and all(torch.equal(value, others[name]) for name, value in weights.items())
    )


def train_toy(part: PartName, model: Path, corpus: Corpus, folder: Path, **changes: Any) -> PartResult:
    return run_job(toy_job(part, model, corpus, folder, **changes))


def toy_pitch(wave: np.ndarray, sample_rate: int, hop: int, frames: int) -> np.ndarray:
    """An F0 that costs nothing: every fourth frame unvoiced, the others after their place."""
    places = np.arange(frames)
    return np.where(places % 4 == 0, 0.0, 80.0 + places % 90).astype(np.float32)


class Quiet:
    """A reporter that remembers what it was told."""

    def __init__(self) -> None:
        self.started: dict[str, int] = {}
        self.moved: dict[str, int] = {}
        self.lines: list[str] = []

    def start(self, name: str, total: int) -> None:
        self.started[name] = total

    def move(self, name: str, done: int) -> None:
        self.moved[name] = done

    def say(self, line: str) -> None:
        self.lines.append(line)
