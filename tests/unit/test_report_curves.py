"""What of a run folder is drawn, and in which unit."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from cosytune.report.curves import read_panels
from cosytune.training.results import MetricPoint
from tests.unit.report_examples import make_result


def write_speeds(folder: Path, text: str = "") -> None:
    lines = [
        {"step": step, "audio_seconds_per_second": rate, "data_wait_share": 0.25, "step_seconds": 2.0}
        for step, rate in ((10, 7.0), (20, 8.0), (20, 9.5))
    ]
    path = folder / "arms" / "base-seed0.run" / "lm" / "speed.jsonl"
    path.write_text(text + "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def test_speed_and_waiting_are_drawn_where_they_were_written_down(tmp_path: Path) -> None:
    result = make_result(tmp_path, seeds=(0,), clips=False)
    write_speeds(tmp_path)
    panels, problems = read_panels(result.arms)
    shown = {panel.metric: panel for panel in panels if panel.part == "lm"}
    assert list(shown) == ["cross_entropy", "accuracy", "audio_seconds_per_second", "data_wait_share"]
    assert [panel.metric for panel in panels if panel.part == "flow"] == ["velocity", "prior"]
    speed = shown["audio_seconds_per_second"]
    assert speed.curves[0].validation == ([10.0, 20.0], [7.0, 9.5]), "of an update done twice the later counts"
    assert speed.words == (
        "lm, speed in seconds of speech learned a second over updates. Measured: base, seed 0 from 7 to 9.5."
    )
    assert problems == []
    write_speeds(tmp_path, "no speed\n")
    panels, problems = read_panels(result.arms)
    assert "data_wait_share" not in {panel.metric for panel in panels}
    assert problems[0].startswith("base, seed 0, lm: the speed in ")
    assert "line 1 of" in problems[0] and problems[0].endswith("delete that file, nothing depends on it")


def test_training_and_validation_are_drawn_in_one_unit(tmp_path: Path) -> None:
    """With smoothing or an anchor the loss that is trained on is not the cross-entropy that is validated."""
    result = make_result(tmp_path, starts=("base",), seeds=(0,), clips=False)
    path = tmp_path / "arms" / "base-seed0.run" / "lm" / "metrics.jsonl"
    smoothed = MetricPoint("lm", 600, "train", "loss", 99.0, 1.0)
    path.write_text(path.read_text(encoding="utf-8") + json.dumps(asdict(smoothed)) + "\n", encoding="utf-8")
    panels, _ = read_panels(result.arms)
    drawn = next(panel for panel in panels if panel.metric == "cross_entropy").curves[0]
    assert drawn.train[0][-1] == 600 and max(drawn.train[1]) < 10
    assert drawn.untouched == pytest.approx(drawn.validation[1][0])
