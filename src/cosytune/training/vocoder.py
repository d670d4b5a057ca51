"""Training of the vocoder: spectral losses first, then, if asked for, against discriminators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from cosytune.audio.mel import flow_mel
from cosytune.audio.pitch import pitch
from cosytune.data.clip_index import ClipView
from cosytune.data.manifest import Utterance
from cosytune.models.folder import Model
from cosytune.models.vocoder.config import DiscriminatorConfig
from cosytune.models.vocoder.discriminators import MultiPeriodDiscriminator, SpectrogramDiscriminator
from cosytune.models.vocoder.loss import (
    discriminator_loss,
    f0_loss,
    feature_matching_loss,
    generator_loss,
    mel_loss,
    multi_resolution_stft_loss,
    relativistic_loss,
)
from cosytune.training.clips import Catalogue, spread
from cosytune.training.settings import LoopSettings
from cosytune.training.task import Draws, LossReport, Task
from cosytune.training.waves import Recent, Waves

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["VocoderTask"]

VALIDATION_CLIPS = 16
VALIDATION_SECONDS = 2.0
MEL_WEIGHT, MATCHING_WEIGHT = 45.0, 2.0
F0_SCALE = 100.0
"""Hz that count as much as one unit of the spectral loss: an untrained F0 must not drown everything else."""
PITCH_BYTES = 256 << 20
"""Of measured F0 that is kept, some hundred hours; it takes longer to measure than to read."""
DISCRIMINATOR_RATE = 2e-4
DISCRIMINATORS = DiscriminatorConfig(period_channels=(16, 64, 128, 128), spectrogram_channels=16)


class VocoderTask(Task):
    """Random crops of recordings, their mel and their measured F0."""

    part = "vocoder"
    baseline_name = "mean of each band and of F0"
    betas = (0.8, 0.99)

    def __init__(
        self,
        model: Model,
        train: Sequence[Utterance],
        validation: Sequence[Utterance],
        settings: LoopSettings,
        device: torch.device,
    ) -> None:
        self.network = model.part(self.part).to(device)
        self._mel, self._hop = model.mel, model.clock.hop
        self._device, self._settings = device, settings
        self._train = train
        held_out = spread(validation, VALIDATION_CLIPS)
        self._validation = [clip.id for clip in held_out]
        self._waves = Waves(Catalogue(train, held_out), model.clock.sample_rate)
        self._tracks = Recent(PITCH_BYTES)
        self._adversary = _Adversary(settings, device) if settings.adversarial_share else None

    def clips(self) -> Sequence[Utterance]:
        """All training clips, each as long as the crop that is taken of it."""
        return ClipView(self._train, seconds=self._settings.crop_seconds)

    def batch(self, ids: list[str], draws: Draws) -> tuple[Tensor, Tensor, list[torch.Generator]]:
        """Crops, their F0, and what their excitation is drawn from."""
        generators = [draws.of(clip_id) for clip_id in ids]
        return *self.crops(ids, generators), generators

    def loss(self, batch: tuple[Tensor, Tensor, list[torch.Generator]], draws: Draws) -> LossReport:
        """Sum of all terms; in the last `adversarial_share` of the updates the discriminators learn first."""
        waves, f0, generators = batch
        features = self._features(waves)
        predicted = self.network.predict_f0(features)
        # The excitation follows the measured F0, so that the filter does not have to wait for the predictor.
        made = self.network.decode(features, self._source(f0, generators))
        adversarial = draws.step >= round((1 - self._settings.adversarial_share) * self._settings.steps)
        with torch.autocast(self._device.type, enabled=False):
            losses = {
                "stft": multi_resolution_stft_loss(made, waves),
                "f0": f0_loss(predicted.float(), f0) / F0_SCALE,
                "mel": mel_loss(made, waves, self._mel),
            }
            if self._adversary is not None and adversarial:
                self._adversary.update(waves, made.detach())
                losses["mel"] = MEL_WEIGHT * losses["mel"]
                losses |= self._adversary.losses(waves, made)
            total = torch.stack(list(losses.values())).sum()
        return LossReport(total, losses, waves.numel() / self._waves.sample_rate, len(waves))

    def crops(self, ids: list[str], generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        """Waves [B, N] of whole frames, beginning at whole frames, and their F0 [B, F] in Hz."""
        frames = round(self._settings.crop_seconds * self._waves.sample_rate / self._hop)
        waves, starts = self._waves.crops(ids, frames * self._hop, generators, align=self._hop)
        tracks = [self._track(clip_id, start // self._hop, frames) for clip_id, start in zip(ids, starts, strict=True)]
        return waves.to(self._device), torch.from_numpy(np.stack(tracks)).to(self._device)

    def accelerate(self, accelerator: Accelerator) -> None:
        """Let the discriminators of all processes learn together."""
        if self._adversary is not None:
            self._adversary.accelerate(accelerator)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean absolute difference of log-mels of held-out pieces, and of F0 in Hz."""
        self.network.eval()
        mel_total = f0_total = 0.0
        for clip_id in self._validation:
            wave = self._piece(clip_id)
            features = self._features(wave)
            made = self.network(features, generator=torch.Generator().manual_seed(0))
            predicted = self.network.predict_f0(features)
            track = torch.from_numpy(self._track(clip_id, 0, features.shape[2])).to(self._device)
            with torch.autocast(self._device.type, enabled=False):  # as in `loss`
                mel_total += float(mel_loss(made.float(), wave, self._mel))
                f0_total += float(f0_loss(predicted.float(), track[None]))
        count = len(self._validation)
        return {"log_mel": mel_total / count, "f0_hz": f0_total / count}

    @torch.no_grad()
    def baseline(self) -> dict[str, float]:
        """Log-mel difference of a wave that always has the average spectrum, and F0 error of always saying its mean."""
        full_band = replace(self._mel, fmax=None)
        pieces = [flow_mel(self._piece(clip_id), full_band)[0].cpu() for clip_id in self._validation]
        mean = torch.cat(pieces, dim=1).mean(dim=1, keepdim=True)
        difference = sum(float((piece - mean).abs().mean()) for piece in pieces) / len(pieces)
        tracks = [
            self._track(clip_id, 0, piece.shape[1]) for clip_id, piece in zip(self._validation, pieces, strict=True)
        ]
        middle = np.concatenate(tracks).mean()
        distance = sum(float(np.abs(track - middle).mean()) for track in tracks) / len(tracks)
        return {"log_mel": difference, "f0_hz": distance}

    def state(self) -> dict[str, Any]:
        """The discriminators and their optimizer."""
        return {} if self._adversary is None else self._adversary.state()

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        if self._adversary is not None:
            self._adversary.load_state(state)

    def _source(self, f0: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """The excitation [B, 1, N], with phases and noise of each row from its own generator."""
        source, samples = self.network.harmonic_source, f0.shape[1] * self._hop
        phases = [source.draw_phases(1, generator, self._device) for generator in generators]
        noise = [source.draw_noise(1, samples, generator, self._device) for generator in generators]
        return self.network.source(f0, phases=torch.cat(phases), noise=torch.cat(noise))

    def _features(self, waves: Tensor) -> Tensor:
        """Log-mel [B, M, F], as exact in mixed precision as it is without."""
        with torch.autocast(self._device.type, enabled=False):
            return flow_mel(waves, self._mel)

    def _piece(self, clip_id: str) -> Tensor:
        """The first two seconds of a held-out clip, in whole frames: [1, N]."""
        wave = self._waves[clip_id][: round(VALIDATION_SECONDS * self._waves.sample_rate)]
        return wave[: len(wave) // self._hop * self._hop][None].to(self._device)

    def _track(self, clip_id: str, start: int, frames: int) -> np.ndarray:
        """Measured F0 float32 [frames] of a clip from frame `start` on; silence follows its end."""
        piece = self._tracks.get(clip_id, self._measured)[start : start + frames]
        return np.pad(piece, (0, frames - len(piece)))

    def _measured(self, clip_id: str) -> np.ndarray:
        wave = self._waves[clip_id].numpy()
        return pitch(wave, self._waves.sample_rate, self._hop, len(wave) // self._hop)


class _Judging(nn.Module):
    """The loss of all discriminators as one forward pass, which is what DDP can watch."""

    def __init__(self, judges: nn.ModuleDict) -> None:
        super().__init__()
        self.judges = judges

    def forward(self, real: Tensor, made: Tensor) -> Tensor:
        """Scalar loss of recordings and made waves [B, N]; in float32 whatever the generator computes in."""
        terms = []
        with torch.autocast(real.device.type, enabled=False):
            for judge in self.judges.values():
                of_real, of_made = judge(real), judge(made)
                terms.append(discriminator_loss(of_real.scores, of_made.scores))
                terms.append(relativistic_loss(of_real.scores, of_made.scores))
        return torch.stack(terms).sum()


class _Adversary:
    """Both families of discriminators and their optimizer."""

    def __init__(self, settings: LoopSettings, device: torch.device) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            judges = [MultiPeriodDiscriminator(DISCRIMINATORS), SpectrogramDiscriminator(DISCRIMINATORS)]
        self.judges = nn.ModuleDict(dict(zip(("period", "spectrogram"), judges, strict=True))).to(device)
        self._pass: nn.Module = _Judging(self.judges)
        self.optimizer = torch.optim.AdamW(self.judges.parameters(), DISCRIMINATOR_RATE, betas=(0.8, 0.99))
        self.clip_norm = settings.clip_norm

    def accelerate(self, accelerator: Accelerator) -> None:
        """Each update is of the mean gradient of all processes."""
        self._pass = accelerator.prepare_model(self._pass)

    def update(self, real: Tensor, made: Tensor) -> None:
        """One step of the discriminators, unless it is not finite."""
        self.optimizer.zero_grad(set_to_none=True)
        self._pass(real, made).backward()
        norm = nn.utils.clip_grad_norm_(self.judges.parameters(), self.clip_norm)
        if math.isfinite(norm.item()):
            self.optimizer.step()

    def losses(self, real: Tensor, made: Tensor) -> dict[str, Tensor]:
        """The generator's terms, weighted; no gradient is left in the discriminators."""
        losses = {}
        self.judges.requires_grad_(False)
        for name, judge in self.judges.items():
            of_real, of_made = judge(real), judge(made)
            losses[f"generator_{name}"] = generator_loss(of_made.scores)
            losses[f"matching_{name}"] = MATCHING_WEIGHT * feature_matching_loss(of_real.features, of_made.features)
            losses[f"relativistic_{name}"] = relativistic_loss(of_made.scores, of_real.scores)
        self.judges.requires_grad_(True)
        return losses

    def state(self) -> dict[str, Any]:
        return {"judges": self.judges.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.judges.load_state_dict(state["judges"])
        self.optimizer.load_state_dict(state["optimizer"])
