"""What commands print: JSON that any machine reads, and progress where nobody watches."""

from __future__ import annotations

import json

import pytest

from cosytune.cli.output import print_result, progress


def test_numbers_that_are_none_become_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_result({"a": [float("nan"), float("inf"), 1.5], "b": ("嗨",)}, "words", as_json=True)
    assert json.loads(capsys.readouterr().out) == {"a": [None, None, 1.5], "b": ["嗨"]}


def test_progress_without_a_terminal_is_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as bars:
        bars.start("work", 20)
        for done in range(21):
            bars.move("work", done)
        bars.say("done")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "work: 0 of 20"
    assert lines[-2:] == ["work: 20 of 20", "done"]
    assert len(lines) == 12
