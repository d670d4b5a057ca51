"""Training of the LM: cross-entropy of the next speech token."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from cosytune.data.batch import Batch, collate, move
from cosytune.data.features import Features, FeatureStore
from cosytune.data.manifest import Utterance
from cosytune.models.folder import Model
from cosytune.models.lm.loss import divergence, lm_loss
from cosytune.models.lm.model import LM, LMOutput
from cosytune.text.tokenizers import TextTokenizer
from cosytune.training.clips import spoken_text, spread
from cosytune.training.rehearsal import RehearsedFeatures
from cosytune.training.settings import LoopSettings, StageName, vector_kind
from cosytune.training.task import Draws, LossReport, Task

__all__ = ["LMTask"]

VALIDATION_CLIPS = 256
VALIDATION_BATCH = 16


class LMTask(Task):
    """Text, speaker vector and speech tokens of one utterance, or of two of one speaker one after the other."""

    part = "lm"
    baseline_name = "unigram of the training tokens"

    def __init__(
        self,
        model: Model,
        train: Sequence[Utterance],
        validation: Sequence[Utterance],
        features: FeatureStore | RehearsedFeatures,
        tokenizer: TextTokenizer,
        stage: StageName,
        settings: LoopSettings,
        device: torch.device,
        rehearsal: Sequence[Utterance] = (),
    ) -> None:
        self.network = model.part(self.part).to(device)
        self._start = copy.deepcopy(self.network).eval().requires_grad_(False) if settings.anchor == "kl" else None
        self._tokenizer, self._features, self._stage = tokenizer, features, stage
        self._settings, self._device = settings, device
        self._token_rate = model.clock.token_rate
        self._train, self._rehearsal = list(train), list(rehearsal)
        self._validation = [clip.id for clip in spread(validation, VALIDATION_CLIPS)]
        self._texts = {clip.id: spoken_text(clip.text, clip.language) for clip in (*train, *validation, *rehearsal)}
        # What may follow a clip: the same voice, and a transcript exactly if the clip has one.
        self._kind = {clip.id: (clip.speaker, bool(self._texts[clip.id])) for clip in (*train, *rehearsal)}
        self._alike: dict[tuple[str, bool], list[str]] = {}
        for clip_id, kind in self._kind.items():
            self._alike.setdefault(kind, []).append(clip_id)

    def clips(self) -> Sequence[Utterance]:
        """Training clips; those without a transcript teach speech continuation from an empty text."""
        return self._train

    def rehearsal(self) -> Sequence[Utterance]:
        """Clips of the start's own speech."""
        return self._rehearsal

    def loss(self, ids: list[str], draws: Draws) -> LossReport:
        """Length-normalised cross-entropy in nats per token, plus the divergence from the start with anchor "kl"."""
        batch = self._batch([self._item(group) for group in self._groups(ids, draws)])
        output = _predict(self.network, batch)
        result = lm_loss(output, self._settings.smoothing)
        plain = lm_loss(output) if self._settings.smoothing else result
        loss, values = result.loss, {"cross_entropy": plain.loss, "accuracy": result.accuracy}
        if self._start is not None:
            with torch.no_grad():
                before = _predict(self._start, batch)
            values["divergence"] = divergence(before, output)
            loss = loss + self._settings.anchor_weight * values["divergence"]
        assert batch.speech_lengths is not None
        seconds = int(batch.speech_lengths.sum()) / self._token_rate
        return LossReport(loss, {name: value.detach() for name, value in values.items()}, seconds, result.tokens)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Cross-entropy in nats per token, end tokens included, and accuracy, on single utterances."""
        self.network.eval()
        loss = accuracy = tokens = 0.0
        for begin in range(0, len(self._validation), VALIDATION_BATCH):
            clips = self._validation[begin : begin + VALIDATION_BATCH]
            result = lm_loss(_predict(self.network, self._batch([self._item([clip]) for clip in clips])))
            count = float(result.tokens)
            loss += float(result.loss) * count
            accuracy += float(result.accuracy) * count
            tokens += count
        return {"cross_entropy": loss / tokens, "accuracy": accuracy / tokens}

    def baseline(self) -> dict[str, float]:
        """Cross-entropy of the training tokens' frequencies (plus one for each class) on the validation tokens."""
        classes = self.network.config.speech_codebook + 1
        counts = torch.ones(classes, dtype=torch.float64)
        for clip in self._train:
            counts += torch.bincount(self._with_end(clip.id), minlength=classes)
        logs = (counts / counts.sum()).log()
        held_out = torch.cat([self._with_end(clip_id) for clip_id in self._validation])
        return {"cross_entropy": -float(logs[held_out].mean())}

    def _with_end(self, clip_id: str) -> Tensor:
        end = torch.tensor([self.network.end_token])
        return torch.cat((torch.from_numpy(self._features.read([clip_id])[0].speech_tokens), end))

    def _groups(self, ids: list[str], draws: Draws) -> list[list[str]]:
        """Each clip alone or, with probability `concatenate`, followed by another one of its kind (if there is any)."""
        groups = []
        for clip_id in ids:
            alike = self._alike[self._kind[clip_id]]
            chance, choice = torch.rand(2, generator=draws.of(clip_id)).tolist()
            group = [clip_id]
            if chance < self._settings.concatenate and len(alike) > 1:
                other = alike[math.floor(choice * (len(alike) - 1))]
                # The last one stands in for the clip itself, so that all others are equally likely.
                group.append(alike[-1] if other == clip_id else other)
            groups.append(group)
        return groups

    def _item(self, group: list[str]) -> Features:
        """The clips of a group as one: texts joined by a space, tokens one after the other."""
        rows = self._features.read(group)
        text = " ".join(self._texts[clip_id] for clip_id in group).strip()
        speech = np.concatenate([row.speech_tokens for row in rows])
        return replace(rows[0], text=text, speech_tokens=speech, mel=None)

    def _batch(self, items: list[Features]) -> Batch:
        batch = collate(items, self._tokenizer.encode, speaker=vector_kind(self._stage))
        if not batch.text_tokens.shape[1]:
            # The text encoder cannot run over no position at all; a masked one changes nothing.
            batch = replace(batch, text_tokens=batch.text_tokens.new_zeros(len(items), 1))
        return move(batch, self._device)


def _predict(network: LM, batch: Batch) -> LMOutput:
    return network(
        batch.text_tokens, batch.text_lengths, batch.speech_tokens, batch.speech_lengths, batch.speaker_vectors
    )
