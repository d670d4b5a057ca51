"""Training of the speech tokenizer: its tokens must let a CTC head spell the transcript."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cosytune.audio.whisper import whisper_mel_batch
from cosytune.data.clip_index import only
from cosytune.data.manifest import Utterance
from cosytune.errors import DataError
from cosytune.models.folder import Model
from cosytune.models.speech_tokenizer.loss import constant_ctc_baseline, ctc_loss
from cosytune.text.tokenizers import TextTokenizer
from cosytune.training.clips import Catalogue, has_words, spoken_text, spread
from cosytune.training.processes import copy_leader
from cosytune.training.settings import LoopSettings
from cosytune.training.task import Draws, LossReport, Task
from cosytune.training.waves import Waves
from cosytune.units import FEATURE_SAMPLE_RATE, feature_frames

__all__ = ["SpeechTokenizerTask"]

VALIDATION_CLIPS = 64
VALIDATION_BATCH = 16
REVIVE_EVERY = 100
"""Updates between two searches for codes that a vector quantiser has stopped using."""


class SpeechTokenizerTask(Task):
    """CTC over the model's own text tokens, through the quantiser."""

    part = "speech_tokenizer"
    baseline_name = "constant frames (symbol frequencies)"

    def __init__(
        self,
        model: Model,
        train: Sequence[Utterance],
        validation: Sequence[Utterance],
        tokenizer: TextTokenizer,
        settings: LoopSettings,
        device: torch.device,
    ) -> None:
        """Take the transcribed clips of both sides.

        Raises:
            DataError: a side has no transcribed clip.
        """
        self.network = model.part(self.part).to(device)
        self._device = device
        self._bins = self.network.config.bins
        self._settings = settings
        self._tokenizer = tokenizer
        self._train = _transcribed(train, "train")
        held_out = spread(_transcribed(validation, "validation"), VALIDATION_CLIPS)
        self._validation = [clip.id for clip in held_out]
        self._clips = Catalogue(self._train, held_out)
        self._waves = Waves(self._clips, FEATURE_SAMPLE_RATE)

    def clips(self) -> Sequence[Utterance]:
        """Transcribed training clips."""
        return self._train

    def batch(self, ids: list[str], draws: Draws) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
        """Features [B, M, F] and lengths [B], symbols [B, S] and lengths [B], and the seconds of speech."""
        waves = [self._waves[clip_id] for clip_id in ids]
        seconds = sum(len(wave) for wave in waves) / FEATURE_SAMPLE_RATE
        return *self._features(waves), *self._targets(ids), seconds

    def loss(self, batch: tuple[Tensor, Tensor, Tensor, Tensor, float], draws: Draws) -> LossReport:
        """CTC per symbol plus the quantiser's own loss; no rounding during the first share of the steps."""
        features, lengths, targets, target_lengths, seconds = batch
        if self.network.config.quantiser.kind == "vq" and draws.step % REVIVE_EVERY == 0:
            self.network.revive_codes(features, lengths, draws.whole())
            copy_leader(self.network.quantiser)
        output = self.network(features, lengths, round=draws.step >= self._settings.continuous * self._settings.steps)
        ctc = ctc_loss(output, targets, target_lengths)
        values = {"ctc": ctc.loss.detach(), "too_short": ctc.too_short}
        # By all symbols: by those that could be aligned, a batch in which few could would hide how many could not.
        return LossReport(ctc.loss + output.quantiser_loss, values, seconds, target_lengths.sum())

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """CTC per symbol, and how many different tokens the held-out clips use.

        Raises:
            DataError: no clip is long enough for its transcript.
        """
        self.network.eval()
        total, symbols, used = 0.0, 0, set[int]()  # clips that cannot be aligned have no loss and no weight
        for begin in range(0, len(self._validation), VALIDATION_BATCH):
            ids = self._validation[begin : begin + VALIDATION_BATCH]
            features, lengths = self._features([self._waves[clip_id] for clip_id in ids])
            output = self.network(features, lengths)
            targets, target_lengths = self._targets(ids)
            ctc = ctc_loss(output, targets, target_lengths)
            total += float(ctc.loss) * int(ctc.symbols)
            symbols += int(ctc.symbols)
            for row, length in zip(output.codes, output.lengths.tolist(), strict=True):
                used.update(row[:length].tolist())
        if not symbols:
            raise DataError(
                "every validation clip has fewer speech tokens than its transcript has text tokens, so nothing can be "
                "learned; check that recordings and texts belong together, or start from a model with more tokens a "
                "second or a larger text vocabulary"
            )
        return {"ctc": total / symbols, "tokens_used": float(len(used))}

    def baseline(self) -> dict[str, float]:
        """CTC per symbol of a model that gives every frame the same distribution."""
        targets, target_lengths = self._targets(self._validation)
        waves = [self._waves[clip_id] for clip_id in self._validation]
        frames = torch.tensor([feature_frames(len(wave)) for wave in waves])
        lengths = -(-frames // self.network.config.stride)
        best = constant_ctc_baseline(targets.cpu(), target_lengths.cpu(), lengths, self.network.config.symbols)
        return {"ctc": best.loss}

    def _features(self, waves: list[Tensor]) -> tuple[Tensor, Tensor]:
        with torch.autocast(self._device.type, enabled=False):  # validation asks for them in the network's precision
            features, lengths = whisper_mel_batch(waves, self._bins)
        return features.to(self._device), lengths.to(self._device)

    def _symbols(self, clip: Utterance) -> list[int]:
        return self._tokenizer.encode(spoken_text(clip.text, clip.language))

    def _targets(self, ids: list[str]) -> tuple[Tensor, Tensor]:
        rows = [torch.tensor(self._symbols(self._clips[clip_id]), dtype=torch.int64) for clip_id in ids]
        lengths = torch.tensor([len(row) for row in rows])
        return pad_sequence(rows, batch_first=True).to(self._device), lengths.to(self._device)


def _transcribed(clips: Sequence[Utterance], side: str) -> Sequence[Utterance]:
    found = only(clips, has_words)
    if not found:
        raise DataError(
            f"the {side} side of the corpus has no transcribed clip, and a speech tokenizer learns from transcripts; "
            "add transcripts, or start from a model that has a speech tokenizer (--start) and leave it out of --parts"
        )
    return found
