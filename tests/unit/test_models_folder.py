"""Model folders in the native layout: everything comes back, nothing damaged is taken."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cosytune.errors import ModelError
from cosytune.models.folder import Model, identity_of, read_model, write_model
from cosytune.models.layers.config import PartConfig
from cosytune.models.loading import build, load_strictly, network_of
from cosytune.models.model import hash_part
from cosytune.models.speech_tokenizer.config import VQConfig
from cosytune.models.voices import Voice
from tests.unit.model_examples import tiny_model, write_speaker_encoder, write_speech_tokenizer


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model("ada")


@pytest.fixture(scope="module")
def written(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "model"
    write_model(replace(model, lineage=[{"stage": "pretrain", "corpus_hash": "ab"}]), folder)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "model"))


def describe(folder: Path, **changes: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def rewrite(folder: Path, name: str, data: bytes) -> None:
    """Replace a file as a careful attacker would: with its hash."""
    (folder / name).write_bytes(data)
    files = json.loads((folder / "model.json").read_text())["files"]
    describe(folder, files={**files, name: hashlib.sha256(data).hexdigest()})


def test_everything_comes_back(model: Model, folder: Path) -> None:
    again = read_model(folder)
    assert again.hash() == model.hash()
    assert again.extractor_hash() == model.extractor_hash()
    assert (again.name, again.stage, again.clock, again.mel) == (model.name, model.stage, model.clock, model.mel)
    assert again.tokenizer == model.tokenizer
    assert again.lineage == [{"stage": "pretrain", "corpus_hash": "ab"}]
    assert torch.equal(again.voices["ada"].vector, model.voices["ada"].vector)
    assert again.parameters() == model.parameters()
    assert again.path == folder


@pytest.mark.parametrize("quantiser", [None, VQConfig(codes=81, code_width=8)])
def test_nothing_is_drawn_for_weights_that_are_read(model: Model, quantiser: VQConfig | None) -> None:
    for part in model.parts.values():
        config = part.config
        if quantiser is not None and hasattr(config, "quantiser"):
            config = type(config)(**{**config.model_dump(), "quantiser": quantiser})
        tensors = network_of(config).state_dict()
        before = torch.get_rng_state()
        build(type(part), config, tensors, "file")
        assert torch.equal(torch.get_rng_state(), before), "and whoever loads a model keeps their random numbers"


def test_what_no_file_holds_is_computed(model: Model, folder: Path) -> None:
    again = read_model(folder)
    for name, part in model.parts.items():
        buffers = dict(again.part(name).named_buffers())
        assert buffers.keys() == dict(part.named_buffers()).keys()
        assert all(torch.equal(buffers[key], value) for key, value in part.named_buffers())
    kept = {f"{name}.{key}" for name, part in model.parts.items() for key in part.state_dict()}
    assert any(f"{name}.{key}" not in kept for name, part in model.parts.items() for key, _ in part.named_buffers())


@pytest.mark.parametrize("kind", ["twice", "half", "turned", "float16"])
def test_weights_have_memory_of_their_own(model: Model, kind: str) -> None:
    """Whatever the memory of a checkpoint looks like: no weight learns with another, none keeps a larger file alive."""
    lm = model.part("lm")
    tensors = {name: value.clone() for name, value in lm.state_dict().items()}
    names = [name for name, value in tensors.items() if value.dim() == 2 and value.shape[0] == value.shape[1] == 32]
    first, second = names[:2]
    if kind == "twice":
        tensors[second] = tensors[first]
    elif kind == "half":
        tensors[second] = torch.cat([tensors[second], tensors[second]])[:32]
    elif kind == "turned":
        tensors[second] = tensors[second].T
    else:
        tensors[second] = tensors[second].half()
    expected = tensors[second].float().clone()
    built = dict(build(type(lm), lm.config, dict(tensors), "lm.pt").named_parameters())
    assert built.keys() == dict(lm.named_parameters()).keys()
    assert all(value.requires_grad and value.dtype == torch.float32 for value in built.values())
    assert torch.equal(built[second], expected)
    weight = built[second]
    assert weight.is_contiguous() and weight.untyped_storage().nbytes() == weight.nbytes
    with torch.no_grad():
        built[first].zero_()
    assert torch.equal(built[second], expected)


def test_a_hash_sees_one_changed_weight(model: Model) -> None:
    part = network_of(model.part("lm").config)
    part.load_state_dict(model.part("lm").state_dict())
    before = hash_part(part)
    assert before == hash_part(model.part("lm"))
    with torch.no_grad():
        next(part.parameters()).view(-1)[3] += 1e-6
    assert hash_part(part) != before


def test_writing_replaces_whole_folders_only(model: Model, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity_of(folder)
    monkeypatch.setattr("cosytune.models.native.write_json", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_model(replace(model, voices={}), folder)
    assert identity_of(folder) == before
    assert read_model(folder).voices
    assert [entry.name for entry in folder.parent.iterdir()] == ["model"]


def test_identity_follows_weights_and_not_the_name(model: Model, folder: Path, tmp_path: Path) -> None:
    write_model(replace(model, name="other", lineage=[]), tmp_path / "other")
    write_model(replace(model, voices={}), tmp_path / "voiceless")
    assert identity_of(tmp_path / "other") == identity_of(folder)
    assert identity_of(tmp_path / "voiceless") != identity_of(folder)
    with pytest.raises(ModelError, match="no model in"):
        identity_of(tmp_path)


def test_a_missing_part_is_named(model: Model) -> None:
    with pytest.raises(ModelError, match=r"has no lm \(it has: flow\)"):
        replace(model, parts={"flow": model.part("flow")}).part("lm")


def test_no_model_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model folder"):
        read_model(tmp_path / "absent")
    (tmp_path / "song.mp3").touch()
    with pytest.raises(ModelError, match=r"neither model.json .* found song.mp3"):
        read_model(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "{}", '{"format": 2}', "[" * 100_000])
def test_damaged_descriptions(folder: Path, text: str) -> None:
    (folder / "model.json").write_text(text)
    with pytest.raises(ModelError, match=r"damaged|has format None"):
        read_model(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 1}, "update cosytune"),
        ({"parts": {"brain": {}}}, "known parts are"),
        ({"parts": []}, "damaged"),
        ({"parts": {"lm": {"depth": 3}}}, "configuration of lm is not valid"),
        ({"clock": {"sample_rate": 0, "hop": 1, "token_rate": 25}}, "damaged"),
        ({"clock": {"sample_rate": 16000, "hop": 300, "token_rate": 25}}, "differ in samples per mel frame"),
        ({"lineage": [3]}, "damaged"),
        ({"files": {}}, "is missing"),
    ],
)
def test_wrong_descriptions(folder: Path, changes: dict[str, object], words: str) -> None:
    describe(folder, **changes)
    with pytest.raises(ModelError, match=words):
        read_model(folder)


def test_files_that_are_not_the_ones_written(folder: Path) -> None:
    path = folder / "lm.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ModelError, match="not the file that was written"):
        read_model(folder)
    path.unlink()
    with pytest.raises(ModelError, match=r"lm\.safetensors is missing"):
        read_model(folder)


@pytest.mark.parametrize("name", ["lm.safetensors", "voices.safetensors"])
def test_garbage_with_a_right_hash(folder: Path, name: str) -> None:
    rewrite(folder, name, b"\xff" * 64)
    with pytest.raises(ModelError, match="cannot be read"):
        read_model(folder)


def test_a_vast_configuration_costs_no_memory(folder: Path) -> None:
    parts = json.loads((folder / "model.json").read_text())["parts"]
    parts["lm"]["text_vocabulary"] = 2**40
    describe(folder, parts=parts)
    with pytest.raises(ModelError, match=r"other shape: text_embedding.* nothing was loaded"):
        read_model(folder)


def test_parts_of_two_models(model: Model, tmp_path: Path) -> None:
    config = model.part("flow").config
    other = network_of(config.model_copy(update={"speech_codebook": 99}))
    write_model(replace(model, parts=model.parts | {"flow": other}), tmp_path / "mixed")
    with pytest.raises(ModelError, match=r"differ in speech codes \(lm 81, flow 99, speech_tokenizer 81\)"):
        read_model(tmp_path / "mixed")
    write_model(replace(model, voices={"thin": Voice(torch.zeros(3))}), tmp_path / "thin")
    with pytest.raises(ModelError, match="voice 'thin' 3"):
        read_model(tmp_path / "thin")


def test_strict_loading_lists_everything() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 4))
    before = hash_part(network)
    state = network.state_dict()
    state = {
        "0.weight": state["0.weight"],
        "0.bias": torch.zeros(5),
        "1.weight": state["1.weight"],
        "x": torch.zeros(1),
    }
    with pytest.raises(ModelError) as error:
        load_strictly(network, state, "file.pt")
    assert "file.pt: 2 of 4 tensors matched" in str(error.value)
    assert "missing 1.bias (1)" in str(error.value)
    assert "unexpected x (1)" in str(error.value)
    assert "0.bias is (5,), should be (3,)" in str(error.value)
    assert hash_part(network) == before
    assert load_strictly(network, network.state_dict(), "file.pt") == 4


def test_a_configuration_of_nothing() -> None:
    class Strange(PartConfig):
        pass

    with pytest.raises(ModelError, match="Strange describes no part"):
        network_of(Strange())


def test_onnx_front_ends_travel_with_a_native_folder(model: Model, tmp_path: Path) -> None:
    write_speech_tokenizer(tmp_path / "a.onnx")
    write_speaker_encoder(tmp_path / "b.onnx")
    parts = {name: part for name, part in model.parts.items() if name in ("lm", "flow", "vocoder")}
    onnx = {"speech_tokenizer": tmp_path / "a.onnx", "speaker_encoder": tmp_path / "b.onnx"}
    mixed = replace(model, parts=parts, onnx=onnx)
    write_model(mixed, tmp_path / "tuned")
    again = read_model(tmp_path / "tuned")
    assert again.onnx == {name: tmp_path / "tuned" / f"{name}.onnx" for name in onnx}
    assert again.extractor_hash() == mixed.extractor_hash() != model.extractor_hash()
    assert again.hash() == mixed.hash() != replace(mixed, onnx={}).hash()
    (tmp_path / "tuned" / "speaker_encoder.onnx").write_bytes(b"other")
    with pytest.raises(ModelError, match=r"speaker_encoder.onnx is missing or not the file"):
        read_model(tmp_path / "tuned")
