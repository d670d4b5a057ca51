"""From speech tokens to waves: flow and vocoder, several pieces of like length at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cosytune.models.flow.inference import for_inference as flow_for_inference
from cosytune.models.flow.solver import SolverConfig, starting_noise, synthesise
from cosytune.models.folder import Model
from cosytune.models.layers.noise import NoiseTape
from cosytune.models.vocoder.inference import for_inference as vocoder_for_inference
from cosytune.models.vocoder.stream import vocode
from cosytune.synthesis.conditions import Condition
from cosytune.synthesis.spending import Spending

__all__ = ["Renderer", "Rendering", "change_speed", "derived_seed"]

LARGEST_WASTE = 0.15
"""Share of a batch that may be padding."""


def derived_seed(seed: int, *what: object) -> int:
    """A seed of its own for each purpose: `derived_seed(7, piece, attempt, "flow")`.

    Pieces of one text are decoded beside each other and streams take numbers when they come to them, so nothing may
    draw from one common row of numbers.
    """
    digest = hashlib.sha256(repr((int(seed), *what)).encode()).digest()
    return int.from_bytes(digest[:7], "big")


@dataclass(frozen=True, eq=False)
class Rendering:
    """Speech tokens to be made audible.

    Attributes:
        tokens: int64 [T], at least one.
        condition: who speaks.
        seed: of the noise that flow and vocoder start from.
        speed: 2 is twice as fast.
        spending: where the time goes.
    """

    tokens: Tensor
    condition: Condition
    seed: int
    speed: float
    spending: Spending


class Renderer:
    """Flow and vocoder of one model, made ready to speak."""

    def __init__(self, model: Model, *, dtype: torch.dtype, solver: SolverConfig, rows: int) -> None:
        """Copy the weights; `rows` is the most pieces in one batch."""
        self.clock = model.clock
        self.solver = solver
        self.rows = rows
        self.flow = flow_for_inference(model.part("flow"), dtype)
        self.vocoder = vocoder_for_inference(model.part("vocoder"), dtype)
        self.device = model.part("flow").embedding.weight.device

    @property
    def sample_rate(self) -> int:
        """Hz of the waves."""
        return self.clock.sample_rate

    def noise_tape(self, seed: int) -> NoiseTape:
        """What the flow starts from, one vector [M] per frame of prompt and speech."""
        return NoiseTape(self.flow.config.mel_bins, derived_seed(seed, "flow"))

    def excitation_tape(self, seed: int) -> NoiseTape:
        """The vocoder's noise, one vector [H + 1] per sample."""
        return NoiseTape(self.vocoder.config.harmonics + 1, derived_seed(seed, "excitation"))

    def phases(self, seed: int) -> Tensor:
        """Initial phases [H + 1] of the vocoder's harmonics."""
        generator = torch.Generator().manual_seed(derived_seed(seed, "phases"))
        return self.vocoder.harmonic_source.draw_phases(1, generator, torch.device("cpu"))[0]

    def render(self, renderings: Sequence[Rendering]) -> list[np.ndarray]:
        """Waves float32 [N] of all renderings, in their order; each is what it would be alone."""
        waves: list[np.ndarray] = [np.zeros(0, dtype=np.float32)] * len(renderings)
        for group in _by_length([self._frames(each) for each in renderings], self.rows):
            for index, wave in zip(group, self._together([renderings[index] for index in group]), strict=True):
                waves[index] = wave
        return waves

    def _frames(self, rendering: Rendering) -> int:
        prompt = rendering.condition.flow_mel.shape[1]
        return prompt + self.clock.frames_of_tokens(len(rendering.tokens))

    @torch.inference_mode()
    def _together(self, group: Sequence[Rendering]) -> list[np.ndarray]:
        spendings = [each.spending for each in group]
        with Spending.shared(spendings, "flow"):
            mels = self._mels(group)
        with Spending.shared(spendings, "vocoder"):
            tapes = [self.excitation_tape(each.seed) for each in group]
            phases = torch.stack([self.phases(each.seed) for each in group])
            return [wave.cpu().numpy() for wave in vocode(self.vocoder, mels, tapes, phases)]

    def _mels(self, group: Sequence[Rendering]) -> list[Tensor]:
        """Mels [M, F_i] with the speed changed."""
        conditions = [each.condition for each in group]
        frames = [self.clock.frames_of_tokens(len(each.tokens)) for each in group]
        prompts = [condition.flow_mel.shape[1] for condition in conditions]
        tapes = [self.noise_tape(each.seed) for each in group]
        noise = starting_noise([prompt + count for prompt, count in zip(prompts, frames, strict=True)], tapes)
        mels = synthesise(
            self.flow,
            _padded([each.tokens for each in group]).to(self.device),
            _padded([condition.flow_tokens for condition in conditions]).to(self.device),
            _padded([condition.flow_mel for condition in conditions]).to(self.device),
            torch.stack([condition.flow_vector for condition in conditions]).to(self.device),
            torch.tensor(frames),
            frames_per_token=self.clock.frames_per_token,
            noise=noise.to(self.device),
            solver=self.solver,
            token_lengths=torch.tensor([len(each.tokens) for each in group]),
            prompt_token_lengths=torch.tensor([len(condition.flow_tokens) for condition in conditions]),
            prompt_frame_lengths=torch.tensor(prompts),
        )
        return [change_speed(mel[:, :count], each.speed) for mel, count, each in zip(mels, frames, group, strict=True)]


def change_speed(mel: Tensor, speed: float) -> Tensor:
    """Log-mel [M, F] read `speed` times as fast, [M, max(1, int(F / speed))]: the pitch stays (specification, 8.3)."""
    if speed == 1.0:
        return mel
    return F.interpolate(mel[None], size=max(1, int(mel.shape[1] / speed)), mode="linear")[0]


def _padded(rows: Sequence[Tensor]) -> Tensor:
    """Rows [..., n_i] as one tensor [B, ..., max n], zeros behind."""
    size = max(row.shape[-1] for row in rows)
    return torch.stack([F.pad(row, (0, size - row.shape[-1])) for row in rows])


def _by_length(lengths: Sequence[int], rows: int) -> Iterator[list[int]]:
    """Indices of like lengths: at most `rows` together and at most `LARGEST_WASTE` of padding."""
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        longest = lengths[group[0]] if group else 0
        used = sum(lengths[each] for each in group) + lengths[index]
        if group and (len(group) == rows or used < (1 - LARGEST_WASTE) * longest * (len(group) + 1)):
            yield group
            group = []
        group.append(index)
    if group:
        yield group
