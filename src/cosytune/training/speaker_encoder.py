"""Training of the speaker encoder: vectors of one speaker together, of different speakers apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cosytune.audio.fbank import kaldi_fbank_batch, mean_normalised
from cosytune.data.clip_index import ClipView, only
from cosytune.data.manifest import Utterance
from cosytune.errors import DataError
from cosytune.models.folder import Model
from cosytune.models.speaker_encoder.loss import MarginSoftmax
from cosytune.training.clips import Catalogue, spread
from cosytune.training.settings import LoopSettings
from cosytune.training.task import Draws, LossReport, Task
from cosytune.training.waves import Waves
from cosytune.units import FEATURE_SAMPLE_RATE, samples_of_seconds

__all__ = ["SpeakerEncoderTask"]

VALIDATION_CLIPS = 128
VALIDATION_BATCH = 16


class SpeakerEncoderTask(Task):
    """Classification of the training speakers with an angular margin, on random crops."""

    part = "speaker_encoder"
    baseline_name = "all speakers alike"

    def __init__(
        self,
        model: Model,
        train: Sequence[Utterance],
        validation: Sequence[Utterance],
        settings: LoopSettings,
        device: torch.device,
    ) -> None:
        """Number the speakers.

        Raises:
            DataError: fewer than two speakers, or none of them in the validation side.
        """
        speakers = sorted({clip.speaker for clip in train})
        if len(speakers) < 2:
            raise DataError(
                f"the corpus has {len(speakers)} speaker, and a speaker encoder learns from differences; add speakers, "
                "or start from a model that has a speaker encoder (--start) and leave it out of --parts"
            )
        labels = {speaker: number for number, speaker in enumerate(speakers)}
        held_out = spread(only(validation, lambda clip: clip.speaker in labels), VALIDATION_CLIPS)
        if not held_out:
            raise DataError(
                "no validation clip is of a speaker that the training side has; "
                "prepare the corpus with more recordings per speaker or a larger --validation"
            )
        self.network = model.part(self.part).to(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self._margin = MarginSoftmax(self.network.config.speaker_width, len(speakers)).to(device)
        self.head = self._margin
        self._labels = labels
        self._device, self._settings = device, settings
        self._train = train
        self._validation = [clip.id for clip in held_out]
        self._clips = Catalogue(train, held_out)
        self._waves = Waves(self._clips, FEATURE_SAMPLE_RATE)

    def clips(self) -> Sequence[Utterance]:
        """All training clips, transcribed or not, each as long as the crop that is taken of it."""
        return ClipView(self._train, seconds=self._settings.crop_seconds)

    def batch(self, ids: list[str], draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
        """Features [B, F, M] of one random crop per clip, their lengths [B] and the numbers of their speakers [B]."""
        # A clip alone, such as the last of an epoch, gives two crops: batch normalisation needs something to compare.
        takes = 2 if len(ids) == 1 else 1
        ids, generators = ids * takes, [draws.of(clip_id) for clip_id in ids] * takes
        length = samples_of_seconds(self._settings.crop_seconds, FEATURE_SAMPLE_RATE)
        crops, _ = self._waves.crops(ids, length, generators)
        return *self._features(list(crops)), self._targets(ids)

    def loss(self, batch: tuple[Tensor, Tensor, Tensor], draws: Draws) -> LossReport:
        """Margin softmax."""
        features, lengths, targets = batch
        loss, accuracy = self._margin(self.network(features, lengths), targets)
        return LossReport(loss, {"accuracy": accuracy}, len(targets) * self._settings.crop_seconds, len(targets))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Plain cross-entropy without the margin, and accuracy, on whole held-out clips."""
        self.network.eval()
        vectors = torch.cat(
            [
                self.network(
                    *self._features(
                        [self._waves[clip_id] for clip_id in self._validation[begin : begin + VALIDATION_BATCH]]
                    )
                )
                for begin in range(0, len(self._validation), VALIDATION_BATCH)
            ]
        )
        with torch.autocast(self._device.type, enabled=False):  # as `MarginSoftmax` does it
            cosine = (
                torch.nn.functional.normalize(vectors.float())
                @ torch.nn.functional.normalize(self._margin.weight.float()).T
            )
        targets = self._targets(self._validation)
        loss = torch.nn.functional.cross_entropy(self._margin.scale * cosine, targets)
        return {"cross_entropy": loss.item(), "accuracy": (cosine.argmax(1) == targets).float().mean().item()}

    def baseline(self) -> dict[str, float]:
        """Cross-entropy of calling all speakers equally likely."""
        return {"cross_entropy": math.log(len(self._labels))}

    def _features(self, waves: list[Tensor]) -> tuple[Tensor, Tensor]:
        with torch.autocast(self._device.type, enabled=False):  # validation asks for them in the network's precision
            features, lengths = kaldi_fbank_batch(waves, self.network.config.bins)
            return mean_normalised(features, lengths).to(self._device), lengths.to(self._device)

    def _targets(self, ids: list[str]) -> Tensor:
        return torch.tensor([self._labels[self._clips[clip_id].speaker] for clip_id in ids], device=self._device)
