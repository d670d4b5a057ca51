"""Mel to wave for speaking: one utterance as its mel comes, or many at once; the samples do not depend on which."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cosytune.models.layers.noise import NoiseTape
from cosytune.models.vocoder.config import VocoderConfig
from cosytune.models.vocoder.decoding import Decoding, PitchRun
from cosytune.models.vocoder.f0_predictor import LAYERS
from cosytune.models.vocoder.inference import InferenceVocoder
from cosytune.models.vocoder.model import HEAD_KERNEL

__all__ = ["VocoderStream", "look_ahead", "samples_known", "vocode"]

MANY_FRAMES = 10_000
"""More than any look-ahead."""


class VocoderStream:
    """The wave of one utterance, sample by sample as soon as enough of the mel is there.

    What comes out, joined, is what the whole mel gives at once: every layer keeps the few positions it still needs, and
    the excitation its phase and its place on the tape of noise. No frame is computed twice.
    """

    def __init__(self, vocoder: InferenceVocoder, tape: NoiseTape, phases: Tensor) -> None:
        """A stream at its beginning.

        Args:
            vocoder: from `for_inference`; it may serve any number of streams.
            tape: noise of the excitation, one vector of H+1 numbers per sample; it belongs to this stream now.
            phases: initial phases of the harmonics [H+1] in radians, see `HarmonicSource.draw_phases`.

        Raises:
            ValueError: tape or phases have not one number for each harmonic.
        """
        _check_randomness(vocoder, tape, phases)
        self._vocoder = vocoder
        self._excitation = _Excitation(vocoder, tape, phases)
        self._decoding = Decoding(vocoder.config, vocoder.weights)
        self.finished = False

    @torch.no_grad()
    def push(self, mel: Tensor, final: bool = False) -> Tensor:
        """Take the next frames of log-mel [M, n] and give the next samples, float32 [N] (N may be 0).

        With `final` the rest of the wave comes; n may then be 0. In all there are hop samples for every frame.

        Raises:
            ValueError: the stream has ended, or the mel has another shape.
        """
        if self.finished:
            raise ValueError("this stream has ended with push(..., final=True): make a new VocoderStream")
        _check_mel(self._vocoder.config, mel)
        self.finished = final
        tiles = self._vocoder.tiles(1, mel.shape[1])
        waves = [self._tile(mel[:, start:end].T.unsqueeze(0), final and last) for start, end, last in tiles]
        return torch.cat(waves, dim=1).squeeze(0)

    def _tile(self, mel: Tensor, final: bool) -> Tensor:
        return self._decoding.push(mel, self._excitation.push(mel, final), final)


@torch.no_grad()
def vocode(
    vocoder: InferenceVocoder, mels: Sequence[Tensor], tapes: Sequence[NoiseTape], phases: Tensor
) -> list[Tensor]:
    """The waves of many mels of any lengths, each what a `VocoderStream` of its own would give (to 1e-4 in float32).

    On a processor the rows follow each other: the convolutions keep both cores busy with one, and padding would only
    add to it (measured in benchmarks/vocoder.py). Elsewhere all rows are one batch; give rows of similar length.

    Args:
        vocoder: from `for_inference`.
        mels: log-mels [M, F_i] with at least one frame each.
        tapes: noise of each row, read from where it stands.
        phases: initial phases of the harmonics [B, H+1] in radians.

    Returns:
        Float32 waves [F_i hop].

    Raises:
        ValueError: the numbers of mels, tapes and phases differ, a mel is empty or a shape is wrong.
    """
    if not len(mels) == len(tapes) == len(phases):
        raise ValueError(
            f"{len(mels)} mels, {len(tapes)} tapes and {len(phases)} phases: give one of each for every row"
        )
    for mel, tape, row in zip(mels, tapes, phases, strict=True):
        _check_mel(vocoder.config, mel)
        _check_randomness(vocoder, tape, row)
        if not mel.shape[1]:
            raise ValueError("a mel without frames has no wave: leave it out")
    if len(mels) < 2 or mels[0].device.type == "cpu":
        rows = zip(mels, tapes, phases, strict=True)
        return [VocoderStream(vocoder, tape, row).push(mel, final=True) for mel, tape, row in rows]
    return _together(vocoder, mels, tapes, phases)


def samples_known(config: VocoderConfig, frames: int) -> int:
    """How many samples a `VocoderStream` has given after `frames` mel frames of an utterance that goes on."""
    half = config.istft_n_fft // 2
    excitation = max(0, frames - LAYERS) * config.hop
    spectra = max(0, (excitation - half) // config.istft_hop + 1)
    known = frames - HEAD_KERNEL // 2
    for stage, (rate, kernel) in enumerate(zip(config.upsample_rates, config.upsample_kernels, strict=True)):
        known = known * rate - (kernel - rate) // 2
        down = 1
        for later in config.upsample_rates[stage + 1 :]:
            down *= later
        if down == 1:
            known += 1  # the last stage has one position more in front
            refined = spectra
        else:
            refined = (spectra + down // 2 - 2 * down) // down + 1
        refined -= _reach(config.source_kernels[stage], config.source_dilations[stage])
        blocks = zip(config.resblock_kernels, config.resblock_dilations, strict=True)
        known = min(known, refined) - max(_reach(kernel, dilations) for kernel, dilations in blocks)
    known -= HEAD_KERNEL // 2
    return max(0, known * config.istft_hop - half)


def look_ahead(config: VocoderConfig) -> int:
    """Mel frames that must follow a frame before all its samples are known."""
    return MANY_FRAMES - samples_known(config, MANY_FRAMES) // config.hop


class _Excitation:
    """The excitation's spectrum as the mel comes: pitch, phase and noise carried along."""

    def __init__(self, vocoder: InferenceVocoder, tape: NoiseTape, phases: Tensor) -> None:
        self._hop, self._source = vocoder.config.hop, vocoder.harmonic_source
        self._tape = tape
        self._phases = phases.unsqueeze(0).to(vocoder.weights.analysis.device)
        self._pitch, self._analysis = PitchRun(vocoder.weights), vocoder.analysis()
        self._turns: Tensor | None = None

    def push(self, mel: Tensor, final: bool) -> Tensor:
        """The next frames of log-mel [1, n, M] -> the next spectra [1, f, n_fft + 2]."""
        f0 = self._pitch.push(mel.to(torch.float32), final).repeat_interleave(self._hop, dim=-1)
        noise = self._tape.take(f0.shape[1]).unsqueeze(0).to(f0.device)
        made = self._source(f0, phases=self._phases, noise=noise, turns=self._turns)
        self._turns = made.turns
        return self._analysis.push(made.excitation.squeeze(1), final)


