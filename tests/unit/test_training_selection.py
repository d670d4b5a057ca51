from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cosytune.training.loop import train
from cosytune.training.results import MetricPoint, PartResult, read_metrics
from cosytune.training.run import PartRun, kept_steps
from cosytune.training.selection import MOST_SAMPLED, Heard, Selection, is_sampled
from tests.unit.test_training_loop import Line, StoppedError, settings, stop_at
from tests.unit.toy import outcome, same


class Ear:
    """A listener that likes the network best after some update."""

    def __init__(self, scores: Callable[[int], float], alarm_at: int | None = None) -> None:
        self._scores, self._alarm_at = scores, alarm_at
        self.calls = 0
        self.parts: set[str] = set()

    def __call__(self, part: str, network: nn.Module) -> Heard:
        assert not network.training
        torch.rand(3)  # what a listener draws must not change the training
        self.parts.add(part)
        number = self.calls
        self.calls += 1
        alarm = "the old voices are going" if number == self._alarm_at else ""
        samples = {"a.txt": b"words", "a.flac": str(number).encode()}
        return Heard(self._scores(number), {"similarity": 0.1 * number}, alarm, samples)


def hear(folder: Path, ear: Ear, watch: Any = None, **changes: Any) -> PartResult:
    chosen = settings(score_every=5, **changes)
    return train(Line(), chosen, PartRun(folder, chosen.model_dump()), watch, ear)


def weights_at(folder: Path, step: int, **changes: Any) -> dict[str, torch.Tensor]:
    """The weights after so many updates of a run in which nobody listened."""
    chosen = settings(**changes)
    task = Line()
    found: dict[str, torch.Tensor] = {}

    def watch(done: int) -> None:
        if done == step:
            found.update({name: value.clone() for name, value in task.network.state_dict().items()})

    train(task, chosen, PartRun(folder, chosen.model_dump()), watch)
    return found


def samples_in(folder: Path) -> dict[str, bytes]:
    places = (folder / "samples").rglob("*.*")
    return {path.relative_to(folder / "samples").as_posix(): path.read_bytes() for path in places}


def validation_at(folder: Path, step: int) -> MetricPoint:
    points = read_metrics(folder / "metrics.jsonl")
    return next(point for point in points if (point.step, point.side) == (step, "validation"))


def test_the_best_heard_is_the_result(tmp_path: Path) -> None:
    ear = Ear(lambda number: 1 - abs(number - 3.0))
    result = hear(tmp_path / "heard", ear)
    assert result.heard == [(0, -2.0), (5, -1.0), (10, 0.0), (15, 1.0), (20, 0.0), (25, -1.0), (30, -2.0)]
    assert (result.chosen_step, result.stop, ear.parts) == (15, "", {"lm"})
    kept, expected = outcome(tmp_path / "heard")[0], weights_at(tmp_path / "deaf", 15)
    assert all(torch.equal(kept[name], value) for name, value in expected.items())
    assert sorted(path.stem for path in (tmp_path / "heard" / "best").iterdir()) == [
        "step-00000010",
        "step-00000015",
        "step-00000020",
    ]
    assert "heard best at step 15: score 1.000 (untouched -2.000)" in result.in_words()
    assert kept_steps(tmp_path / "heard") == [10, 15, 20, 30], "the last is kept too"
    last = torch.load(tmp_path / "heard" / "last" / "step-00000030.pt", weights_only=True)
    expected = weights_at(tmp_path / "deaf-too", 30)
    assert all(torch.equal(last[f"network.{name}"], value) for name, value in expected.items())
    points = [p for p in read_metrics(tmp_path / "heard" / "metrics.jsonl") if p.side == "heard"]
    assert {p.name for p in points} == {"score", "similarity"}
    assert [p.step for p in points if p.name == "score"] == [0, 5, 10, 15, 20, 25, 30]


def test_the_end_values_are_those_of_the_chosen_weights(tmp_path: Path) -> None:
    result = hear(tmp_path / "heard", Ear(lambda number: -abs(number - 2.0)), validate_every=5)
    at_ten = next(
        p for p in read_metrics(tmp_path / "heard" / "metrics.jsonl") if (p.step, p.side) == (10, "validation")
    )
    assert result.end[at_ten.name] == pytest.approx(at_ten.value)


