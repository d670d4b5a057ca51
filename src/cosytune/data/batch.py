"""Batches of features as padded tensors, for the language model and the flow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cosytune.data.features import Features

__all__ = ["Batch", "collate", "move"]


@dataclass(frozen=True)
class Batch:
    """Features of several utterances, padded with zeros at the end; what a language model or a flow is trained on.

    Row b of every tensor belongs to `ids[b]`. Entries from `*_lengths[b]` on are padding: zeros that are also a valid
    token or a sound, so whoever sums over time masks them by the lengths. A kind of feature that was not extracted is
    None, together with its lengths; in one batch all clips have a kind or none has.

    Attributes:
        ids: utterance ids, B of them.
        text_tokens: int64 [B, S], ids as the `encode` of `collate` gave them.
        text_lengths: int64 [B], text tokens of each utterance; 0 where there is no text.
        speech_tokens: int64 [B, T], codes of the model's speech tokenizer at its token rate (25 or 50 Hz), without an
            end mark.
        speech_lengths: int64 [B], speech tokens of each utterance.
        mel: float32 [B, M, F], natural-log mel of the model's own configuration; if frames per token are a whole
            number, each utterance has exactly that many frames for each of its tokens.
        mel_lengths: int64 [B], mel frames of each utterance.
        speaker_vectors: float32 [B, E], not normalised: the speaker's mean direction over the train side, or the
            utterance's own vector (see `collate`).
        instructed: bool [B], utterances whose text begins with an instruction; None: none does. An LM has no speaker
            position for them.
    """

    ids: tuple[str, ...]
    text_tokens: Tensor
    text_lengths: Tensor
    speech_tokens: Tensor | None = None
    speech_lengths: Tensor | None = None
    mel: Tensor | None = None
    mel_lengths: Tensor | None = None
    speaker_vectors: Tensor | None = None
    instructed: Tensor | None = None


def move(batch: Batch, device: torch.device | str) -> Batch:
    """The same batch with its tensors on `device`."""
    values: dict[str, Any] = {field.name: getattr(batch, field.name) for field in fields(batch)}
    moved: dict[str, Any] = {name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)}
    return replace(batch, **moved)


def collate(
    clips: Sequence[Features],
    encode: Callable[[str], list[int]],
    *,
    speaker: Literal["speaker", "utterance"] = "speaker",
) -> Batch:
    """Pad the features of some clips into one batch.

    Args:
        clips: at least one, all with the same kinds of features.
        encode: text to text tokens; a clip without text gets none.
        speaker: which vector: the speaker's mean (fine-tuning; the clip's own where the speaker has no mean), or the
            clip's own (pre-training).

    Raises:
        ValueError: no clips, or clips with different kinds of features.
    """
    if not clips:
        raise ValueError("a batch needs at least one clip")
    texts = [np.asarray(encode(clip.text) if clip.text else [], np.int64) for clip in clips]
    text_tokens, text_lengths = _pad(texts)
    tokens = _all_or_none([clip.speech_tokens for clip in clips], "speech tokens")
    mels = _all_or_none([clip.mel for clip in clips], "mel")
    vectors = _all_or_none([_vector(clip, speaker) for clip in clips], "speaker vectors")
    speech_tokens, speech_lengths = _pad(tokens) if tokens else (None, None)
    mel, mel_lengths = _pad(mels) if mels else (None, None)
    return Batch(
        ids=tuple(clip.id for clip in clips),
        text_tokens=text_tokens,
        text_lengths=text_lengths,
        speech_tokens=speech_tokens,
        speech_lengths=speech_lengths,
        mel=mel,
        mel_lengths=mel_lengths,
        speaker_vectors=torch.from_numpy(np.stack(vectors)) if vectors else None,
    )


def _vector(clip: Features, speaker: str) -> np.ndarray | None:
    if speaker == "speaker" and clip.speaker_vector is not None:
        return clip.speaker_vector
    return clip.utterance_vector


def _all_or_none(values: Sequence[np.ndarray | None], name: str) -> list[np.ndarray]:
    present = [value for value in values if value is not None]
    if present and len(present) < len(values):
        raise ValueError(f"{len(present)} of {len(values)} clips have {name}: they come from different extractions")
    return present


def _pad(arrays: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Pad the last axis with zeros to the longest; also the true lengths [B]."""
    lengths = [array.shape[-1] for array in arrays]
    padded = np.zeros((len(arrays), *arrays[0].shape[:-1], max(lengths)), arrays[0].dtype)
    for row, array, length in zip(padded, arrays, lengths, strict=True):
        row[..., :length] = array
    return torch.from_numpy(padded), torch.tensor(lengths)
