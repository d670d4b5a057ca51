from __future__ import annotations

import csv
import sys

import numpy as np
import pytest
import torch

from cosytune.audio.files import read_wave
from cosytune.errors import InputError, MissingPackageError
from cosytune.evaluation.judges.base import JUDGE_RATE, Judge, Recording, heard
from cosytune.evaluation.judges.dnsmos import DnsmosJudge
from cosytune.evaluation.judges.normaliser import normalise_for_scoring
from cosytune.evaluation.judges.pocketsphinx_judge import PocketsphinxJudge
from cosytune.evaluation.judges.resemblyzer_judge import ResemblyzerJudge

JUDGES = (PocketsphinxJudge, DnsmosJudge, ResemblyzerJudge)
TEXT = "I was in New York when the crash came."


@pytest.fixture(scope="module")
def judges() -> dict[str, Judge]:
    """Each judge once: loading is most of the time of these tests.

    DNSMOS repeats a clip until it fills nine seconds, then hears it once for each second beyond: these tests keep to
    lengths that it hears once.
    """
    return {judge.name: judge() for judge in JUDGES}


@pytest.fixture(scope="module")
def speech(shared):
    """(text, wave, rate) of a few clips, by speaker."""

    def load(speaker, count, step):
        with (shared / "speech" / speaker / "metadata.csv").open(encoding="utf-8") as table:
            rows = list(csv.reader(table, delimiter="|", quoting=csv.QUOTE_NONE))[::step][:count]
        return [(row[1], *read_wave(shared / "speech" / speaker / "wavs" / f"{row[0]}.flac")) for row in rows]

    return {"kathleen": load("kathleen", 4, 90), "kerstin": load("kerstin", 2, 100)}


def noise(seconds, seed=0, rate=JUDGE_RATE):
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * rate)).astype(np.float32)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop — at Red-Eye!", "dont stop at red eye"),
        ("  A  CAFÉ… ", "a cafe"),
        ("Philip’s “lips”.", "philips lips"),
        ("你好，world", "你好 world"),
        ("?!", ""),
    ],
)
def test_the_normaliser_keeps_words_only(text, words):
    assert normalise_for_scoring(text) == words
    assert normalise_for_scoring(words) == words


def test_numbers_are_compared_as_words():
    assert normalise_for_scoring("It took 25 men.") == normalise_for_scoring("it took twenty-five men")


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 48_000])
def test_judges_hear_at_their_own_rate(rate):
    wave = heard(3 * noise(0.5, rate=rate), rate)
    assert (wave.dtype, len(wave)) == (np.float32, 8_000)
    assert np.abs(wave).max() <= 1.0


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize(
    ("wave", "rate", "message"),
    [
        (np.array([0.0, np.nan] * 9000, np.float32), 16_000, "9000 of 18000 samples are not finite"),
        (np.zeros((2, 16_000), np.float32), 16_000, "give one channel"),
        (np.zeros(16_000, np.float32), 0, "a sample rate of 0 Hz cannot be judged"),
    ],
)
def test_waves_that_cannot_be_judged_are_refused(judge, wave, rate, message):
    with pytest.raises(InputError, match=message):
        judge().score(wave, rate, TEXT, [Recording(noise(1.0), 16_000)])


@pytest.mark.parametrize("samples", [0, 1, 500, 16_000])
def test_silence_gets_the_worst_score_without_loading_a_model(samples):
    wave = np.zeros(samples, np.float32)
    assert DnsmosJudge().score(wave, 16_000, TEXT, ()) == dict.fromkeys(
        ("dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak", "dnsmos_p808"), 1.0
    )
    assert PocketsphinxJudge().score(wave, 16_000, TEXT, ()) == {"cer": 1.0, "wer": 1.0}
    assert ResemblyzerJudge().score(wave, 16_000, TEXT, [Recording(noise(1.0), 16_000)]) == {"sim": 0.0}


