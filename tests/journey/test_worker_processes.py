"""However many processes work on it: the same corpus, the same findings, the same features."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cosytune.audio.files import write_wave
from cosytune.data.doctor import check_recordings
from cosytune.data.prepare import prepare_corpus
from cosytune.models.folder import read_model, write_model
from cosytune.models.loading import network_of
from cosytune.models.speech_tokenizer.config import VQConfig
from cosytune.training import features
from cosytune.training.features import corpus_features
from tests.unit.doctor_examples import RATE, TEXTS, voice, write_folder
from tests.unit.model_examples import tiny_model
from tests.unit.test_data_extract import make_corpus, recorded
from tests.unit.test_data_pipeline import files_of, talk
from tests.unit.toy import Quiet


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve fine clips, one that falls silent halfway, and one that nobody can read."""
    folder = write_folder(tmp_path / "my voice")
    wave = voice(seed=23)
    wave[len(wave) // 2 :] = 0.0
    write_wave(folder / "anna" / "silent at the end.flac", wave, RATE)
    (folder / "anna" / "silent at the end.txt").write_text(TEXTS[2] + " Thrice.", encoding="utf-8")
    (folder / "anna" / "broken.wav").write_bytes(b"RIFF and no more")
    return folder


def test_a_corpus(folder: Path, tmp_path: Path) -> None:
    talk(folder / "talk.wav", [16.0, 16.0, 9.0])
    one = prepare_corpus(folder, tmp_path / "one", detector="energy")
    for workers in (2, 3):
        many = prepare_corpus(folder, tmp_path / f"{workers}", workers=workers, detector="energy")
        assert files_of(many) == files_of(one)


def test_a_check(folder: Path) -> None:
    assert check_recordings(folder, workers=2) == check_recordings(folder, workers=1)


def test_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = make_corpus(tmp_path / "corpus", recorded(tmp_path / "in", range(8)))
    write_model(tiny_model(), tmp_path / "model")
    model = read_model(tmp_path / "model")
    alone = corpus_features(corpus, model, Quiet(), workers=1)
    before = {path.name: path.read_bytes() for path in alone.path.glob("*.parquet")}
    other = make_corpus(tmp_path / "other", corpus.utterances())
    # A long corpus is worth processes without being asked.
    monkeypatch.setattr(features, "SECONDS_FOR_PROCESSES", 1.0)
    monkeypatch.setattr(features, "usable_cores", lambda: 2)
    together = corpus_features(other, model, Quiet())
    assert {path.name: path.read_bytes() for path in together.path.glob("*.parquet")} == before


def test_to_read_a_model_loads_no_compiler(tmp_path: Path) -> None:
    """It would take each process longer than all the rest of reading a small model."""
    model = tiny_model("ada")
    config = model.part("speech_tokenizer").config
    sizes = {**config.model_dump(), "quantiser": VQConfig(codes=81).model_dump()}
    tokenizer = network_of(type(config)(**sizes))
    write_model(replace(model, parts=model.parts | {"speech_tokenizer": tokenizer}), tmp_path / "model")
    program = (
        "import sys\nfrom cosytune.models.folder import read_model\n"
        "read_model(sys.argv[1], weights=False)\nread_model(sys.argv[1])\n"
        "print(sorted({'sympy', 'torch._dynamo'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "model")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