def _together(
    vocoder: InferenceVocoder, mels: Sequence[Tensor], tapes: Sequence[NoiseTape], phases: Tensor
) -> list[Tensor]:
    """`vocode` as one batch: whatever a row's layers would not see alone is zeroed."""
    frames = [mel.shape[1] for mel in mels]
    inputs = [mel.T for mel in mels]
    spectra = [
        _Excitation(vocoder, tape, row).push(mel.unsqueeze(0), final=True).squeeze(0)
        for mel, tape, row in zip(inputs, tapes, phases, strict=True)
    ]
    decoding = Decoding(vocoder.config, vocoder.weights, lengths=frames)
    waves = decoding.push(pad_sequence(inputs, True), pad_sequence(spectra, True), final=True)
    return [wave[: length * vocoder.config.hop] for wave, length in zip(waves, frames, strict=True)]


def _reach(kernel: int, dilations: Sequence[int]) -> int:
    """Positions that a residual block sees on either side."""
    return sum((kernel - 1) * dilation // 2 + kernel // 2 for dilation in dilations)


def _check_mel(config: VocoderConfig, mel: Tensor) -> None:
    if mel.dim() != 2 or mel.shape[0] != config.mel_bins:
        raise ValueError(f"the vocoder takes log-mel [{config.mel_bins}, frames], got shape {list(mel.shape)}")


def _check_randomness(vocoder: InferenceVocoder, tape: NoiseTape, phases: Tensor) -> None:
    components = vocoder.harmonic_source.components
    if tape.width != components or tuple(phases.shape) != (components,):
        raise ValueError(
            f"the excitation has {components} components: give a NoiseTape of that width (not {tape.width}) and phases "
            f"[{components}] (not {list(phases.shape)})"
        )
