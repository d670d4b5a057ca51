"""The five tasks on a toy corpus: they resume exactly, they learn, and their trivial baselines are what they say."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosytune.audio.files import write_wave
from cosytune.audio.mel import flow_mel
from cosytune.data.clip_index import ClipIndex
from cosytune.data.corpus import Corpus
from cosytune.data.features import Features, FeatureStore
from cosytune.data.manifest import Utterance
from cosytune.errors import DataError
from cosytune.models.folder import Model, TokenizerFile, read_model
from cosytune.models.loading import network_of
from cosytune.models.speech_tokenizer.config import VQConfig
from cosytune.models.speech_tokenizer.loss import BLANK_GRID
from cosytune.models.vocoder.config import DiscriminatorConfig, Resolution
from cosytune.text.tokenizers import load_tokenizer
from cosytune.training import parts as parts_module
from cosytune.training import speech_tokenizer as speech_tokenizer_module
from cosytune.training import vocoder as vocoder_module
from cosytune.training.clips import Catalogue, spoken_text, spread
from cosytune.training.flow import FlowTask
from cosytune.training.jobs import PartJob, run_job
from cosytune.training.results import PartResult
from cosytune.training.settings import PARTS, PartName
from cosytune.training.speaker_encoder import SpeakerEncoderTask
from cosytune.training.speech_tokenizer import SpeechTokenizerTask
from cosytune.training.task import Draws, Task
from cosytune.training.vocoder import VocoderTask
from cosytune.training.waves import Waves
from tests.unit.task_examples import NOWHERE, Letters, Store, utterance
from tests.unit.toy import TOY, loss_of, outcome, same, toy_job, toy_parts, toy_pitch, toy_settings, train_toy

CPU = torch.device("cpu")


class StoppedError(Exception):
    pass


@pytest.fixture(autouse=True)
def small_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small discriminators, and an F0 that nobody has to search for."""
    config = DiscriminatorConfig(
        periods=(2,), period_channels=(4, 4), resolutions=(Resolution(512, 128, 512),), spectrogram_channels=4
    )
    monkeypatch.setattr(vocoder_module, "DISCRIMINATORS", config)
    monkeypatch.setattr(vocoder_module, "pitch", toy_pitch)


def task_of(part: PartName, model: Path, corpus: Corpus, **changes: Any) -> Any:
    job = toy_job(part, model, corpus, Path("unused"), **changes)
    sides = corpus.utterances("train"), corpus.utterances("validation")
    return parts_module._task(job, read_model(model), corpus, *sides, CPU)


@pytest.mark.parametrize("part", PARTS)
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    part: PartName, toy_model: Path, toy_corpus: Corpus, tmp_path: Path
) -> None:
    changes = {"adversarial_share": 2 / 3} if part == "vocoder" else {}
    whole = train_toy(part, toy_model, toy_corpus, tmp_path / "whole", **changes)

    def stop(step: int) -> None:
        if step == 5:
            raise StoppedError

    job = toy_job(part, toy_model, toy_corpus, tmp_path / "parts", **changes)
    with pytest.raises(StoppedError):
        run_job(job, stop)
    steps: list[int] = []
    assert run_job(job, steps.append) == whole
    assert steps == [5, 6]
    assert same(tmp_path / "parts", tmp_path / "whole")
    assert all(torch.isfinite(value).all() for value in outcome(tmp_path / "whole")[0].values())


def test_a_job_leaves_threads_and_random_numbers_as_they_were(
    toy_model: Path, toy_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def work(job: PartJob, watch: object) -> PartResult:
        seen.append(torch.get_num_threads())
        torch.manual_seed(1)
        raise StoppedError

    monkeypatch.setattr(parts_module, "train_part", work)
    torch.manual_seed(4)
    expected = torch.rand(1)
    torch.manual_seed(4)
    with pytest.raises(StoppedError):
        run_job(replace(toy_job("lm", toy_model, toy_corpus, tmp_path), threads=2))
    assert torch.equal(torch.rand(1), expected)
    assert (seen, torch.get_num_threads()) == ([2], 1)


@pytest.mark.parametrize("part", PARTS)
def test_validation_is_the_same_twice_and_changes_nothing(part: PartName, toy_model: Path, toy_corpus: Corpus) -> None:
    task = task_of(part, toy_model, toy_corpus)
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    state = torch.get_rng_state()
    first = task.validate()
    assert task.validate() == first
    assert set(task.baseline()) <= set(first)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in task.network.state_dict().items())


