"""Training of the vocoder: spectral losses first, then, if asked for, against discriminators.

This loop stands beside the one in `loop.py` because an adversarial update has two optimizers and an order of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from cosytune.audio.mel import MelConfig, flow_mel
from cosytune.audio.pitch import pitch
from cosytune.data.manifest import Utterance
from cosytune.data.sampler import endless
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
from cosytune.training.loop import LOG_EVERY, Progress, Watch, autocast, note_skip, step_generator
from cosytune.training.results import MetricPoint, PartResult
from cosytune.training.run import PartRun
from cosytune.training.settings import LoopSettings, learning_rate
from cosytune.training.waves import Waves

__all__ = ["VocoderTask", "train_vocoder"]

VALIDATION_CLIPS = 16
VALIDATION_SECONDS = 2.0
MEL_WEIGHT, MATCHING_WEIGHT = 45.0, 2.0
F0_SCALE = 100.0
"""Hz that count as much as one unit of the spectral loss: an untrained F0 must not drown everything else."""


class VocoderTask:
    """Random crops of recordings, their mel and their measured F0."""

    part = "vocoder"
    baseline_name = "mean of each band"

    def __init__(
        self,
        model: Model,
        train: Sequence[Utterance],
        validation: Sequence[Utterance],
        settings: LoopSettings,
        device: torch.device,
    ) -> None:
        self.network = model.part(self.part).to(device)
        self.mel = model.mel
        self._hop = model.clock.hop
        self._device, self._settings = device, settings
        self._train = list(train)
        self._validation = [clip.id for clip in validation][:VALIDATION_CLIPS]
        self._waves = Waves([*train, *validation], model.clock.sample_rate)
        self._pitch: dict[str, np.ndarray] = {}

    def clips(self) -> Sequence[Utterance]:
        """All training clips, each as long as the crop that is taken of it."""
        return [replace(clip, seconds=self._settings.crop_seconds) for clip in self._train]

    def crops(self, ids: list[str], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Waves [B, N] of whole frames and their F0 [B, F] in Hz."""
        seconds = (
            round(self._settings.crop_seconds * self._waves.sample_rate / self._hop)
            * self._hop
            / self._waves.sample_rate
        )
        waves, starts = self._waves.crops(ids, seconds, generator)
        frames = waves.shape[1] // self._hop
        tracks = [self._track(clip_id, start // self._hop, frames) for clip_id, start in zip(ids, starts, strict=True)]
        return waves.to(self._device), torch.from_numpy(np.stack(tracks)).float().to(self._device)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean absolute difference of log-mels of held-out pieces, and of F0 in Hz."""
        self.network.eval()
        mel_total = f0_total = 0.0
        for clip_id in self._validation:
            wave = self._piece(clip_id)
            features = flow_mel(wave, self.mel)
            made = self.network(features, generator=torch.Generator().manual_seed(0))
            mel_total += float(mel_loss(made, wave, self.mel))
            track = torch.from_numpy(self._track(clip_id, 0, features.shape[2])).float().to(self._device)
            f0_total += float(f0_loss(self.network.predict_f0(features), track[None]))
        count = len(self._validation)
        return {"log_mel": mel_total / count, "f0_hz": f0_total / count}

    @torch.no_grad()
    def baseline(self) -> dict[str, float]:
        """Log-mel difference of a wave that always has the average spectrum, and F0 error of always saying its mean."""
        pieces = [flow_mel(self._piece(clip_id), _full_band(self.mel))[0] for clip_id in self._validation]
        mean = torch.cat(pieces, dim=1).mean(dim=1, keepdim=True)
        difference = sum(float((piece - mean).abs().mean()) for piece in pieces) / len(pieces)
        return {"log_mel": difference}

    def _piece(self, clip_id: str) -> Tensor:
        longest = round(VALIDATION_SECONDS * self._waves.sample_rate) // self._hop * self._hop
        wave = self._waves[clip_id][:longest]
        return wave[: len(wave) // self._hop * self._hop][None].to(self._device)

    def _track(self, clip_id: str, start: int, frames: int) -> np.ndarray:
        if clip_id not in self._pitch:
            wave = self._waves[clip_id].numpy()
            self._pitch[clip_id] = pitch(wave, self._waves.sample_rate, self._hop, len(wave) // self._hop)
        piece = self._pitch[clip_id][start : start + frames]
        return np.pad(piece, (0, frames - len(piece)))


def train_vocoder(task: VocoderTask, settings: LoopSettings, run: PartRun, watch: Watch | None = None) -> PartResult:
    """Train for `settings.steps` updates, the last `adversarial_steps` of them against discriminators.

    Raises:
        TrainingError: the loss stayed non-finite for ten updates in a row.
    """
    if (done := run.finished()) is not None:
        return done
    device = next(task.network.parameters()).device
    adversary = _Adversary(settings, device)
    optimizer = torch.optim.AdamW(
        task.network.parameters(), settings.learning_rate, betas=(0.8, 0.99), weight_decay=settings.weight_decay
    )
    state = _resume(run, task.network, optimizer, adversary)
    if state.step == 0:
        state.start = task.validate()
        _record(run, state, "validation", state.start)
    begin_adversary = settings.steps - settings.adversarial_steps
    order = endless(task.clips(), seconds=settings.batch_seconds, seed=settings.seed, start_step=state.step)
    for ids in order:
        if state.step >= settings.steps:
            break
        rate = learning_rate(settings, state.step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(settings.seed * 1_000_003 + state.step)
        task.network.train()
        generator = step_generator(settings.seed, state.step)
        waves, f0 = task.crops(ids, generator)
        with autocast(settings, device):
            features = flow_mel(waves, task.mel)
            predicted = task.network.predict_f0(features)
            # The excitation follows the measured F0, so that the filter does not have to wait for the predictor.
            made = task.network.decode(features, task.network.source(f0, generator))
        if state.step >= begin_adversary:
            adversary.update(waves, made.detach())
        losses = _generator_losses(
            task, waves, made, predicted, f0, adversary if state.step >= begin_adversary else None
        )
        loss = torch.stack(list(losses.values())).sum()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(task.network.parameters(), settings.clip_norm)
        if math.isfinite(loss.item()) and math.isfinite(norm.item()):
            optimizer.step()
            state.skips_in_a_row = 0
        else:
            note_skip(task.part, state, ids)
        optimizer.zero_grad(set_to_none=True)
        state.step += 1
        state.audio_seconds += waves.numel() / task.mel.sample_rate
        if state.step % LOG_EVERY == 0 or state.step == settings.steps:
            values = {name: value.item() for name, value in losses.items()}
            _record(
                run,
                state,
                "train",
                {"loss": loss.item(), **values, "gradient_norm": norm.item(), "learning_rate": rate},
            )
        if state.step % settings.validate_every == 0 and state.step < settings.steps:
            _record(run, state, "validation", task.validate())
        if state.step % settings.checkpoint_every == 0 and state.step < settings.steps:
            _save(run, task.network, optimizer, adversary, state)
        if watch is not None:
            watch(state.step)
    return _finish(task, settings, run, state)


class _Adversary:
    """Both discriminators and their optimizer; empty when no step is adversarial."""

    def __init__(self, settings: LoopSettings, device: torch.device) -> None:
        self.modules = nn.ModuleList()
        self.optimizer: torch.optim.Optimizer | None = None
        if settings.adversarial_steps:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(settings.seed)
                config = DiscriminatorConfig(period_channels=(16, 64, 128, 128), spectrogram_channels=16)
                self.modules = nn.ModuleList([MultiPeriodDiscriminator(config), SpectrogramDiscriminator(config)]).to(
                    device
                )
            self.optimizer = torch.optim.AdamW(self.modules.parameters(), 2e-4, betas=(0.8, 0.99))
            self.clip = settings.clip_norm

    def update(self, real: Tensor, made: Tensor) -> None:
        """One step of the discriminators."""
        loss = real.new_zeros(())
        for module in self.modules:
            real_out, made_out = module(real), module(made)
            loss = loss + discriminator_loss(real_out.scores, made_out.scores)
            loss = loss + relativistic_loss(real_out.scores, made_out.scores)
        assert self.optimizer is not None
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.modules.parameters(), self.clip)
        self.optimizer.step()


def _generator_losses(
    task: VocoderTask, real: Tensor, made: Tensor, predicted: Tensor, f0: Tensor, adversary: _Adversary | None
) -> dict[str, Tensor]:
    """Every term of the generator's loss, already weighted."""
    losses = {
        "stft": multi_resolution_stft_loss(made, real),
        "f0": f0_loss(predicted, f0) / F0_SCALE,
        "mel": mel_loss(made, real, task.mel),
    }
    if adversary is not None:
        losses["mel"] = MEL_WEIGHT * losses["mel"]
        for index, module in enumerate(adversary.modules):
            real_out, made_out = module(real), module(made)
            losses[f"generator_{index}"] = generator_loss(made_out.scores)
            losses[f"matching_{index}"] = MATCHING_WEIGHT * feature_matching_loss(real_out.features, made_out.features)
            losses[f"relativistic_{index}"] = relativistic_loss(made_out.scores, real_out.scores)
    return losses


def _record(run: PartRun, state: Progress, side: str, values: dict[str, float]) -> None:
    run.record(
        MetricPoint("vocoder", state.step, side, name, value, state.audio_seconds) for name, value in values.items()
    )


def _save(
    run: PartRun, network: nn.Module, optimizer: torch.optim.Optimizer, adversary: _Adversary, state: Progress
) -> None:
    adversarial = {} if adversary.optimizer is None else adversary.optimizer.state_dict()
    run.save(
        state.step,
        {
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "discriminators": adversary.modules.state_dict(),
            "discriminator_optimizer": adversarial,
            "progress": vars(state),
        },
    )


def _resume(run: PartRun, network: nn.Module, optimizer: torch.optim.Optimizer, adversary: _Adversary) -> Progress:
    found = run.load()
    if found is None:
        return Progress()
    _, saved = found
    network.load_state_dict(saved["network"])
    optimizer.load_state_dict(saved["optimizer"])
    adversary.modules.load_state_dict(saved["discriminators"])
    if adversary.optimizer is not None:
        adversary.optimizer.load_state_dict(saved["discriminator_optimizer"])
    return Progress(**saved["progress"])


def _finish(task: VocoderTask, settings: LoopSettings, run: PartRun, state: Progress) -> PartResult:
    end = task.validate()
    _record(run, state, "validation", end)
    result = PartResult(
        part=task.part,
        steps=state.step,
        audio_seconds=state.audio_seconds,
        start=state.start,
        end=end,
        baseline=task.baseline(),
        baseline_name=task.baseline_name,
        skipped=state.skipped,
        settings=settings.model_dump(),
    )
    run.finish({name: value.detach().cpu().clone() for name, value in task.network.state_dict().items()}, result)
    return result


def _full_band(mel: MelConfig) -> MelConfig:
    return replace(mel, fmax=None)
