from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cosytune.training import loop as loop_module
from cosytune.training.loop import LOG_EVERY
from cosytune.training.pace import Pace
from cosytune.training.results import Speed
from cosytune.training.task import Draws, LossReport
from tests.unit.test_training_loop import Line, StoppedError, fit, stop_at
from tests.unit.toy import same


class Clock:
    """Goes on only when somebody works."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_is_read_and_what_is_learned_are_told_apart() -> None:
    clock = Clock()
    pace = Pace(clock)

    def batches() -> Iterator[int]:
        for number in range(2):
            clock.now += 1.0
            yield number

    for _ in pace.fed(batches()):
        with pace.update():
            with pace.waiting():
                clock.now += 2.0
            clock.now += 7.0
        pace.learned(40.0)
        clock.now += 1000.0  # validation
    assert pace.take(10) == Speed(
        10, audio_seconds_per_second=4.0, data_wait_share=pytest.approx(0.3), step_seconds=10.0
    )
    assert pace.take(20) is None


def test_an_update_that_fails_took_its_time_too() -> None:
    clock = Clock()
    pace = Pace(clock)
    with pytest.raises(ZeroDivisionError), pace.update(), pace.waiting():
        clock.now += 4.0
        raise ZeroDivisionError
    assert pace.take(1) == Speed(1, 0.0, 1.0, 4.0)


class Slow(Line):
    """Reads for a second and learns for three."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def batch(self, ids: list[str], draws: Draws) -> list[str]:
        self._clock.now += 1.0
        return ids

    def loss(self, batch: list[str], draws: Draws) -> LossReport:
        self._clock.now += 3.0
        return super().loss(batch, draws)


def speeds(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "speed.jsonl").read_text().splitlines()]


def test_a_run_writes_its_speed_beside_its_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(loop_module, "Pace", lambda: Pace(clock))
    task = Slow(clock)
    fit(tmp_path, task, steps=25)
    assert [speed["step"] for speed in speeds(tmp_path)] == [LOG_EVERY, 2 * LOG_EVERY, 25]
    assert {speed["data_wait_share"] for speed in speeds(tmp_path)} == {0.25}
    assert {speed["step_seconds"] for speed in speeds(tmp_path)} == {4.0}
    learned = sum(len(ids) for ids in task.seen[:LOG_EVERY])
    assert speeds(tmp_path)[0]["audio_seconds_per_second"] == learned / 40


def test_a_resumed_run_goes_on_with_its_speed_and_repeats_its_curves(tmp_path: Path) -> None:
    fit(tmp_path / "whole")
    with pytest.raises(StoppedError):
        fit(tmp_path / "parts", watch=stop_at(19))
    fit(tmp_path / "parts")
    assert [speed["step"] for speed in speeds(tmp_path / "parts")] == [10, 20, 30]
    assert same(tmp_path / "whole", tmp_path / "parts")
    curves = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "parts")]
    assert curves[0] == curves[1]
