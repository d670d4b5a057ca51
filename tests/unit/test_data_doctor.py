"""A whole check: every file becomes one clip with a decision, whatever it is; the result survives its JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cosytune.audio.files import write_wave
from cosytune.comparison.compose.checking import check, check_paths, make_advisers
from cosytune.data import transcripts
from cosytune.data.doctor import Advisers, Recogniser, check_recordings, make_exhibits
from cosytune.data.doctor.exhibits import choose_exhibits
from cosytune.data.doctor.listening import Listener, lost_clip, sound_hash
from cosytune.data.doctor_results import DoctorResult, Finding, read_check, read_clips
from cosytune.data.manifest import Utterance
from cosytune.errors import DataError, InputError
from tests.unit.doctor_examples import RATE, TEXTS, voice, write_folder
from tests.unit.toy import Quiet


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve fine clips and one of each defect."""
    folder = write_folder(tmp_path_factory.mktemp("doctor") / "my voice")
    rng = np.random.default_rng(0)
    own = voice(seed=3)
    plants = {
        "clipped": (np.clip(voice(seed=21), -0.15, 0.15), TEXTS[0] + " Once."),
        "noisy": (voice(seed=22) + 0.05 * rng.normal(size=len(own)), TEXTS[1] + " Twice."),
        "silent at the end": (np.concatenate([voice(seed=23), np.zeros(2 * RATE)]), TEXTS[2] + " Thrice."),
        "again": (0.3 * own, TEXTS[3]),
    }
    for name, (wave, text) in plants.items():
        write_wave(folder / "anna" / f"{name}.flac", np.asarray(wave, np.float32), RATE)
        (folder / "anna" / f"{name}.txt").write_text(text, encoding="utf-8")
    (folder / "anna" / "broken.wav").write_bytes(b"RIFF and no more")
    (folder / "anna" / "empty.wav").write_bytes(b"")
    (folder / "anna" / "orphan.txt").write_text("Nobody spoke me.", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def result(folder: Path) -> DoctorResult:
    return check_recordings(folder, workers=1)


def test_every_clip_is_accounted_for(result: DoctorResult) -> None:
    found = {clip.id: clip for clip in result.clips}
    assert len(found) == len(result.clips) == 19
    reasons = {name.removeprefix("anna/"): clip.reason.split(":")[0] for name, clip in found.items() if clip.reason}
    assert reasons == {
        "again": "copy",
        "clipped": "clipping",
        "noisy": "noise",
        "silent at the end": "edge silence",
        "broken": "unreadable",
        "empty": "unreadable",
        "orphan": "transcript without recording",
    }
    assert result.decisions() == {"kept": 12, "fixed": 1, "dropped": 6}
    trimmed = found["anna/silent at the end"]
    assert trimmed.start is None and trimmed.end is not None and 2.3 < trimmed.end < 2.9
    assert result.usable == 13
    assert result.usable_seconds == pytest.approx(12 * 2.5 + trimmed.end, abs=0.01)
    assert {own.check for own in result.skipped} == {"speaker", "transcript", "unknown characters"}
    assert [histogram.title for histogram in result.histograms][:2] == ["Length", "Level of the speech"]
    assert all(sum(histogram.counts) for histogram in result.histograms)


def test_the_result_survives_its_json(result: DoctorResult, tmp_path: Path) -> None:
    path = tmp_path / "check.json"
    result.write(path)
    assert read_check(path) == result
    assert tuple(read_clips(path)) == result.clips
    assert json.loads(path.read_text()) == json.loads(json.dumps(result.to_json()))
    assert json.loads(path.read_text())["summary"]["dropped"] == 6


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.update(format="another"),
        lambda value: value.update(version=99),
        lambda value: value["clips"][0].update(decision="forgotten"),
        lambda value: value["clips"][0].update(start=-1.0),
        lambda value: value["clips"][0].update(end=float("nan")),
        lambda value: value["clips"][0].update(surprise=1),
        lambda value: value["clips"][0].pop("id"),
        lambda value: value["clips"][0].update(findings=[{"defect": "x", "action": "burn", "words": "x"}]),
    ],
)
def test_another_json_is_refused(result: DoctorResult, tmp_path: Path, change: object) -> None:
    value = json.loads(json.dumps(result.to_json()))
    change(value)  # type: ignore[operator]
    (tmp_path / "check.json").write_text(json.dumps(value))
    with pytest.raises(DataError, match=r"give the check\.json beside it"):
        read_check(tmp_path / "check.json")
    with pytest.raises(DataError, match=r"give the check\.json beside it"):
        list(read_clips(tmp_path / "check.json"))


