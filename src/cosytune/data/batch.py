"""Batches of tensors: features for the language model and the flow, waves for the parts that listen or speak."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from cosytune.audio.files import read_wave
from cosytune.data.features import Features
from cosytune.data.manifest import Utterance
from cosytune.errors import DataError
from cosytune.units import seconds_of_samples

__all__ = ["Batch", "WaveBatch", "collate", "collate_waves", "move"]

AnyBatch = TypeVar("AnyBatch", "Batch", "WaveBatch")


@dataclass(frozen=True)
class Batch:
    """Features of several utterances, padded with zeros at the end; a feature that was not extracted is None.

    Attributes:
        ids: utterance ids.
        text_tokens: int64 [B, S].
        text_lengths: int64 [B]; 0 where there is no text.
        speech_tokens: int64 [B, T].
        speech_lengths: int64 [B].
        mel: float32 [B, M, F].
        mel_lengths: int64 [B].
        speaker_vectors: float32 [B, E], raw.
    """

    ids: tuple[str, ...]
    text_tokens: Tensor
    text_lengths: Tensor
    speech_tokens: Tensor | None = None
    speech_lengths: Tensor | None = None
    mel: Tensor | None = None
    mel_lengths: Tensor | None = None
    speaker_vectors: Tensor | None = None


@dataclass(frozen=True)
class WaveBatch:
    """Recordings of several utterances, padded with zeros at the end.

    Attributes:
        ids: utterance ids.
        waves: float32 [B, N].
        lengths: int64 [B], samples that are recording and not padding.
        texts: transcripts, None where there is none.
        speaker_labels: int64 [B], or None when no table of speakers was given.
    """

    ids: tuple[str, ...]
    waves: Tensor
    lengths: Tensor
    texts: tuple[str | None, ...]
    speaker_labels: Tensor | None = None


def move(batch: AnyBatch, device: torch.device | str) -> AnyBatch:
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


def collate_waves(
    utterances: Sequence[Utterance],
    *,
    sample_rate: int,
    speakers: Mapping[str, int] | None = None,
    crop: int | None = None,
    generator: torch.Generator | None = None,
) -> WaveBatch:
    """Read the recordings of some utterances into one batch.

    Args:
        utterances: at least one.
        sample_rate: Hz of the waves.
        speakers: label of each speaker; None leaves the labels out.
        crop: samples; a part of this length is taken at a random place (a shorter clip is padded). Only the part is
            read from the disk.
        generator: draws the places; needed with `crop`.

    Raises:
        ValueError: no utterances, or a crop without generator.
        DataError: a speaker has no label.
        InputError: a recording cannot be read.
    """
    if not utterances:
        raise ValueError("a batch needs at least one utterance")
    if crop is not None and (generator is None or crop <= 0):
        raise ValueError(f"a crop of {crop} samples needs a positive length and a generator for its place")
    if speakers is not None:
        unknown = sorted({item.speaker for item in utterances} - set(speakers))
        if unknown:
            raise DataError(f"speaker {unknown[0]!r} is not among the {len(speakers)} speakers of this model")
    waves = [_read(item, sample_rate, crop, generator) for item in utterances]
    padded, lengths = _pad(waves, crop)
    labels = None if speakers is None else torch.tensor([speakers[item.speaker] for item in utterances])
    return WaveBatch(tuple(item.id for item in utterances), padded, lengths, tuple(i.text for i in utterances), labels)


def _read(utterance: Utterance, sample_rate: int, crop: int | None, generator: torch.Generator | None) -> np.ndarray:
    start, end = utterance.start or 0.0, utterance.end
    if crop is not None:
        length = seconds_of_samples(crop, sample_rate)
        spare = max(0.0, utterance.seconds - length)
        # The place is drawn even for clips that are too short to have a choice: all clips use the generator alike.
        start += spare * float(torch.rand((), generator=generator))
        # One millisecond more than needed makes up for the rounding of the edges.
        end = start + length + 0.001 if spare > 0.001 else end
    wave, _ = read_wave(Path(utterance.audio), sample_rate, start, end)
    return wave if crop is None else wave[:crop]


def _vector(clip: Features, speaker: str) -> np.ndarray | None:
    if speaker == "speaker" and clip.speaker_vector is not None:
        return clip.speaker_vector
    return clip.utterance_vector


def _all_or_none(values: Sequence[np.ndarray | None], name: str) -> list[np.ndarray]:
    present = [value for value in values if value is not None]
    if present and len(present) < len(values):
        raise ValueError(f"{len(present)} of {len(values)} clips have {name}: they come from different extractions")
    return present


def _pad(arrays: Sequence[np.ndarray], size: int | None = None) -> tuple[Tensor, Tensor]:
    """Pad the last axis with zeros to the longest, or to `size`; also the true lengths [B]."""
    lengths = [array.shape[-1] for array in arrays]
    padded = np.zeros((len(arrays), *arrays[0].shape[:-1], size or max(lengths)), arrays[0].dtype)
    for row, array, length in zip(padded, arrays, lengths, strict=True):
        row[..., :length] = array
    return torch.from_numpy(padded), torch.tensor(lengths)
