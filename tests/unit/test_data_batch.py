from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cosytune.data.batch import collate, move
from cosytune.data.features import Features


def encode(text: str) -> list[int]:
    return [ord(character) for character in text]


def features(identity: str, text: str | None, tokens: int) -> Features:
    rng = np.random.default_rng(tokens)
    return Features(
        identity,
        text,
        "s",
        speech_tokens=np.arange(1, tokens + 1),
        utterance_vector=rng.normal(size=4).astype(np.float32),
        speaker_vector=np.ones(4, np.float32),
        mel=rng.normal(size=(3, 2 * tokens)).astype(np.float32),
    )


def test_a_batch_is_padded_and_knows_its_lengths() -> None:
    clips = [features("a", "hi", 5), features("b", None, 2), features("c", "", 3)]
    batch = collate(clips, encode)
    assert batch.ids == ("a", "b", "c")
    assert batch.text_tokens.tolist() == [[104, 105], [0, 0], [0, 0]]
    assert batch.text_lengths.tolist() == [2, 0, 0]
    assert batch.speech_tokens is not None and batch.speech_lengths is not None
    assert batch.speech_tokens.tolist() == [[1, 2, 3, 4, 5], [1, 2, 0, 0, 0], [1, 2, 3, 0, 0]]
    assert batch.speech_lengths.tolist() == [5, 2, 3]
    assert batch.mel is not None and batch.mel_lengths is not None
    assert batch.mel.shape == (3, 3, 10)
    assert batch.mel_lengths.tolist() == [10, 4, 6]
    np.testing.assert_array_equal(batch.mel[1, :, :4].numpy(), clips[1].mel)
    assert batch.mel[1, :, 4:].abs().sum() == 0
    kinds = {batch.text_tokens.dtype, batch.text_lengths.dtype, batch.speech_tokens.dtype, batch.speech_lengths.dtype}
    assert kinds == {torch.int64}
    assert batch.mel.dtype == torch.float32


def test_a_batch_without_any_text_has_no_text_tokens() -> None:
    assert collate([features("a", None, 2)], encode).text_tokens.shape == (1, 0)


def test_which_speaker_vector() -> None:
    clips = [features("a", "x", 2), replace(features("b", "x", 3), speaker_vector=None)]
    mean, own = collate(clips, encode), collate(clips, encode, speaker="utterance")
    assert mean.speaker_vectors is not None and own.speaker_vectors is not None
    np.testing.assert_array_equal(mean.speaker_vectors[0].numpy(), np.ones(4))
    np.testing.assert_array_equal(mean.speaker_vectors[1].numpy(), clips[1].utterance_vector)
    np.testing.assert_array_equal(own.speaker_vectors[0].numpy(), clips[0].utterance_vector)


def test_features_that_are_absent_are_none() -> None:
    batch = collate([Features("a", "x", "s")], encode)
    assert batch.mel is batch.speech_tokens is batch.speaker_vectors is batch.mel_lengths is None
    with pytest.raises(ValueError, match="1 of 2 clips have mel: they come from different extractions"):
        collate([features("a", "x", 2), replace(features("b", "x", 2), mel=None)], encode)
    with pytest.raises(ValueError, match="at least one clip"):
        collate([], encode)


def test_moving_keeps_everything() -> None:
    batch = collate([replace(features("a", "x", 2), mel=None)], encode)
    moved = move(batch, "meta")
    assert moved.ids == batch.ids
    assert moved.mel is None
    assert {moved.text_tokens.device.type, moved.text_lengths.device.type} == {"meta"}