def test_clips_are_read_one_by_one_or_from_a_file_laid_out_anew(result: DoctorResult, tmp_path: Path) -> None:
    path = tmp_path / "check.json"
    result.write(path)
    lines = path.read_bytes().splitlines(keepends=True)
    assert sum(line.startswith(b'{"id": ') for line in lines) == len(result.clips)
    path.write_text(json.dumps(json.loads(path.read_text()), indent=4))
    assert tuple(read_clips(path)) == result.clips
    path.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(DataError, match="ends in the middle"):
        list(read_clips(path))
    path.write_bytes(b"".join(lines).replace(b'"version": 1', b'"version": 9'))
    with pytest.raises(DataError, match="version 9"):
        list(read_clips(path))


def test_a_missing_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a check of recordings"):
        read_check(tmp_path / "none.json")
    with pytest.raises(ValueError, match="keep, fix, drop"):
        Finding("x", "burn", "x")  # type: ignore[arg-type]


def embed(wave: np.ndarray, rate: int) -> np.ndarray:
    return np.array([1.0, 0.0]) if np.abs(wave).max() > 0.2 else np.array([0.0, 1.0])


def transcribe(wave: np.ndarray, rate: int) -> str:
    return TEXTS[0]


def test_advisers_are_asked(folder: Path) -> None:
    ears = Recogniser("ears", frozenset({"de"}), transcribe, str.lower)
    result = check_recordings(folder, advisers=Advisers(("voices", embed), ears, ("model", list)), workers=1)
    reasons = {own.check: own.reason for own in result.skipped}
    assert reasons == {"transcript": "no recogniser for en: their transcripts are not checked"}
    assert result.listeners == ("voices", "ears", "tokenizer of model")
    ill = {clip.id for clip in result.clips if any(finding.defect == "speaker" for finding in clip.findings)}
    assert ill == {"anna/again", "anna/clipped"}
    english = Recogniser("ears", frozenset({"en"}), transcribe, str.lower)
    result = check_recordings(folder, advisers=Advisers(recogniser=english), workers=1, limit=5)
    assert result.clips[0].heard == TEXTS[0]
    assert result.left_out == 13
    assert "too little" not in {finding.kind for finding in result.corpus}, "a part does not tell how much there is"


