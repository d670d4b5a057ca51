from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from cosytune import files
from cosytune.errors import TrainingError
from cosytune.training import run as run_module
from cosytune.training.results import MetricPoint, PartResult, StageResult, read_metrics, read_record
from cosytune.training.run import PartRun

SETTINGS = {"part": "lm", "steps": 40}


def point(step: int, value: float = 1.0) -> MetricPoint:
    return MetricPoint("lm", step, "train", "loss", value, 2.5 * step)


def result() -> PartResult:
    return PartResult("lm", 40, 9.0, {"ce": 3.0}, {"ce": 1.0}, {"ce": 2.0}, "unigram", [(3, ["a", "b"])], {"steps": 40})


def checkpoint(folder: Path, step: int) -> Path:
    return folder / "checkpoints" / f"step-{step:08d}.pt"


@pytest.fixture
def run(tmp_path: Path) -> PartRun:
    """Curves up to step 40, checkpoints of steps 10, 20 and 30."""
    run = PartRun(tmp_path / "run", SETTINGS)
    for step in (10, 20, 30):
        run.record([point(step - 5), point(step)])
        run.save(step, {"step": step, "weight": torch.full((3,), float(step))})
    run.record([point(35), point(40)])
    return run


def steps(run: PartRun) -> list[int]:
    return [found.step for found in read_metrics(run.metrics_path)]


def test_the_newest_checkpoint_is_loaded_and_the_curves_end_there(run: PartRun) -> None:
    state = run.load()
    assert state is not None
    assert state["step"] == 30
    assert torch.equal(state["weight"], torch.full((3,), 30.0))
    assert steps(run) == [5, 10, 15, 20, 25, 30]


def test_only_two_checkpoints_are_kept(run: PartRun) -> None:
    names = sorted(path.name for path in (run.folder / "checkpoints").iterdir())
    assert names == [f"step-{step:08d}{suffix}" for step in (20, 30) for suffix in (".pt", ".sha256")]


