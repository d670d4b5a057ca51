"""What `prepare_corpus` does with long recordings, decisions of the doctor, missing texts, kills and many workers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosytune.audio.files import write_wave
from cosytune.data import examining as examining_module
from cosytune.data.corpus import Corpus
from cosytune.data.doctor import check_recordings
from cosytune.data.examining import Examined, Examiner
from cosytune.data.manifest import Utterance
from cosytune.data.prepare import prepare_corpus
from cosytune.data.results import LedgerLine
from cosytune.data.sentences import sentences
from cosytune.data.working_index import WorkingIndex
from cosytune.errors import DataError, InputError

RATE = 8000


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise in syllables: loud enough to be speech, 0.2 s a syllable."""
    rng = np.random.default_rng(seed)
    wave = rng.uniform(-0.3, 0.3, round(seconds * RATE)).astype(np.float32)
    wave *= 0.55 + 0.45 * np.sin(np.arange(len(wave)) * (2 * np.pi * 5 / RATE)).astype(np.float32)
    return wave


def talk(path: Path, lengths: list[float], pause: float = 1.0) -> None:
    """Sentences of such lengths with pauses between them, in one recording."""
    path.parent.mkdir(parents=True, exist_ok=True)
    quiet = np.random.default_rng(1).normal(0, 1e-4, round(pause * RATE)).astype(np.float32)
    pieces = [quiet]
    for number, length in enumerate(lengths):
        pieces += [speech(length, number), quiet]
    write_wave(path, np.concatenate(pieces), RATE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, sentence in enumerate(sentences(12)):
        path = tmp_path / "in" / f"{number:02d}.wav"
        path.parent.mkdir(exist_ok=True)
        write_wave(path, speech(0.5, number), RATE)
        path.with_suffix(".txt").write_text(sentence.text)
    return tmp_path / "in"


def files_of(corpus: Corpus) -> dict[str, bytes]:
    names = ("manifest.jsonl", "ledger.jsonl", "sides.jsonl", "splits.json", "recordings.jsonl", "corpus.json")
    return {name: (corpus.path / name).read_bytes() for name in names}


def test_a_long_recording_becomes_clips_and_the_account_stays_whole(folder: Path, tmp_path: Path) -> None:
    lengths = [6.0, 7.0, 5.0, 8.0, 6.0]
    talk(folder / "talk.wav", lengths)
    corpus = prepare_corpus(folder, tmp_path / "corpus", detector="energy")
    cut = [clip for clip in corpus.utterances() if clip.audio.endswith("talk.wav")]
    assert 2 <= len(cut) <= 5
    assert all(2 <= clip.seconds <= 20 and clip.text is None for clip in cut)
    ledger = corpus.ledger
    assert (ledger.kept, ledger.fixed, ledger.dropped) == (12, len(cut), 0)
    assert ledger.reasons("fixed") == {"cut out of a longer recording": len(cut)}
    whole = sum(lengths) + 6.0 + 12 * 0.5
    assert sum(ledger.seconds.values()) == pytest.approx(whole, abs=0.01)
    assert len({corpus.splits[clip.id] for clip in cut}) == 1, "clips without text of one recording stay together"


def test_subtitles_give_the_clips_their_text(folder: Path, tmp_path: Path) -> None:
    talk(folder / "film.wav", [4.0, 4.0])
    cues = "1\n00:00:01,000 --> 00:00:05,000\nThe bridge was open.\n\n2\n00:00:06,000 --> 00:00:10,000\nNobody came.\n"
    (folder / "film.srt").write_text(cues)
    corpus = prepare_corpus(folder, tmp_path / "corpus", detector="energy")
    said = " ".join(clip.text or "" for clip in corpus.utterances() if clip.audio.endswith("film.wav"))
    assert said == "The bridge was open. Nobody came."


def test_without_cutting_long_recordings_are_dropped(folder: Path, tmp_path: Path) -> None:
    talk(folder / "talk.wav", [20.0, 20.0])
    corpus = prepare_corpus(folder, tmp_path / "corpus", cut=False)
    assert corpus.ledger.reasons("dropped") == {"longer than 30 s": 1}


def test_what_was_examined_is_not_decoded_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []
    real = examining_module.measure

    class KilledError(Exception):
        pass

    def measure(clip: Utterance, *limits: float) -> Any:
        if len(measured) == 7:
            raise KilledError
        measured.append(Path(clip.audio).stem)
        return real(clip, *limits)

    monkeypatch.setattr(examining_module, "measure", measure)
    with pytest.raises(KilledError):
        prepare_corpus(folder, tmp_path / "corpus")
    first = list(measured)
    measured[:] = []
    monkeypatch.setattr(
        examining_module, "measure", lambda clip, *limits: measured.append(clip.id) or real(clip, *limits)
    )
    resumed = prepare_corpus(folder, tmp_path / "corpus")
    assert len(first) == 7
    assert len(measured) == 5, "those before the kill were decoded again"
    assert files_of(resumed) == files_of(prepare_corpus(folder, tmp_path / "undisturbed"))
    measured[:] = []
    (folder / "03.txt").write_text("Another text for this one.")
    write_wave(folder / "new.wav", speech(0.5, 99), RATE)
    prepare_corpus(folder, tmp_path / "corpus")
    assert sorted(measured) == ["03", "new"]


def check_file(folder: Path, path: Path, **decisions: dict[str, Any]) -> Path:
    """A doctor's JSON with these decisions for clips of a folder."""
    from cosytune.data.doctor import check_recordings

    result = check_recordings(folder, workers=1)
    clips = tuple(replace(clip, **decisions.get(clip.id, {"decision": "kept", "reason": ""})) for clip in result.clips)
    replace(result, clips=clips).write(path)
    return path


def test_the_doctor_s_decisions_are_carried_out(folder: Path, tmp_path: Path) -> None:
    decisions: dict[str, Any] = {
        "02": {"decision": "dropped", "reason": "noise: louder than the voice"},
        "05": {"decision": "fixed", "reason": "edge silence: trimmed", "start": 0.1, "end": 0.4},
    }
    path = check_file(folder, tmp_path / "check.json", **decisions)
    corpus = prepare_corpus(folder, tmp_path / "corpus", check=path)
    clips = {clip.id: clip for clip in corpus.utterances()}
    assert "02" not in clips and len(clips) == 11
    assert (clips["05"].start, clips["05"].end, clips["05"].seconds) == (0.1, 0.4, pytest.approx(0.3))
    assert corpus.ledger.reasons("dropped") == {"noise": 1}
    assert corpus.ledger.reasons("fixed") == {"edge silence": 1}
    again = check_file(folder, path, **{"02": decisions["02"]})
    assert len(prepare_corpus(folder, corpus.path, check=again).utterances()) == 11
    assert prepare_corpus(folder, corpus.path, check=again).ledger.fixed == 0, "an edited check makes another corpus"


def test_a_check_or_a_detector_that_is_not_there(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json cannot be read \(No such file.*give the JSON that cosytune"):
        prepare_corpus(folder, tmp_path / "corpus", check=tmp_path / "none.json")
    for cut in (True, False):
        with pytest.raises(InputError, match="there is no detector 'foo'; choose one of auto, silero, energy"):
            prepare_corpus(folder, tmp_path / "corpus", detector="foo", cut=cut)


def test_clips_with_one_id_are_decided_on_each_for_itself(folder: Path, tmp_path: Path) -> None:
    lines = "".join(f"a,{name}.wav,{name} is said here\n" for name in ("00", "01"))
    (folder / "list.csv").write_text("id,file,text\n" + lines)
    result = check_recordings(folder / "list.csv", workers=1)
    assert [clip.id for clip in result.clips] == ["a", "a~2"]
    # What the doctor says of noise is not asked here.
    first, second = (replace(clip, decision="kept", reason="", findings=()) for clip in result.clips)
    replace(result, clips=(replace(first, decision="dropped", reason="noise: loud"), second)).write(
        tmp_path / "check.json"
    )
    corpus = prepare_corpus(folder / "list.csv", tmp_path / "corpus", check=tmp_path / "check.json")
    assert [(clip.id, Path(clip.audio).stem) for clip in corpus.utterances()] == [("a~2", "01")]
    assert corpus.ledger.reasons("dropped") == {"noise": 1}
    assert corpus.ledger.reasons("fixed") == {"renamed": 1}


class Parrot:
    name, path = "parrot", None

    def transcribe(self, wave: np.ndarray) -> str:
        return "what was said"


def test_missing_texts_are_heard_and_marked(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "04.txt").unlink()
    monkeypatch.setattr("cosytune.data.prepare.open_recogniser", lambda model, language: Parrot())
    corpus = prepare_corpus(folder, tmp_path / "corpus", transcribe="parrot")
    heard = {clip.id: clip.transcribed_by for clip in corpus.utterances()}
    assert {name for name, by in heard.items() if by == "parrot"} == {"04"}
    assert corpus.ledger.reasons("fixed") == {"transcribed": 1}
    monkeypatch.undo()
    with pytest.raises(InputError, match="there is no recogniser 'nowhere'"):
        prepare_corpus(folder, tmp_path / "corpus", transcribe="nowhere")


def test_a_killed_worker_costs_its_recording(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cosytune.data import prepare as prepare_module

    class Engine:
        workers = 1

        def map(self, function: Any, items: Any, *, lost: Any) -> Any:
            for item in items:
                yield lost(item) if item.entry.id == "06" else function(item)

    import contextlib

    monkeypatch.setattr(prepare_module, "open_engine", lambda *_, **__: contextlib.nullcontext(Engine()))
    corpus = prepare_corpus(folder, tmp_path / "corpus")
    lines = {line.id: line.reason for line in corpus.ledger.lines if line.decision == "dropped"}
    assert list(lines) == ["06"]
    assert lines["06"].startswith("unreadable: the process that decoded it was killed, twice")


def test_a_clip_that_would_tie_two_sides_is_dropped_with_a_line(folder: Path, tmp_path: Path) -> None:
    words = [f"{letter}{vowel}{letter}" for letter in "bdfgklmnprst" for vowel in "ao"]  # 24 words of no sentence
    one = [*words[:20], "alpha", "beta", "gamma", "delta"]
    two = [*words[:20], *words[20:24]]
    between = [*words[:20], "alpha", "beta", *words[20:22]]

    def say(name: str, text: list[str]) -> None:
        write_wave(folder / f"{name}.wav", speech(0.5, len(name)), RATE)
        (folder / f"{name}.txt").write_text(" ".join(text))

    say("one", one)
    say("two", two)
    corpus = prepare_corpus(folder, tmp_path / "corpus")
    assert {"one", "two"} <= corpus.splits.keys()
    sides = corpus.path / "sides.jsonl"
    rows = [json.loads(line) for line in sides.read_text().splitlines()]
    moved = {"one": "train", "two": "test"}
    sides.write_text("".join(json.dumps([name, moved.get(name, side)]) + "\n" for name, side in rows))
    say("between", between)
    more = prepare_corpus(folder, corpus.path)
    assert {name: more.splits[name] for name in moved} == moved, "clips known before have moved"
    assert "between" not in more.splits
    lines = {line.id: line.reason for line in more.ledger.lines if line.decision == "dropped"}
    assert lines == {
        "between": "would tie two sides together: its text is nearly that of a training clip and of a held-out one"
    }


def test_examined_goes_through_json() -> None:
    clip = Utterance("a", "/x/a.wav", "Text.", "s", "en", seconds=1.5)
    found = Examined((clip, LedgerLine("b", "/x/b.wav", "dropped", "silent: none")), {"a": "cut"}, 0.25, "00ff")
    assert Examined.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_what_decides_an_outcome_is_in_its_key(folder: Path) -> None:
    clip = Utterance("00", str(folder / "00.wav"), "Text.", "s", "en")
    plain = Examiner(0.1, 30.0)
    keys = [plain.key(clip), Examiner(0.2, 30.0).key(clip), plain.key(replace(clip, text="Other."))]
    write_wave(folder / "00.wav", speech(0.6), RATE)
    keys.append(plain.key(clip))
    assert len(set(keys)) == 4
    assert plain.key(replace(clip, audio="/nowhere.wav")) is None


def test_a_torn_index_is_begun_anew(folder: Path, tmp_path: Path) -> None:
    before = files_of(prepare_corpus(folder, tmp_path / "corpus"))
    for path in (tmp_path / "corpus").glob(".working.sqlite*"):
        path.unlink()
    (tmp_path / "corpus" / ".working.sqlite").write_bytes(b"no database" * 400)
    (tmp_path / "corpus" / ".working.sqlite-wal").write_bytes(b"no log" * 400)
    (tmp_path / "corpus" / "corpus.json").unlink()
    assert files_of(prepare_corpus(folder, tmp_path / "corpus")) == before


def test_the_index_keeps_the_first_of_two_clips_with_one_id(tmp_path: Path) -> None:
    index = WorkingIndex(tmp_path / "index")
    for audio in ("/x/1.wav", "/x/2.wav"):
        index.add(Examined((Utterance("same", audio, "Text.", "s", "en", seconds=1.0),), {}, 0.0, "aa"))
    assert [clip.audio for _, clip in index.clips()] == ["/x/1.wav"]
    reasons = [line.reason for line in index.lines()]
    assert reasons == ["", "duplicate id: /x/1.wav has it already"]
    index.close()
