from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.errors import InputError
from cosytune.training.settings import PartName, StageName
from cosytune.training.strategies import STRATEGIES, Situation, StrategyName, check_range, default_strategy, resolve

RELEASED = Situation("tune", "base", 310_718_465, 60.0)
KINDS = ("untrained", "base", "sft", "instruct", "fine-tuned", "unknown")


def test_the_strategy_of_a_stage() -> None:
    stages: tuple[StageName, ...] = ("pretrain", "sft", "tune")
    assert [default_strategy(stage) for stage in stages] == ["full", "full", "advised"]


@pytest.mark.parametrize("strategy", ["full", "conservative", "lora"])
@pytest.mark.parametrize("part", ["lm", "flow"])
def test_only_advised_looks_at_the_start(strategy: StrategyName, part: PartName) -> None:
    made = {repr(resolve(strategy, part, replace(RELEASED, start=kind))[0]) for kind in KINDS}
    assert len(made) == 1


def test_a_released_base_is_tuned_at_1e_5_and_the_others_at_a_third_of_it() -> None:
    rates = {kind: resolve("advised", "lm", replace(RELEASED, start=kind))[0] for kind in KINDS}
    assert rates["base"].learning_rate == rates["untrained"].learning_rate == 1e-5
    assert rates["base"].warmup_steps == 20
    for kind in ("sft", "instruct", "fine-tuned"):
        assert rates[kind].learning_rate == pytest.approx(3e-6)
        assert rates[kind].warmup_steps == round(rates[kind].steps / 10)
        assert rates[kind].anchor == "none"
    assert rates["unknown"] == resolve("conservative", "lm", RELEASED)[0]
    reasons = [resolve("advised", "lm", replace(RELEASED, start=kind))[1] for kind in ("base", "sft", "unknown")]
    assert [words in reason for words, reason in zip(("is base", "is sft", "nobody knows"), reasons, strict=True)] == [
        True,
        True,
        True,
    ]


def test_conservative_is_slow_below_held_and_averaged() -> None:
    full, _ = resolve("full", "lm", RELEASED)
    careful, _ = resolve("conservative", "lm", RELEASED)
    assert careful.learning_rate < full.learning_rate
    assert careful.layer_decay < 1
    assert careful.freeze == ("text_embedding",)
    assert careful.anchor == "l2sp"
    assert careful.average == 0.99
    assert resolve("conservative", "flow", RELEASED)[0].freeze == ()


def test_the_anchor_of_conservative_is_as_strong_however_long_the_run() -> None:
    for changes in ({}, {"steps": 50}, {"learning_rate": 1e-6}, {"steps": 5000, "learning_rate": 2e-6}):
        made, _ = resolve("conservative", "lm", RELEASED, changes)
        assert made.anchor_weight * made.learning_rate * made.steps == pytest.approx(1.0)
    assert resolve("conservative", "lm", RELEASED, {"anchor_weight": 7.0})[0].anchor_weight == 7.0


def test_lora_moves_faster_because_only_adapters_move() -> None:
    made, reason = resolve("lora", "flow", RELEASED)
    assert (made.lora_rank, made.learning_rate, made.anchor) == (16, pytest.approx(1e-4), "none")
    assert "rank 16" in reason
    with pytest.raises(InputError, match=r"vocoder\.lora_rank would do nothing"):
        resolve("lora", "vocoder", RELEASED)


@pytest.mark.parametrize(
    ("part", "parameters", "fast", "precision", "why"),
    [
        ("lm", 310_718_465, True, "bfloat16", "which this machine multiplies faster"),
        ("flow", 105_000_000, True, "bfloat16", "which this machine multiplies faster"),
        ("lm", 310_718_465, False, "float32", "this machine does not multiply faster in bfloat16"),
        ("lm", 3_000_000, True, "float32", "so small gains little"),
        ("vocoder", 21_000_000, True, "float32", "nobody has compared the losses of a vocoder"),
    ],
)
def test_precision_follows_size_and_machine(
    part: PartName, parameters: int, fast: bool, precision: str, why: str
) -> None:
    situation = replace(RELEASED, parameters=parameters, fast_bfloat16=fast)
    made, reason = resolve("full", part, situation)
    assert made.precision == precision
    assert why in reason
    asked, reason = resolve("full", part, situation, {"precision": "float32"})
    assert asked.precision == "float32"
    assert "bfloat16" not in reason


def test_budgets_follow_from_the_data() -> None:
    def minutes_seen(minutes: float, **changes: Any) -> float:
        made, _ = resolve("full", "lm", replace(RELEASED, minutes=minutes), changes)
        return made.steps * made.batch_seconds / 60

    assert minutes_seen(5) == pytest.approx(40, abs=0.3)
    assert minutes_seen(60) == pytest.approx(120, abs=0.3)
    assert minutes_seen(600) == pytest.approx(1200, abs=0.3)
    assert minutes_seen(60, batch_seconds=32) == pytest.approx(120, abs=0.6)
    assert resolve("full", "lm", RELEASED, {"steps": 7})[0].steps == 7


@settings(max_examples=60)
@given(
    st.sampled_from(STRATEGIES),
    st.sampled_from(["lm", "flow"]),
    st.sampled_from(["pretrain", "sft", "tune"]),
    st.sampled_from(KINDS),
    st.floats(0.1, 1e5),
    st.sampled_from([4_000_000, 310_000_000]),
)
def test_what_strategies_give_is_within_what_is_known(
    strategy: Any, part: Any, stage: Any, kind: str, minutes: float, parameters: int
) -> None:
    situation = Situation(stage, kind, parameters, minutes)
    made, reason = resolve(strategy, part, situation)
    check_range(made, part, situation)
    assert made.steps >= 1
    assert reason.startswith(strategy)


def test_numbers_far_outside_are_refused_in_words() -> None:
    fast, _ = resolve("full", "lm", RELEASED, {"learning_rate": 1e-3})
    with pytest.raises(InputError, match=r"learning_rate 0.001 is far outside .* 311 M parameters in tune \(1e-07 to"):
        check_range(fast, "lm", RELEASED)
    long, _ = resolve("full", "lm", RELEASED, {"steps": 20_000})
    with pytest.raises(InputError, match=r"20000 steps of 16 s are 5333 minutes of audio, 89 passes over 60.0 minutes"):
        check_range(long, "lm", RELEASED)
    check_range(resolve("full", "vocoder", RELEASED, {"steps": 20_000})[0], "vocoder", RELEASED)
