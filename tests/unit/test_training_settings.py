from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosytune.errors import InputError
from cosytune.training.settings import (
    PARTS,
    LoopSettings,
    PartName,
    default_settings,
    learning_rate,
    override,
    read_overrides,
    vector_kind,
)

BASE = LoopSettings(steps=100, batch_seconds=10, learning_rate=1e-3)


@given(
    steps=st.integers(1, 400),
    warmup=st.integers(0, 500),
    low=st.floats(0, 1),
    peak=st.floats(1e-6, 0.5),
)
def test_the_rate_rises_to_its_peak_and_falls(steps: int, warmup: int, low: float, peak: float) -> None:
    settings = LoopSettings(steps=steps, batch_seconds=1, learning_rate=peak, warmup_steps=warmup, final_rate=low)
    rates = [learning_rate(settings, step) for step in range(steps)]
    top = min(warmup, steps // 2)
    assert all(0 < rate <= peak * (1 + 1e-12) for rate in rates if low > 0)
    assert rates[top] == pytest.approx(peak)
    rising, falling = pairwise(rates[: top + 1]), pairwise(rates[top:])
    assert all(earlier <= later * (1 + 1e-12) for earlier, later in rising)
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in falling)
    assert learning_rate(settings, steps) == pytest.approx(low * peak, abs=1e-12)


def test_the_rate_at_three_points() -> None:
    settings = LoopSettings(steps=110, batch_seconds=1, learning_rate=0.1, warmup_steps=10, final_rate=0.2)
    assert learning_rate(settings, 0) == pytest.approx(0.01)
    assert learning_rate(settings, 60) == pytest.approx(0.06)
    assert learning_rate(settings, 110) == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "setting lm.steps = 0: Input should be greater than or equal to 1; change it"),
        ({"batch_seconds": float("inf")}, "setting lm.batch_seconds = inf: Input should be a finite number"),
        ({"learning_rate": float("nan")}, "setting lm.learning_rate = nan"),
        ({"average": 1.0}, "setting lm.average = 1.0: Input should be less than 1"),
        ({"precision": "float16"}, "setting lm.precision = 'float16'"),
        ({"seed": 2**32}, "setting lm.seed"),
        ({"rate": 1}, "lm has no setting 'rate'; settings are steps, batch_seconds"),
        ({"crop_seconds": 1.0}, "setting lm.crop_seconds would do nothing; it is for vocoder, speaker_encoder"),
        ({"adversarial_share": 0.5}, "setting lm.adversarial_share would do nothing; it is for vocoder"),
        ({"continuous": 0.5}, "setting lm.continuous would do nothing; it is for speech_tokenizer"),
        ({"prior_weight": 0.5}, "setting lm.prior_weight would do nothing; it is for flow"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        override(BASE, "lm", changes)
    assert message in str(error.value)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InputError, match=r"vocoder.adversarial_share = 1.5: .* less than or equal to 1"):
        override(BASE, "vocoder", {"adversarial_share": 1.5})
    with pytest.raises(InputError, match=r"setting flow.concatenate would do nothing; it is for lm"):
        override(BASE, "flow", {"concatenate": 0.5})
    with pytest.raises(InputError, match=r"vocoder.crop_seconds = 0.01: .* greater than or equal to 0.1"):
        override(BASE, "vocoder", {"crop_seconds": 0.01})


def test_overriding_changes_what_it_names_only() -> None:
    changed = override(BASE, "lm", {"steps": 7, "concatenate": 0.5})
    assert changed.model_dump() == {**BASE.model_dump(), "steps": 7, "concatenate": 0.5}


def test_defaults() -> None:
    small = default_settings("pretrain", "flow", 1_000_000)
    large = default_settings("pretrain", "flow", 100_000_000)
    assert (small.prior_weight, large.prior_weight) == (0.5, 0.0)
    assert default_settings("sft", "lm", 300_000_000).learning_rate == 1e-5
    assert default_settings("tune", "vocoder", 300_000_000).learning_rate == 2e-4
    assert all(default_settings("pretrain", part, 1).steps for part in PARTS)
    with pytest.raises(InputError) as error:
        default_settings("tune", "speaker_encoder", 1)
    assert str(error.value) == "stage tune does not train the speaker_encoder; it trains lm, flow, vocoder"


def test_released_vocoders_meet_an_adversary_after_a_warm_up_and_small_ones_none() -> None:
    for stage in ("pretrain", "sft", "tune"):
        assert default_settings(stage, "vocoder", 21_000_000).adversarial_share == 0.9
        assert default_settings(stage, "vocoder", 1_000_000).adversarial_share == 0.0
    assert default_settings("tune", "lm", 310_000_000).adversarial_share == 0.0


@pytest.mark.parametrize(
    ("part", "small", "large"), [("lm", 1e-4, 1e-5), ("flow", 2e-4, 1e-5), ("vocoder", 1e-3, 2e-4)]
)
def test_rates_fall_evenly_from_the_small_sizes_to_the_released_ones(
    part: PartName, small: float, large: float
) -> None:
    millions = (1, 4, 5, 8, 14, 20, 30, 40, 60, 90, 100, 105, 311)
    rates = [default_settings("tune", part, round(1e6 * size)).learning_rate for size in millions]
    assert (rates[0], rates[-1]) == (small, large)
    assert rates == sorted(rates, reverse=True)
    assert min(later / earlier for earlier, later in pairwise(rates)) > 0.3


def test_cloning_learns_from_each_clip_and_voices_from_their_mean() -> None:
    assert [vector_kind(stage) for stage in ("pretrain", "sft", "tune")] == ["utterance", "speaker", "speaker"]


def test_a_settings_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"lm": {"steps": 600}, "flow": {"average": 0.9}}))
    assert read_overrides(path) == {"lm": {"steps": 600}, "flow": {"average": 0.9}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "must hold one object per part"),
        ('{"lm": 3}', "must hold one object per part"),
        ('{"llm": {}}', "names a part 'llm'; parts are speech_tokenizer, speaker_encoder, vocoder, lm, flow"),
        ('{"lm": {"epochs": 3}}', "part lm: unknown setting 'epochs'; known are steps, batch_seconds"),
        ('{"lm": {"steps": 2, "seed": 3}}', "part lm: the seed is no setting of a part; give --seed"),
    ],
)
def test_settings_files_that_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "settings.json"
    path.write_text(content)
    with pytest.raises(InputError) as error:
        read_overrides(path)
    assert message in str(error.value)


def test_a_settings_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no settings file"):
        read_overrides(tmp_path / "none.json")