@pytest.mark.parametrize("seconds", [0.075, 0.3])
def test_awkward_waves_get_finite_scores(judges, seconds):
    for judge in judges.values():
        scores = judge.score(noise(seconds), 16_000, TEXT, [Recording(noise(1.0, 1), 16_000)])
        assert set(scores) == {info.name for info in judge.metrics}
        assert np.isfinite(list(scores.values())).all()


def test_a_constant_wave_gets_finite_scores(judges):
    for judge in judges.values():
        scores = judge.score(np.ones(9_600, np.float32), 16_000, TEXT, [Recording(noise(1.0), 16_000)])
        assert np.isfinite(list(scores.values())).all()


def test_texts_and_references_that_cannot_be_used_are_refused():
    with pytest.raises(InputError, match="has no words"):
        PocketsphinxJudge().score(noise(1.0), 16_000, "...", ())
    with pytest.raises(InputError, match="at least one reference recording"):
        ResemblyzerJudge().score(noise(1.0), 16_000, TEXT, ())
    with pytest.raises(InputError, match="a reference recording is silent"):
        ResemblyzerJudge().score(noise(1.0), 16_000, TEXT, [Recording(np.zeros(9000, np.float32), 16_000)])


@pytest.mark.parametrize(
    ("judge", "module", "command"),
    [
        (PocketsphinxJudge, "pocketsphinx", "pip install pocketsphinx"),
        (PocketsphinxJudge, "jiwer", "pip install jiwer"),
        (DnsmosJudge, "speechmos.dnsmos", "pip install speechmos"),
        (DnsmosJudge, "onnxruntime", "pip install onnxruntime"),
        (ResemblyzerJudge, "resemblyzer", "pip install --no-deps resemblyzer"),
    ],
)
def test_a_missing_package_is_named_with_its_command(monkeypatch, judge, module, command):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackageError, match=command):
        judge().score(noise(1.0), 16_000, TEXT, [Recording(noise(1.0), 16_000)])


def test_building_a_judge_loads_nothing_and_names_its_versions():
    for judge in (judge() for judge in JUDGES):
        assert judge.name in judge.version or judge.name == "dnsmos"
        assert not any(key.startswith(("_decoder", "_model", "_encoder")) for key in vars(judge))
        assert {info.judge for info in judge.metrics} == {judge.name}


def test_loading_the_speaker_encoder_is_quiet_and_leaves_random_numbers_alone(capsys):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    ResemblyzerJudge().embed(noise(1.0), 16_000)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert capsys.readouterr() == ("", "")


def test_the_recogniser_hears_real_speech_whatever_came_before(judges, speech):
    judge = judges["pocketsphinx"]
    text, wave, rate = speech["kathleen"][0]
    first = judge.score(wave, rate, text, ())
    assert first["cer"] < 0.4
    assert judge.score(*speech["kathleen"][1][1:], "Completely other words were wanted here.", ())["cer"] > 0.6
    assert judge.score(wave, rate, text, ()) == first


def test_similarity_tells_two_women_apart(judges, speech):
    judge = judges["resemblyzer"]
    references = [Recording(wave, rate) for _, wave, rate in speech["kathleen"][2:]]
    own = [judge.score(wave, rate, text, references)["sim"] for text, wave, rate in speech["kathleen"][:2]]
    other = [judge.score(wave, rate, text, references)["sim"] for text, wave, rate in speech["kerstin"]]
    assert min(own) > max(other) + 0.1
    text, wave, rate = speech["kathleen"][0]
    assert judge.score(wave, rate, text, references)["sim"] == own[0]


def test_opinion_falls_with_noise_and_is_repeatable(judges, speech):
    judge = judges["dnsmos"]
    text, wave, rate = speech["kathleen"][1]
    wave = wave[: round(1.2 * rate)]
    clean = judge.score(wave, rate, text, ())
    noisy = judge.score(wave + noise(len(wave) / rate, rate=rate)[: len(wave)] / 3, rate, text, ())
    assert judge.score(wave, rate, text, ()) == clean
    assert all(noisy[name] < clean[name] for name in ("dnsmos_ovrl", "dnsmos_bak", "dnsmos_p808"))
