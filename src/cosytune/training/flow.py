"""Training of the flow: conditional flow matching from speech tokens to mel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from cosytune.data.batch import Batch, collate, move
from cosytune.data.features import FeatureStore
from cosytune.data.manifest import Utterance
from cosytune.models.flow.loss import FlowDraws, FlowTerms, draw, flow_terms, gaussian_baseline
from cosytune.models.folder import Model
from cosytune.training.clips import spread
from cosytune.training.rehearsal import RehearsedFeatures
from cosytune.training.settings import LoopSettings, StageName, vector_kind
from cosytune.training.task import Draws, LossReport, Task

__all__ = ["FlowTask"]

VALIDATION_CLIPS = 256
VALIDATION_BATCH = 16


class FlowTask(Task):
    """Velocity loss with prompt and condition dropping, plus the prior loss if the settings weigh it."""

    part = "flow"
    baseline_name = "mean and variance of each band"

    def __init__(
        self,
        model: Model,
        train: Sequence[Utterance],
        validation: Sequence[Utterance],
        features: FeatureStore | RehearsedFeatures,
        stage: StageName,
        settings: LoopSettings,
        device: torch.device,
        rehearsal: Sequence[Utterance] = (),
    ) -> None:
        self.network = model.part(self.part).to(device)
        self._features, self._stage = features, stage
        self._settings, self._device = settings, device
        self._frame_rate = model.clock.frame_rate
        self._train, self._rehearsal = train, rehearsal
        self._validation = [clip.id for clip in spread(validation, VALIDATION_CLIPS)]

    def clips(self) -> Sequence[Utterance]:
        """All training clips; transcripts are not needed."""
        return self._train

    def rehearsal(self) -> Sequence[Utterance]:
        """Clips of the start's own speech."""
        return self._rehearsal

    def batch(self, ids: list[str], draws: Draws) -> tuple[Batch, FlowDraws]:
        """Tokens, mel and vectors, and the times, noises and prompts of each clip."""
        batch = move(collate(self._features.read(ids), _no_text, speaker=vector_kind(self._stage)), self._device)
        assert batch.mel is not None and batch.mel_lengths is not None
        drawn = draw(self.network.config, batch.mel_lengths, batch.mel.shape[2], [draws.of(clip) for clip in ids])
        return batch, drawn

    def loss(self, batch: tuple[Batch, FlowDraws], draws: Draws) -> LossReport:
        """Mean squared error of the velocity, plus `prior_weight` times the prior's mean absolute error."""
        terms, frames = self._terms(*batch)
        seconds = frames / self._frame_rate
        loss = terms.velocity + self._settings.prior_weight * terms.prior
        return LossReport(loss, {"velocity": terms.velocity.detach(), "prior": terms.prior.detach()}, seconds, frames)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Both terms over the held-out clips, with the same times, noises and prompts every time."""
        self.network.eval()
        draws = Draws(seed=0, step=0)
        velocity = prior = frames = 0.0
        for begin in range(0, len(self._validation), VALIDATION_BATCH):
            terms, count = self._terms(*self.batch(self._validation[begin : begin + VALIDATION_BATCH], draws))
            velocity += float(terms.velocity) * count
            prior += float(terms.prior) * count
            frames += count
        return {"velocity": velocity / frames, "prior": prior / frames}

    def baseline(self) -> dict[str, float]:
        """The best velocity that knows only mean and variance of each band (see `gaussian_baseline`)."""
        mels = [row.mel for row in self._features.read(self._validation) if row.mel is not None]
        variance = torch.from_numpy(np.concatenate(mels, axis=1)).double().var(dim=1)
        return {"velocity": gaussian_baseline(variance, self.network.config.sigma_min)}

    def _terms(self, batch: Batch, drawn: FlowDraws) -> tuple[FlowTerms, int]:
        """Both terms of one batch, and its mel frames."""
        assert batch.mel is not None and batch.mel_lengths is not None
        output = self.network(
            batch.speech_tokens, batch.speech_lengths, batch.mel, batch.mel_lengths, batch.speaker_vectors, drawn
        )
        return flow_terms(output), int(batch.mel_lengths.sum())


def _no_text(text: str) -> list[int]:
    return []
