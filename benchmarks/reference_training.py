"""Training as one writes it at first: the baseline of `training.py`, with our network.

Float32, so many clips at a time in random order, padded to the longest, AdamW as torch makes it by default.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from cosytune.data.features import FeatureStore
from cosytune.models.lm.model import IGNORED, LM

__all__ = ["plain_training"]


def plain_training(
    lm: LM,
    features: FeatureStore,
    ids: Sequence[str],
    encode: Callable[[str], list[int]],
    clips_per_step: int,
    watch: Callable[[int], None],
) -> None:
    """One update after the other until `watch`, which is told how many there were, raises an error."""
    lm.train()
    optimizer = torch.optim.AdamW(lm.parameters(), lr=1e-5)
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(0)).tolist()
    for step in count():
        places = [order[(step * clips_per_step + place) % len(order)] for place in range(clips_per_step)]
        rows = features.read([ids[place] for place in places])
        text, text_lengths = _padded([torch.tensor(encode(row.text or "")) for row in rows])
        speech, speech_lengths = _padded([torch.tensor(row.speech_tokens) for row in rows])
        speaker = torch.stack([torch.tensor(row.utterance_vector) for row in rows])
        logits, targets = lm(text, text_lengths, speech, speech_lengths, speaker)
        loss = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        optimizer.step()
        loss.item()
        watch(step + 1)


def _padded(rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])