# Share of the first loss that is left after so many updates on one batch with the same draws.
OVERFIT = {
    "speech_tokenizer": (40, 0.5, {"continuous": 0.0}),
    "speaker_encoder": (12, 0.1, {}),
    "vocoder": (20, 0.6, {}),
    "lm": (15, 0.35, {}),
    "flow": (20, 0.35, {}),
}


@pytest.mark.parametrize("part", PARTS)
def test_one_batch_is_learned_by_heart(part: PartName, toy_model: Path, toy_corpus: Corpus) -> None:
    steps, share, changes = OVERFIT[part]
    task: Task = task_of(part, toy_model, toy_corpus, steps=steps, **changes)
    ids = [clip.id for clip in task.clips()][: 12 if part == "speaker_encoder" else 4 : 2]
    weights = [*task.network.parameters(), *(task.head.parameters() if task.head is not None else ())]
    optimizer = torch.optim.AdamW(weights, lr=2e-2, betas=task.betas)
    task.network.train()
    for module in task.network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    losses = []
    for _ in range(steps):
        report = loss_of(task, ids, Draws(0, 0))
        optimizer.zero_grad()
        report.loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        losses.append(report.loss.item())
    assert losses[-1] < share * losses[0], f"{part}: {losses[0]:.3f} -> {losses[-1]:.3f}"


def test_batch_statistics_survive_an_update_that_is_not_finite(
    toy_model: Path, toy_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = Waves.crops, []

    def crops(self: Waves, *arguments: Any, **named: Any) -> Any:
        waves, starts = original(self, *arguments, **named)
        calls.append(1)
        return (waves * float("nan") if len(calls) == 3 else waves), starts

    monkeypatch.setattr(Waves, "crops", crops)
    result = train_toy("speaker_encoder", toy_model, toy_corpus, tmp_path)
    assert [step for step, _ in result.skipped] == [2]
    assert set(result.skipped[0][1]) <= {clip.id for clip in toy_corpus.utterances("train")}
    weights, _ = outcome(tmp_path)
    assert all(torch.isfinite(value).all() for value in weights.values())
    assert math.isfinite(result.end["cross_entropy"])


def test_discriminators_survive_a_wave_that_is_not_finite(toy_model: Path, toy_corpus: Corpus) -> None:
    adversary = task_of("vocoder", toy_model, toy_corpus, adversarial_share=0.1)._adversary
    before = [value.clone() for value in adversary.judges.parameters()]
    real = torch.rand(2, 3200)
    adversary.update(real, real * float("nan"))
    assert all(torch.equal(now, then) for now, then in zip(adversary.judges.parameters(), before, strict=True))
    adversary.update(real, -real)
    assert not all(torch.equal(now, then) for now, then in zip(adversary.judges.parameters(), before, strict=True))


def test_the_adversary_comes_after_its_warm_up_whatever_the_steps(toy_model: Path, toy_corpus: Corpus) -> None:
    for steps, share, first in ((10, 0.9, 1), (6, 0.5, 3), (4, 1.0, 0)):
        task = task_of("vocoder", toy_model, toy_corpus, steps=steps, adversarial_share=share)
        ids = [clip.id for clip in task.clips()][:2]
        met = [
            "generator_period" in task.loss(task.batch(ids, Draws(0, step)), Draws(0, step)).values
            for step in range(steps)
        ]
        assert met == [False] * first + [True] * (steps - first)
    assert task_of("vocoder", toy_model, toy_corpus)._adversary is None


def test_the_generator_leaves_no_gradient_in_the_discriminators(toy_model: Path, toy_corpus: Corpus) -> None:
    adversary = task_of("vocoder", toy_model, toy_corpus, adversarial_share=0.1)._adversary
    made = torch.rand(2, 3200, requires_grad=True)
    torch.stack(list(adversary.losses(torch.rand(2, 3200), made).values())).sum().backward()
    assert made.grad is not None and made.grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in adversary.judges.parameters())


