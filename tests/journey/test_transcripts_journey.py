"""Recognisers whose packages are here, at work: one with its own model, one with random weights."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from cosytune.data.manifest import Utterance
from cosytune.data.transcripts import open_recogniser, transcribe_clip
from tests.unit.long_audio import murmur


def test_pocketsphinx_hears_english_and_travels_to_workers(shared: Path) -> None:
    recogniser = open_recogniser("pocketsphinx", "en-GB")
    clip = sorted((shared / "speech" / "kathleen").rglob("*.flac"))[0]
    utterance = Utterance("a", str(clip), None, "kathleen", "en")
    heard = transcribe_clip(utterance, pickle.loads(pickle.dumps(recogniser)))  # noqa: S301
    again = transcribe_clip(utterance, recogniser)
    assert heard == again
    assert isinstance(heard, Utterance) and heard.transcribed_by == "pocketsphinx"
    assert len((heard.text or "").split()) > 3
    assert recogniser.transcribe(np.zeros(16_000, np.float32)) == ""


def test_openai_whisper_runs_a_local_file(tmp_path: Path) -> None:
    pytest.importorskip("whisper")
    import torch
    from whisper.model import ModelDimensions, Whisper

    torch.manual_seed(0)
    sizes = ModelDimensions(80, 1500, 16, 2, 1, 51_865, 448, 16, 2, 1)
    torch.save({"dims": vars(sizes), "model_state_dict": Whisper(sizes).state_dict()}, tmp_path / "tiny.pt")
    recogniser = open_recogniser(str(tmp_path / "tiny.pt"), "en")
    assert recogniser.name == "whisper:tiny.pt"
    wave = murmur(16_000, 16_000).astype(np.float32)
    assert recogniser.transcribe(wave) == recogniser.transcribe(wave)
