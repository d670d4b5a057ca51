from __future__ import annotations

import os
import signal
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cosytune import errors
from cosytune.data.manifest import Utterance
from cosytune.data.sampler import endless
from cosytune.errors import TrainingError
from cosytune.training.average import WeightAverage
from cosytune.training.gradients import Gradients
from cosytune.training.loop import train
from cosytune.training.means import Sums, add_update, mean_values
from cosytune.training.pace import Pace
from cosytune.training.pieces import is_out_of_memory
from cosytune.training.processes import accelerator
from cosytune.training.results import PartResult, read_metrics
from cosytune.training.run import NOTES, PartRun
from cosytune.training.settings import LoopSettings
from cosytune.training.task import Draws, LossReport, Task
from tests.unit.toy import outcome, same

CLIPS = [Utterance(f"c{index}", "none.wav", "x", "s", "en", seconds=1.0 + index / 8) for index in range(12)]


FROZEN = ["10", "3 2", "5 6", "9", "11", "1 0", "4", "7", "8", "10", "3 2", "5 6"]
"""Numbers of the clips in the first twelve batches of four seconds with seed 11."""


class Line(Task):
    """Fit y = 2 x through dropout, batch statistics and noisy data: everything that a resumed run must get right."""

    part = "lm"
    baseline_name = "zero"

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.network = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Dropout(0.2), nn.Linear(4, 1))
            self.last = nn.Linear(1, 1)
        self.head = self.last
        self.seen: list[list[str]] = []
        self.extra = 0.0
        self.poison: set[int] = set()

    def clips(self) -> list[Utterance]:
        return CLIPS

    def loss(self, ids: list[str], draws: Draws) -> LossReport:
        self.seen.append(ids)
        generator = draws.whole()
        self.extra += float(torch.rand(1, generator=generator))
        x = torch.randn(8, 1, generator=generator)
        if draws.step in self.poison:
            x[0] = float("nan")
        loss = (self.last(self.network(x)) - 2 * x).square().mean() + self.extra
        return LossReport(loss, {"extra": torch.tensor(self.extra)}, float(len(ids)))

    def validate(self) -> dict[str, float]:
        self.network.eval()
        with torch.no_grad():
            return {"error": float((self.last(self.network(torch.ones(2, 1))) - 2).square().mean())}

    def baseline(self) -> dict[str, float]:
        return {"error": 4.0}

    def state(self) -> dict[str, Any]:
        return {"extra": self.extra}

    def load_state(self, state: dict[str, Any]) -> None:
        self.extra = state["extra"]


def settings(**changes: Any) -> LoopSettings:
    base = {"steps": 30, "batch_seconds": 4, "learning_rate": 0.05, "validate_every": 7, "checkpoint_every": 4}
    return LoopSettings(**{**base, **changes})


def fit(
    folder: Path, task: Line | None = None, watch: Callable[[int], None] | None = None, **changes: Any
) -> PartResult:
    chosen = settings(**changes)
    return train(task or Line(), chosen, PartRun(folder, chosen.model_dump()), watch)


class StoppedError(Exception):
    pass


def stop_at(step: int) -> Callable[[int], None]:
    def watch(done: int) -> None:
        if done == step:
            raise StoppedError

    return watch


@pytest.mark.parametrize("average", [0.0, 0.8])
@pytest.mark.parametrize("stops", [[1], [4], [9, 10, 29]])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path: Path, stops: list[int], average: float) -> None:
    whole = fit(tmp_path / "whole", average=average)
    for stop in stops:
        with pytest.raises(StoppedError):
            fit(tmp_path / "parts", watch=stop_at(stop), average=average)
    steps: list[int] = []
    parts = fit(tmp_path / "parts", watch=steps.append, average=average)
    assert steps[0] == stops[-1] // 4 * 4 + 1, "it did not go on from the checkpoint"
    assert parts == whole
    assert same(tmp_path / "parts", tmp_path / "whole")


