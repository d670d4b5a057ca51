"""The whole story as a person types it: models from nothing, a voice, a comparison, a report; then real recordings.

Every network is trained for a handful of steps, so nothing is learned: what is tested is the way, not the destination.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cosytune.audio.files import wave_info
from cosytune.data.manifest import read_manifest

pytest.importorskip("espeakng_loader", reason="the story needs synthetic speech: pip install 'cosytune[synth]'")

TOY = {"lm": {"steps": 2, "batch_seconds": 8.0, "validate_every": 2, "checkpoint_every": 2, "score_every": 2}}


def cosytune(*arguments: object, status: int = 0) -> Any:
    """Call the command line with --json in a process of its own; returns the document it prints."""
    program = "from cosytune.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments), "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == status, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("journey") / "demo"
    outcome = cosytune("demo", "--toy", "-o", folder)
    assert outcome["report"] == str(folder / "report.html")
    assert outcome["failures"] == []
    (folder / "verdict.json").write_text(json.dumps(outcome["verdict"]))
    return folder


def assert_report_stands_alone(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<html" in text
    assert "</html>" in text
    assert 'src="http' not in text
    assert 'href="http' not in text
    assert "data:audio/" in text


def test_models_tell_where_they_come_from(story: Path) -> None:
    base = cosytune("inspect", story / "models" / "base")
    arm = cosytune("inspect", story / "comparison" / "arms" / "sft-seed0")
    assert base["stage"] == "pretrain"
    assert set(base["parts"]) == {"speech_tokenizer", "speaker_encoder", "lm", "flow", "vocoder"}
    assert [entry["stage"] for entry in arm["lineage"]] == ["initial", "pretrain", "sft", "tune"]
    assert len(arm["voices"]) == 3, "two voices of SFT and the new one"


def test_the_report_stands_alone(story: Path) -> None:
    assert_report_stands_alone(story / "report.html")


def test_a_stopped_story_goes_on(story: Path) -> None:
    """The second call finds everything done; one lost wave is spoken again and sounds the same."""
    arm = story / "comparison" / "systems" / "sft-tuned-0"
    lost = sorted(arm.glob("*.flac"))[0]
    sound = lost.read_bytes()
    lost.unlink()
    began = time.monotonic()
    outcome = cosytune("demo", "--toy", "-o", story)
    seconds = time.monotonic() - began
    assert outcome["verdict"] == json.loads((story / "verdict.json").read_text())
    assert lost.read_bytes() == sound
    assert seconds < 90, f"going on took {seconds:.0f} s"


def test_another_demo_is_not_mixed_in(story: Path) -> None:
    refused = cosytune("demo", "--toy", "--seed", 1, "-o", story, status=2)
    assert "was not made by this demo" in refused["error"]


def test_speaking(story: Path, tmp_path: Path) -> None:
    arm = story / "comparison" / "arms" / "base-seed0"
    voice = cosytune("inspect", arm)["voices"][-1]
    outcome = cosytune("say", "How are you?", "-m", arm, "--voice", voice, "-o", tmp_path / "a.wav")
    info = wave_info(tmp_path / "a.wav")
    assert info.sample_rate == outcome["sample_rate"] == 16_000
    assert info.seconds == pytest.approx(outcome["seconds"], abs=0.01)
    clip = next(iter(read_manifest(story / "data" / "new-voice" / "manifest.jsonl")))
    prompt = ["--prompt-wav", clip.audio, "--prompt-text", clip.text]
    cosytune("say", "Hi.", "-m", arm, *prompt, "-o", tmp_path / "b.flac")
    assert wave_info(tmp_path / "b.flac").seconds > 0


def real_clips(shared: Path, folder: Path, count: int) -> Path:
    """A few short clips of ../shared/speech/kathleen in the LJSpeech layout, as a person would cut them out."""
    source = shared / "speech" / "kathleen"
    if not (source / "metadata.csv").is_file():
        pytest.skip("the recordings ../shared/speech/kathleen are not here")
    (folder / "wavs").mkdir(parents=True)
    lines = (source / "metadata.csv").read_text(encoding="utf-8").splitlines()
    files = {line: next((source / "wavs").glob(f"{line.split('|')[0]}.*")) for line in lines}
    chosen = sorted(lines, key=lambda line: files[line].stat().st_size)[:count]
    for line in chosen:
        shutil.copyfile(files[line], folder / "wavs" / files[line].name)
    (folder / "metadata.csv").write_text("\n".join(chosen) + "\n", encoding="utf-8")
    return folder


def test_real_recordings_to_a_verdict(story: Path, shared: Path, tmp_path: Path) -> None:
    folder = real_clips(shared, tmp_path / "kathleen", 16)
    prepared = cosytune("data", "prepare", folder, "-o", tmp_path / "corpus", "--language", "en", "--test", 0.2)
    assert sum(prepared["sides"].values()) == 16
    (tmp_path / "toy.json").write_text(json.dumps(TOY))
    starts = ["--start", story / "models" / "base", "--start", story / "models" / "sft"]
    options = [
        "--parts",
        "lm",
        "--settings",
        tmp_path / "toy.json",
        "--sentences",
        2,
        "--listen",
        1,
        "-o",
        tmp_path / "out",
    ]
    outcome = cosytune("compare", "--data", tmp_path / "corpus", *starts, *options)
    assert outcome["failures"] == []
    assert outcome["verdict"]["words"], "a comparison ends in words"
    assert_report_stands_alone(tmp_path / "out" / "report.html")
    for arm in ("base-seed0.run", "sft-seed0.run"):
        samples = tmp_path / "out" / "arms" / arm / "lm" / "samples"
        assert sorted(step.name for step in samples.iterdir()) == ["step-00000000", "step-00000002"]
    scores = json.loads((tmp_path / "out" / "systems" / "recordings" / "scores.json").read_text())["scores"]
    spoken = [score["value"] for score in scores if score["metric"] == "spoken"]
    assert spoken == [1.0, 1.0]
    options = ["--sentences", 1, "-o", tmp_path / "scores"]
    evaluated = cosytune("evaluate", story / "models" / "base", "--data", tmp_path / "corpus", *options)
    assert evaluated["systems"] == ["recordings", "copy-synthesis", "base"]
    assert (tmp_path / "scores" / "evaluation.json").is_file()


def test_a_plan_before_tuning(story: Path) -> None:
    """Real processes: updates are tried, a model is saved and read again, a sentence is spoken."""
    models, data = story / "models", story / "data" / "new-voice.corpus"
    before = sorted(data.rglob("*"))
    starts = ["--start", models / "base", "--start", models / "sft"]
    plan = cosytune("plan", "--data", data, *starts, "--goal", "voice", "--measured", story / "comparison")
    assert {start["kind"] for start in plan["starts"]} == {"base", "sft"}
    assert plan["measured"].startswith("on these very recordings: ")
    assert [part["trial"]["fits"] for part in plan["parts"]] == [True, True]
    outcomes = {(check["name"], check["part"]): check["outcome"] for check in plan["preflight"]["checks"]}
    assert {outcomes[name, part] for name in ("update", "reload") for part in ("lm", "flow")} == {"passed"}
    assert plan["seconds"]["all"] > 0
    assert plan["problems"] == []
    assert sorted(data.rglob("*")) == before


def test_tuning_is_preceded_by_a_preflight(story: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"lm": TOY["lm"]}))
    data, start = story / "data" / "new-voice.corpus", story / "models" / "base"
    arguments = ["--data", data, "--start", start, "-o", tmp_path / "out", "--parts", "lm", "--listen", 0]
    cosytune("tune", *arguments, "--settings", settings)
    record = json.loads((tmp_path / "out.run" / "preflight.json").read_text())
    assert "labels" in {check["name"] for check in record["checks"]}