# --- clips, texts and crops


def test_few_of_many_are_taken_from_everywhere() -> None:
    assert spread(range(10), 20) == list(range(10))
    assert spread(range(100), 4) == [0, 25, 50, 75]
    assert spread([], 3) == []


def test_transcripts_are_read_as_synthesis_would_read_them() -> None:
    assert spoken_text(None) == spoken_text("") == spoken_text("...") == ""
    assert spoken_text("I have 3 cats.") == "I have three cats."


def ramp(path: Path, samples: int) -> Path:
    write_wave(path, (np.arange(samples) / 32767).astype(np.float32), 16_000)
    return path


def generators(step: int, *ids: str) -> list[torch.Generator]:
    return [Draws(0, step).of(clip_id) for clip_id in ids]


def test_crops_are_where_they_say(tmp_path: Path) -> None:
    clips = [utterance("long", ramp(tmp_path / "a.wav", 8000)), utterance("short", ramp(tmp_path / "b.wav", 500))]
    waves = Waves(Catalogue(clips), 16_000)
    for step in range(30):
        pieces, starts = waves.crops(["long", "short"], 640, generators(step, "long", "short"), align=320)
        assert starts[0] % 320 == 0 and starts[1] == 0 and starts[0] <= 8000 - 640
        torch.testing.assert_close(pieces[0] * 32767, torch.arange(starts[0], starts[0] + 640.0))
        assert pieces[1, 500:].abs().sum() == 0 and pieces[1, 1:500].min() > 0
    assert len({waves.crops(["long"], 640, generators(step, "long"))[1][0] for step in range(30)}) > 20


def test_waves_beyond_the_room_are_decoded_again(tmp_path: Path) -> None:
    clips = [utterance(name, ramp(tmp_path / f"{name}.wav", 1000 + 100 * index)) for index, name in enumerate("abc")]
    waves = Waves(Catalogue(clips), 16_000, largest_bytes=2500)
    for name in ("a", "b", "c", "a", "c", "b"):
        assert len(waves[name]) == {"a": 1000, "b": 1100, "c": 1200}[name]
        assert waves._kept.nbytes <= 2500


