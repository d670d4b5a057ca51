"""Texts from recognisers: those that are here run, the others are asked as their packages want to be."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cosytune.data.manifest import Utterance
from cosytune.data.results import LedgerLine
from cosytune.data.transcripts import Recogniser, open_recogniser, transcribe_clip
from cosytune.errors import InputError, MissingPackageError
from tests.unit.long_audio import write_recording


@pytest.fixture
def item(tmp_path: Path) -> Utterance:
    return write_recording(tmp_path / "a.wav", [(0.2, 1.8)], 2.0)


class Says(Recogniser):
    """Hears the same words in everything but silence."""

    def transcribe(self, wave: np.ndarray) -> str:
        return "hello there" if np.abs(wave).max() > 0.01 else " .. "


def test_only_what_has_no_text_is_transcribed_and_marked(tmp_path: Path, item: Utterance) -> None:
    written = Utterance("b", item.audio, "By hand.", "s", "en")
    silent = write_recording(tmp_path / "silent.wav", [], 2.0)
    absent = Utterance("c", str(tmp_path / "absent.wav"), None, "s", "en", None, 0.0, 1.0, 1.0)
    heard, *rest = [transcribe_clip(each, Says("pocketsphinx")) for each in (item, written, silent, absent)]
    assert isinstance(heard, Utterance)
    assert (heard.text, heard.transcribed_by) == ("hello there", "pocketsphinx")
    assert rest[0] == written
    reasons = [entry.reason for entry in rest[1:] if isinstance(entry, LedgerLine)]
    assert reasons[0] == "nothing recognised: pocketsphinx heard no word"
    assert reasons[1].startswith("unreadable: ") and "does not exist" in reasons[1]


def test_faster_whisper_is_asked_for_local_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    class Model:
        supported_languages = ("en", "zh")

        def __init__(self, path: str, **options: Any) -> None:
            asked.update(options, path=path)

        def transcribe(self, wave: np.ndarray, **options: Any) -> tuple[Any, None]:
            asked.update(options)
            return iter([SimpleNamespace(text=" Two"), SimpleNamespace(text=" parts. ")]), None

    monkeypatch.setitem(sys.modules, "faster_whisper", SimpleNamespace(WhisperModel=Model))
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (tmp_path / name).touch()
    recogniser = open_recogniser(str(tmp_path), "zh-CN")
    assert recogniser.transcribe(np.ones(800, np.float32)) == "Two parts."
    assert asked["local_files_only"] is True and asked["path"] == str(tmp_path)
    assert asked["language"] == "zh" and asked["temperature"] == 0.0
    with pytest.raises(
        InputError, match="does not know the language 'tlh', only en, zh: give another --language, or a"
    ):
        open_recogniser(str(tmp_path), "tlh").transcribe(np.ones(800, np.float32))


def test_transformers_runs_no_code_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    class Pipeline:
        model = SimpleNamespace(generation_config=SimpleNamespace(lang_to_id={"<|de|>": 1}))

        def __call__(self, sound: dict[str, Any], **options: Any) -> dict[str, str]:
            asked.update(options, rate=sound["sampling_rate"])
            return {"text": " Guten Tag. "}

    # What the real one does not know, it hands on to Whisper's generation, which refuses it.
    def pipeline(task: str, *, model: str, trust_remote_code: bool, model_kwargs: dict[str, Any]) -> Pipeline:
        asked.update(model_kwargs, task=task, model=model, trust_remote_code=trust_remote_code)
        return Pipeline()

    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(pipeline=pipeline))
    (tmp_path / "config.json").write_text(json.dumps({}))
    (tmp_path / "model.safetensors").touch()
    assert open_recogniser(str(tmp_path), "de").transcribe(np.ones(800, np.float32)) == "Guten Tag."
    assert asked["trust_remote_code"] is False and asked["use_safetensors"] is True
    assert asked["model"] == str(tmp_path) and "chunk_length_s" not in asked
    assert asked["generate_kwargs"] == {"language": "de", "task": "transcribe"} and asked["rate"] == 16_000


@pytest.mark.parametrize(
    ("files", "module", "install"),
    [
        (["model.bin", "config.json"], "faster_whisper", "pip install faster-whisper"),
        (["model.safetensors", "config.json"], "transformers", "pip install transformers"),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], module: str, install: str
) -> None:
    for name in files:
        (tmp_path / name).touch()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackageError, match=f"{module}, which cannot be imported .*; install it with: {install}"):
        open_recogniser(str(tmp_path))


def test_what_is_no_recogniser_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no recogniser 'large-v3' here, and none is downloaded; give pocket"):
        open_recogniser("large-v3")
    with pytest.raises(InputError, match="is no recogniser that is known; give pocketsphinx"):
        open_recogniser(str(tmp_path))
    with pytest.raises(InputError, match="pocketsphinx knows English only, and the recordings are in 'de'"):
        open_recogniser("pocketsphinx", "de")


def test_a_broken_model_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("whisper")
    (tmp_path / "broken.pt").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(InputError, match=r"broken\.pt cannot be loaded as a whisper model"):
        open_recogniser(str(tmp_path / "broken.pt")).transcribe(np.ones(800, np.float32))
