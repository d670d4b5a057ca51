"""The command line: quick help, one-sentence errors with their status, JSON for machines."""

from __future__ import annotations

import ast
import inspect
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import typer.main

from cosytune.audio.files import write_wave
from cosytune.cli import main as main_module
from cosytune.cli import plan as plan_module
from cosytune.cli.main import app, main
from cosytune.errors import CosytuneError, DataError, MachineError, MissingPackageError, ModelError, TrainingError
from cosytune.models.folder import write_model
from cosytune.models.lm.generate import Decoding, Generated
from tests.unit.model_examples import NEEDS_WHISPER, released_folder, tiny_model, tone

ROOT = Path(__file__).parents[2]
TREE: Any = typer.main.get_command(app)
VERBS: dict[str, Any] = {
    **{name: command for name, command in TREE.commands.items() if name != "data"},
    **{f"data {name}": command for name, command in TREE.commands["data"].commands.items()},
}


class Outcome:
    """What a call of the command line left: status, stdout and stderr."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["cosytune", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        text = capsys.readouterr()
        return Outcome(int(stop.value.code or 0), text.out, text.err)

    return call


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    write_model(tiny_model("ada"), path)
    return path


# Help


@pytest.mark.parametrize("verb", ["", "data", *sorted(VERBS)])
def test_every_verb_has_help(run: Any, verb: str) -> None:
    outcome = run(*verb.split(), "--help")
    assert outcome.status == 0
    assert "Usage: cosytune" in outcome.out
    assert "--help" in outcome.out


@pytest.mark.parametrize("group", [[], ["data"]])
def test_the_list_of_verbs_fits_a_terminal(run: Any, monkeypatch: pytest.MonkeyPatch, group: list[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    listed = run(*group, "--help").out.partition("Commands:\n")[2].splitlines()
    assert len(listed) >= 4
    assert not [line for line in listed if line.endswith("...")]


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_option_is_explained_and_every_verb_speaks_json(verb: str) -> None:
    command = VERBS[verb]
    assert command.help
    for parameter in command.params:
        if parameter.name != "help":
            assert parameter.help, f"{verb} {parameter.name} has no help"
    assert "--json" in {option for parameter in command.params for option in parameter.opts}


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\nfrom cosytune.cli.main import main\nsys.argv = ['cosytune', 'compare', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'onnxruntime', 'yaml', 'matplotlib', 'librosa', 'lhotse'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_no_verb_imports_torch_outside_a_function() -> None:
    files = sorted((ROOT / "src" / "cosytune" / "cli").glob("*.py"))
    assert len(files) >= 10
    for path in files:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] in ("torch", "numpy")], path


def test_a_plan_ends_with_the_options_it_was_made_with() -> None:
    given = {"--settings": Path("a.json"), "--replay": None, "--listen": 6, "--seed": 0, "--workers": 2}
    assert plan_module._repeated(given, force=False) == ("--settings", "a.json", "--workers", "2")
    assert plan_module._repeated({"--listen": 0, "--seed": 1}, force=True) == (
        "--listen",
        "0",
        "--seed",
        "1",
        "--force",
    )


def test_no_words_at_all_is_a_question_for_help(run: Any) -> None:
    outcome = run()
    assert outcome.status == 0
    assert "compare" in outcome.out


def test_a_group_without_a_verb(run: Any) -> None:
    outcome = run("data")
    assert outcome.status == 2
    assert "Missing command" in outcome.err


def test_version(run: Any) -> None:
    assert re.fullmatch(r"cosytune \d+\.\d+\.\d+\n", run("--version").out)


# Errors


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["data", "--loud"], 2, "No such option: --loud"),
        (["data", "synth", "--loud"], 2, "(cosytune data synth --help lists all)"),
        (["data", "nonsense"], 2, "No such command"),
        (["say"], 2, "Missing option"),
        (["say", "hi", "--model", "m", "--voice", "a", "--loud"], 2, "No such option: --loud"),
        (["say", "hi", "--model", "m", "--voice", "a", "--seed", "-1"], 2, "Invalid value for '--seed'"),
        (["say", "hi", "--model", "m"], 2, "either --voice NAME or --prompt-wav FILE"),
        (["say", "hi", "--model", "m", "--voice", "a", "--prompt-wav", "b"], 2, "either --voice NAME"),
        (["say", "hi", "--model", "m", "--voice", "a", "--prompt-text", "b"], 2, "--prompt-text says what is said"),
        (["say", "hi", "--model", "m", "--voice", "a", "-o", "x.aiff"], 2, "must end in one of .wav, .flac"),
        (["say", "hi", "--model", "m", "--voice", "a", "--method", "magic"], 2, "there is no solver 'magic'"),
        (
            ["say", "hi", "--model", "m", "--voice", "a", "--save-voice", "b"],
            2,
            "--save-voice keeps the voice",
        ),
        (["say", "hi", "--model", "m", "--voice", "a", "--format", "mp3"], 2, "--format is for --batch"),
        (["say", "hi", "--model", "m", "--voice", "a", "-o", "."], 2, "--output . is a folder"),
        (["say", "--model", "m", "--voice", "a"], 2, "give the text either as an argument"),
        (["say", "hi", "--file", "t", "--model", "m", "--voice", "a"], 2, "give the text either as an argument"),
        (["say", "--file", "absent.txt", "--model", "m", "--voice", "a"], 2, "cannot be read as UTF-8 text"),
        (["say", "hi", "--model", "absent", "--voice", "a"], 4, "no model folder absent"),
        (["inspect", "absent"], 4, "no model folder absent"),
        (["compare", "--data", "d", "--start", "a", "-o", "o"], 2, "needs at least two starts"),
        (["compare", "--data", "d", "--start", "a/x", "--start", "b/x", "-o", "o"], 2, "same folder name"),
        (["compare", "--data", "d", "--start", "a", "--start", "b", "-o", "o", "--parts", "ear"], 2, "'ear' is not a"),
        (["compare", "--data", "d", "--start", "a", "--start", "b", "-o", "o", "--parts", ","], 2, "names no part"),
        (["compare", "--data", "d", "--start", "a", "--start", "b", "-o", "o"], 2, "there is no folder d"),
        (["tune", "--data", "d", "--start", "a", "-o", "o"], 2, "there is no folder d"),
        (
            ["tune", "--data", "d", "--start", "a", "-o", "o", "--strategy", "bold"],
            2,
            "strategies are full, conservative",
        ),
        (["tune", "--data", "d", "--start", "a", "-o", "o", "--replay-data", "r"], 2, "give --replay too, such as 0.2"),
        (["sft", "--data", "d", "--start", "a", "-o", "o", "--parts", "ear"], 2, "'ear' is not a part"),
        (["pretrain", "--data", "d", "--start", "a", "--size", "nano", "-o", "o"], 2, "--size nano is for a model"),
        (["pretrain", "--data", "d", "-o", "o"], 2, "there is no folder d"),
        (["sft", "--data", "d", "--start", "a", "-o", "o", "--track", "tb"], 2, "--track 'tb' is not known; give none"),
        (["evaluate", "m", "--data", "d", "-o", "o"], 2, "there is no folder d"),
        (["data", "prepare", "absent", "-o", "o"], 3, "absent"),
        (["data", "prepare", "d", "-o", "o", "--onnx-precision", "bf16"], 2, "is not known; give float32 or bfloat16"),
        (["data", "prepare", "d", "-o", "o", "--onnx-precision", "float32"], 2, "none are extracted without --model"),
        (["data", "export", "absent", "-o", "o", "--model", "m"], 3, "absent is not a finished corpus"),
    ],
)
def test_errors_are_one_sentence_and_a_status(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = run(*arguments)
    assert (plain.status, plain.out) == (status, "")
    assert plain.err.startswith("cosytune: ")
    assert words in plain.err
    assert "Traceback" not in plain.err
    machine = run(*arguments, "--json")
    assert machine.status == status
    assert set(machine.json) == {"error"}
    assert words in machine.json["error"]
    assert not list(tmp_path.iterdir()), "a command that was refused leaves nothing behind"


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (DataError("no sound"), 3, "no sound"),
        (ModelError("no model"), 4, "no model"),
        (TrainingError("no loss"), 5, "no loss"),
        (MachineError("no bfloat16"), 7, "no bfloat16"),
        (MissingPackageError("no package"), 6, "no package"),
        (PermissionError(13, "Permission denied", "x"), 1, "check the path, the permissions"),
        (sqlite3.OperationalError("database or disk is full"), 1, "is full; check the path, the permissions and the"),
        (KeyboardInterrupt(), 130, "stopped by the user"),
    ],
)
def test_every_kind_of_error_has_its_status(
    run: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, words: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("cosytune.models.inspection.inspect_model", fail)
    outcome = run("inspect", "m", "--json")
    assert outcome.status == status
    assert words in outcome.json["error"]


def test_statuses_tell_errors_apart() -> None:
    kinds = [kind for kind in vars(sys.modules["cosytune.errors"]).values() if inspect.isclass(kind)]
    statuses = [kind.exit_status for kind in kinds if issubclass(kind, CosytuneError)]
    assert len(statuses) == len(set(statuses)) == 8
    assert main_module.STOPPED not in statuses


def test_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("cosytune.models.inspection.inspect_model", fail)
    monkeypatch.setattr(sys, "argv", ["cosytune", "inspect", "m"])
    with pytest.raises(ZeroDivisionError):
        main()


# Verbs that need no training


def test_inspect(run: Any, model: Path) -> None:
    plain = run("inspect", model)
    assert plain.status == 0
    assert "tiny (stage: initial)" in plain.out
    assert "voices: ada" in plain.out
    value = run("inspect", model, "--json").json
    assert value["voices"] == ["ada"]
    assert set(value["parts"]) == {"speech_tokenizer", "speaker_encoder", "lm", "flow", "vocoder"}
    assert value["clock"]["sample_rate"] == 16_000
    assert value["checks"] == []


def test_inspect_verifies(run: Any, model: Path, tmp_path: Path) -> None:
    sound = run("inspect", model, "--verify")
    assert sound.status == 0
    assert "sound: weights of lm: all finite" in sound.out
    broken = tiny_model("ada")
    broken.part("lm").head.bias.data[0] = float("nan")
    write_model(broken, tmp_path / "broken")
    assert run("inspect", tmp_path / "broken").status == 0
    wrong = run("inspect", tmp_path / "broken", "--verify", "--json")
    assert wrong.status == 4
    assert not wrong.json["sound"]
    assert (
        "WRONG: weights of lm: NaN or infinite numbers in 1 tensors: head.bias"
        in run("inspect", tmp_path / "broken", "--verify").out
    )


@NEEDS_WHISPER
def test_inspect_a_released_folder(run: Any, golden: Path, tmp_path: Path) -> None:
    folder = released_folder(golden, tmp_path / "released")
    value = run("inspect", folder, "--json").json
    assert value["stage"] == "released"
    assert not value["onnx"]["speech_tokenizer"]["present"]
    assert "speaker_encoder: campplus.onnx (missing)" in run("inspect", folder).out
    refused = run("say", "Hello world.", "--model", folder, "--voice", value["voices"][0], "-o", tmp_path / "a.wav")
    assert refused.status == 4
    assert "knows 120 of them" in refused.err


def test_say(run: Any, model: Path, tmp_path: Path) -> None:
    value = run("say", "hello", "-m", model, "--voice", "ada", "-o", tmp_path / "a.wav", "--json").json
    assert (tmp_path / "a.wav").is_file()
    assert value["seconds"] > 0
    assert value["mode"] == "voice"
    assert len(value["pieces"]) == 1
    assert value["tokens"] == value["pieces"][0]["tokens"] > 0
    assert set(value["real_time_factors"]) == {"prompt", "lm", "flow", "vocoder"}
    (tmp_path / "t.txt").write_bytes(b"\xef\xbb\xbfhello")
    arguments = ["--prompt-wav", tmp_path / "a.wav", "--prompt-text", "hello", "-o", tmp_path / "b.flac"]
    outcome = run("say", "-m", model, "--file", tmp_path / "t.txt", *arguments)
    assert outcome.status == 0
    assert "s of speech" in outcome.out
    assert (tmp_path / "b.flac").is_file()
    unknown = run("say", "hello", "-m", model, "--voice", "eve", "-o", tmp_path / "c.wav")
    assert unknown.status == 2
    assert "its voices: ada" in unknown.err
    assert not (tmp_path / "c.wav").exists()


def test_say_converts_a_recording_and_follows_an_instruction(run: Any, model: Path, tmp_path: Path) -> None:
    write_wave(tmp_path / "source.wav", tone(1.0, 16_000), 16_000)
    arguments = ["-m", model, "--voice", "ada", "-o", tmp_path / "a.wav", "--json"]
    assert run("say", "--convert", tmp_path / "source.wav", *arguments).json["mode"] == "conversion"
    assert run("say", "hello", "--instruct", "how are you", *arguments).json["mode"] == "instruct"
    slow = run("say", "hello", "--speed", "0.5", *arguments).json
    assert slow["seconds"] > run("say", "hello", *arguments).json["seconds"]
    both = run("say", "hello", "--convert", tmp_path / "source.wav", *arguments)
    assert both.status == 2
    assert "brings its own words" in both.err


@pytest.mark.parametrize(
    ("seconds", "rate", "channels", "words"),
    [
        (0.0, 16_000, 1, "holds no samples"),
        (0.05, 16_000, 1, "too short to analyse"),
        (31.0, 8_000, 1, "has 31.0 s; at most 30 s are understood"),
        (1.0, 8_000, 2, None),
        (1.0, 48_000, 2, None),
    ],
)
def test_say_takes_prompts_of_any_kind(
    run: Any, model: Path, tmp_path: Path, seconds: float, rate: int, channels: int, words: str | None
) -> None:
    samples = np.tile(np.clip(9 * tone(min(seconds, 1.0), rate), -1, 1), max(1, round(seconds)))
    soundfile.write(tmp_path / "prompt.wav", np.stack([samples] * channels, axis=1), rate)
    arguments = ["--prompt-wav", tmp_path / "prompt.wav", "-m", model, "-o", tmp_path / "a.wav"]
    outcome = run("say", "hello", *arguments)
    assert outcome.status == (0 if words is None else 2)
    assert words is None or words in outcome.err
    assert (tmp_path / "a.wav").exists() == (words is None)


def test_say_reads_standard_input(run: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"hello")))
    assert run("say", "-", "-m", model, "--voice", "ada", "-o", tmp_path / "a.mp3").status == 0
    assert (tmp_path / "a.mp3").is_file()


def test_say_keeps_a_voice(run: Any, tmp_path: Path) -> None:
    write_model(tiny_model("ada"), tmp_path / "model")
    write_wave(tmp_path / "eve.wav", tone(0.8, 16_000), 16_000)
    prompt = ["--prompt-wav", tmp_path / "eve.wav", "--prompt-text", "hello"]
    kept = run("say", "you", "-m", tmp_path / "model", *prompt, "--save-voice", "eve", "-o", tmp_path / "a.wav")
    assert kept.status == 0
    assert "has the voice 'eve' now" in kept.err
    taken = run("say", "you", "-m", tmp_path / "model", *prompt, "--save-voice", "eve", "-o", tmp_path / "d.wav")
    assert taken.status == 2
    assert "has a voice 'eve' already; give another name, or replace it (--replace-voice)" in taken.err
    assert not (tmp_path / "d.wav").exists(), "it is told before anything is spoken"
    alone = run("say", "you", "-m", tmp_path / "model", "--voice", "ada", "--replace-voice", "-o", tmp_path / "d.wav")
    assert alone.status == 2
    assert "--replace-voice is about --save-voice NAME" in alone.err
    replaced = ["--save-voice", "eve", "--replace-voice", "-o", tmp_path / "c.wav"]
    assert run("say", "you", "-m", tmp_path / "model", *prompt, *replaced).status == 0
    nothing = run("say", "...", "-m", tmp_path / "model", *prompt, "--save-voice", "max", "-o", tmp_path / "c.wav")
    assert nothing.status == 2
    assert "max" not in run("inspect", tmp_path / "model").out, "a request that fails keeps no voice"
    again = run("say", "you", "-m", tmp_path / "model", "--voice", "eve", "-o", tmp_path / "b.wav")
    assert again.status == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_say_streams_raw_samples(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw))
    monkeypatch.setattr(sys, "argv", ["cosytune", "say", "hello", "-m", str(model), "--voice", "ada", "-o", "-"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    samples = np.frombuffer(raw.getvalue(), dtype="<i2")
    assert len(samples) % 640 == 0 and np.abs(samples).max() > 0


def test_a_stream_tells_what_went_wrong_too(run: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = Generated([], "end")
    monkeypatch.setattr("cosytune.synthesis.streaming.SpeechStream._tokens", lambda *_: iter([([], ended)]))
    nothing = run("say", "hello", "-m", model, "--voice", "ada", "-o", "-")
    assert nothing.status == 4
    assert "nothing came out: 'hello.' at 0.0 s: the model ended it before it said anything" in nothing.err
    again = run("say", "hello\n\nyou", "-m", model, "--voice", "ada", "-o", "-")
    assert again.status == 4, "a pause between two pieces that say nothing is no speech"


def test_a_stream_that_babbled_says_so(run: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosytune.audio.files.pcm16", lambda wave: np.zeros(len(wave), "<i2"))
    monkeypatch.setattr("cosytune.synthesis.engine.token_limits", lambda config, text_tokens: (75, 75))
    babble = run("say", "hello", "-m", model, "--voice", "ada", "-o", "-")
    assert babble.status == 0
    assert "  'hello.' at 0.0 s: it" in babble.err


def test_say_does_not_mix_samples_and_json(run: Any, model: Path) -> None:
    mixed = run("say", "hello", "-m", model, "--voice", "ada", "-o", "-", "--json")
    assert mixed.status == 2
    assert "would mix on standard output" in mixed.err


def test_say_tells_why_nothing_came_out(run: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = ("say", "hello\n\nyou", "-m", model, "--voice", "ada", "-o", tmp_path / "a.wav", "--retries", "0")
    with monkeypatch.context() as patch:
        patch.setattr(Decoding, "_say", lambda *_: Generated([], "end"))
        pauses = run(*said)
    assert pauses.status == 4, "a pause between two pieces that say nothing is no speech"
    monkeypatch.setattr("cosytune.synthesis.engine.join", lambda waves, *_: (np.zeros(0, np.float32), [0] * len(waves)))
    silent = run("say", "hello", "-m", model, "--voice", "ada", "-o", tmp_path / "a.wav")
    assert silent.status == 4
    assert "nothing came out" in silent.err
    assert not (tmp_path / "a.wav").exists()


def test_say_speaks_a_file_of_requests(run: Any, model: Path, tmp_path: Path) -> None:
    lines = [{"text": "hello", "voice": "ada"}, {"text": "you", "voice": "eve"}]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    arguments = ["--batch", tmp_path / "r.jsonl", "-m", model, "-o", tmp_path / "out"]
    outcome = run("say", *arguments, "--json")
    assert outcome.status == 1, "one of them failed"
    assert (outcome.json["spoken"], outcome.json["failed"]) == (1, 1)
    assert "\n000002: model tiny has no voice 'eve'" in outcome.err
    assert (tmp_path / "out" / "000001.wav").is_file()
    assert "1 of 2 requests spoken" in run("say", *arguments).out
    for ignored in (["hello"], ["--speed", "2"], ["--seed", "5"], ["--replace-voice"]):
        assert run("say", *ignored, *arguments).status == 2
    assert "needs a folder" in run("say", "--batch", tmp_path / "r.jsonl", "-m", model).err


def test_bench_without_the_source_tree(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "there is no benchmark 'ears'; give lm, flow, vocoder, speech, training" in run("bench", "ears").err
    assert "give --size instead of --model" in run("bench", "training", "--model", tmp_path).err
    monkeypatch.setattr("cosytune.__file__", str(tmp_path / "a" / "b" / "c" / "cosytune.py"))
    missing = run("bench", "lm")
    assert missing.status == 6
    assert "the benchmarks are a part of the source tree" in missing.err


def test_the_program_is_installed_under_its_name() -> None:
    script = Path(sys.executable).with_name("cosytune")
    if not script.is_file() or not os.access(script, os.X_OK):
        pytest.skip("cosytune is not installed as a program beside this python")
    done = subprocess.run([script, "nonsense", "--json"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "No such command" in json.loads(done.stdout)["error"]


def test_pretrain_rehearses_as_it_is_asked_to(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("cosytune.cli.pretrain.run", asked.append)
    options = ("--replay", "0.2", "--replay-data", "old", "--track", "none")
    assert run("pretrain", "--data", "new", "--start", "base", "-o", "out", *options).status == 0
    assert (asked[0].replay, asked[0].replay_data) == (0.2, Path("old"))