def test_a_damaged_checkpoint_costs_time_and_nothing_else(tmp_path: Path) -> None:
    fit(tmp_path / "whole")
    with pytest.raises(StoppedError):
        fit(tmp_path / "parts", watch=stop_at(10))
    newest = max((tmp_path / "parts" / "checkpoints").glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:-1])
    steps: list[int] = []
    fit(tmp_path / "parts", watch=steps.append)
    assert steps[0] == 5
    assert same(tmp_path / "parts", tmp_path / "whole")


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = fit(tmp_path / "run")
    task = Line()
    assert fit(tmp_path / "run", task) == first
    assert task.seen == []


def test_it_learns_and_says_how_much(tmp_path: Path) -> None:
    task = Line()
    result = fit(tmp_path / "run", task, steps=100)
    assert result.end["error"] < 1.0 < 2.0 < result.start["error"]
    assert result.baseline == {"error": 4.0}
    assert result.audio_seconds == sum(len(ids) for ids in task.seen)
    assert result.settings["steps"] == 100


def test_curves_hold_what_they_should(tmp_path: Path) -> None:
    fit(tmp_path / "run")
    points = list(read_metrics(tmp_path / "run" / "metrics.jsonl"))
    validation = [point.step for point in points if point.side == "validation"]
    assert validation == [0, 7, 14, 21, 28, 30]
    training = {(point.step, point.name) for point in points if point.side == "train"}
    assert training == {
        (step, name) for step in (10, 20, 30) for name in ("loss", "extra", "gradient_norm", "learning_rate")
    }


def test_validation_does_not_touch_the_training(tmp_path: Path) -> None:
    fit(tmp_path / "often", validate_every=1, average=0.8)
    fit(tmp_path / "never", validate_every=1000, average=0.8)
    often, never = outcome(tmp_path / "often"), outcome(tmp_path / "never")
    assert all(torch.equal(value, never[0][name]) for name, value in often[0].items())
    assert [p for p in often[1] if p.side == "train"] == [p for p in never[1] if p.side == "train"]


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    fit(tmp_path / "a", seed=1)
    fit(tmp_path / "b", seed=2)
    assert not same(tmp_path / "a", tmp_path / "b")


def notes(folder: Path) -> list[str]:
    """What the run in `folder` had to say to people."""
    return (folder / "run" / NOTES).read_text().splitlines()


@pytest.mark.parametrize("average", [0.0, 0.8])
def test_an_update_that_is_not_finite_is_left_out_and_recorded(tmp_path: Path, average: float) -> None:
    task = Line()
    task.poison = {5}
    states: list[dict[str, torch.Tensor]] = []

    def watch(step: int) -> None:
        states.append({name: value.clone() for name, value in task.network.state_dict().items()})

    result = fit(tmp_path / "run", task, watch, average=average)
    assert result.skipped == [(5, task.seen[5])]
    clips = ", ".join(task.seen[5])
    assert notes(tmp_path) == [f"update 6 is left out, loss or gradient is not finite; its clips: {clips}"]
    assert all(torch.equal(value, states[4][name]) for name, value in states[5].items()), "weights or statistics moved"
    assert any(not torch.equal(value, states[5][name]) for name, value in states[6].items())
    weights, curves = outcome(tmp_path / "run")
    assert all(torch.isfinite(value).all() for value in weights.values())
    assert result.end["error"] == result.end["error"]
    assert (result.steps, max(point.step for point in curves)) == (30, 30)


