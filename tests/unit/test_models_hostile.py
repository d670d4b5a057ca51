"""Files made to do harm: nothing in them runs, nothing hangs or eats the memory, and every error names the file."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosytune.errors import ModelError
from cosytune.models.checkpoints import outline_of_safetensors, read_checkpoint, read_flat_checkpoint
from cosytune.models.folder import Model, add_voice, read_model, write_model
from cosytune.models.inspection import inspect_model
from cosytune.models.released_yaml import read_hyper_parameters
from cosytune.models.voices import Voice
from tests.unit.model_examples import NANO_YAML, released_folder, tiny_model

CHECKPOINTS = ("llm.pt", "flow.pt", "hift.pt")


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model("ada")


@pytest.fixture(scope="module")
def written(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "m"
    write_model(model, folder)
    return folder


@pytest.fixture
def native(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "m"))


@pytest.fixture
def released(golden: Path, tmp_path: Path) -> Path:
    return released_folder(golden, tmp_path / "r")


# Code in checkpoints


class Command:
    """Runs a command when unpickled the ordinary way."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (self.function, self.arguments)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", [*CHECKPOINTS, "spk2info.pt"])
@pytest.mark.parametrize("read", [read_model, inspect_model])
def test_payloads_never_run(released: Path, tmp_path: Path, name: str, read: Callable[[Path], object]) -> None:
    victim = tmp_path / "executed"
    payload = Command(os.system, f"touch {victim}")
    state = torch.load(released / name, weights_only=True)
    torch.save({**state, "epoch": payload}, released / name)
    with pytest.raises(ModelError, match=rf"{name} cannot be read as plain tensors .* never run"):
        read(released)
    (released / name).write_bytes(pickle.dumps({"epoch": payload}))
    with pytest.raises(ModelError, match=rf"{name} .* never run"):
        read(released)
    assert not victim.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("weights", [True, False])
def test_no_kind_of_payload_runs(tmp_path: Path, *, weights: bool) -> None:
    victim, path = tmp_path / "executed", tmp_path / "a.pt"
    payloads = [
        Command(os.system, f"touch {victim}"),
        Command(Path.touch, victim),
        Command(exec, f"open({str(victim)!r}, 'w')"),
        Command(getattr, Command(__import__, "os"), "getpid"),
    ]
    for payload in payloads:
        torch.save({"epoch": payload}, path)
        with pytest.raises(ModelError, match="never run"):
            read_checkpoint(path, weights=weights)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            path.write_bytes(pickle.dumps({"epoch": payload}, protocol))
            with pytest.raises(ModelError, match="never run"):
                read_checkpoint(path, weights=weights)
    assert not victim.exists()
    for payload in payloads[:3]:
        pickle.loads(pickle.dumps(payload))  # noqa: S301
        assert victim.exists(), "the payload does nothing, so the test proved nothing"
        victim.unlink()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_payload_in_the_table_stops_the_adding_of_a_voice(released: Path, tmp_path: Path) -> None:
    data = pickle.dumps({"x": Command(Path.touch, tmp_path / "executed")})
    (released / "spk2info.pt").write_bytes(data)
    with pytest.raises(ModelError, match="never run"):
        add_voice(released, "zoe", Voice(torch.zeros(24)))
    assert not (tmp_path / "executed").exists()
    assert (released / "spk2info.pt").read_bytes() == data


