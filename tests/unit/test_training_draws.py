"""The random numbers of a clip: of seed, step and the clip alone, whatever it is learned with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cosytune.audio.files import write_wave
from cosytune.data.corpus import Corpus
from cosytune.data.manifest import Utterance
from cosytune.models.flow.loss import FlowDraws, draw
from cosytune.models.folder import read_model
from cosytune.training import parts
from cosytune.training.clips import Catalogue
from cosytune.training.settings import PartName
from cosytune.training.task import Draws, sum_reports
from cosytune.training.waves import Waves
from tests.unit.flow_models import TINY
from tests.unit.toy import loss_of, toy_job

CLIPS = {f"clip {number}": 3 + 4 * number for number in range(6)}
"""Ids, and mel frames of each."""

batches = st.lists(st.sampled_from(sorted(CLIPS)), min_size=1, unique=True)
"""Any of the clips in any order."""


def numbers(generator: torch.Generator) -> tuple[float, ...]:
    return tuple(torch.rand(4, generator=generator).tolist())


def test_draws_depend_on_seed_step_and_clip_alone() -> None:
    first = numbers(Draws(3, 7).of("a"))
    torch.manual_seed(99)
    assert numbers(Draws(3, 7).of("a")) == first
    every = [Draws(seed, step) for seed in (0, 1, 11, 2**32 - 1) for step in (0, 1, 11, 10**6)]
    streams = {numbers(draws.of(clip)) for draws in every for clip in ("", "a", "b", "1 a")}
    streams |= {numbers(draws.whole()) for draws in every}
    assert len(streams) == 4 * 4 * 5


def test_the_draws_of_a_clip_are_frozen() -> None:
    """A change here means that old runs cannot be resumed or compared with new ones."""
    assert numbers(Draws(11, 4).of("s1/a 你")) == pytest.approx((0.3316252, 0.7420450, 0.9439085, 0.8845118))


@given(batches)
def test_the_flow_draws_for_a_clip_whatever_is_beside_it(ids: list[str]) -> None:
    def drawn(clips: Sequence[str], padding: int = 0) -> FlowDraws:
        lengths = torch.tensor([CLIPS[clip] for clip in clips])
        return draw(TINY, lengths, int(lengths.max()) + padding, [Draws(1, 2).of(clip) for clip in clips])

    together = drawn(ids, padding=3)
    for row, clip in enumerate(ids):
        alone = drawn([clip])
        for field in dataclasses.fields(FlowDraws):
            mine, own = getattr(together, field.name)[row], getattr(alone, field.name)[0]
            assert torch.equal(mine[..., : CLIPS[clip]] if field.name == "noise" else mine, own)
        assert together.noise[row, :, CLIPS[clip] :].abs().sum() == 0


@pytest.fixture(scope="module")
def waves(tmp_path_factory: pytest.TempPathFactory) -> Waves:
    folder, rng = tmp_path_factory.mktemp("waves"), np.random.default_rng(0)
    clips = []
    for clip, frames in CLIPS.items():
        write_wave(folder / f"{clip}.wav", rng.uniform(-0.5, 0.5, 100 * frames).astype(np.float32), 16_000)
        clips.append(Utterance(clip, str(folder / f"{clip}.wav"), None, "s", "en", seconds=frames / 160))
    return Waves(Catalogue(clips), 16_000)


@given(ids=batches)
def test_a_crop_is_taken_where_it_is_taken_whatever_is_beside_it(waves: Waves, ids: list[str]) -> None:
    pieces, starts = waves.crops(ids, 64, [Draws(0, 3).of(clip) for clip in ids])
    for clip, piece, start in zip(ids, pieces, starts, strict=True):
        alone, its_start = waves.crops([clip], 64, [Draws(0, 3).of(clip)])
        assert its_start == [start] and torch.equal(alone[0], piece)


def test_one_generator_twice_takes_two_crops(waves: Waves) -> None:
    longest = "clip 5"
    _, starts = waves.crops([longest] * 2, 64, [Draws(0, 3).of(longest)] * 2)
    assert starts[0] != starts[1]


def task_of(part: PartName, model: Path, corpus: Corpus, **changes: Any) -> Any:
    job = toy_job(part, model, corpus, Path("unused"), **changes)
    sides = corpus.utterances("train"), corpus.utterances("validation")
    return parts._task(job, read_model(model), corpus, *sides, torch.device("cpu"))


def test_a_second_utterance_does_not_depend_on_the_batch(toy_model: Path, toy_corpus: Corpus) -> None:
    task = task_of("lm", toy_model, toy_corpus, concatenate=0.5)
    ids = [clip.id for clip in task.clips()]
    together = task._groups(ids, Draws(5, 6))
    assert {len(group) for group in together} == {1, 2}
    assert task._groups(ids[::-1], Draws(5, 6))[::-1] == together
    assert [task._groups([clip], Draws(5, 6))[0] for clip in ids] == together
    assert task._groups(ids, Draws(5, 7)) != together


def test_the_excitation_of_a_crop_is_its_own(toy_model: Path, toy_corpus: Corpus) -> None:
    task = task_of("vocoder", toy_model, toy_corpus)
    f0 = torch.tensor([[110.0, 0.0, 120.0], [0.0, 200.0, 210.0]])
    together = task._source(f0, [Draws(0, 0).of(clip) for clip in "ab"])
    assert torch.equal(task._source(f0[1:], [Draws(0, 0).of("b")])[0], together[1])


@pytest.mark.parametrize("part", ["lm", "flow"])
def test_the_gradient_of_a_batch_is_that_of_its_pieces(part: PartName, toy_model: Path, toy_corpus: Corpus) -> None:
    task = task_of(part, toy_model, toy_corpus, concatenate=0.5)
    task.network.eval()  # no dropout
    ids = [clip.id for clip in task.clips()][:7]

    def learned(cut: Callable[[list[str]], list[list[str]]]) -> tuple[Any, list[torch.Tensor]]:
        task.network.zero_grad()
        reports = []
        for piece in cut(ids):
            reports.append(loss_of(task, piece, Draws(2, 3)))
            (reports[-1].loss * reports[-1].count).backward()
        total = sum_reports(reports)
        return total, [weight.grad / total.count for weight in task.network.parameters() if weight.grad is not None]

    whole, gradient = learned(lambda batch: [batch])
    for cut in (lambda batch: [batch[:3], batch[3:]], lambda batch: [[clip] for clip in reversed(batch)]):
        report, pieces = learned(cut)
        assert report.loss.item() == pytest.approx(whole.loss.item(), rel=1e-5)
        assert report.audio_seconds == pytest.approx(whole.audio_seconds)
        for mine, expected in zip(pieces, gradient, strict=True):
            torch.testing.assert_close(mine, expected, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("part", ["speech_tokenizer", "vocoder", "speaker_encoder"])
def test_what_counts_in_a_curve_are_items_not_batches(part: PartName, toy_model: Path, toy_corpus: Corpus) -> None:
    task = task_of(part, toy_model, toy_corpus)
    ids = [clip.id for clip in task.clips()][:3]
    symbols = sum(len(task._symbols(clip)) for clip in task.clips() if clip.id in ids) if part[:6] == "speech" else 3
    with torch.no_grad():
        assert int(loss_of(task, ids, Draws(0, 0)).count) == symbols
