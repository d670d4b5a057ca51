"""Released folders: yaml as data, checkpoints without code."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.errors import ModelError
from cosytune.models.checkpoints import read_checkpoint
from cosytune.models.folder import identity_of, read_model
from cosytune.models.released_yaml import read_hyper_parameters
from tests.unit.model_examples import (
    NANO_YAML,
    write_speaker_encoder,
)

# The yaml


def test_references_products_and_tags_are_data() -> None:
    value = read_hyper_parameters(
        "a: 3\nb: !ref <a>\nc: !ref <b> * 2.5\nd: !new:os.system {x: !ref <a> * <c>}\ne: !apply:os.abort [1]\n"
        "f: !name:a.b\ng: [!ref <d>, 1e-06]\n"
    )
    assert value == {"a": 3, "b": 3, "c": 7.5, "d": {"x": 22.5}, "e": [1], "f": "", "g": ["<d>", 1e-6]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: !include:other.yaml\n", r"line 2 has the tag '!include:other.yaml'"),
        ("a: !!python/object/apply:os.system [ls]\n", r"line 1 has the tag .*none of them is executed"),
        ("a: &x [1]\nb: 2\nc: *x\n", r"line 3 uses an alias"),
        ("a: !ref [1]\n", r"line 1: !ref must be followed by"),
        ("a: !ref <b>\n", r"refers to <b>, which it does not define"),
        ("a: !ref <a>\n", r"refers to <a> while defining it"),
        ("a: !ref <b>\nb: !ref <a> * 2\n", r"while defining it"),
        ("a: 1\nb: !ref <a> + 1\n", r"only <name> and products of two"),
        ("a: x\nb: !ref <a> * 2\n", r"which are not numbers"),
        ("- 1\n", r"names and values at its top"),
        ("a: [1\n", r"cannot be read as YAML"),
        ("a: !!int x\n", r"cannot be read as YAML"),
        ("a: !!int ''\n", r"cannot be read as YAML"),
        ("a: 2024-99-99\n", r"cannot be read as YAML"),
        ("a: " + "[" * 5000, r"nested too deeply"),
        ("a: " + "x" * 100_001, r"100,004 characters"),
    ],
)
def test_refused_yaml(text: str, words: str) -> None:
    with pytest.raises(ModelError, match=words) as error:
        read_hyper_parameters(text, "some.yaml")
    assert str(error.value).startswith("some.yaml")


def test_chains_of_products_stay_small_and_quick() -> None:
    doubling = "a0: 0\n" + "".join(f"a{i + 1}: !ref <a{i}> * <a{i}>\n" for i in range(60))
    assert read_hyper_parameters(doubling)["a60"] == 0
    with pytest.raises(ModelError, match="too large a number"):
        read_hyper_parameters(doubling.replace("a0: 0", "a0: 9"))
    with pytest.raises(ModelError, match="nested too deeply"):
        read_hyper_parameters("a0: 1\n" + "".join(f"a{i + 1}: !ref <a{i}>\n" for i in reversed(range(2000))))


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab0!:<>*[]{}&-'\" \n", max_size=60))
def test_any_text_is_values_or_one_error(text: str) -> None:
    try:
        assert isinstance(read_hyper_parameters(text), dict)
    except ModelError as error:
        assert str(error)


# The checkpoints


class Payload:
    """Writes a file when unpickled the ordinary way."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (self.victim,))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_checkpoint_is_refused_and_not_run(folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "executed"
    state = torch.load(folder / "llm.pt", weights_only=True)
    torch.save({**state, "epoch": Payload(victim)}, folder / "llm.pt")
    with pytest.raises(ModelError, match="never run"):
        read_model(folder)
    (folder / "llm.pt").write_bytes(pickle.dumps({"epoch": Payload(victim)}))
    with pytest.raises(ModelError, match="never run"):
        read_model(folder)
    assert not victim.exists()
    pickle.loads((folder / "llm.pt").read_bytes())  # noqa: S301
    assert victim.exists(), "the payload does nothing, so the test proved nothing"


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_checkpoints(folder: Path) -> None:
    path = folder / "llm.pt"
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for size in (0, 1, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(ModelError, match=r"llm.pt cannot be read"):
            read_checkpoint(path)
    for _ in range(150):
        altered = bytearray(pickle.dumps({"a": [1, 2.5, "x"], "b": {"c": None}}))
        altered[rng.integers(len(altered))] = rng.integers(256)
        path.write_bytes(bytes(altered))
        try:
            read_checkpoint(path)
        except ModelError as error:
            assert "llm.pt" in str(error)
    path.unlink()
    with pytest.raises(ModelError, match=r"llm.pt is missing"):
        read_model(folder)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1, 2], "holds a list, not a dictionary"),
        ({"state_dict": {"a": torch.zeros(1)}}, "'state_dict' is a dict"),
        ({3: torch.zeros(1)}, "entry 3 is a Tensor"),
        ({"strange.weight": torch.zeros(1)}, "not part of this network"),
    ],
)
def test_checkpoints_of_something_else(folder: Path, value: object, words: str) -> None:
    torch.save(value, folder / "llm.pt")
    with pytest.raises(ModelError, match=words):
        read_model(folder)