def test_with_an_average_the_averaged_weights_are_heard_and_kept(tmp_path: Path) -> None:
    result = hear(tmp_path / "heard", Ear(lambda number: float(number == 2)), average=0.7, validate_every=5)
    at_ten = next(
        p for p in read_metrics(tmp_path / "heard" / "metrics.jsonl") if (p.step, p.side) == (10, "validation")
    )
    assert (result.chosen_step, result.end[at_ten.name]) == (10, pytest.approx(at_ten.value))


def test_without_a_new_best_the_run_ends(tmp_path: Path) -> None:
    result = hear(tmp_path / "run", Ear(lambda number: -float(number)), patience=3)
    assert (result.steps, result.chosen_step) == (20, 5)
    assert result.stop == "none of 3 hearings after update 5 scored above its -1, up to update 20"
    assert result.in_words().endswith(result.stop)


def test_an_alarm_ends_the_run_and_is_recorded(tmp_path: Path) -> None:
    result = hear(tmp_path / "run", Ear(float, alarm_at=2))
    assert (result.steps, result.stop) == (10, "the old voices are going (at step 10)")


def test_in_a_comparison_stops_are_recorded_and_not_obeyed(tmp_path: Path) -> None:
    result = hear(tmp_path / "run", Ear(float, alarm_at=2), obey_stops=False)
    assert (result.steps, result.stop) == (30, "the old voices are going (at step 10)")


@pytest.mark.parametrize("stop", [1, 5, 7, 10, 23, 30])
def test_a_heard_run_goes_on_where_it_was(tmp_path: Path, stop: int) -> None:
    def score(number: int) -> float:
        return -abs(number - 4.0)

    whole = hear(tmp_path / "whole", Ear(score))
    with pytest.raises(StoppedError):
        hear(tmp_path / "parts", Ear(score), stop_at(stop))
    ear = Ear(score)
    saved = max(int(path.stem[5:]) for path in (tmp_path / "parts" / "checkpoints").glob("*.pt"))
    ear.calls = saved // 5 + 1
    assert hear(tmp_path / "parts", ear) == whole
    assert same(tmp_path / "parts", tmp_path / "whole")
    assert samples_in(tmp_path / "parts") == samples_in(tmp_path / "whole")


def test_listening_does_not_touch_the_training(tmp_path: Path) -> None:
    hear(tmp_path / "heard", Ear(float))
    expected = weights_at(tmp_path / "deaf", 30)
    kept = outcome(tmp_path / "heard")[0]
    assert all(torch.equal(kept[name], value) for name, value in expected.items())


def test_what_is_heard_is_kept_for_people_too(tmp_path: Path) -> None:
    hear(tmp_path, Ear(float))
    kept = samples_in(tmp_path)
    assert len(kept) == 2 * 7
    assert kept["step-00000000/a.flac"] == b"0"
    assert (kept["step-00000030/a.flac"], kept["step-00000030/a.txt"]) == (b"6", b"words")


def test_samples_heard_again_take_the_place_of_the_first(tmp_path: Path) -> None:
    run = PartRun(tmp_path, {})
    run.keep_samples(5, {"a.flac": b"old", "b.flac": b"not said the second time"})
    run.keep_samples(5, {"a.flac": b"new"})
    run.keep_samples(6, {})
    assert samples_in(tmp_path) == {"step-00000005/a.flac": b"new"}


@given(st.integers(1, 50), st.integers(1, 20_000))
def test_samples_are_few_however_often_a_run_is_heard(every: int, steps: int) -> None:
    heard = {*range(0, steps + 1, every), steps}
    kept = [step for step in heard if is_sampled(step, every, steps)]
    assert {0, steps} <= set(kept)
    assert len(kept) <= MOST_SAMPLED + 2
    if len(heard) <= MOST_SAMPLED:
        assert set(kept) == heard


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12), st.integers(1, 4))
def test_the_best_are_the_highest_and_of_equals_the_first(scores: list[float], keep: int) -> None:
    selection = Selection(keep, 0)
    for step, score in enumerate(scores):
        selection.add(step, Heard(score))
    best = selection.best
    assert 0 not in best
    assert len(best) == min(keep, len(scores) - 1)
    found = [scores[step] for step in best]
    assert found == sorted(scores[1:], reverse=True)[:keep]
    assert best == sorted(best, key=lambda step: (-scores[step], step))


def test_its_state_goes_through_a_checkpoint() -> None:
    first, second = Selection(2, 1), Selection(2, 1)
    for step in range(4):
        first.add(step, Heard(float(step == 1), alarm="gone" if step == 3 else ""))
    second.load_state(first.state())
    assert (second.best, second.stop, second.heard) == (first.best, first.stop, first.heard)
    assert second.stop == "gone (at step 3)"
