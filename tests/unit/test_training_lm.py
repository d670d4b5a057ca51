"""The LM's task: which clips it reads, joins and validates, and what it is compared with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosytune.data.corpus import Corpus
from cosytune.data.features import Features
from cosytune.data.manifest import Utterance
from cosytune.models.folder import Model, TokenizerFile, read_model
from cosytune.models.loading import network_of
from cosytune.training import parts as parts_module
from cosytune.training.lm import LMTask
from cosytune.training.settings import PartName
from cosytune.training.task import Draws
from tests.unit.task_examples import NOWHERE, Letters, Store, utterance
from tests.unit.toy import SILENT, TOY, loss_of, toy_job, toy_parts, toy_settings

CPU = torch.device("cpu")


def task_of(part: PartName, model: Path, corpus: Corpus, **changes: Any) -> Any:
    job = toy_job(part, model, corpus, Path("unused"), **changes)
    sides = corpus.utterances("train"), corpus.utterances("validation")
    return parts_module._task(job, read_model(model), corpus, *sides, CPU)


def lm_model(codebook: int = 27) -> Model:
    torch.manual_seed(0)
    configs = toy_parts(40)
    return Model("t", "initial", TOY.clock, TOY.mel, {"lm": network_of(configs["lm"])}, TokenizerFile("small"))


def lm_task(
    clips: Sequence[Utterance], validation: Sequence[Utterance], tokens: dict[str, list[int]], **changes: Any
) -> LMTask:
    rows = [
        Features(clip.id, clip.text, clip.speaker, np.array(tokens[clip.id]), np.ones(12, np.float32) * index)
        for index, clip in enumerate((*clips, *validation))
    ]
    store: Any = Store(rows)
    return LMTask(lm_model(), clips, validation, store, Letters(), "pretrain", toy_settings("lm", **changes), CPU)


def test_the_unigram_is_counted_with_ends_and_one_more_of_each() -> None:
    clips = [utterance("a", NOWHERE), utterance("b", NOWHERE)]
    task = lm_task(clips, [utterance("v", NOWHERE)], {"a": [1, 1, 1], "b": [2], "v": [1, 5]})
    total = 28 + 6  # 27 codes and the end once each, three times 1, once 2, two ends
    expected = -(math.log(4 / total) + math.log(1 / total) + math.log(3 / total)) / 3
    assert task.baseline() == {"cross_entropy": pytest.approx(expected)}


def test_a_second_utterance_is_of_the_same_voice_and_kind() -> None:
    clips = [
        utterance(f"{speaker}{index}", NOWHERE, speaker, text)
        for speaker in "pq"
        for index, text in enumerate(("one", "two", "three", None, None))
    ]
    clips.append(utterance("alone", NOWHERE, "r"))
    task = lm_task(clips, clips[:1], {clip.id: [1] for clip in clips}, concatenate=0.3)
    ids = [clip.id for clip in clips]
    groups = [[clip.id for clip in group] for step in range(300) for group in task._groups(ids, Draws(0, step))]
    joined = [group for group in groups if len(group) == 2]
    by_id = {clip.id: clip for clip in clips}
    assert all(first != second for first, second in joined)
    assert all(by_id[a].speaker == by_id[b].speaker for a, b in joined)
    assert all((by_id[a].text is None) == (by_id[b].text is None) for a, b in joined)
    assert [group for group in groups if group[0] == "alone"] == [["alone"]] * 300
    share = len(joined) / (len(groups) - 300)
    assert share == pytest.approx(0.3, abs=0.03)
    partners = [second for first, second in joined if first == "p2"]
    assert {name: partners.count(name) for name in ("p0", "p1")}.keys() == set(partners)
    assert partners.count("p0") == pytest.approx(len(partners) / 2, rel=0.35)


def test_an_untranscribed_utterance_is_the_same_alone_and_beside_others() -> None:
    clips = [utterance("a", NOWHERE, text=None), utterance("b", NOWHERE, text="Some words.")]
    task = lm_task(clips, clips[1:], {"a": [1, 2, 3], "b": [3, 4]})
    task.network.eval()

    def logits(ids: list[str]) -> torch.Tensor:
        batch = task._batch([task._item([clip]) for clip in clips if clip.id in ids])
        return task.network(
            batch.text_tokens, batch.text_lengths, batch.speech_tokens, batch.speech_lengths, None
        ).logits

    # Start mark, task mark and three tokens: five positions.
    torch.testing.assert_close(logits(["a"])[0], logits(["a", "b"])[0, :5])


def test_joined_utterances_are_text_and_tokens_one_after_the_other() -> None:
    clips = [utterance("a", NOWHERE, text="Two 2."), utterance("b", NOWHERE, text="Three.")]
    task = lm_task(clips, [utterance("v", NOWHERE)], {"a": [1, 2], "b": [3], "v": [1]})
    item = task._item(clips)
    assert (item.text, item.speech_tokens.tolist() if item.speech_tokens is not None else None) == (
        "Two two. Three.",
        [1, 2, 3],
    )
    assert item.utterance_vector is not None and item.utterance_vector[0] == 0


def test_untranscribed_utterances_are_learned_with_an_empty_text(toy_model: Path, toy_corpus: Corpus) -> None:
    task = task_of("lm", toy_model, toy_corpus, concatenate=1.0)
    silent = [clip.id for clip in task.clips() if clip.speaker.startswith(SILENT)]
    assert len(silent) > 1 and all(clip.text is None for clip in task.clips() if clip.id in silent)
    batch = task._batch([task._item(group) for group in task._groups(silent, Draws(0, 0))])
    assert batch.text_lengths.tolist() == [0] * len(silent)
    report = loss_of(task, silent, Draws(0, 0))
    report.loss.backward()
    assert math.isfinite(report.loss.item())
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in task.network.parameters())
    tokens = sum(
        len(row.speech_tokens)
        for group in task._groups(silent, Draws(0, 0))
        for row in task._features.read([clip.id for clip in group])
    )
    assert report.audio_seconds == pytest.approx(tokens / 25)
