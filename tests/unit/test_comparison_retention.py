"""Old voices and other languages of a start are asked for again, and their loss is told in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cosytune.comparison.compose import retention as module
from cosytune.comparison.compose.retention import Retention, alarm, hear_retention, recall, score_of
from cosytune.evaluation.results import Score
from cosytune.synthesis.requests import Request

GOOD = {"sim": 0.8, "dnsmos_ovrl": 3.0, "cer": 0.2, "runaway": 0.0, "retention": 0.9, "language_zh": 0.7}
TEXTS = [Request(text, "new", language="de", seed=5, name=text) for text in ("eins", "zwei", "drei")]


def test_the_score_is_the_mean_of_what_may_be_believed() -> None:
    assert score_of(GOOD) == pytest.approx((0.8 + 0.5 + 0.8) / 3)
    assert score_of({"sim": 0.8, "dnsmos_ovrl": 3.0}) == pytest.approx((0.8 + 0.5) / 2)
    assert score_of({**GOOD, "cer": 3.0}) == pytest.approx((0.8 + 0.5) / 3)
    assert score_of({"dnsmos_ovrl": 5.0}) == 1.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"runaway": 0.33}, ""),
        ({"runaway": 0.5}, "speech runs away in 50% of the sentences, the start's in 0%"),
        ({"retention": 0.76}, ""),
        ({"retention": 0.7}, "the start's own voices are going: their similarity is 0.70, untouched it was 0.90"),
        ({"language_zh": 0.56}, ""),
        ({"language_zh": 0.5}, "the start's language zh is going: its score is 0.50, untouched it was 0.70"),
    ],
)
def test_alarms(changes: dict[str, float], words: str) -> None:
    assert alarm({**GOOD, **changes}, GOOD) == words


def test_no_old_voices_and_no_other_language_no_alarm_about_them() -> None:
    start = {name: value for name, value in GOOD.items() if name not in ("retention", "language_zh")}
    assert alarm(start, start) == ""


class Speaker:
    """Its wave is one number over and over, of the voice, moved by `drift`; in some languages none at all (mute)."""

    sample_rate = 16_000

    def __init__(self, drift: float = 0.0, mute: tuple[str, ...] = ()) -> None:
        self.drift, self.mute = drift, mute
        self.asked: list[Request] = []

    def say(self, request: Request) -> np.ndarray | None:
        self.asked.append(request)
        if request.language in self.mute:
            return None
        return np.full(1600, len(request.voice or "") + self.drift, np.float32)


ERRORS = {"now": 0.1}


def score_system(system: str, items: Any, judges: Any, *, references: Any, pitch: bool) -> list[Score]:
    (item,) = items
    spoken = item.wave is not None
    values = {"spoken": float(spoken), "runaway": float(spoken and "long" in item.text)}
    metrics = {info.name for judge in judges for info in judge.metrics}
    if "sim" in metrics:
        assert references
        values["sim"] = 1 - abs(float(item.wave[0] - references[0].wave[0])) if spoken else 0.0
    if "dnsmos_ovrl" in metrics:
        values["dnsmos_ovrl"] = 3.0 if spoken else 1.0
    if "cer" in metrics:
        values["cer"] = ERRORS["now"]
    return [Score(system, item.sentence, name, value, 0) for name, value in values.items()]


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "score_system", score_system)
    monkeypatch.setattr(module, "said_all", lambda speaker, requests: [speaker.say(request) for request in requests])
    monkeypatch.setitem(ERRORS, "now", 0.1)


def recalled(*, old: tuple[str, ...] = ("ada",), languages: tuple[str, ...] = ()) -> Retention:
    speaker: Any = Speaker()
    return recall(speaker, old, ["newest"], TEXTS, languages)


def heard(retention: Retention, **changes: Any) -> dict[str, float]:
    speaker: Any = Speaker(**changes)
    return hear_retention(retention, speaker)


def test_old_voices_are_compared_with_themselves_untouched() -> None:
    retention = recalled(old=("ada", "bo"))
    assert {request.voice for request in retention.requests["retention"]} == {"ada", "bo"}
    assert {request.text for request in retention.requests["retention"]} == {"eins", "zwei"}
    assert heard(retention) == {"retention": 1.0}
    assert heard(retention, drift=0.25) == {"retention": pytest.approx(0.75)}
    assert heard(retention, mute=("de",)) == {"retention": 0.0}


def test_a_voice_that_the_start_could_not_say_itself_is_not_similar() -> None:
    speaker: Any = Speaker(mute=("de",))
    assert heard(recall(speaker, ["ada"], [], TEXTS, [])) == {"retention": 0.0}


def test_silence_is_nothing_to_be_similar_to() -> None:
    speaker: Any = Speaker(drift=-len("ada"))
    retention = recall(speaker, ["ada", "boris"], [], TEXTS, [])
    assert {voice: len(own) for voice, own in retention.own.items()} == {"ada": 0, "boris": 2}
    assert heard(retention, drift=-len("ada")) == {"retention": 0.5}


def test_the_references_have_random_numbers_of_their_own() -> None:
    speaker: Any = Speaker()
    retention = recall(speaker, ["ada"], [], TEXTS, [])
    assert {request.seed for request in speaker.asked} == {module.SEED + 1}
    assert {request.seed for request in retention.requests["retention"]} == {module.SEED}


def test_a_language_is_said_by_old_voices_and_scored_by_sound_and_voice() -> None:
    retention = recalled(old=("ada", "bo", "cora"), languages=("zh",))
    requests = retention.requests["language_zh"]
    assert [request.voice for request in requests] == ["ada", "ada", "bo", "bo"]
    assert len({request.text for request in requests}) == 2
    assert {request.language for request in requests} == {"zh"}
    assert retention.recogniser is None
    assert heard(retention)["language_zh"] == pytest.approx((0.5 + 1.0) / 2)
    assert heard(retention, drift=0.5)["language_zh"] == pytest.approx((0.5 + 0.5) / 2)
    assert heard(retention, mute=("zh",))["language_zh"] == 0.0


def test_english_is_also_recognised_where_the_start_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    retention = recalled(languages=("zh", "en"))
    assert heard(retention)["language_en"] == pytest.approx((0.5 + 1.0 + 0.9) / 3)
    assert heard(retention)["language_zh"] == pytest.approx((0.5 + 1.0) / 2)
    monkeypatch.setitem(ERRORS, "now", 0.7)
    assert heard(retention)["language_en"] == pytest.approx((0.5 + 1.0 + 0.3) / 3)
    assert heard(recalled(languages=("en",)))["language_en"] == pytest.approx((0.5 + 1.0) / 2)


def test_without_old_voices_a_new_one_says_the_language_and_may_change() -> None:
    retention = recalled(old=(), languages=("zh",))
    assert {request.voice for request in retention.requests["language_zh"]} == {"newest"}
    assert heard(retention, drift=0.9) == {"language_zh": 0.5}


def test_speech_that_runs_away_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    retention = recalled(languages=("zh",))
    requests = [Request("long" if number else "short", "ada", language="zh") for number in range(2)]
    monkeypatch.setitem(retention.requests, "language_zh", requests)  # type: ignore[arg-type]
    assert heard(retention)["language_zh"] == pytest.approx((0.75 + 0.0) / 2)
