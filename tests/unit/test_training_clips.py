"""Clips that are read when they are asked for: in order, in views, by id, and in few bytes each."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cosytune.data import clip_index as clip_index_module
from cosytune.data.clip_index import ClipIndex, ClipView, IndexedClips, clips_at, only
from cosytune.data.corpus import Contents, Corpus, write_corpus
from cosytune.data.features import Features
from cosytune.data.manifest import Utterance
from cosytune.data.results import LedgerLine
from cosytune.data.sampler import endless
from cosytune.models.folder import Model, read_model
from cosytune.text.tokenizers import load_tokenizer
from cosytune.training import clips as clips_module
from cosytune.training.clips import Catalogue, has_words
from cosytune.training.lm import LMTask
from cosytune.training.task import Draws
from tests.unit.toy import toy_settings


def made_up(number: int) -> Utterance:
    """Of five speakers; every third without words."""
    text = [None, "So many words.", "..."][number % 3] if number % 7 else f"Clip {number}."
    return Utterance(f"c{number}", "/none.wav", text, f"s{number % 5}", "en", seconds=1.0 + number % 9)


def corpus_of(folder: Path, count: int) -> Corpus:
    """Of `count` training clips, and every tenth as many for validation."""
    clips = [made_up(number) for number in range(count + count // 10)]
    contents = Contents(
        utterances=((clip, "train" if number < count else "validation", "0") for number, clip in enumerate(clips)),
        recordings=[("/none.wav", "0")],
        lines=[LedgerLine(clip.id, clip.audio, "kept") for clip in clips],
        seen=len(clips),
        notes=(),
        between=0.0,
        splits={},
        source={},
    )
    return write_corpus(folder, contents)


class Store:
    """Features of any clip."""

    def read(self, ids: Sequence[str]) -> list[Features]:
        tokens, vector = np.arange(3), np.ones(12, np.float32)
        return [Features(clip, None, "s", tokens + int(clip[1:]) % 20, vector) for clip in ids]


def lm_task(model: Model, train: Sequence[Utterance], validation: Sequence[Utterance]) -> LMTask:
    store: Any = Store()
    tokenizer = load_tokenizer(model.tokenizer.kind, model.tokenizer.data)
    settings, cpu = toy_settings("lm", concatenate=0.5), torch.device("cpu")
    return LMTask(model, train, validation, store, tokenizer, "pretrain", settings, cpu)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ClipIndex:
    return ClipIndex(corpus_of(tmp_path_factory.mktemp("clips"), 20), "train")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_index_module, "_BLOCK", 3)


@pytest.mark.usefixtures("small_blocks")
def test_an_index_is_the_list_of_its_clips(index: ClipIndex) -> None:
    clips = [made_up(number) for number in range(20)]
    assert list(index) == index[:] == clips
    assert index.seconds.tolist() == [clip.seconds for clip in clips]
    assert (index[-1], index[3:11:4], clips_at(clips, [4, 2])) == (clips[-1], clips[3:11:4], index.read([4, 2]))
    with pytest.raises(IndexError):
        index[20]


@given(st.lists(st.integers(0, 19), max_size=12), st.booleans(), st.booleans())
def test_a_view_is_what_is_made_of_the_list(index: ClipIndex, places: list[int], on_disk: bool, short: bool) -> None:
    clips: Sequence[Utterance] = index if on_disk else list(index)
    seconds = 0.5 if short else None

    def renamed(clip: Utterance) -> Utterance:
        return replace(clip, id=f"old/{clip.id}")

    view = ClipView(clips, np.array(places, np.int64), seconds=seconds, change=renamed)
    expected = [renamed(index[place]) for place in places]
    if seconds is not None:
        expected = [replace(clip, seconds=seconds) for clip in expected]
    assert list(view) == expected
    assert view.seconds.tolist() == [clip.seconds for clip in expected]
    assert list(ClipView(view)) == expected


def test_a_choice_looks_at_each_clip_once(index: ClipIndex) -> None:
    seen: list[str] = []

    def keep(clip: Utterance) -> bool:
        seen.append(clip.id)
        return clip.speaker == "s1"

    chosen = only(index, keep)
    assert isinstance(chosen, IndexedClips)
    assert [clip.id for clip in chosen] == ["c1", "c6", "c11", "c16"]
    assert seen == [f"c{number}" for number in range(20)]
    assert only(index, lambda clip: True) is index
    assert list(only([], keep)) == list(only(index, lambda clip: False)) == []


@pytest.mark.parametrize("alike", [0, 1], ids=["own hashes", "one hash for many"])
def test_a_catalogue_finds_every_clip(index: ClipIndex, alike: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if alike:
        monkeypatch.setattr(clips_module, "_hash", len)
    more = [made_up(number) for number in (30, 31)]
    again = [replace(made_up(3), text="Said twice.")]
    catalogue = Catalogue(index, more, again, kind=lambda clip: clip.speaker)
    for number, clip in enumerate([*index, *more]):
        assert catalogue.find(clip.id) == (number, clip)
        assert catalogue[clip.id] == catalogue.at(number) == clip
    assert catalogue.at(22) == again[0]
    assert catalogue.kinds.tolist() == [number % 5 for number in (*range(20), 30, 31, 3)]
    with pytest.raises(KeyError):
        catalogue["c20"]


def test_words_are_letters_or_numbers() -> None:
    texts = {None: False, "": False, "...": False, "7": True, "你": True, "a.": True}
    assert {text: has_words(replace(made_up(0), text=text)) for text in texts} == texts


def test_a_task_on_an_index_is_the_task_on_the_list(toy_model: Path, tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, 60)
    model = read_model(toy_model)
    indexed = lm_task(model, ClipIndex(corpus, "train"), ClipIndex(corpus, "validation"))
    listed = lm_task(model, corpus.utterances("train"), corpus.utterances("validation"))
    batches = [list(islice(endless(task.clips(), seconds=30, seed=1), 20)) for task in (indexed, listed)]
    assert batches[0] == batches[1]
    for step, ids in enumerate(batches[0]):
        assert indexed._groups(ids, Draws(0, step)) == listed._groups(ids, Draws(0, step))
    assert indexed.validate() == listed.validate()
    assert indexed.baseline() == listed.baseline()


def test_a_task_holds_some_bytes_of_a_clip(toy_model: Path, tmp_path: Path) -> None:
    count = 3000
    corpus, model = corpus_of(tmp_path, count), read_model(toy_model)
    tracemalloc.start()
    try:
        task = lm_task(model, ClipIndex(corpus, "train"), ClipIndex(corpus, "validation"))
        ids = next(endless(task.clips(), seconds=30, seed=1))
        task._groups(ids, Draws(0, 0))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    kept_samples = 256 * 1500 + 300_000  # validation clips, and what does not grow
    assert held < kept_samples + 60 * count
    assert len(task.clips()) == count
