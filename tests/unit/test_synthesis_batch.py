"""A file of requests: resumable, one bad line never stops the others, every wrong line is named."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosytune.audio.files import read_wave, write_wave
from cosytune.errors import InputError
from cosytune.models.flow.solver import SolverConfig
from cosytune.models.voices import Voice
from cosytune.synthesis import Synthesiser
from cosytune.synthesis.batch import RESULTS, BatchResult, BatchTotals, speak_batch
from cosytune.synthesis.batch_lines import read_batch
from cosytune.synthesis.requests import Outcome, Piece, Request, Speech
from tests.unit.model_examples import tiny_model, tone


@pytest.fixture(scope="module")
def synthesiser() -> Synthesiser:
    return Synthesiser(tiny_model("ada", "bob"), solver=SolverConfig(steps=1))


def batch_file(folder: Path, *lines: Any) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    (folder / "requests.jsonl").write_text("\n".join(texts) + "\n", encoding="utf-8")
    return folder / "requests.jsonl"


def speak(synthesiser: Synthesiser, file: Path, folder: Path, **more: Any) -> list[BatchResult]:
    """The results in the order of the lines."""
    settings, lines = more.pop("settings", {"model": "tiny"}), read_batch(file)
    results: dict[str, BatchResult] = {}

    def done(result: BatchResult) -> None:
        assert result.id not in results
        results[result.id] = result

    totals = speak_batch(synthesiser, lines, folder, source=file.parent, settings=settings, done=done, **more)
    spoken = [result.speech["seconds"] for result in results.values() if result.speech is not None]
    assert totals == BatchTotals(len(spoken), len(lines) - len(spoken), pytest.approx(sum(spoken)))
    return [results[str(line.id)] for line in lines]


def test_lines_become_recordings(synthesiser: Synthesiser, tmp_path: Path) -> None:
    write_wave(tmp_path / "my voice.wav", tone(0.8, 16_000), 16_000)
    file = batch_file(
        tmp_path,
        {"text": "hello", "voice": "ada", "id": "first"},
        "",
        {"text": "you", "prompt_wav": "my voice.wav", "prompt_text": "hello", "speed": 2, "seed": 3},
        {"convert": "my voice.wav", "voice": "bob", "id": "声"},
        {"text": "hello", "voice": "nobody"},
        {"text": "hello", "prompt_wav": "missing.wav"},
    )
    results = speak(synthesiser, file, tmp_path / "out", format="flac")
    assert [result.id for result in results] == ["first", "000003", "声", "000005", "000006"]
    assert [result.error is None for result in results] == [True, True, True, False, False]
    assert "no voice 'nobody'" in str(results[3].error)
    assert "missing.wav does not exist: paths in a batch file are relative to its folder" in str(results[4].error)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["000003.flac", "first.flac", RESULTS, "声.flac"]
    wave, _ = read_wave(tmp_path / "out" / "first.flac")
    assert results[0].speech is not None
    assert results[0].speech["seconds"] == pytest.approx(len(wave) / 16_000, abs=1e-3)
    assert results[1].speech is not None and results[1].speech["mode"] == "zero-shot"
    lines = (tmp_path / "out" / RESULTS).read_text(encoding="utf-8").splitlines()
    assert sorted(json.loads(line)["id"] for line in lines) == sorted(result.id for result in results)


def test_what_was_done_is_not_done_again(
    synthesiser: Synthesiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    speak(synthesiser, batch_file(tmp_path, {"text": "hello", "voice": "ada"}, {"text": "you", "voice": "ada"}), out)
    with (out / RESULTS).open("a", encoding="utf-8") as log:
        log.write('{"id": "a line that a kill cut sh')
    spoken: list[str] = []
    original = Synthesiser.speak_all

    def counting(self: Synthesiser, requests: Any) -> Any:
        def seen() -> Any:
            for request in requests:
                spoken.append(request.name)
                yield request

        return original(self, seen())

    monkeypatch.setattr(Synthesiser, "speak_all", counting)
    (out / "000002.wav").unlink()
    file = batch_file(
        tmp_path,
        {"text": "hello", "voice": "ada"},
        {"text": "you", "voice": "ada"},
        {"text": "there", "voice": "ada"},
    )
    results = speak(synthesiser, file, out)
    assert spoken == ["000002", "000003"], "the lost recording and the new line"
    spoken.clear()
    speak(synthesiser, file, out)
    assert spoken == [], "the cut line has not swallowed the one behind it"
    assert [result.error for result in results] == [None] * 3
    spoken.clear()
    changed = batch_file(tmp_path, {"text": "hello you", "voice": "ada"}, {"text": "you", "voice": "ada"})
    speak(synthesiser, changed, out)
    assert spoken == ["000001"], "another text is another recording"
    spoken.clear()
    speak(synthesiser, changed, out, settings={"model": "other"})
    assert spoken == ["000001", "000002"], "another model speaks all of it again"


def test_only_the_voice_that_speaks_decides(tmp_path: Path) -> None:
    file = batch_file(tmp_path, {"text": "hello", "voice": "ada"}, {"text": "hello", "voice": "bob"})
    model = tiny_model("ada", "bob")
    synthesiser = Synthesiser(model, solver=SolverConfig(steps=1))
    first = speak(synthesiser, file, tmp_path / "out")
    written = (tmp_path / "out" / RESULTS).read_bytes()
    model.voices["eve"] = Voice(torch.ones(16))
    assert speak(synthesiser, file, tmp_path / "out") == first
    assert (tmp_path / "out" / RESULTS).read_bytes() == written, "a voice more is nothing to these lines"
    model.voices["bob"] = Voice(torch.ones(16))
    again = speak(synthesiser, file, tmp_path / "out")
    assert again[0] == first[0]
    assert again[1].key != first[1].key, "bob has another vector now"


def test_results_go_to_the_disk_and_not_into_the_memory(
    synthesiser: Synthesiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speech = Speech(np.zeros(160, np.float32), 16_000, "voice", [Piece("so", [1], True, None, 0, 0.0, 0.01)])
    alive: list[weakref.ref[BatchResult]] = []
    most = 0

    def said(self: Synthesiser, requests: Iterable[Request]) -> Iterator[Outcome]:
        return (Outcome(number, request, speech) for number, request in enumerate(requests))

    def done(result: BatchResult) -> None:
        nonlocal most
        alive.append(weakref.ref(result))
        most = max(most, sum(each() is not None for each in alive))

    monkeypatch.setattr(Synthesiser, "speak_all", said)
    lines = read_batch(batch_file(tmp_path, *[{"text": "so", "voice": "ada"}] * 30))
    for _ in range(2):  # spoken, then found
        totals = speak_batch(synthesiser, lines, tmp_path, source=tmp_path, settings={}, format="flac", done=done)
        assert totals == BatchTotals(30, 0, pytest.approx(0.3))
    assert len(alive) == 60
    assert most <= 2
    assert len((tmp_path / RESULTS).read_text().splitlines()) == 30


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("not json", "line 2 is not JSON"),
        ("[1]", "line 2 is a list, not an object"),
        ({"txt": "hello"}, r"line 2: txt: .*; the keys are id, text, voice"),
        ({"text": 5}, "line 2: text: Input should be a valid string"),
        ({"text": "a", "seed": -1}, "line 2: seed"),
        ({"text": "a", "id": "../up"}, r"line 2: the id '\.\./up' is no file name"),
        ({"text": "a", "id": ".hidden"}, "is no file name"),
        ({"text": "a", "id": "FIRST"}, "the id 'FIRST' stands in line 1 as well"),
        ("[" * 100_000, "line 2 is not JSON"),
        ('{"text": "\\ud800"}', "line 2 holds half of a character"),
        ({"text": "a", "id": "语" * 100}, "is no file name"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, line: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_batch(batch_file(tmp_path, {"text": "a", "id": "first"}, line))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read as UTF-8 text"):
        read_batch(tmp_path / "none.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "\xe4"}')
    with pytest.raises(InputError, match="cannot be read as UTF-8 text"):
        read_batch(tmp_path / "latin.jsonl")
    with pytest.raises(InputError, match="holds no requests"):
        read_batch(batch_file(tmp_path, "", "  "))


def test_what_a_disk_refuses_stops_its_line_only(synthesiser: Synthesiser, tmp_path: Path) -> None:
    (tmp_path / "out" / "taken.wav").mkdir(parents=True)
    file = batch_file(
        tmp_path,
        {"text": "hello", "voice": "ada", "id": "taken"},
        {"text": "hello", "prompt_wav": "x" * 300 + ".wav"},
        {"text": "hello\u2028you\u0085", "voice": "ada"},
    )
    results = speak(synthesiser, file, tmp_path / "out")
    assert [result.error is None for result in results] == [False, False, True]


def test_another_format_is_another_recording(synthesiser: Synthesiser, tmp_path: Path) -> None:
    out = tmp_path / "out"
    speak(synthesiser, batch_file(tmp_path, {"text": "hello", "voice": "ada"}), out)
    changed = batch_file(tmp_path, {"text": "hello you there", "voice": "ada"})
    speak(synthesiser, changed, out, format="flac")
    before = (out / "000001.wav").read_bytes()
    speak(synthesiser, changed, out)
    assert (out / "000001.wav").read_bytes() != before


def test_formats_are_checked_first(synthesiser: Synthesiser, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'opus' is not a format we write"):
        speak(synthesiser, batch_file(tmp_path, {"text": "a"}), tmp_path / "out", format="opus")
    assert not (tmp_path / "out").exists()


def test_a_speech_of_nothing_is_an_error_of_its_line(
    synthesiser: Synthesiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cosytune.synthesis import engine

    monkeypatch.setattr(engine, "join", lambda waves, pauses, rate: (np.zeros(0, np.float32), [0] * len(waves)))
    results = speak(synthesiser, batch_file(tmp_path, {"text": "hello", "voice": "ada"}), tmp_path / "out")
    assert results[0].error is not None
    assert not (tmp_path / "out" / "000001.wav").exists()
