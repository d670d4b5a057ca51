"""Every settings file that is shipped resolves."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosytune.comparison.compose.demo import FULL_DEMO, TOY_DEMO, DemoSize
from cosytune.training.settings import StageName, default_settings, override, read_overrides

FILES = sorted((Path(__file__).parents[2] / "configs").glob("*.json"))
SMALL = 1_000_000


def test_there_are_some() -> None:
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_settings_file(path: Path) -> None:
    for part, changes in read_overrides(path).items():
        resolved = override(default_settings("tune", part, SMALL), part, changes)
        assert {name: getattr(resolved, name) for name in changes} == changes


@pytest.mark.parametrize("size", [FULL_DEMO, TOY_DEMO], ids=["full", "toy"])
def test_demo(size: DemoSize) -> None:
    stages: tuple[StageName, ...] = ("pretrain", "sft", "tune")
    for stage in stages:
        for part, changes in getattr(size, stage).items():
            resolved = override(default_settings(stage, part, SMALL), part, dict(changes))
            assert {name: getattr(resolved, name) for name in changes} == dict(changes)