def test_train_points_are_means_over_the_finite_updates_since_the_last(tmp_path: Path) -> None:
    task, reports = Line(), list[LossReport]()
    real = task.loss

    def loss(ids: list[str], draws: Draws) -> LossReport:
        report = real(ids, draws)
        reports.append(LossReport(report.loss, report.values, report.audio_seconds, count=1.0 + draws.step % 3))
        return reports[-1]

    task.loss = loss  # type: ignore[method-assign]
    task.poison = {9, *range(22, 24)}
    fit(tmp_path / "run", task)
    found = {(p.step, p.name): p.value for p in read_metrics(tmp_path / "run" / "metrics.jsonl") if p.side == "train"}
    for end, steps in {10: range(9), 20: range(10, 20), 30: [20, 21, *range(24, 30)]}.items():
        counts = [reports[step].count for step in steps]
        for name in ("loss", "extra"):
            values = [(reports[step].loss if name == "loss" else reports[step].values[name]).item() for step in steps]
            mean = sum(value * count for value, count in zip(values, counts, strict=True)) / sum(counts)
            assert found[end, name] == pytest.approx(mean)


def test_where_no_update_was_finite_the_curve_has_a_gap() -> None:
    sums: Sums = {}
    add_update(sums, "train", LossReport(torch.tensor(float("nan")), {}, 1.0), 1.0)
    add_update(sums, "train", LossReport(torch.tensor(1.0), {}, 1.0), float("inf"))
    assert sums == {}


def test_the_gradient_norm_of_a_point_is_the_largest() -> None:
    sums: Sums = {}
    for norm in (2.0, 9.0, 3.0):
        add_update(sums, "train", LossReport(torch.tensor(norm), {}, 1.0), norm)
    assert mean_values(sums["train"]) == {"loss": pytest.approx(14 / 3), "gradient_norm": 9.0}


def test_training_and_validation_run_in_the_same_precision(tmp_path: Path) -> None:
    class Watched(Line):
        def loss(self, ids: list[str], draws: Draws) -> LossReport:
            low.add(("train", torch.is_autocast_enabled("cpu")))
            return super().loss(ids, draws)

        def validate(self) -> dict[str, float]:
            low.add(("validation", torch.is_autocast_enabled("cpu")))
            return super().validate()

    for precision in ("float32", "bfloat16"):
        low = set[tuple[str, bool]]()
        fit(tmp_path / precision, Watched(), precision=precision, steps=3)
        assert low == {(side, precision == "bfloat16") for side in ("train", "validation")}


class Fragile(Line):
    """Not finite at some steps while the rate is what it was at the beginning."""

    def __init__(self, steps: set[int], cured_below: float) -> None:
        super().__init__()
        self._bad, self._cured_below = steps, cured_below

    def loss(self, ids: list[str], draws: Draws) -> LossReport:
        rate = self.optimizer.param_groups[0]["lr"]
        self.poison = self._bad if rate >= self._cured_below else set()
        return super().loss(ids, draws)


def fragile(monkeypatch: pytest.MonkeyPatch, steps: set[int], cured_below: float) -> Fragile:
    task = Fragile(steps, cured_below)
    made = torch.optim.AdamW

    def optimizer(*arguments: Any, **options: Any) -> torch.optim.AdamW:
        task.optimizer = made(*arguments, **options)
        return task.optimizer

    monkeypatch.setattr(torch.optim, "AdamW", optimizer)
    return task


def test_three_in_a_row_go_back_to_the_checkpoint_and_on_at_half_the_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = {5, 6, 7}
    result = fit(tmp_path / "run", fragile(monkeypatch, bad, 0.03), warmup_steps=0, final_rate=1.0)
    assert result.rollbacks == [8]
    assert [step for step, _ in result.skipped] == [5, 6, 7]
    rates = {p.step: p.value for p in read_metrics(tmp_path / "run" / "metrics.jsonl") if p.name == "learning_rate"}
    assert rates == {10: 0.025, 20: 0.025, 30: 0.025}
    back = "3 updates in a row were left out: back from update 8 to 4, and on at 0.5 of the rate"
    assert notes(tmp_path)[-1] == back
    assert result.steps == 30


