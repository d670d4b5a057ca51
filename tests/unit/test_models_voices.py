"""Named voices: kept in both layouts, checked against the networks, added without a half-written moment."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.errors import InputError, ModelError
from cosytune.models import native, released_voices
from cosytune.models.checkpoints import read_checkpoint
from cosytune.models.folder import Model, add_voice, identity_of, read_model, write_model
from cosytune.models.voices import Voice, VoicePrompt, check_name, tensors_of, voices_of
from tests.unit.model_examples import released_folder, tiny_model

NAMES = ("ada", "中文女", "a/b", "../../etc/passwd", "a/vector", "/", "C:\\x", "with space", "naïve 🙂", "__metadata__")


def clone(seed: int = 0, *, width: int = 16, text: int = 3, tokens: int = 6, bins: int = 80, frames: int = 12) -> Voice:
    draw = torch.Generator().manual_seed(seed)
    prompt = VoicePrompt(
        torch.randint(0, 40, (text,), generator=draw),
        torch.randint(0, 64, (tokens,), generator=draw),
        torch.randn(bins, frames, generator=draw),
    )
    return Voice(torch.randn(width, generator=draw), prompt)


def same(a: Voice, b: Voice) -> bool:
    one, other = tensors_of({"v": a}), tensors_of({"v": b})
    return one.keys() == other.keys() and all(
        torch.equal(one[key], other[key]) and one[key].dtype == other[key].dtype for key in one
    )


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model("ada", "bob")


@pytest.fixture(scope="module")
def written(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "m"
    write_model(model, folder)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "m"))


@pytest.fixture
def released(golden: Path, tmp_path: Path) -> Path:
    return released_folder(golden, tmp_path / "r")


# Names


@settings(max_examples=40)
@given(st.text(min_size=1, max_size=30))
def test_any_name_survives_the_file(name: str) -> None:
    voices = {name: clone(1), name + "/vector": Voice(torch.zeros(2)), name * 2 + "/": clone(2)}
    again = voices_of(tensors_of(voices), "x")
    assert again.keys() == voices.keys()
    assert all(same(voice, again[name]) for name, voice in voices.items())


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\x1b[31m", "\ud800", "x" * 201, "a\u200bb"])
def test_names_nobody_can_type(folder: Path, name: str) -> None:
    before = contents(folder)
    with pytest.raises(InputError, match="cannot be the name of a voice"):
        add_voice(folder, name, clone())
    assert contents(folder) == before


@pytest.mark.parametrize("name", NAMES)
def test_names_people_type(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("layout", ["native", "released"])
def test_names_are_no_paths(folder: Path, released: Path, tmp_path: Path, layout: str) -> None:
    path, width = (folder, 16) if layout == "native" else (released, 24)
    around = {entry for entry in tmp_path.rglob("*") if entry.suffix != ".lock"}
    if layout == "native":
        native.write_voices(path, {name: clone(width=width) for name in NAMES})
        found = native.read_voices(path)
    else:
        for name in NAMES:
            released_voices.write_entry(path / "spk2info.pt", name, clone(width=width))
        found = released_voices.read_table(path / "spk2info.pt")
    assert set(NAMES) <= found.keys()
    add_voice(path, "../../etc/passwd", clone(1, width=width), replace=True)
    assert {entry for entry in tmp_path.rglob("*") if entry.suffix != ".lock"} == around


# What is in a voice


def test_prompts_come_back_and_count(model: Model, tmp_path: Path) -> None:
    cloned = replace(model, voices={**model.voices, "zoe": clone()})
    write_model(cloned, tmp_path / "m")
    again = read_model(tmp_path / "m")
    assert all(same(voice, again.voices[name]) for name, voice in cloned.voices.items())
    assert again.hash() == cloned.hash() != model.hash()
    voice = clone()
    assert voice.prompt is not None
    longer = replace(voice, prompt=replace(voice.prompt, text=torch.tensor([1])))
    assert replace(model, voices={**model.voices, "zoe": longer}).hash() != cloned.hash()


def test_one_tensor_for_two_voices(model: Model, tmp_path: Path) -> None:
    wide = torch.randn(3, 16)
    write_model(replace(model, voices={"a": Voice(wide[0]), "b": Voice(wide[0]), "c": Voice(wide[1])}), tmp_path / "m")
    assert torch.equal(read_model(tmp_path / "m").voices["b"].vector, wide[0])


def damaged(change: str) -> Voice:
    voice = clone()
    assert voice.prompt is not None
    prompt = voice.prompt
    nan = torch.full((16,), float("nan"))
    return {
        "narrow": replace(voice, vector=torch.zeros(15)),
        "two rows": replace(voice, vector=torch.zeros(1, 16)),
        "nan vector": replace(voice, vector=nan),
        "whole vector": replace(voice, vector=torch.zeros(16, dtype=torch.int64)),
        "bins": clone(bins=79),
        "no frames": clone(frames=0),
        "no tokens": clone(tokens=0),
        "infinite mel": replace(voice, prompt=replace(prompt, mel=prompt.mel / 0)),
        "token": replace(voice, prompt=replace(prompt, tokens=torch.tensor([3, 81]))),
        "negative token": replace(voice, prompt=replace(prompt, tokens=torch.tensor([-1]))),
        "text": replace(voice, prompt=replace(prompt, text=torch.tensor([40]))),
        "text type": replace(voice, prompt=replace(prompt, text=torch.tensor([1.5]))),
    }[change]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("narrow", r"shape \(15,\), its networks take 16 numbers"),
        ("two rows", r"shape \(1, 16\)"),
        ("nan vector", "not of finite numbers"),
        ("whole vector", "not of finite numbers"),
        ("bins", r"shape \(79, 12\), should be \[80, frames\]"),
        ("no frames", r"at least one frame"),
        ("no tokens", "no speech tokens"),
        ("infinite mel", "mel .* is not of finite numbers"),
        ("token", "speech tokens of voice 'zoe' .* go from 3 to 81, its networks know 0 to 80"),
        ("negative token", "go from -1"),
        ("text", "text tokens of voice 'zoe' .* its networks know 0 to 39"),
        ("text type", r"are torch.float32 \(1,\), should be a row of int64"),
    ],
)
def test_voices_that_do_not_fit(model: Model, folder: Path, change: str, words: str) -> None:
    before = contents(folder)
    with pytest.raises(ModelError, match=words):
        add_voice(folder, "zoe", damaged(change))
    assert contents(folder) == before
    write_model(replace(model, voices={"zoe": damaged(change)}), folder)
    with pytest.raises(ModelError):
        read_model(folder)


def test_half_a_prompt(folder: Path) -> None:
    tensors = {"a/vector": torch.zeros(16), "a/prompt_mel": torch.zeros(80, 3)}
    with pytest.raises(ModelError, match=r"voice 'a' holds prompt_mel, vector; a voice is"):
        voices_of(tensors, "x")
    with pytest.raises(ModelError, match="voice '' holds loose"):
        voices_of({"loose": torch.zeros(1)}, "x")


def test_a_prompt_without_text_is_a_voice(folder: Path) -> None:
    add_voice(folder, "sound only", clone(text=0))
    prompt = read_model(folder).voices["sound only"].prompt
    assert prompt is not None
    assert prompt.text.shape == (0,)


# Adding to a native folder


def test_adding_changes_the_voices_only(model: Model, folder: Path) -> None:
    before, identity, networks = contents(folder), identity_of(folder), identity_of(folder, voices=False)
    add_voice(folder, "zoe", clone())
    after = contents(folder)
    assert {name for name in after if after[name] != before.get(name)} == {"voices.safetensors"}
    assert identity_of(folder) != identity
    assert identity_of(folder, voices=False) == networks
    again = read_model(folder)
    assert same(again.voices["zoe"], clone())
    assert all(same(voice, again.voices[name]) for name, voice in model.voices.items())


@pytest.mark.parametrize("layout", ["native", "released"])
def test_an_existing_name(folder: Path, released: Path, layout: str) -> None:
    path, width = (folder, 16) if layout == "native" else (released, 24)
    add_voice(path, "zoe", clone(1, width=width))
    before = contents(path)
    with pytest.raises(InputError, match="has a voice 'zoe' already"):
        add_voice(path, "zoe", clone(2, width=width))
    assert contents(path) == before
    add_voice(path, "zoe", clone(2, width=width), replace=True)
    assert same(read_model(path, weights=False).voices["zoe"], clone(2, width=width))


def test_no_folder_to_add_to(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model folder"):
        add_voice(tmp_path / "absent", "zoe", clone())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layout", ["native", "released"])
def test_a_full_disk_leaves_the_old_voices(
    folder: Path, released: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    path, width = (folder, 16) if layout == "native" else (released, 24)
    before = contents(path)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("cosytune.files.os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        add_voice(path, "zoe", clone(width=width))
    assert contents(path) == before


def _add_or_die(path: Path, moment: str) -> None:
    """Add a voice and be killed right before or after the rename."""
    rename = Path.replace

    def die(self: Path, target: Path) -> Path:
        if moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        moved = rename(self, target)
        if moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return moved

    Path.replace = die  # type: ignore[method-assign, assignment]
    add_voice(path, "zoe", clone())


@pytest.mark.parametrize(("moment", "there"), [("before", False), ("after", True)])
def test_killed_while_adding(folder: Path, moment: str, there: bool) -> None:
    worker = multiprocessing.get_context("fork").Process(target=_add_or_die, args=(folder, moment))
    worker.start()
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL
    assert ("zoe" in read_model(folder).voices) is there
    add_voice(folder, "zoe", clone(), replace=there)
    assert "zoe" in native.read_voices(folder)


def _add_many(path: Path, first: int, width: int) -> None:
    for number in range(first, first + 4):
        add_voice(path, f"v{number}", clone(number, width=width))


@pytest.mark.parametrize("layout", ["native", "released"])
def test_two_processes_lose_no_voice(
    folder: Path, released: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    path, width = (folder, 16) if layout == "native" else (released, 24)
    outline = read_model(path, weights=False)
    # The networks stay the same; without reading them again, the processes meet at the file more often.
    monkeypatch.setattr("cosytune.models.folder.read_model", lambda *_, **__: outline)
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_add_many, args=(path, first, width)) for first in (0, 4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert {f"v{number}" for number in range(8)} <= read_model(path, weights=False).voices.keys()


def test_a_damaged_table_of_voices(folder: Path) -> None:
    path = folder / native.VOICES
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"voices.safetensors is not the file that was written"):
        read_model(folder)
    path.unlink()
    for read in (read_model, identity_of):
        with pytest.raises(ModelError, match=r"voices.safetensors is missing"):
            read(folder)


# Adding to a released folder


def test_a_released_entry_serves_both_modes_of_the_upstream_runtime(released: Path) -> None:
    table = read_checkpoint(released / "spk2info.pt")
    before, voice = contents(released), clone(width=24)
    add_voice(released, "我的声音", voice)
    after = contents(released)
    assert {name for name in after if after[name] != before.get(name)} == {"spk2info.pt"}
    written = torch.load(released / "spk2info.pt", weights_only=True)
    entry = written.pop("我的声音")
    assert written.keys() == table.keys()
    assert voice.prompt is not None
    shapes = {key: (value.dtype, tuple(value.shape)) for key, value in entry.items()}
    whole, real = torch.int32, torch.float32
    assert shapes == {
        "embedding": (real, (1, 24)),
        "llm_embedding": (real, (1, 24)),
        "flow_embedding": (real, (1, 24)),
        "prompt_text": (whole, (1, 3)),
        "prompt_text_len": (whole, (1,)),
        "llm_prompt_speech_token": (whole, (1, 6)),
        "llm_prompt_speech_token_len": (whole, (1,)),
        "flow_prompt_speech_token": (whole, (1, 6)),
        "flow_prompt_speech_token_len": (whole, (1,)),
        "prompt_speech_feat": (real, (1, 12, 80)),
        "prompt_speech_feat_len": (whole, (1,)),
    }
    assert entry["prompt_speech_feat_len"].item() == 12
    assert torch.equal(entry["prompt_speech_feat"][0].T, voice.prompt.mel)
    assert same(read_model(released).voices["我的声音"], voice)


def test_other_entries_stay_as_they_are(released: Path) -> None:
    old = {
        "embedding": torch.ones(1, 24),
        "speech_feat": torch.ones(1, 5, 80),
        "speech_token": torch.ones(1, 3),
        "x": 7,
    }
    torch.save({"old": old}, released / "spk2info.pt")
    add_voice(released, "plain", Voice(torch.zeros(24)))
    written = torch.load(released / "spk2info.pt", weights_only=True)
    assert set(written) == {"old", "plain"}
    assert set(written["plain"]) == {"embedding"}
    assert written["old"].keys() == old.keys()
    assert torch.equal(written["old"]["speech_feat"], old["speech_feat"])
    assert written["old"]["x"] == 7


def test_a_first_voice(released: Path) -> None:
    (released / "spk2info.pt").unlink()
    add_voice(released, "zoe", clone(width=24))
    assert read_model(released).voices.keys() == {"zoe"}


def test_a_view_does_not_drag_its_storage_along(released: Path) -> None:
    add_voice(released, "zoe", Voice(torch.zeros(100_000, 24)[5]), replace=True)
    assert (released / "spk2info.pt").stat().st_size < 100_000


def test_both_released_layouts(released: Path) -> None:
    feat, tokens = torch.randn(1, 9, 80), torch.arange(5, dtype=torch.int32)[None]
    vector = torch.arange(24.0)[None]
    cloned = {"prompt_speech_feat": feat, "llm_embedding": vector, "flow_prompt_speech_token": tokens}
    torch.save(
        {
            "sft": {"embedding": vector},
            "older": {"embedding": vector, "speech_feat": feat, "speech_token": tokens},
            "cloned": {**cloned, "prompt_text": torch.tensor([[7, 8]], dtype=torch.int32)},
            "sound": cloned,
            "incomplete": {"llm_embedding": vector, "prompt_text": torch.ones(1, 2)},
        },
        released / "spk2info.pt",
    )
    voices = read_model(released).voices
    assert all(torch.equal(voice.vector, vector[0]) for voice in voices.values())
    assert {name for name, voice in voices.items() if voice.prompt is None} == {"sft", "older", "incomplete"}
    prompt, sound = voices["cloned"].prompt, voices["sound"].prompt
    assert prompt is not None
    assert sound is not None
    assert prompt.text.tolist() == [7, 8]
    assert sound.text.tolist() == []
    assert prompt.tokens.tolist() == [0, 1, 2, 3, 4]
    assert prompt.tokens.dtype == torch.int64
    assert torch.equal(prompt.mel, feat[0].T)
    assert prompt.mel.is_contiguous()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (7, "has no embedding"),
        ({"embedding": 7}, "has no embedding"),
        ({"embedding": torch.zeros(1, 23)}, "differ in numbers in a speaker vector"),
        ({"embedding": torch.zeros(1).expand(10**9)}, "no plain tensor of a recording's size"),
        ({"embedding": torch.zeros(24).to_sparse()}, "no plain tensor"),
        ({"embedding": torch.full((1, 24), float("inf"))}, "not of finite numbers"),
        (
            {
                "embedding": torch.zeros(24),
                "flow_prompt_speech_token": torch.zeros(3),
                "prompt_speech_feat": torch.ones(2),
            },
            r"prompt_speech_feat has shape \(2,\)",
        ),
    ],
)
def test_entries_that_are_no_voices(released: Path, entry: object, words: str) -> None:
    torch.save({"zoe": entry}, released / "spk2info.pt")
    with pytest.raises(ModelError, match=words):
        read_model(released)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_the_released_layout_loses_nothing(text: int, tokens: int, frames: int, seed: int) -> None:
    voice = clone(seed, text=text, tokens=tokens, frames=frames)
    assert same(released_voices._voice_of("x", released_voices._entry_of(voice)), voice)