def test_one_id_twice_and_a_part_of_a_recording(tmp_path: Path) -> None:
    long = np.concatenate([voice(seed=1), voice(seed=2)])
    write_wave(tmp_path / "long.wav", long, RATE)
    rows = [
        {"id": "a", "audio": "long.wav", "speaker": "k", "language": "en", "text": TEXTS[0], "end": 2.5},
        {"id": "a", "audio": "long.wav", "speaker": "k", "language": "en", "text": TEXTS[1], "end": 2.5},
        {"id": "b", "audio": "long.wav", "speaker": "k", "language": "en", "text": TEXTS[2], "start": 2.5},
        {"id": "c", "audio": "long.wav", "speaker": "k", "language": "en", "text": TEXTS[3], "start": 2.5, "end": 9},
        {"id": "d", "audio": "gone.wav", "speaker": "k", "language": "en", "text": TEXTS[4]},
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = check_recordings(tmp_path, workers=1, progress=lambda done, total: None).clips
    assert [clip.decision for clip in found] == ["kept", "kept", "dropped", "dropped", "dropped"]
    assert [clip.began for clip in found[:2]] == [0.0, 2.5]
    assert "the clip goes from 2.5 to 9 s" in found[2].reason
    assert "does not exist" in found[3].reason
    assert found[4].reason.startswith("duplicate id")


def test_a_long_recording_is_heard_in_part(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    write_wave(path, np.tile(voice(2.0, 8000), 40), 8000)
    heard = Listener()(Utterance("a", str(path), None, "k", ""))
    assert heard.measures is not None
    assert (heard.measures.seconds, heard.measures.measured_seconds) == (80.0, 60.0)


def test_a_clip_that_kills_its_worker_is_unreadable() -> None:
    heard = lost_clip(Utterance("a", "a.wav", None, "k", ""))
    assert heard.measures is None and heard.problem.startswith("unreadable: ")


def test_the_hash_is_of_the_sound_not_of_the_file() -> None:
    wave = voice()[:, None]
    sixteen = np.round(wave * 32768) / 32768
    assert sound_hash(wave, RATE) == sound_hash(sixteen.astype(np.float32), RATE)
    assert sound_hash(wave, RATE) != sound_hash(wave, 2 * RATE)


def test_exhibits_are_the_worst_of_each_defect(result: DoctorResult) -> None:
    exhibits = make_exhibits(result)
    names = {exhibit.id.removeprefix("anna/") for exhibit in exhibits}
    assert {"clipped", "noisy", "silent at the end"} <= names and "broken" not in names
    for exhibit in exhibits:
        assert exhibit.sound[:3] == b"ID3" or exhibit.sound[0] == 0xFF
        assert len({len(row) for row in exhibit.spectrogram}) == 1
        assert 0 < len(exhibit.envelope) <= 480
    assert len(choose_exhibits(result, 1)) <= len(choose_exhibits(result, 8))
    small = make_exhibits(result, most_bytes=40_000)
    assert 0 < len(small) < len(exhibits)


def test_a_recording_that_has_gone_since_has_no_exhibit(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f", 1)
    write_wave(folder / "anna/00.wav", np.clip(voice(), -0.1, 0.1), RATE)
    result = check_recordings(folder, workers=1)
    shutil.rmtree(folder)
    assert make_exhibits(result) == []


def test_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        check_recordings(tmp_path / "none")
    (tmp_path / "manifest.jsonl").write_text("")
    with pytest.raises(DataError, match="holds no recordings"):
        check_recordings(tmp_path)


def test_sound_inside_a_table_is_heard(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f", 2)
    clips = [path.read_bytes() for path in sorted(folder.rglob("*.wav"))]
    assert len(clips) == 2
    (tmp_path / "hub").mkdir()
    columns = {"audio": [{"bytes": data, "path": f"{n}.wav"} for n, data in enumerate(clips)], "text": TEXTS[:2]}
    pq.write_table(pa.table(columns), tmp_path / "hub/train.parquet")
    result, exhibits = check(tmp_path / "hub", Quiet(), recogniser="none", voices=False, workers=1)
    assert result.decisions()["dropped"] == 0 and result.usable == 2
    assert {clip.audio for clip in result.clips} == {str(tmp_path / "hub")}
    assert {own.id for own in exhibits} <= {"0.wav", "1.wav"}


def test_nothing_is_written_among_the_recordings(tmp_path: Path) -> None:
    assert check_paths(tmp_path / "in", tmp_path / "check.html") == (tmp_path / "check.html", tmp_path / "check.json")
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="give a file name elsewhere"):
        check_paths(tmp_path / "in", tmp_path / "in" / "deep" / "check.html")
    for name in ("check.json", "check"):
        with pytest.raises(InputError, match=r"ends in \.html"):
            check_paths(tmp_path / "in", tmp_path / name)
    with pytest.raises(InputError, match="there is no recogniser 'whisper' here"):
        make_advisers(None, "whisper", False)


def test_a_recogniser_of_the_users_own_listens_in_any_language(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []

    class Model:
        def __init__(self, recogniser: object) -> None:
            heard.append(0)

        def hear(self, wave: np.ndarray) -> str:
            heard.append(len(wave))
            return "mumble"

    monkeypatch.setitem(transcripts._MODELS, "whisper", Model)
    monkeypatch.setattr(transcripts, "_package", lambda kind: None)
    transcripts._model_of.cache_clear()
    model = folder.parent / "tiny.pt"
    model.write_bytes(b"")
    result, _ = check(folder, Quiet(), recogniser=str(model), voices=False, workers=1, limit=4, language="fr")
    assert result.listeners == ("whisper:tiny.pt",)
    readable = [clip for clip in result.clips if clip.measures is not None]
    assert readable and {clip.heard for clip in readable} == {"mumble"}
    # Loaded once, and given 16 kHz.
    assert heard == [0, *(round(16_000 * clip.measures.seconds) for clip in readable if clip.measures is not None)]


def test_the_wiring(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, exhibits = check(folder, Quiet(), recogniser="none", voices=False, workers=1, limit=4)
    assert result.clips[0].id == "anna/00"
    assert {exhibit.id for exhibit in exhibits} <= {clip.id for clip in result.clips}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    advisers, skipped = make_advisers(None, "pocketsphinx", True)
    assert advisers == Advisers()
    assert ["is not installed" in own.reason for own in skipped] == [True, True]
