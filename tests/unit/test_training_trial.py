"""Memory and time of a part, tried with real updates in a place that is thrown away."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cosytune.data.corpus import Corpus
from cosytune.models.folder import read_model
from cosytune.training import fresh
from cosytune.training import trial as trial_module
from cosytune.training.jobs import PartJob
from cosytune.training.lm import LMTask
from cosytune.training.trial import StandIns, longest_batch, try_part
from tests.unit.toy import toy_job


def here(function: Callable[..., Any], *arguments: Any, limit: int | None = None) -> Any:
    """Another process, for tests: this one, without a limit."""
    return function(*arguments)


@pytest.fixture
def job(toy_model: Path, toy_corpus: Corpus, tmp_path: Path) -> PartJob:
    return replace(toy_job("lm", toy_model, toy_corpus, tmp_path / "run"), stage="tune")


def test_the_longest_batch_is_full_or_of_long_clips() -> None:
    even = np.full(20, 4.0)
    assert len(longest_batch(even, 16.0)) == 4
    # Attention grows with the square of a clip's length: one of 14 s takes more than four of 4 s.
    assert longest_batch(np.r_[even, 14.0], 16.0) == [20]
    # A clip beyond the budget comes alone.
    assert longest_batch(np.r_[even, 29.0, 31.0], 16.0) == [21]


def test_stand_ins_have_the_shapes_of_features(toy_model: Path, toy_corpus: Corpus) -> None:
    from cosytune.data.features import FeatureStore

    model = read_model(toy_model)
    identity = model.extractor_hash()
    store = FeatureStore(toy_corpus.features_folder(identity), extractors=identity)
    clips = toy_corpus.utterances("train")[:4]
    ids = [clip.id for clip in clips]
    for real, stand_in in zip(store.read(ids), StandIns(model, clips).read(ids), strict=True):
        assert stand_in.id == real.id
        assert (stand_in.text, stand_in.speaker) == (real.text, real.speaker)
        for name in ("speech_tokens", "mel", "speaker_vector", "utterance_vector"):
            first, second = getattr(real, name), getattr(stand_in, name)
            assert first.dtype == second.dtype
            assert first.shape[:-1] == second.shape[:-1]
            assert abs(first.shape[-1] - second.shape[-1]) <= 2
    again = StandIns(model, clips).read(ids)[0]
    assert np.array_equal(again.speech_tokens, StandIns(model, clips).read(ids)[0].speech_tokens)


def test_what_is_measured(job: PartJob) -> None:
    found = try_part(job, call=here)
    assert found.fits
    assert found.longest_clips >= 1
    assert found.peak_bytes is not None
    assert found.step_seconds is not None
    assert found.peak_bytes > 50_000_000
    assert found.step_seconds > 0
    assert found.validate_seconds > 0
    assert found.checkpoint_bytes > 3 * found.weights_bytes, "the weights and Adam's two moments of each"
    assert found.words.startswith(f"the longest batch ({found.longest_clips} clips of up to ")
    assert not job.folder.exists()


def test_only_what_moves_is_kept(job: PartJob) -> None:
    small = replace(job, settings=job.settings.model_copy(update={"lora_rank": 2}))
    assert try_part(small, call=here).weights_bytes < try_part(job, call=here).weights_bytes


def test_the_vocoder_is_tried_on_crops(toy_model: Path, toy_corpus: Corpus, tmp_path: Path) -> None:
    from cosytune.training import vocoder
    from tests.unit.toy import toy_pitch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocoder, "pitch", toy_pitch)
        found = try_part(replace(toy_job("vocoder", toy_model, toy_corpus, tmp_path), stage="tune"), call=here)
    assert found.fits
    assert found.longest_clips == 5, "as many crops of 0.2 s as make a second"


def out_of_memory_above(clips: int) -> Any:
    real = LMTask.loss

    def loss(self: LMTask, batch: Any, *rest: Any) -> Any:
        if len(batch.ids) > clips:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return real(self, batch, *rest)

    return loss


def test_a_batch_that_fits_only_in_pieces_is_told(job: PartJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LMTask, "loss", out_of_memory_above(1))
    found = try_part(job, call=here)
    assert not found.fits
    assert found.pieces > 1
    assert f"fits only in {found.pieces} pieces (" in found.words
    assert f"give accumulate {found.pieces} (--settings)" in found.words


def test_a_clip_that_does_not_fit_is_told(job: PartJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LMTask, "loss", out_of_memory_above(0))
    found = try_part(job, call=here)
    assert not found.fits
    assert found.step_seconds is None
    assert found.words.startswith("does not fit: memory is too small for the lm with clip ")
    assert "Give a smaller batch_seconds (--settings), accumulate 2 or more" in found.words

    def empty(*arguments: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(trial_module, "read_model", empty)
    assert try_part(job, call=here).words.startswith("does not fit: memory ran out. Give")


def test_a_killed_process_did_not_fit(job: PartJob) -> None:
    def killed(function: Any, *arguments: Any, limit: int | None) -> Any:
        assert limit is None or limit > 0
        raise BrokenProcessPool("gone")

    found = try_part(job, call=killed)
    assert not found.fits
    assert found.words.startswith("does not fit: the system ended the process for want of memory. Give")


def test_a_container_may_be_smaller_than_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, used = tmp_path / "max", tmp_path / "current"
    monkeypatch.setattr(fresh, "_LIMIT", limit)
    monkeypatch.setattr(fresh, "_USED", used)
    stat = tmp_path / "memory.stat"
    monkeypatch.setattr(fresh, "_STAT", stat)
    machine = SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=1000, total=4000))
    monkeypatch.setattr(fresh, "psutil", machine)
    assert fresh.free_memory() == 1000
    limit.write_text("max\n")
    used.write_text("300\n")
    assert (fresh.free_memory(), fresh.whole_memory()) == (1000, 4000)
    limit.write_text("700\n")
    assert (fresh.free_memory(), fresh.whole_memory()) == (400, 700)
    stat.write_text("anon 200\nfile 100\ninactive_file 90\nactive_file 10\n")
    assert fresh.free_memory() == 490, "what files left in memory goes when it is needed"
    limit.write_text("200\n")
    assert fresh.free_memory() == 0
    assert fresh.peak_memory() > 10_000_000