@pytest.mark.parametrize("stop", [3, 5, 9, 13])
def test_a_rollback_survives_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    bad, options = {5, 6, 7}, {"warmup_steps": 0, "final_rate": 1.0}
    whole = fit(tmp_path / "whole", fragile(monkeypatch, bad, 0.03), **options)
    with pytest.raises(StoppedError):
        fit(tmp_path / "parts", fragile(monkeypatch, bad, 0.03), stop_at(stop), **options)
    assert fit(tmp_path / "parts", fragile(monkeypatch, bad, 0.03), **options) == whole
    assert same(tmp_path / "parts", tmp_path / "whole")


def test_two_in_a_row_are_only_left_out(tmp_path: Path) -> None:
    task = Line()
    task.poison = set(range(30)) - {2, 5, 8, 11, 14, 17, 20, 23, 26, 29}
    result = fit(tmp_path / "many", task)
    assert (len(result.skipped), result.rollbacks) == (20, [])


def test_a_run_that_does_not_recover_ends_with_the_clips_named(tmp_path: Path) -> None:
    task = Line()
    task.poison = {4, 5, 6}
    with pytest.raises(TrainingError) as error:
        fit(tmp_path / "run", task)
    assert "the loss of the lm was not finite for 3 updates in a row up to update 7, also after 3 returns" in str(
        error.value
    )
    assert f"the last clips were {', '.join(task.seen[6])}: remove them or lower the learning rate" in str(error.value)


class Mean(Line):
    """A loss that is a mean over clips: pieces of a batch add up to it."""

    def loss(self, ids: list[str], draws: Draws) -> LossReport:
        self.seen.append(ids)
        x = torch.tensor([[float(clip[1:])] for clip in ids])
        loss = (self.last(self.network[0](x)) - 2 * x).square().mean()
        return LossReport(loss, {"x": x.mean()}, float(len(ids)), len(ids))

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 1)
        torch.nn.init.constant_(self.last.weight, 0.3)
        torch.nn.init.constant_(self.last.bias, 0.1)
        self.head = self.last

    def validate(self) -> dict[str, float]:
        return {"error": float(self.last(self.network[0](torch.ones(1, 1))))}


@pytest.mark.parametrize("pieces", [2, 3, 50])
def test_a_batch_in_pieces_is_the_batch(tmp_path: Path, pieces: int) -> None:
    whole, parts = Mean(), Mean()
    one = fit(tmp_path / "whole", whole, batch_seconds=8)
    many = fit(tmp_path / "parts", parts, batch_seconds=8, accumulate=pieces)
    assert len(parts.seen) > len(whole.seen)
    assert [clip for ids in parts.seen for clip in ids] == [clip for ids in whole.seen for clip in ids]
    assert many.end["error"] == pytest.approx(one.end["error"], rel=1e-4)
    assert many.audio_seconds == one.audio_seconds
    curves = [
        {(p.step, p.name): p.value for p in read_metrics(tmp_path / name / "metrics.jsonl") if p.side == "train"}
        for name in ("whole", "parts")
    ]
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)


class Small(Mean):
    """A machine with memory for so many clips."""

    room = 1

    def loss(self, ids: list[str], draws: Draws) -> LossReport:
        if len(ids) > self.room:
            raise torch.OutOfMemoryError("no room")
        return super().loss(ids, draws)


