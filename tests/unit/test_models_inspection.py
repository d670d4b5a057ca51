"""What a model folder is said to be, with which evidence, and what is found when everything is verified."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cosytune.errors import ModelError
from cosytune.files import hash_file
from cosytune.models.abilities import abilities_of
from cosytune.models.folder import Model, read_model, write_model
from cosytune.models.identify import SFT_VOICES, Clues, KnownFile, identify
from cosytune.models.inspection import inspect_model
from cosytune.models.inspection_words import in_words
from cosytune.models.known_files import known_files, recognised_files
from cosytune.models.loading import _outline, network_of
from cosytune.models.memory import estimate_memory
from cosytune.models.sizes import family_size
from cosytune.models.verification import verify_model
from cosytune.models.voices import Voice, VoicePrompt
from tests.unit.model_examples import released_folder, tiny_model, write_speaker_encoder, write_speech_tokenizer

RELEASED = Clues("folder", "released", lm_parameters=310_718_465)
DRAWN = {"stage": "initial", "size": "nano", "seed": 0, "corpus_hash": "ef" * 32}
STAGE = {
    "stage": "pretrain",
    "parts": ["lm"],
    "start": "nano-initial",
    "start_hash": "ab" * 32,
    "corpus_hash": "cd" * 32,
}


def known(file: str, kind: Any, digest: str = "00", size: int = 1) -> KnownFile:
    return KnownFile(f"CosyVoice-300M-{kind}", kind, file, size, digest, "hashed by a test")


@pytest.fixture
def released(golden: Path, tmp_path: Path) -> Path:
    return released_folder(golden, tmp_path / "CosyVoice-300M-SFT")


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model("ada")


# What it is


@pytest.mark.parametrize(
    ("clues", "kind", "confidence", "evidence"),
    [
        (Clues("m", "initial"), "untrained", "recorded", "no stage of training"),
        (Clues("m", "initial", [DRAWN]), "untrained", "recorded", "no stage of training"),
        (Clues("m", "pretrain", [DRAWN, STAGE]), "base", "recorded", "pretrain of lm from nano-initial"),
        (
            Clues("m", "tune", [STAGE, {**STAGE, "dial": 0.5, "mixed_with": ["cd" * 32]}]),
            "base",
            "recorded",
            "lineage: nano-initial (abababababab) at 0.5 of its way from cdcdcdcdcdcd",
        ),
        (
            Clues("m", "tune", [STAGE, {"stage": "tune", "dial": "x"}]),
            "fine-tuned",
            "recorded",
            "? (?) at x of its way from ?",
        ),
        (
            Clues("m", "pretrain", [STAGE, {**STAGE, "average_of": 3}]),
            "base",
            "recorded",
            "lineage: mean of 3 models, the last one nano-initial (abababababab)",
        ),
        (
            Clues("m", "pretrain", [STAGE, {**STAGE, "average_of_steps": {"lm": [1, 2]}}]),
            "base",
            "recorded",
            "lineage: nano-initial (abababababab) with the mean of the best checkpoints of its lm",
        ),
        (Clues("m", "pretrain", [STAGE]), "base", "recorded", "pretrain of lm from nano-initial (abababababab)"),
        (Clues("m", "sft", [STAGE, {**STAGE, "stage": "sft"}]), "sft", "recorded", "lineage: sft of lm"),
        (
            Clues("m", "tune", [{**STAGE, "stage": "tune"}]),
            "fine-tuned",
            "recorded",
            "before its first stage here is not",
        ),
        (Clues("m", "x", [{}]), "unknown", "none", "lineage: ? of unnamed parts from ? (?) on corpus ?"),
        (RELEASED, "unknown", "none", "name 'folder' does not say"),
        (replace(RELEASED, name="CosyVoice-300M"), "base", "weak", "which anybody can write"),
        (replace(RELEASED, name="CosyVoice-300M-SFT"), "sft", "weak", "which anybody can write"),
        (replace(RELEASED, name="cosyvoice_300m_instruct"), "instruct", "weak", "which anybody can write"),
        (replace(RELEASED, name="sft-or-instruct"), "unknown", "none", "does not say"),
        (replace(RELEASED, voices=SFT_VOICES), "unknown", "none", "so it proves nothing"),
        (replace(RELEASED, voices=["x"]), "unknown", "none", "named voices: 1; a table of voices proves nothing"),
        (replace(RELEASED, name="300m-sft", lm_parameters=5), "unknown", "none", "its LM has 5 parameters"),
        (replace(RELEASED, lm_parameters=None), "unknown", "none", "it has no LM"),
        (replace(RELEASED, lm_parameters=315_146_753), "unknown", "none", "the size of CosyVoice-300M-25Hz"),
        (replace(RELEASED, precision={"float16"}), "unknown", "none", "somebody converted them"),
        (
            replace(RELEASED, name="300M-SFT", leftovers={"llm.pt": {"epoch": 3, "step": 70}}),
            "fine-tuned",
            "likely",
            "llm.pt holds epoch 3, step 70, which training runs write",
        ),
        (replace(RELEASED, stage="tune"), "unknown", "none", "says stage 'tune'; without a lineage that proves"),
        (
            replace(RELEASED, lm_parameters=5, leftovers={"llm.pt": {"epoch": 3}}),
            "unknown",
            "none",
            "llm.pt holds epoch 3, which training runs write",
        ),
        (replace(RELEASED, matches={"llm.pt": [known("llm.pt", "sft")]}), "sft", "proven", "byte for byte, that of"),
        (replace(RELEASED, matches={"llm.pt": [known("llm.pt", "sft")]}), "sft", "proven", "flow.pt is not among the"),
        (replace(RELEASED, matches={"flow.pt": [known("flow.pt", "sft")]}), "sft", "weak", "byte for byte"),
        (
            replace(RELEASED, matches={"hift.pt": [known("hift.pt", "sft"), known("hift.pt", "base")]}),
            "unknown",
            "none",
            "which does not decide it",
        ),
        (
            replace(RELEASED, matches={"llm.pt": [known("llm.pt", "sft")], "flow.pt": [known("flow.pt", "base")]}),
            "unknown",
            "none",
            "a mixture of releases",
        ),
        (
            replace(
                RELEASED,
                matches={"llm.pt": [known("llm.pt", "sft")], "hift.pt": [known("", "sft"), known("", "base")]},
            ),
            "sft",
            "proven",
            "hift.pt is, byte for byte, that of CosyVoice-300M-base or CosyVoice-300M-sft",
        ),
        (
            replace(RELEASED, matches={"llm.pt": [known("", "sft")]}, leftovers={"flow.pt": {}}),
            "fine-tuned",
            "likely",
            "flow.pt holds counters, which training runs write",
        ),
    ],
)
def test_identity(clues: Clues, kind: str, confidence: str, evidence: str) -> None:
    found = identify(clues)
    assert (found.kind, found.confidence) == (kind, confidence)
    assert any(evidence in line for line in found.evidence), found.evidence
    if kind == "unknown":
        assert found.words.startswith("cannot tell")


def test_the_shipped_list_is_readable_and_empty() -> None:
    assert known_files() == []


def test_a_made_up_entry_is_recognised(released: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = released / "llm.pt"
    size = file.stat().st_size
    entries = [
        known("llm.pt", "instruct", hash_file(file), size),
        known("llm.pt", "base", "f" * 64, size),
        known("flow.pt", "base", hash_file(released / "flow.pt"), 1),
        known("absent.pt", "base"),
    ]
    assert recognised_files(released, entries) == {"llm.pt": [entries[0]]}
    identity = inspect_model(released, known=entries).identity
    assert (identity.kind, identity.confidence) == ("instruct", "proven")
    # Files of other sizes than those listed are not even read.
    monkeypatch.setattr("cosytune.models.known_files.hash_file", lambda _: pytest.fail("read"))
    assert recognised_files(released, entries[2:]) == {}


@pytest.mark.parametrize(
    ("stage", "lineage", "answer"),
    [
        ("initial", [], False),
        ("initial", [DRAWN], False),
        ("sft", [DRAWN, STAGE, {**STAGE, "stage": "sft"}], False),
        ("sft", [STAGE, {**STAGE, "stage": "sft"}], False),
        ("tune", [{**STAGE, "stage": "tune"}], None),
        ("pretrain", [{**STAGE, "start": "CosyVoice-300M-Instruct"}], None),
        ("tune", [STAGE, {**STAGE, "stage": "tune", "instructions": True}], True),
        ("released", [], None),
    ],
)
def test_who_follows_instructions(model: Model, stage: str, lineage: list[dict[str, Any]], answer: bool | None) -> None:
    changed = replace(model, stage=stage, lineage=lineage)
    for name in ("300m-instruct", "300m-sft"):
        identity = identify(Clues(name, stage, lineage, lm_parameters=310_718_465))
        assert abilities_of(changed, identity)[4].possible is answer
    for kind in ("instruct", "sft"):
        proven = identify(replace(RELEASED, matches={"llm.pt": [known("llm.pt", kind)]}))
        assert abilities_of(changed, proven)[4].possible is (kind == "instruct" or answer is True)


# What is in it


def test_a_native_folder(model: Model, tmp_path: Path) -> None:
    prompt = VoicePrompt(torch.tensor([1]), torch.tensor([2]), torch.zeros(80, 2))
    voices = {**model.voices, "zoe": Voice(torch.zeros(16), prompt)}
    write_model(replace(model, voices=voices, stage="sft", lineage=[STAGE, {**STAGE, "stage": "sft"}]), tmp_path / "m")
    found = inspect_model(tmp_path / "m")
    value = json.loads(json.dumps(found.to_json()))
    assert value["identity"]["kind"] == "sft"
    assert (value["voices"], value["cloned_voices"]) == (["ada", "zoe"], ["zoe"])
    assert value["parts"] == model.parameters()
    assert set(map(tuple, value["precision"].values())) == {("float32",)}
    assert (value["text_tokens"], value["speech_codebook"], value["speaker_width"]) == (40, 81, 16)
    assert value["memory"]["tune"].keys() == {"lm", "flow"}
    assert (value["layout"], value["checks"], value["sound"]) == ("native", [], None)
    words = in_words(found)
    assert "voices: ada, zoe (cloned)" in words
    assert "can: zero-shot cloning" in words
    assert "cannot: following instructions" in words


def test_a_released_folder(released: Path) -> None:
    found = inspect_model(released)
    able = {ability.what.split(" (")[0]: ability.possible for ability in found.abilities}
    assert able == {
        "speaking with named voices": True,
        "zero-shot cloning": False,
        "cross-lingual cloning": False,
        "voice conversion": False,
        "following instructions": None,
        "fine-tuning": False,
    }
    assert found.identity.kind == "unknown"
    assert "speaker_encoder: campplus.onnx (missing)" in in_words(found)
    write_speech_tokenizer(released / "speech_tokenizer_v1.onnx")
    write_speaker_encoder(released / "campplus.onnx")
    assert all(ability.possible is not False for ability in inspect_model(released).abilities)


def test_training_leftovers(released: Path) -> None:
    state = torch.load(released / "llm.pt", weights_only=True)
    torch.save(
        {**{f"module.{name}": value for name, value in state.items()}, "epoch": 3, "step": 7}, released / "llm.pt"
    )
    identity = inspect_model(released).identity
    # Of a released size it would be "fine-tuned, likely"; a model this small comes from no release.
    assert (identity.kind, identity.confidence) == ("unknown", "none")
    assert "llm.pt holds epoch 3, step 7" in identity.evidence[0]
    assert read_model(released).parameters()["lm"] > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(released: Path, dtype: torch.dtype) -> None:
    state = torch.load(released / "llm.pt", weights_only=True)
    torch.save({name: value.to(dtype) for name, value in state.items()}, released / "llm.pt")
    found = inspect_model(released)
    assert found.precision["lm"] == [str(dtype).removeprefix("torch.")]
    assert found.precision["flow"] == ["float32"]
    assert any("somebody converted them" in line for line in found.identity.evidence)
    loaded = read_model(released).part("lm")
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}
    assert torch.equal(loaded.text_embedding.weight, state["text_embedding.weight"].to(dtype).float())


def test_the_weights_are_not_read(model: Model, released: Path, tmp_path: Path) -> None:
    write_model(model, tmp_path / "m")
    for folder in (tmp_path / "m", released):
        outline = read_model(folder, weights=False)
        assert {p.device.type for part in outline.parts.values() for p in part.parameters()} == {"meta"}
        assert outline.parameters() == (model if folder.name == "m" else read_model(folder)).parameters()
    data = bytearray((tmp_path / "m" / "flow.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "m" / "flow.safetensors").write_bytes(data)
    read_model(tmp_path / "m", weights=False)
    with pytest.raises(ModelError, match="not the file that was written"):
        verify_model(tmp_path / "m")


def test_an_outline_is_as_strict(model: Model, released: Path, tmp_path: Path) -> None:
    state = torch.load(released / "llm.pt", weights_only=True)
    del state["llm_decoder.bias"]
    torch.save(state, released / "llm.pt")
    with pytest.raises(ModelError, match=r"missing head.bias \(1\)"):
        inspect_model(released)
    write_model(model, tmp_path / "m")
    (tmp_path / "m" / "lm.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lm.safetensors is missing"):
        inspect_model(tmp_path / "m")


def test_nothing_reaches_the_terminal_unseen(model: Model, tmp_path: Path) -> None:
    hostile = "\x1b]0;owned\x07\nsound: all"
    write_model(replace(model, name=hostile, voices={hostile: Voice(torch.zeros(16))}, stage=hostile), tmp_path / "m")
    words = in_words(inspect_model(tmp_path / "m"))
    assert "\x1b" not in words
    assert "\nsound: all" not in words
    assert r"\x1b]0;owned" in words


def test_memory_grows_with_the_model(model: Model) -> None:
    size = family_size("300m")
    parts = {
        name: _outline(network_of, config)
        for name, config in size.parts(51_866).items()
        if name in ("lm", "flow", "vocoder")
    }
    large = estimate_memory(replace(model, parts=parts, clock=size.clock))
    small = estimate_memory(model)
    # 436 M weights of 4 bytes are 1.74 GB; weights, gradients and two moments of the LM alone 5.0 GB.
    assert 2.1e9 < large.run < 2.5e9
    assert large.weights == 4 * sum(large_part.numel() for part in parts.values() for large_part in part.parameters())
    assert 5.4e9 < large.tune["lm"] < 10e9
    assert large.tune["flow"] < large.tune["lm"]
    assert small.run < large.run
    assert estimate_memory(replace(model, parts={})).tune == {}


# Whether it is sound


def test_a_sound_native_folder(model: Model, tmp_path: Path) -> None:
    write_model(model, tmp_path / "m")
    found = inspect_model(tmp_path / "m", verify=True)
    assert found.sound
    assert [check.what for check in found.checks][:3] == ["tensors", "agreement", "hashes"]
    assert found.checks[-1].detail == "a second of noise gave 25 tokens and 16 numbers of voice"


def test_a_sound_released_folder(released: Path) -> None:
    write_speech_tokenizer(released / "speech_tokenizer_v1.onnx")
    write_speaker_encoder(released / "campplus.onnx")
    found = inspect_model(released, verify=True)
    assert found.sound
    assert [check.what for check in found.checks][-3:] == ["speech_tokenizer_v1.onnx", "campplus.onnx", "front ends"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers(released: Path, value: float) -> None:
    state = torch.load(released / "flow.pt", weights_only=True)
    name = next(iter(state))
    state[name].view(-1)[-1] = value
    torch.save(state, released / "flow.pt")
    (wrong,) = [check for check in verify_model(released) if not check.passed]
    assert wrong.what == "weights of flow"
    assert wrong.detail.startswith("NaN or infinite numbers in 1 tensors")


def test_an_unsound_folder_says_so(released: Path) -> None:
    state = torch.load(released / "flow.pt", weights_only=True)
    torch.save({name: value * float("nan") for name, value in state.items()}, released / "flow.pt")
    found = inspect_model(released, verify=True)
    assert not found.sound
    assert "WRONG: weights of flow: NaN or infinite numbers in " in in_words(found)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "campplus.onnx").write_bytes(b"junk"), "not an ONNX graph"),
        (lambda folder: write_speech_tokenizer(folder / "campplus.onnx"), "1 are expected"),
        (lambda folder: write_speaker_encoder(folder / "campplus.onnx", width=20), "vectors of 20 numbers"),
        (lambda folder: write_speech_tokenizer(folder / "speech_tokenizer_v1.onnx", stride=4), "makes 25 tokens"),
    ],
)
def test_front_ends_that_do_not_work(released: Path, damage: Any, words: str) -> None:
    write_speech_tokenizer(released / "speech_tokenizer_v1.onnx")
    write_speaker_encoder(released / "campplus.onnx")
    damage(released)
    assert [words in check.detail for check in verify_model(released) if not check.passed] == [True]
