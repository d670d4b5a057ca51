"""Clips that were spoken as they were told to: the LM learns them as synthesis will ask for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cosytune.data.corpus import Corpus
from cosytune.data.features import FeatureStore
from cosytune.data.manifest import Utterance
from cosytune.models.folder import read_model
from cosytune.models.voices import Voice
from cosytune.synthesis.conditions import Conditions
from cosytune.synthesis.requests import Request
from cosytune.text.tokenizers import load_tokenizer
from cosytune.training.clips import spoken_text
from cosytune.training.lm import LMTask
from cosytune.training.parts import task_of
from cosytune.training.task import Draws
from tests.unit.toy import toy_job

SLOWLY = "Slowly, please."


@pytest.fixture
def clips(toy_corpus: Corpus) -> list[Utterance]:
    """Transcribed clips of one voice; the first has an instruction."""
    spoken = [clip for clip in toy_corpus.utterances("train") if clip.text]
    first, *others = [clip for clip in spoken if clip.speaker == spoken[0].speaker]
    return [replace(first, instruct=SLOWLY), *others]


def lm_task(toy_model: Path, toy_corpus: Corpus, clips: list[Utterance], **changes: Any) -> LMTask:
    model = read_model(toy_model)
    identity = model.extractor_hash()
    features = FeatureStore(toy_corpus.features_folder(identity), extractors=identity)
    job = toy_job("lm", toy_model, toy_corpus, Path("unused"), **changes)
    task = task_of(job, model, clips, clips[:2], torch.device("cpu"), features)
    assert isinstance(task, LMTask)
    return task


def test_an_instruction_is_read_as_synthesis_reads_it(
    toy_model: Path, toy_corpus: Corpus, clips: list[Utterance]
) -> None:
    slow, plain, *_ = clips
    mute = replace(clips[2], text=None, instruct=SLOWLY)
    task = lm_task(toy_model, toy_corpus, [slow, plain, mute], concatenate=0.0)
    batch = task.batch([slow.id, plain.id, mute.id], Draws(0, 0))
    assert batch.instructed is not None
    assert batch.instructed.tolist() == [True, False, False], "an instruction without a text is none"
    assert batch.text_lengths[2] == 0

    model = read_model(toy_model)
    tokenizer = load_tokenizer(model.tokenizer.kind, model.tokenizer.data)
    told = replace(model, voices={"ada": Voice(torch.ones(12))})
    asked = Conditions(told, tokenizer).of_request(Request(slow.text or "", "ada", instruct=SLOWLY))
    assert asked.lm_vector is None
    expected = [*asked.lm_text.tolist(), *tokenizer.encode(spoken_text(slow.text, slow.language))]
    assert batch.text_tokens[0, : batch.text_lengths[0]].tolist() == expected
    assert task.batch([plain.id], Draws(0, 0)).instructed is None


def test_the_speaker_of_an_instructed_clip_changes_nothing(
    toy_model: Path, toy_corpus: Corpus, clips: list[Utterance]
) -> None:
    task = lm_task(toy_model, toy_corpus, clips, concatenate=0.0)
    task.network.eval()
    batch = task.batch([clips[0].id, clips[1].id], Draws(0, 0))
    assert batch.speaker_vectors is not None
    for row, matters in ((0, False), (1, True)):
        other = batch.speaker_vectors.clone()
        other[row] = torch.randn(other.shape[1], generator=torch.Generator().manual_seed(row))
        changed = task.loss(replace(batch, speaker_vectors=other), Draws(0, 0)).loss
        assert (changed != task.loss(batch, Draws(0, 0)).loss).item() is matters


def test_clips_are_joined_only_under_the_same_instruction(
    toy_model: Path, toy_corpus: Corpus, clips: list[Utterance]
) -> None:
    task = lm_task(toy_model, toy_corpus, clips, concatenate=1.0)
    first, *others = task._groups([clip.id for clip in clips], Draws(0, 0))
    assert [clip.id for clip in first] == [clips[0].id]
    assert all(len(group) == 2 and clips[0].id not in [clip.id for clip in group] for group in others)