def test_f0_belongs_to_its_crop(toy_model: Path, toy_corpus: Corpus) -> None:
    task = task_of("vocoder", toy_model, toy_corpus)
    ids = [clip.id for clip in task.clips()][:3]
    waves, f0 = task.crops(ids, generators(3, *ids))
    assert waves.shape == (3, 3200) and f0.shape == (3, 10)
    for clip_id, wave, track in zip(ids, waves, f0, strict=True):
        whole = task._waves[clip_id]
        places = [p for p in range(0, len(whole) - 3199, 320) if torch.equal(whole[p : p + 3200], wave)]
        assert len(places) >= 1
        assert any(np.array_equal(task._track(clip_id, p // 320, 10), track.numpy()) for p in places)


# --- flow, tokenizer, speaker encoder, vocoder


def test_the_gaussian_baseline_is_computed_from_each_band() -> None:
    rng = np.random.default_rng(0)
    deviations = np.linspace(0.5, 3.0, 20)
    mel = (rng.normal(size=(20, 5000)) * deviations[:, None] + 4.0).astype(np.float32)
    rows: Any = Store([Features("v", None, "s", np.zeros(2500, np.int64), np.ones(12, np.float32), mel=mel)])
    torch.manual_seed(0)
    model = Model(
        "t", "initial", TOY.clock, TOY.mel, {"flow": network_of(toy_parts(40)["flow"])}, TokenizerFile("small")
    )
    clip = utterance("v", NOWHERE)
    task = FlowTask(model, [clip], [clip], rows, "pretrain", toy_settings("flow"), CPU)
    measured = mel.astype(np.float64).std(axis=1, ddof=1)
    assert task.baseline()["velocity"] == pytest.approx(np.mean(measured * np.arctan(measured / 1e-6)))
    assert task.baseline()["velocity"] == pytest.approx(deviations.mean() * math.pi / 2, rel=0.02)


def tokenizer_task(clips: list[Utterance], validation: list[Utterance], **changes: Any) -> SpeechTokenizerTask:
    config = toy_parts(40)["speech_tokenizer"].model_copy(update=changes)
    torch.manual_seed(0)
    model = Model("t", "initial", TOY.clock, TOY.mel, {"speech_tokenizer": network_of(config)}, TokenizerFile("small"))
    return SpeechTokenizerTask(model, clips, validation, Letters(), toy_settings("speech_tokenizer"), CPU)


def test_constant_frames_are_the_ctc_baseline(tmp_path: Path) -> None:
    """One symbol in four tokens: every run of it, with blanks before and after, is one alignment."""
    clip = utterance("v", ramp(tmp_path / "v.wav", 2560), text="a", seconds=0.16)
    best = min(
        -math.log(sum((5 - run) * (1 - blank) ** run * blank ** (4 - run) for run in range(1, 5)))
        for blank in BLANK_GRID
    )
    assert tokenizer_task([clip], [clip]).baseline() == {"ctc": pytest.approx(best, rel=1e-4)}


def test_a_table_of_codes_is_started_from_data_and_looked_after(tmp_path: Path) -> None:
    write_wave(tmp_path / "v.wav", np.random.default_rng(0).normal(size=8000).astype(np.float32) * 0.1, 16_000)
    clip = utterance("v", tmp_path / "v.wav", seconds=0.5)
    task = tokenizer_task([clip], [clip], quantiser=VQConfig(codes=8, code_width=4))
    task.network.train()
    table = task.network.quantiser.codebook
    before = table.detach().clone()
    loss_of(task, ["v"], Draws(0, 0))
    assert not torch.isclose(table, before).all(dim=1).any()
    moved = table.detach().clone()
    loss_of(task, ["v"], Draws(0, 1))
    assert torch.equal(table, moved)
    task.network.quantiser.usage.fill_(1.0)
    task.network.quantiser.usage[3] = 0.0
    loss_of(task, ["v"], Draws(0, 100))
    assert (table != moved).any(dim=1).nonzero().flatten().tolist() == [3]


def test_a_tokenizer_needs_transcripts_on_both_sides(tmp_path: Path) -> None:
    spoken, silent = utterance("a", NOWHERE), utterance("b", NOWHERE, text=None)
    for clips, validation, side in (([silent], [spoken], "train"), ([spoken], [silent], "validation")):
        with pytest.raises(DataError) as error:
            tokenizer_task(clips, validation)
        assert f"the {side} side of the corpus has no transcribed clip" in str(error.value)
        assert "or start from a model that has a speech tokenizer (--start)" in str(error.value)
    assert [clip.id for clip in tokenizer_task([spoken, silent], [spoken]).clips()] == ["a"]


def speaker_task(clips: list[Utterance], validation: list[Utterance]) -> SpeakerEncoderTask:
    torch.manual_seed(0)
    network = network_of(toy_parts(40)["speaker_encoder"])
    model = Model("t", "initial", TOY.clock, TOY.mel, {"speaker_encoder": network}, TokenizerFile("small"))
    return SpeakerEncoderTask(model, clips, validation, toy_settings("speaker_encoder"), CPU)


def test_a_speaker_encoder_needs_speakers() -> None:
    a, b, c = (utterance(name, NOWHERE, name) for name in "abc")
    with pytest.raises(DataError, match="the corpus has 1 speaker, and a speaker encoder learns from differences; add"):
        speaker_task([a], [a])
    with pytest.raises(DataError, match="no validation clip is of a speaker that the training side has; prepare"):
        speaker_task([a, b], [c])
    task = speaker_task([a, b], [c, b])
    assert task._validation == ["b"]
    assert task.baseline() == {"cross_entropy": pytest.approx(math.log(2))}


def test_a_clip_alone_can_be_learned_from(tmp_path: Path) -> None:
    clips = [utterance(name, ramp(tmp_path / f"{name}.wav", 16_000), name) for name in "ab"]
    report = loss_of(speaker_task(clips, clips), ["a"], Draws(0, 0))
    assert math.isfinite(report.loss.item())
    assert report.audio_seconds == 1.0


def test_the_vocoder_must_beat_the_mean_spectrum_and_the_mean_pitch(toy_model: Path, toy_corpus: Corpus) -> None:
    task: VocoderTask = task_of("vocoder", toy_model, toy_corpus)
    pieces = [task._piece(clip.id) for clip in toy_corpus.utterances("validation")]
    mels = [flow_mel(piece, replace(TOY.mel, fmax=None))[0].numpy() for piece in pieces]
    mean = np.concatenate(mels, axis=1).mean(axis=1, keepdims=True)
    expected = np.mean([np.abs(mel - mean).mean() for mel in mels])
    tracks = [
        task._track(clip.id, 0, mel.shape[1])
        for clip, mel in zip(toy_corpus.utterances("validation"), mels, strict=True)
    ]
    middle = np.concatenate(tracks).mean()
    distance = np.mean([np.abs(track - middle).mean() for track in tracks])
    assert task.baseline() == {"log_mel": pytest.approx(expected, rel=1e-5), "f0_hz": pytest.approx(distance, rel=1e-5)}


# --- sides


def test_both_sides_are_needed(
    toy_model: Path, toy_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        parts_module, "ClipIndex", lambda corpus, side: ClipIndex(corpus, side) if side == "train" else ()
    )
    with pytest.raises(DataError, match=r"has \d+ training and 0 validation clips; training needs both"):
        train_toy("vocoder", toy_model, toy_corpus, tmp_path)


def test_clips_without_features_are_left_out(
    toy_model: Path, toy_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FeatureStore, "__contains__", lambda self, identity: False)
    with pytest.raises(DataError, match=r"has 0 training and 0 validation clips with features; training needs both"):
        train_toy("flow", toy_model, toy_corpus, tmp_path)


def test_text_is_tokenized_with_the_model_own_tokenizer(toy_model: Path, toy_corpus: Corpus) -> None:
    model = read_model(toy_model)
    tokenizer = load_tokenizer(model.tokenizer.kind, model.tokenizer.data)
    task = task_of("speech_tokenizer", toy_model, toy_corpus)
    clip = task.clips()[0]
    targets, lengths = task._targets([clip.id])
    assert targets[0].tolist() == tokenizer.encode(spoken_text(clip.text))
    assert lengths.tolist() == [len(targets[0])]
    assert tokenizer.vocabulary_size == task.network.config.symbols


def test_clips_too_short_for_their_text_do_not_sweeten_the_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech_tokenizer_module, "VALIDATION_BATCH", 1)
    good = utterance("good", ramp(tmp_path / "good.wav", 8000), text="ab", seconds=0.5)
    hopeless = utterance("hopeless", ramp(tmp_path / "hopeless.wav", 2560), text="abcdefgh" * 4, seconds=0.16)
    alone = tokenizer_task([good], [good]).validate()["ctc"]
    assert tokenizer_task([good], [good, hopeless]).validate()["ctc"] == pytest.approx(alone)
    with pytest.raises(DataError, match="every validation clip has fewer speech tokens than its transcript"):
        tokenizer_task([good], [hopeless]).validate()
