"""Folders that the tests of several files ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def without_waiting_for_the_disk() -> Iterator[None]:
    """What these tests write need not survive a power cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def folder(golden: Path, tmp_path: Path) -> Path:
    """A released folder without ONNX files."""
    from tests.unit.model_examples import released_folder

    return released_folder(golden, tmp_path / "released")


@pytest.fixture
def full_folder(folder: Path) -> Path:
    """A released folder with tiny ONNX front ends."""
    from tests.unit.model_examples import write_speaker_encoder, write_speech_tokenizer

    write_speech_tokenizer(folder / "speech_tokenizer_v1.onnx")
    write_speaker_encoder(folder / "campplus.onnx")
    return folder