def test_a_batch_that_is_too_large_for_memory_is_cut(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", Mean(), batch_seconds=8)
    cut = fit(tmp_path / "run", Small(), batch_seconds=8)
    said = "memory is too small for the batch of update 2: from here on a batch is worked through in {} pieces"
    assert notes(tmp_path)[0].startswith(said.format(cut.pieces))
    assert cut.end["error"] == pytest.approx(whole.end["error"], rel=1e-4)
    task = Small()
    task.room = 0
    with pytest.raises(
        TrainingError, match=r"memory is too small for the lm with clip c\d+ alone; cut long recordings"
    ):
        fit(tmp_path / "none", task)
    task = Small()
    task.part = "vocoder"
    with pytest.raises(TrainingError, match="for a batch of the vocoder with 8 s; its losses need the whole"):
        fit(tmp_path / "vocoder", task, batch_seconds=8)


def test_only_want_of_memory_is_cured_by_cutting(tmp_path: Path) -> None:
    class Broken(Mean):
        def loss(self, ids: list[str], draws: Draws) -> LossReport:
            raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        fit(tmp_path / "run", Broken())
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."))


def test_sigterm_saves_and_the_same_call_goes_on(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole")
    handler = signal.getsignal(signal.SIGTERM)

    def terminate(step: int) -> None:
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(errors.StoppedError, match="stopped by SIGTERM after update 6 of the lm; the same command goes"):
        fit(tmp_path / "parts", watch=terminate)
    assert signal.getsignal(signal.SIGTERM) is handler
    steps: list[int] = []
    assert fit(tmp_path / "parts", watch=steps.append) == whole
    assert steps[0] == 7, "the updates since the last regular checkpoint were lost"
    assert same(tmp_path / "parts", tmp_path / "whole")


def test_a_checkpoint_of_other_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        fit(tmp_path / "run", watch=stop_at(5))
    with pytest.raises(TrainingError, match="holds other weights than this run trains"):
        fit(tmp_path / "run", Mean())


def test_the_average_is_the_one_computed_by_hand(tmp_path: Path) -> None:
    task = Line()
    weight = task.network[0].weight
    expected = weight.detach().clone()
    history: list[torch.Tensor] = []
    fit(tmp_path / "run", task, lambda step: history.append(weight.detach().clone()), average=0.7, validate_every=3)
    for number, value in enumerate(history, start=1):
        decay = min(0.7, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * value
    kept, _ = outcome(tmp_path / "run")
    torch.testing.assert_close(kept["0.weight"], expected)
    assert not torch.allclose(kept["0.weight"], weight)


def test_the_average_is_worn_for_a_while_and_taken_off_again() -> None:
    network = nn.Linear(2, 2)
    average = WeightAverage(network, 0.9)
    own = torch.full((2, 2), 3.0)
    before = network.weight.detach().clone()
    with torch.no_grad():
        network.weight.copy_(own)
    with pytest.raises(StoppedError), average.applied(network):
        assert torch.equal(network.weight, before)
        raise StoppedError
    assert torch.equal(network.weight, own)
    assert torch.equal(average.weights["weight"], before)


def test_switched_off_the_average_is_the_network() -> None:
    network = nn.Linear(2, 2)
    average = WeightAverage(network, 0.0)
    average.update(network)
    with average.applied(network):
        assert average.state() == {"updates": 0, "weights": {}}


def test_the_order_of_data_is_frozen() -> None:
    """A change here, of ours or of lhotse's, means that old runs cannot be resumed or compared with new ones."""
    order = endless(CLIPS, seconds=4, seed=11)
    assert [" ".join(clip[1:] for clip in ids) for ids in islice(order, 12)] == FROZEN
    later = endless(CLIPS, seconds=4, seed=11, start_step=9)
    assert [" ".join(clip[1:] for clip in ids) for ids in islice(later, 3)] == FROZEN[9:]


def test_a_split_network_that_does_not_fit_says_what_to_do() -> None:
    """The other processes wait in the middle of a pass, so that nobody can try again in pieces."""

    class Full(Line):
        def loss(self, batch: Any, draws: Draws) -> LossReport:
            raise torch.OutOfMemoryError("none left")

    task = Full()
    weights, alone = list(task.network.parameters()), accelerator(bfloat16=False)
    gradients = Gradients(task, settings(), weights, Pace(), alone, shard=True)
    with pytest.raises(TrainingError, match=r"with --shard it is not cut by itself; go on with more"):
        gradients.of(["c1", "c2"], 0)