# Damage


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", [*CHECKPOINTS, "spk2info.pt"])
def test_cut_files(released: Path, name: str) -> None:
    data = (released / name).read_bytes()
    for size in (0, 1, 4, 30, 100, len(data) // 3, len(data) - 30, len(data) - 1):
        (released / name).write_bytes(data[:size])
        for weights in (True, False):
            with pytest.raises(ModelError, match=rf"{name} cannot be read"):
                read_checkpoint(released / name, weights=weights)
    for read in (read_model, inspect_model):
        with pytest.raises(ModelError, match=rf"{name} cannot be read"):
            read(released)


@pytest.mark.parametrize("name", ["lm.safetensors", "voices.safetensors", "model.json", "text_tokenizer.json"])
def test_cut_native_files(native: Path, name: str) -> None:
    data = (native / name).read_bytes()
    for size in (0, 1, 8, 100, len(data) // 2, len(data) - 2):
        (native / name).write_bytes(data[:size])
        for read in (read_model, inspect_model):
            with pytest.raises(ModelError, match=name):
                read(native)


def test_altered_archives(released: Path) -> None:
    path, rng = released / "spk2info.pt", np.random.default_rng(0)
    data = path.read_bytes()
    for _ in range(200):
        altered = bytearray(data)
        for place in rng.integers(len(data), size=3):
            altered[place] = rng.integers(256)
        path.write_bytes(bytes(altered))
        for weights in (True, False):
            try:
                assert isinstance(read_checkpoint(path, weights=weights), dict)
            except ModelError as error:
                assert "spk2info.pt" in str(error)


# Bombs


def repack(path: Path, change: Callable[[zipfile.ZipFile, zipfile.ZipInfo, bytes], None]) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = [(entry, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in entries:
            change(archive, entry, data)


def test_a_packed_archive_is_not_unpacked(released: Path) -> None:
    def pack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, data: bytes) -> None:
        # A hundred million zeros in a file of a hundred thousand bytes.
        data = b"\0" * 10**8 if entry.filename.endswith("data/0") else data
        archive.writestr(entry.filename, data, zipfile.ZIP_DEFLATED)

    repack(released / "llm.pt", pack)
    assert (released / "llm.pt").stat().st_size < 2_000_000
    for read in (read_model, inspect_model):
        with pytest.raises(ModelError, match=r"llm.pt: its entry '.*' is packed and would grow to"):
            read(released)


def test_entries_that_share_their_bytes(released: Path) -> None:
    def point_again(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, data: bytes) -> None:
        archive.writestr(entry.filename, data)
        if len(data) > 10_000:
            archive.filelist += [archive.filelist[-1]] * 100

    repack(released / "llm.pt", point_again)
    with pytest.raises(ModelError, match=r"its directory promises [\d,]+ bytes, the file has"):
        read_model(released)


def test_a_storage_that_claims_more_than_its_entry(released: Path) -> None:
    def shorten(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, data: bytes) -> None:
        archive.writestr(entry.filename, data[:16] if entry.filename.endswith("data/0") else data)

    repack(released / "llm.pt", shorten)
    with pytest.raises(ModelError, match=r"llm.pt cannot be read"):
        read_model(released)


def test_a_list_of_names_without_end(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"\0" * 65_000_000)
    with pytest.raises(ModelError, match="its list of names has more than"):
        read_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (
            {"a": torch.zeros(1).expand(10**9, 10**6)},
            r"'a' of shape \(1000000000, 1000000\) claims 4,000,000,000,000,000",
        ),
        ({"a": torch.zeros(13).as_strided((7, 7), (1, 1))}, "claims 196 bytes and holds 52"),
        (dict.fromkeys(map(str, range(1000)), torch.zeros(10_000)), "its tensors claim 40,000,000 bytes"),
        ({"a": torch.zeros(3, 3).to_sparse()}, "is not plain"),
        ({"a": torch.empty(10**12, device="meta")}, "is not plain"),
        ({"a": {"b": torch.zeros(3)}}, "'a' is a dict"),
        ({"epoch": [torch.zeros(3)], "x": 3}, "'x' is a int"),
    ],
)
def test_tensors_that_are_larger_than_they_look(tmp_path: Path, tensors: dict[str, Any], words: str) -> None:
    torch.save(tensors, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=words):
        read_flat_checkpoint(tmp_path / "a.pt", ("epoch",))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"K\x07K\x01\x86", b"J\xff\xff\xff\x7fK\x01\x86"),  # strides (7, 1): a row every 8 GB
        (b"K\x07K\x05\x86", b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86"),  # the shape (7, 5)
        (b"K\x07K\x05\x86", b"J\xff\xff\xff\xffK\x05\x86"),
        (b"K1t", b"J\x00\x00\x00\x70t"),  # the storage of 49 numbers
    ],
)
@pytest.mark.parametrize("weights", [True, False])
def test_sizes_written_into_the_pickle(tmp_path: Path, old: bytes, new: bytes, *, weights: bool) -> None:
    def lie(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, data: bytes) -> None:
        if entry.filename.endswith("data.pkl"):
            assert data.count(old) == 1
            data = data.replace(old, new)
        archive.writestr(entry.filename, data)

    torch.save({"a": torch.zeros(7, 7)[:, :5]}, tmp_path / "a.pt")
    repack(tmp_path / "a.pt", lie)
    with pytest.raises(ModelError, match=r"a\.pt.*get the file again"):
        read_flat_checkpoint(tmp_path / "a.pt", weights=weights)


