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
from cosytune.synthesis.requests import END_OF_PROMPT
from cosytune.text.tokenizers import TextTokenizer
from cosytune.training.clips import Catalogue, has_words, instruction_of, spoken_text, spread
from cosytune.training.rehearsal import RehearsedFeatures
from cosytune.training.settings import LoopSettings, StageName, vector_kind
from cosytune.training.task import Draws, LossReport, Task

__all__ = ["LMTask"]

VALIDATION_CLIPS = 256
VALIDATION_BATCH = 16
BASELINE_CLIPS = 10_000
"""Clips whose tokens are counted: more change nothing that can be seen, and take their time to read."""


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
        self._train, self._rehearsal = train, rehearsal
        held_out = spread(validation, VALIDATION_CLIPS)
        self._validation = [clip.id for clip in held_out]
        # What may follow a clip: the same voice, a transcript exactly if the clip has one, and the same instruction.
        self._clips = Catalogue(
            train, rehearsal, held_out, kind=lambda clip: (clip.speaker, has_words(clip), instruction_of(clip))
        )
        self._alike = _Alike(self._clips.kinds[: len(train) + len(rehearsal)])

    def clips(self) -> Sequence[Utterance]:
        """Training clips; those without a transcript teach speech continuation from an empty text."""
        return self._train

    def rehearsal(self) -> Sequence[Utterance]:
        """Clips of the start's own speech."""
        return self._rehearsal

    def batch(self, ids: list[str], draws: Draws) -> Batch:
        """Text, vector and tokens of each clip, or of two as one."""
        return self._batch([self._item(group) for group in self._groups(ids, draws)])

    def loss(self, batch: Batch, draws: Draws) -> LossReport:
        """Length-normalised cross-entropy in nats per token, plus the divergence from the start with anchor "kl"."""
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
            result = lm_loss(_predict(self.network, self._batch([self._item([self._clips[clip]]) for clip in clips])))
            count = float(result.tokens)
            loss += float(result.loss) * count
            accuracy += float(result.accuracy) * count
            tokens += count
        return {"cross_entropy": loss / tokens, "accuracy": accuracy / tokens}

    def baseline(self) -> dict[str, float]:
        """Cross-entropy on the validation tokens of the frequencies (plus one for each class) in training clips."""
        classes = self.network.config.speech_codebook + 1
        counts = torch.ones(classes, dtype=torch.float64)
        for clip in spread(self._train, BASELINE_CLIPS):
            counts += torch.bincount(self._with_end(clip.id), minlength=classes)
        logs = (counts / counts.sum()).log()
        held_out = torch.cat([self._with_end(clip_id) for clip_id in self._validation])
        return {"cross_entropy": -float(logs[held_out].mean())}

    def _with_end(self, clip_id: str) -> Tensor:
        end = torch.tensor([self.network.end_token])
        return torch.cat((torch.from_numpy(self._features.read([clip_id])[0].speech_tokens), end))

    def _groups(self, ids: list[str], draws: Draws) -> list[list[Utterance]]:
        """Each clip alone or, with probability `concatenate`, followed by another one of its kind (if there is any)."""
        groups = []
        for clip_id in ids:
            number, clip = self._clips.find(clip_id)
            chance, choice = torch.rand(2, generator=draws.of(clip_id)).tolist()
            other = self._alike.another(number, choice) if chance < self._settings.concatenate else None
            groups.append([clip] if other is None else [clip, self._clips.at(other)])
        return groups

    def _item(self, group: Sequence[Utterance]) -> Features:
        """The clips of a group as one: texts joined by a space after their instruction, tokens one after the other."""
        rows = self._features.read([clip.id for clip in group])
        text = " ".join(spoken_text(clip.text, clip.language) for clip in group).strip()
        text = instruction_of(group[0]) + text
        speech = np.concatenate([row.speech_tokens for row in rows])
        return replace(rows[0], text=text, speech_tokens=speech, mel=None)

    def _encode(self, text: str) -> list[int]:
        """Text tokens; an instruction and what it is for are tokenized apart, as synthesis does."""
        instruction, mark, words = text.rpartition(END_OF_PROMPT)
        apart = (instruction + mark, words) if mark else (words,)
        return [token for piece in apart for token in self._tokenizer.encode(piece)]

    def _batch(self, items: list[Features]) -> Batch:
        batch = collate(items, self._encode, speaker=vector_kind(self._stage))
        if not batch.text_tokens.shape[1]:
            # The text encoder cannot run over no position at all; a masked one changes nothing.
            batch = replace(batch, text_tokens=batch.text_tokens.new_zeros(len(items), 1))
        instructed = torch.tensor([END_OF_PROMPT in (item.text or "") for item in items])
        if instructed.any():
            batch = replace(batch, instructed=instructed)
        return move(batch, self._device)


def _predict(network: LM, batch: Batch) -> LMOutput:
    text, speech = (batch.text_tokens, batch.text_lengths), (batch.speech_tokens, batch.speech_lengths)
    return network(*text, *speech, batch.speaker_vectors, batch.instructed)


class _Alike:
    """Numbers of clips by kind, 8 bytes each."""

    def __init__(self, kinds: np.ndarray) -> None:
        self._kinds = kinds
        self._order = np.argsort(kinds, kind="stable").astype(np.uint32)
        self._ends = np.cumsum(np.bincount(kinds))

    def another(self, number: int, choice: float) -> int | None:
        """Another clip of the same kind, if there is any; `choice`, uniform in [0, 1), makes each equally likely."""
        kind = self._kinds[number]
        alike = self._order[self._ends[kind - 1] if kind else 0 : self._ends[kind]]
        if len(alike) < 2:
            return None
        other = int(alike[math.floor(choice * (len(alike) - 1))])
        # The last one stands in for the clip itself, so that all others are equally likely.
        return int(alike[-1]) if other == number else other
