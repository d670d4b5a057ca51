from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from cosytune.errors import TrainingError
from cosytune.training import disk as disk_module
from cosytune.training.disk import SPARE_BYTES, DiskBudget, folder_bytes, room_for
from cosytune.training.run import NOTES, PartRun, RunOptions

BIG = 100_000
"""Bytes of weights in a checkpoint; what else lies in a run folder is much less than half of that."""


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def weights(value: float = 0.0) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((BIG // 4,), float(value))}


def opened(folder: Path, big_files: float | None) -> PartRun:
    """A run that may take so many files of weights."""
    size = None if big_files is None else int(big_files * BIG)
    return PartRun(folder / "lm", {"steps": 9}, options=RunOptions(disk=DiskBudget(folder, size)))


def files(run: PartRun) -> list[str]:
    found = sorted(run.folder.rglob("step-*.pt"))
    return [f"{path.parent.name} {int(path.stem.removeprefix('step-'))}" for path in found]


def notes(run: PartRun) -> list[str]:
    path = run.folder / NOTES
    return path.read_text().splitlines() if path.exists() else []


def test_without_a_budget_two_checkpoints_stay(tmp_path: Path) -> None:
    run = opened(tmp_path, None)
    for step in (1, 2, 3):
        run.save(step, weights())
    assert files(run) == ["checkpoints 2", "checkpoints 3"]
    assert notes(run) == []


def test_old_checkpoints_go_first_and_the_run_says_so(tmp_path: Path) -> None:
    run = opened(tmp_path, 2.5)
    for step in (1, 2, 3):
        run.save(step, weights(step))
        assert folder_bytes(tmp_path) < 2.5 * BIG
    assert files(run) == ["checkpoints 2", "checkpoints 3"]
    assert notes(run) == ["dropped the checkpoint of update 1 to make room for the checkpoint of update 3"]
    state = opened(tmp_path, 2.5).load()
    assert state is not None and state["weight"][0] == 3


def test_the_newest_whole_checkpoint_stays_whatever_lies_behind_it(tmp_path: Path) -> None:
    run = opened(tmp_path, 2.5)
    run.save(1, weights(1))
    run.save(2, weights(2))
    damaged = run.folder / "checkpoints" / "step-00000002.pt"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    run.save(3, weights(3))
    assert files(run) == ["checkpoints 1", "checkpoints 3"]


def test_kept_weights_go_next_the_worst_first_and_never_the_best(tmp_path: Path) -> None:
    run = opened(tmp_path, 4.9)
    for step in (1, 2, 3):
        run.rank([2, 3, 1][: step + 1])
        run.keep(step, weights())
    run.rank([2, 3, 1])
    run.save(3, weights())
    assert files(run) == ["best 1", "best 2", "best 3", "checkpoints 3"]
    run.save(4, weights())
    assert notes(run) == ["dropped the less good weights of update 1 to make room for the checkpoint of update 4"]
    smaller = opened(tmp_path, 3.9)
    assert smaller.load() is not None
    smaller.save(5, weights())
    assert files(smaller) == ["best 2", "checkpoints 4", "checkpoints 5"]


def test_what_the_last_checkpoint_thinks_the_best_stays_too(tmp_path: Path) -> None:
    """A run that is killed now goes back to that checkpoint, and may end there."""
    run = opened(tmp_path, 3.5)
    run.rank([1])
    run.keep(1, weights())
    run.save(1, weights())
    run.rank([2, 1])
    run.keep(2, weights())
    with pytest.raises(TrainingError, match="no room for the checkpoint of update 2"):
        run.save(2, weights())
    assert files(run) == ["best 1", "best 2", "checkpoints 1"]


def test_where_nothing_may_go_the_run_ends_in_words_and_goes_on_with_more(tmp_path: Path) -> None:
    run = opened(tmp_path, 1.5)
    run.save(1, weights(1))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(TrainingError) as error:
        run.save(2, weights(2))
    said = str(error.value)
    assert said.startswith("no room for the checkpoint of update 2 (0.102 MB): ")
    assert "holds 0.102 MB of its disk budget of 0.15 MB; give a larger --disk-budget; the same command then" in said
    assert sorted(tmp_path.rglob("*")) == before
    larger = opened(tmp_path, 2.5)
    state = larger.load()
    assert state is not None and state["weight"][0] == 1
    larger.save(2, weights(2))


def test_everything_in_the_folder_counts(tmp_path: Path) -> None:
    (tmp_path / "flow").mkdir()
    (tmp_path / "flow" / "weights.pt").write_bytes(bytes(BIG))
    run = opened(tmp_path, 2.5)
    run.save(1, weights())
    with pytest.raises(TrainingError, match=r"holds 0\.202 MB of its disk budget of 0.25 MB"):
        run.finish(weights(), None)  # type: ignore[arg-type]


def test_free_space_is_looked_at_without_a_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = opened(tmp_path, None)
    for step in (1, 2):
        run.save(step, weights())
    free = SPARE_BYTES + BIG // 2
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, free + (BIG * (2 - len(files(run))))))
    run.save(3, weights())
    assert notes(run) == ["dropped the checkpoint of update 1 to make room for the checkpoint of update 3"]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 10))
    with pytest.raises(
        TrainingError, match=r"no room for the checkpoint of update 4 .*: the disk of .* has 0 MB free; "
    ):
        run.save(4, weights())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_fills_up_while_writing_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    run = opened(tmp_path, None)
    run.save(1, weights(1))

    def full(file: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    kind: Any = OSError if number == errno.EIO else TrainingError
    words = "Input/output" if kind is OSError else r"no room for the checkpoint of update 2 .* in "
    with pytest.raises(kind, match=words):
        run.save(2, weights(2))
    assert files(run) == ["checkpoints 1"]
    assert not list(run.folder.rglob(".*.partial"))


def test_two_parts_do_not_take_the_same_room(tmp_path: Path) -> None:
    budget = DiskBudget(tmp_path, 3 * BIG)

    def nothing() -> Iterator[Any]:
        return iter(())

    with room_for("a", 2 * BIG, budget, nothing(), print):
        with pytest.raises(BlockingIOError):
            disk_module.lock(tmp_path / ".disk.lock", wait=False)
        (tmp_path / "a").write_bytes(bytes(2 * BIG))
    with pytest.raises(TrainingError), room_for("b", 2 * BIG, budget, nothing(), print):
        raise AssertionError("written all the same")


def test_a_file_that_goes_meanwhile_counts_as_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    monkeypatch.setattr(os, "walk", lambda folder: [(str(tmp_path), [], ["a", "gone"])])
    assert folder_bytes(tmp_path) == 5


def test_a_run_goes_on_with_another_budget(tmp_path: Path) -> None:
    opened(tmp_path, 3).save(1, weights())
    assert opened(tmp_path, None).load() is not None