def test_tied_tensors_and_counters_are_fine(tmp_path: Path) -> None:
    shared = torch.arange(10_000.0)
    torch.save({"a": shared, "b": shared, "epoch": 3}, tmp_path / "a.pt")
    for weights in (True, False):
        tensors, beside = read_flat_checkpoint(tmp_path / "a.pt", ("epoch",), weights=weights)
        assert ([tensor.shape for tensor in tensors.values()], beside) == ([shared.shape] * 2, {"epoch": 3})


# Files of another model


@pytest.mark.parametrize(
    ("place", "file", "words"),
    [
        ("flow.pt", "llm.pt", r"flow.pt: this looks like the checkpoint of the lm, which belongs into llm.pt"),
        ("hift.pt", "llm.pt", r"looks like the checkpoint of the lm"),
        ("llm.pt", "flow.pt", r"looks like the checkpoint of the flow"),
        ("llm.pt", "hift.pt", r"looks like the checkpoint of the vocoder, which belongs into hift.pt"),
        ("llm.pt", "spk2info.pt", "is a dict"),
    ],
)
def test_a_file_in_the_place_of_another(released: Path, place: str, file: str, words: str) -> None:
    (released / place).write_bytes((released / file).read_bytes())
    for read in (read_model, inspect_model):
        with pytest.raises(ModelError, match=words):
            read(released)


@pytest.mark.parametrize("name", ["llm.model.model.layers.0.mlp.up_proj.weight", "encoder.up_layer.conv.weight"])
def test_files_of_newer_releases(released: Path, name: str) -> None:
    torch.save({name: torch.zeros(3)}, released / "flow.pt")
    with pytest.raises(ModelError, match="looks like a checkpoint of CosyVoice 2 or 3"):
        read_model(released)


def test_numbers_of_another_type(released: Path) -> None:
    state = torch.load(released / "llm.pt", weights_only=True)
    torch.save({**state, "llm_decoder.bias": state["llm_decoder.bias"].long()}, released / "llm.pt")
    with pytest.raises(ModelError, match=r"other type: head.bias is torch.int64, should be torch.float32 \(1\)"):
        read_model(released)


# Native folders


def relist(folder: Path, name: str) -> None:
    """Put the hash of a changed file into the description, as a careful attacker would."""
    path = folder / "model.json"
    description = json.loads(path.read_text())
    description["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    path.write_text(json.dumps(description))


def safetensors(header: object, data: bytes = b"\0" * 16, *, length: int | None = None) -> bytes:
    words = json.dumps(header).encode()
    return struct.pack("<Q", len(words) if length is None else length) + words + data


@pytest.mark.parametrize(
    "content",
    [
        safetensors({"a": {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 16]}}),
        safetensors({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 4 * 10**12]}}),
        safetensors({"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}}),
        safetensors({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 16]}}),
        safetensors({"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}),
        safetensors({name: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for name in "abc"}),
        safetensors({"a": {"dtype": "F99", "shape": [4], "data_offsets": [0, 16]}}),
        safetensors({}, length=2**62),
        safetensors({}, length=2**63 + 5),
        safetensors({}, data=b"x" * 100),
        safetensors([1, 2]),
        b"\x08\0\0\0\0\0\0\0[[[[[[[[",
    ],
)
def test_lying_headers(native: Path, content: bytes) -> None:
    for name in ("lm.safetensors", "voices.safetensors"):
        before = (native / name).read_bytes()
        (native / name).write_bytes(content)
        relist(native, name)
        for read in (read_model, inspect_model):
            with pytest.raises(ModelError, match=rf"{name} (cannot be read|is not the file that was written)"):
                read(native)
        (native / name).write_bytes(before)
        relist(native, name)
    with pytest.raises(ModelError, match="cannot be read"):
        (native / "x").write_bytes(content)
        outline_of_safetensors(native / "x")


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("parts", "lm", "decoder", "layers"), 10**9, "asks for 1,000,000,0.. layers, the file has"),
        (("parts", "flow", "estimator", "channels"), [16] * 100_000, "asks for 100,0.. layers"),
        (("parts", "speaker_encoder", "blocks"), [10**12], "asks for 1,000,000,000,0.. layers"),
        (("parts", "lm", "speaker_width"), 2**70, "lm.*(no network can be built|not valid)"),
        (("parts", "lm", "text_vocabulary"), 2**62, "(no network can be built|other shape)"),
        (("parts", "lm", "text_vocabulary"), -1, "configuration of lm is not valid"),
        (("parts", "lm", "text_vocabulary"), "many", "configuration of lm is not valid"),
        (("parts", "lm", "text_vocabulary"), 1e400, "configuration of lm is not valid"),
        (("parts", "lm"), None, "damaged"),
        (("parts", "lm"), [1], "damaged"),
        (("parts", "../../lm"), {}, "has a part '../../lm'"),
        (("clock", "sample_rate"), "fast", "damaged"),
        (("clock", "hop"), 0, "damaged"),
        (("clock", "token_rate"), float("nan"), "damaged"),
        (("clock", "__class__"), 1, "damaged"),
        (("mel", "n_fft"), 10**12, "windows of 1,000,000,000,000 samples"),
        (("text_tokenizer", "kind"), "../x", "has the text tokenizer '../x'"),
        (("text_tokenizer", "kind"), ["small"], r"has the text tokenizer \['small'\]"),
        (("files",), ["lm.safetensors"], "damaged"),
        (("files", "lm.safetensors"), None, "not the file that was written"),
        (("lineage",), {"a": 1}, "damaged"),
        (("lineage",), ["x"], "damaged"),
    ],
)
def test_hostile_descriptions(native: Path, place: tuple[str, ...], value: object, words: str) -> None:
    path = native / "model.json"
    description = json.loads(path.read_text())
    inner = description
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path.write_text(json.dumps(description))
    with pytest.raises(ModelError, match=words):
        read_model(native)