def test_tensors_that_do_not_match_are_listed(folder: Path) -> None:
    state = torch.load(folder / "llm.pt", weights_only=True)
    del state["llm_decoder.bias"]
    state["llm_embedding.weight"] = torch.zeros(7, 64)
    torch.save({**state, "epoch": 3, "step": 7}, folder / "llm.pt")
    with pytest.raises(ModelError, match=r"missing head.bias \(1\); other shape: mark_embedding.weight is \(7, 64\)"):
        read_model(folder)


# The folder


def test_a_released_folder(folder: Path) -> None:
    model = read_model(folder)
    assert (model.name, model.stage, model.tokenizer.kind) == ("released", "released", "whisper")
    assert (model.clock.sample_rate, model.clock.hop, model.clock.token_rate) == (22050, 256, 50)
    assert (model.mel.n_fft, model.mel.fmax, model.mel.bins) == (1024, 8000.0, 80)
    assert model.part("flow").config.sigma_min == 1e-6
    assert len(model.voices) >= 1
    assert {voice.vector.shape for voice in model.voices.values()} == {torch.Size([24])}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("llm: !new:some.where.Language", "lllm: !new:x.y", "no section 'llm'"),
        ("    text_token_size: 120\n", "", "lacks text_token_size"),
        ("    text_token_size: 120\n", "    text_token_size: many\n", "section llm"),
        ("sample_rate: 22050", "sample_rate: fast", "section hift|does not tell the rates"),
        ("hop_size: 256", "hop_size: 512", "differ in samples per mel frame"),
        ("    input_frame_rate: 50\n", "    input_frame_rate: 33\n", "does not tell the rates"),
        ("text_encoder: !new:some.where.TextEncoder {", "text_encoder: 3\n    junk: {", "section llm"),
    ],
)
def test_a_yaml_that_does_not_fit(folder: Path, old: str, new: str, words: str) -> None:
    assert old in NANO_YAML
    (folder / "cosyvoice.yaml").write_text(NANO_YAML.replace(old, new, 1))
    with pytest.raises(ModelError, match=words):
        read_model(folder)


def test_a_huge_or_foreign_yaml(folder: Path) -> None:
    (folder / "cosyvoice.yaml").write_bytes(b"#" * 100_001)
    with pytest.raises(ModelError, match="100,001 bytes"):
        read_model(folder)
    (folder / "cosyvoice.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(ModelError, match="not UTF-8"):
        read_model(folder)


def test_voices(folder: Path) -> None:
    torch.save({"zero": {"llm_embedding": torch.ones(1, 24)}}, folder / "spk2info.pt")
    assert torch.equal(read_model(folder).voices["zero"].vector, torch.ones(24))
    torch.save({"zero": {"prompt_text": torch.ones(1)}}, folder / "spk2info.pt")
    with pytest.raises(ModelError, match="voice 'zero' has no embedding"):
        read_model(folder)
    (folder / "spk2info.pt").unlink()
    assert read_model(folder).voices == {}


def test_identity_sees_every_file(full_folder: Path) -> None:
    before = identity_of(full_folder)
    (full_folder / "README.md").write_text("words")
    assert identity_of(full_folder) == before
    write_speaker_encoder(full_folder / "campplus.onnx", width=23)
    assert identity_of(full_folder) != before
    before, networks = identity_of(full_folder), identity_of(full_folder, voices=False)
    torch.save({"zero": {"embedding": torch.ones(1, 24)}}, full_folder / "spk2info.pt")
    assert identity_of(full_folder) != before
    assert identity_of(full_folder, voices=False) == networks