@pytest.mark.parametrize("damage", ["cut", "flipped", "no checksum", "other checksum"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(run: PartRun, damage: str) -> None:
    path = checkpoint(run.folder, 30)
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[:-10])
    elif damage == "flipped":
        path.write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
    elif damage == "no checksum":
        path.with_suffix(".sha256").unlink()
    else:
        path.with_suffix(".sha256").write_text("0" * 64)
    state = run.load()
    assert state is not None and state["step"] == 20
    assert steps(run) == [5, 10, 15, 20]


def test_a_result_of_numbers_that_are_none_is_json_and_comes_back(run: PartRun) -> None:
    none = replace(result(), end={"ce": math.nan}, heard=[(0, 0.5), (40, math.inf)])
    run.finish({}, none)
    text = (run.folder / "result.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    back = run.finished()
    assert back is not None and math.isnan(back.end["ce"]) and math.isnan(back.heard[1][1])
    assert replace(back, end=none.end, heard=none.heard) == none
    assert "NOT below unigram" in back.in_words()


@pytest.mark.parametrize("text", ["{}", "[]", '{"part": "lm"}', "null"])
def test_a_result_of_another_version_is_one_sentence(run: PartRun, text: str) -> None:
    (run.folder / "result.json").write_text(text)
    with pytest.raises(TrainingError, match=r"result\.json is not what this cosytune writes .*delete the run folder"):
        run.finished()


class KilledError(Exception):
    pass


@pytest.mark.parametrize(
    ("moment", "weight"),
    [("both checksums", 30.0), ("the checkpoint", 30.0), ("its own checksum", -1.0)],
)
def test_a_checkpoint_that_is_replaced_is_whole_at_any_moment(
    run: PartRun, monkeypatch: pytest.MonkeyPatch, moment: str, weight: float
) -> None:
    """After a return to it, under a budget that leaves it the only one, killed before each of three files appears."""
    checkpoint(run.folder, 20).unlink()
    texts = iter([moment != "both checksums", False])

    def write_text(path: Path, text: str) -> None:
        if not next(texts):
            raise KilledError
        files.write_text(path, text)

    @contextmanager
    def writing(path: Path) -> Iterator[BinaryIO]:
        with files.writing(path) as out:
            yield out
            if moment == "the checkpoint":
                raise KilledError

    monkeypatch.setattr(run_module, "write_text", write_text)
    monkeypatch.setattr(run_module, "writing", writing)
    with pytest.raises(KilledError):
        run.save(30, {"step": 30, "weight": torch.full((3,), -1.0)})
    state = PartRun(run.folder, SETTINGS).load()
    assert state is not None
    assert float(state["weight"][0]) == weight


def test_a_state_is_never_held_as_bytes(run: PartRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a large network would not fit beside it: torch writes it tensor by tensor."""
    pieces: list[int] = []

    class Watched(run_module._Stream):
        def write(self, data: Any) -> int:
            pieces.append(memoryview(data).nbytes)
            return super().write(data)

    monkeypatch.setattr(run_module, "_Stream", Watched)
    tensors = {str(number): torch.zeros(10_000) for number in range(10)}
    run.save(40, tensors)
    assert sum(pieces) == 2 * checkpoint(run.folder, 40).stat().st_size  # once to learn its length
    assert max(pieces) <= 40_000


def test_without_a_whole_checkpoint_the_run_begins_again(run: PartRun) -> None:
    for step in (20, 30):
        checkpoint(run.folder, step).write_bytes(b"")
    assert run.load() is None
    assert steps(run) == []


def test_a_whole_file_that_is_no_checkpoint_is_named(run: PartRun) -> None:
    path = checkpoint(run.folder, 30)
    path.write_bytes(b"hello")
    path.with_suffix(".sha256").write_text(hashlib.sha256(b"hello").hexdigest())
    with pytest.raises(TrainingError, match=r"step-00000030.pt cannot be read as a checkpoint \(.*\); delete it"):
        run.load()


def test_leftovers_of_a_crash_are_swept(run: PartRun) -> None:
    leftover = run.folder / "checkpoints" / ".step-00000040.pt.77.partial"
    leftover.write_bytes(b"half")
    run.load()
    assert not leftover.exists()


def test_other_settings_are_refused(run: PartRun) -> None:
    PartRun(run.folder, dict(SETTINGS))
    with pytest.raises(TrainingError, match=r"holds a run with other settings \(seed, steps differ\); give another"):
        PartRun(run.folder, {"part": "lm", "steps": 41, "seed": 0})


def test_a_finished_run_says_so_and_drops_its_checkpoints(run: PartRun) -> None:
    assert run.finished() is None
    run.finish({"weight": torch.ones(2)}, result())
    assert PartRun(run.folder, SETTINGS).finished() == result()
    assert list((run.folder / "checkpoints").iterdir()) == []
    assert torch.equal(torch.load(run.folder / "weights.pt", weights_only=True)["weight"], torch.ones(2))


def test_weights_without_a_result_are_not_a_finished_run(run: PartRun) -> None:
    run.finish({"weight": torch.ones(2)}, result())
    (run.folder / "result.json").unlink()
    assert run.finished() is None


@pytest.mark.parametrize("name", ["settings.json", "result.json"])
def test_damaged_records_are_named(run: PartRun, name: str) -> None:
    run.finish({}, result())
    (run.folder / name).write_text("{")
    with pytest.raises(TrainingError, match=rf"{name} is damaged \(.*\); delete the run folder and train again"):
        PartRun(run.folder, SETTINGS).finished()
    with pytest.raises(TrainingError):
        read_record(run.folder / name)


def test_a_half_line_at_the_end_is_left_out_and_cut(run: PartRun) -> None:
    whole = run.metrics_path.read_text()
    run.metrics_path.write_text(whole + whole.splitlines()[0][:-7])
    assert steps(run) == [5, 10, 15, 20, 25, 30, 35, 40]
    run.load()
    run.record([point(31)])
    assert steps(run) == [5, 10, 15, 20, 25, 30, 31]


def test_a_damaged_line_in_the_middle_is_named(run: PartRun) -> None:
    lines = run.metrics_path.read_text().splitlines()
    for wrong in ("{", "7", '{"step": 1}'):
        run.metrics_path.write_text("\n".join([lines[0], wrong, *lines[1:]]) + "\n")
        with pytest.raises(TrainingError, match=r"line 2 of .*metrics.jsonl is not a metric"):
            list(read_metrics(run.metrics_path))


def test_curves_that_do_not_exist_are_empty(tmp_path: Path) -> None:
    assert list(read_metrics(tmp_path / "metrics.jsonl")) == []


def test_numbers_that_are_none_leave_a_gap(run: PartRun) -> None:
    before = steps(run)
    run.record([point(41, float("nan")), point(42, float("inf")), point(43)])
    assert steps(run) == [*before, 43]


def test_results_in_words_and_as_json() -> None:
    record = result()
    assert record.in_words() == "lm: ce 3.000 -> 1.000, below unigram 2.000 (40 steps, 0.1 min of audio seen)"
    stage = StageResult("tune", "start", "a", "b", 0, [record])
    assert StageResult.from_json(stage.to_json()) == stage
