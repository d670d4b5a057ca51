"""The local engine with real processes: order, laziness, and what becomes of items that kill their worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from cosytune.data.engine import Engine, open_engine
from cosytune.errors import DataError, InputError, MissingPackageError
from tests.unit.worker_functions import die, refuse, square, threads


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with pytest.MonkeyPatch.context() as patch, open_engine("local", 2) as engine:
        # What the user's shell says about threads, which a worker must not heed.
        patch.setenv("OMP_NUM_THREADS", "2")
        yield engine


def test_results_come_in_order_and_from_other_processes(engine: Engine) -> None:
    found = list(engine.map(square, range(9)))
    assert [result for result, _ in found] == [number * number for number in range(9)]
    assert os.getpid() not in {process for _, process in found}
    assert list(engine.map(square, [])) == []


def test_a_worker_computes_with_one_thread(engine: Engine) -> None:
    assert list(engine.map(threads, [0])) == [1]


def test_few_items_are_taken_ahead(engine: Engine) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = engine.map(refuse, items())
    assert [next(results), next(results)] == [0, 1]
    assert len(taken) <= 2 + 2 * engine.workers + 1
    results.close()  # type: ignore[attr-defined]
    assert list(engine.map(refuse, [7, 8])) == [7, 8]


def test_an_error_is_raised_at_the_place_of_its_item(engine: Engine) -> None:
    results = engine.map(refuse, range(9))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match="no 3"):
        next(results)


def test_one_engine_serves_a_pipeline(engine: Engine) -> None:
    assert list(engine.map(refuse, engine.map(abs, [-1, -2, -4]))) == [1, 2, 4]


def test_an_item_that_kills_its_worker_is_lost_and_no_other(engine: Engine) -> None:
    fatal = partial(die, of=2)
    assert list(engine.map(fatal, range(6), lost=lambda item: -item)) == [0, 1, -2, 3, 4, 5]
    with pytest.raises(DataError, match="the process that worked on 2 was killed, and again when it worked on nothing"):
        list(engine.map(fatal, range(3)))
    assert list(engine.map(refuse, [7, 8])) == [7, 8]


def test_a_worker_that_dies_once_loses_nothing(engine: Engine, tmp_path: Path) -> None:
    assert list(engine.map(partial(die, of=1, once=tmp_path / "died"), range(4))) == [0, 1, 2, 3]
    assert (tmp_path / "died").is_file()


def test_one_worker_is_this_process() -> None:
    with open_engine("local", 1) as one:
        assert list(one.map(square, [2, 3])) == [(4, os.getpid()), (9, os.getpid())]
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            assert list(one.map(threads, [0])) == [1]
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(before)


def test_ctrl_c_ends_all(tmp_path: Path) -> None:
    script = tmp_path / "endless.py"
    script.write_text(
        "import os, signal, time\n"
        "from cosytune.data.engine import open_engine\n"
        "def nap(item):\n"
        "    print(os.getpid(), flush=True)\n"
        "    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        # A shell that started the tests in the background has made all its children deaf to Ctrl-C.
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    with open_engine('local', 2) as engine:\n"
        "        list(engine.map(nap, range(4)))\n"
    )
    command = [sys.executable, str(script)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=None)
    assert running.stdout is not None and running.stderr is not None
    children = [int(running.stdout.readline()) for _ in range(2)]
    running.send_signal(signal.SIGINT)
    assert running.wait(20) != 0
    assert running.stderr.read().count("Traceback") == 1
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def test_what_cannot_be_opened_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no engine 'cloud'; choose one of local, ray"), open_engine("cloud"):  # type: ignore[arg-type]
        pass
    with pytest.raises(InputError, match="0 workers cannot do anything"), open_engine("local", 0):
        pass
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'cosytune\[cluster\]'"), open_engine("ray"):
        pass