@pytest.mark.parametrize(
    "text", ['{"format": 2, "x": ' + "[" * 100_000, '{"a":' * 50_000, '{"format": ' + "9" * 10**6 + "}"]
)
def test_deep_and_long_descriptions(native: Path, text: str) -> None:
    (native / "model.json").write_text(text)
    for read in (read_model, inspect_model):
        with pytest.raises(ModelError, match=r"model.json is damaged|has format"):
            read(native)
    (native / "model.json").write_bytes(b" " * 16_000_001)
    with pytest.raises(ModelError, match="16,000,001 bytes"):
        read_model(native)


# The yaml


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "num_blocks: 2, input_layer: linear_legacy",
            "num_blocks: 1000000000, input_layer: linear_legacy",
            "layers, the",
        ),
        ("text_token_size: 120", "text_token_size: 1000000000000000000", "no network can be built|other shape"),
        ("channels: [32, 32]", "channels: [" + "32, " * 5000 + "32]", "layers, the file has"),
        ("sample_rate: 22050", "sample_rate: !!python/object/apply:os.system [ls]", "line 2 has the tag"),
        ("sample_rate: 22050", "sample_rate: &a [1]\nmore: *a", "line 3 uses an alias"),
        ("sample_rate: 22050", "sample_rate: .inf", "does not tell the rates|hift"),
    ],
)
def test_hostile_yaml_in_a_folder(released: Path, old: str, new: str, words: str) -> None:
    assert old in NANO_YAML
    (released / "cosyvoice.yaml").write_text(NANO_YAML.replace(old, new, 1))
    for read in (read_model, inspect_model):
        with pytest.raises(ModelError, match=words):
            read(released)


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(50)),
        "a: &a {b: 1}\nc:\n  <<: *a\n",
        "a: !!python/name:os.system\n",
        "a: !!python/object/new:os.system [ls]\n",
        "a: !!binary x\n",
        "a: !custom {b: 1}\n",
        "? !!python/tuple [1]\n: 2\n",
    ],
)
def test_refused_yaml_names_the_line(text: str) -> None:
    with pytest.raises(ModelError, match=r"line \d|cannot be read as YAML"):
        read_hyper_parameters(text)


@pytest.mark.parametrize("piece", ["[", "{a: ", "- ", "? ", "&a ", "!new:x ", "a: b\n", "1:", "'' ", '"\\x41"', "9"])
def test_no_yaml_takes_long(piece: str) -> None:
    text = "a: " + piece * (99_000 // len(piece))
    try:
        read_hyper_parameters(text)
    except ModelError as error:
        assert str(error)
