"""Released tokenizers in bfloat16: the second engine, and that what it makes is never taken for float32's."""

from __future__ import annotations

import json
import pickle
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from cosytune.cli.main import app
from cosytune.comparison.compose.material import with_voices
from cosytune.data.corpus import Corpus
from cosytune.data.features import FeatureStore
from cosytune.errors import DataError, MachineError, MissingPackageError, ModelError
from cosytune.models import openvino_session
from cosytune.models.extractors import FrontEnds, _front_ends_in
from cosytune.models.folder import read_model, write_model
from cosytune.models.model import Model
from cosytune.models.onnx_front_ends import OnnxSpeakerEncoder, OnnxSpeechTokenizer
from cosytune.models.onnx_session import OnnxPrecision
from cosytune.models.openvino_session import OpenVinoSession, check_bfloat16
from cosytune.training.features import corpus_features, features_hash, precision_of, set_precision
from cosytune.training.few_clips import few_clips
from cosytune.training.stages import _heard_in
from tests.unit.model_examples import _save, tiny_model, tone, write_speaker_encoder, write_speech_tokenizer
from tests.unit.test_data_extract import make_corpus, recorded
from tests.unit.toy import Quiet

if find_spec("openvino") is None:  # asked for so: a bare import would report its use
    pytest.skip("the package openvino (extra `bfloat16`) is not installed", allow_module_level=True)

REAL = openvino_session._capabilities
BOTH: tuple[OnnxPrecision, ...] = ("float32", "bfloat16")


@pytest.fixture(autouse=True)
def any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the processor has no bfloat16 OpenVINO computes in float32, and all but one test are as good."""
    monkeypatch.setattr(openvino_session, "_capabilities", lambda core: ["BF16"])


def has_bfloat16() -> bool:
    return "BF16" in REAL(openvino_session._openvino().Core())


def write_product(path: Path, bins: int = 128, codes: int = 64) -> None:
    """Half as many codes as frames, each made of a product of matrices: |1000 x features x weights| mod `codes`."""
    weights = 1000 * np.random.default_rng(0).standard_normal((bins, 1)).astype(np.float32)
    constants = {"first": [0], "last": [2**31 - 1], "axis": [1], "step": [2], "width": [2]}
    tensors = [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()]
    tensors += [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.int32([codes]), "codes")]
    nodes = [
        helper.make_node("Transpose", ["listened"], ["frames"], perm=[0, 2, 1]),
        helper.make_node("Slice", ["frames", "first", "last", "axis", "step"], ["thinned"]),
        helper.make_node("MatMul", ["thinned", "weights"], ["product"]),
        helper.make_node("Squeeze", ["product", "width"], ["flat"]),
        helper.make_node("Abs", ["flat"], ["positive"]),
        helper.make_node("Cast", ["positive"], ["whole"], to=TensorProto.INT32),
        helper.make_node("Mul", ["count", "zero"], ["nothing"]),
        helper.make_node("Add", ["whole", "nothing"], ["moved"]),
        helper.make_node("Mod", ["moved", "codes"], ["out"]),
    ]
    tensors.append(numpy_helper.from_array(np.int32([0]), "zero"))
    inputs = [
        helper.make_tensor_value_info("listened", TensorProto.FLOAT, [1, bins, "time"]),
        helper.make_tensor_value_info("count", TensorProto.INT32, [1]),
    ]
    _save(path, nodes, inputs, helper.make_tensor_value_info("out", TensorProto.INT32, [1, "tokens"]), tensors)


# The engine


@pytest.mark.parametrize("precision", BOTH)
def test_an_engine_gives_the_codes_of_the_graph(tmp_path: Path, precision: OnnxPrecision) -> None:
    path = tmp_path / "t.onnx"
    write_speech_tokenizer(path, codes=1_000_000, batch="clips")
    silence = [torch.zeros(16_000), torch.zeros(8_000)]
    whole, half = OnnxSpeechTokenizer(path, precision).tokens(silence)
    assert (whole.dtype, len(whole), len(half)) == (np.int64, 50, 25)
    assert whole[0] - half[0] == 50, "the frame count is the second input, and neighbours change nothing"
    assert len(OnnxSpeechTokenizer(path, precision)._session.inputs[0].shape) == 3
    assert OnnxSpeechTokenizer(path, precision).hash == OnnxSpeechTokenizer(path).hash


@pytest.mark.skipif(not has_bfloat16(), reason="this processor does not compute in bfloat16")
def test_bfloat16_is_at_work_and_gives_the_same_codes_every_time(tmp_path: Path) -> None:
    write_product(tmp_path / "t.onnx", codes=1_000_000)
    clips = [torch.from_numpy(tone(0.2 + 0.01 * number, 16_000, seed=number)) for number in range(12)]
    exact = np.concatenate(OnnxSpeechTokenizer(tmp_path / "t.onnx").tokens(clips))
    found = OnnxSpeechTokenizer(tmp_path / "t.onnx", "bfloat16").tokens(clips)
    difference = np.abs(np.concatenate(found) - exact)
    assert 0 < difference.max() < 0.02 * exact.max()
    other_order = OnnxSpeechTokenizer(tmp_path / "t.onnx", "bfloat16")
    for clip, codes in zip(reversed(clips), reversed(found), strict=True):
        np.testing.assert_array_equal(other_order.tokens([clip])[0], codes)


def test_graphs_that_openvino_cannot_use(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"not a graph at all")
    with pytest.raises(ModelError, match=r"not an ONNX graph that can be run .*; get it again"):
        OnnxSpeechTokenizer(path, "bfloat16")
    write_speaker_encoder(path)
    with pytest.raises(ModelError, match="has the inputs input; 2 are expected"):
        OnnxSpeechTokenizer(path, "bfloat16")
    write_product(path, bins=128)
    with pytest.raises(ModelError, match=r"could not be run .*; it is another network, or damaged"):
        OpenVinoSession(path.read_bytes(), path, 1).run([np.zeros((1, 40, 6), np.float32), np.array([6], np.int32)])


@pytest.mark.parametrize("place", ["beside.bin", "../beside.bin", "absolute"])
@pytest.mark.parametrize("precision", BOTH)
def test_a_graph_reads_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: OnnxPrecision, place: str
) -> None:
    secret = tmp_path / "beside.bin"
    secret.write_bytes(np.arange(80, dtype=np.float32).tobytes())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here" if place.startswith("..") else tmp_path)
    outside = TensorProto(name="outside", data_type=TensorProto.FLOAT, dims=[80], data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value=str(secret) if place == "absolute" else place)
    listened = helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, "frames", 80])
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, "frames", 80])
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "outside"], ["out"])], "g", [listened], [output], [outside]
    )
    path = tmp_path / "x.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString())
    with pytest.raises(ModelError, match="keeps weights in other files, which are not read"):
        OnnxSpeechTokenizer(path, precision)
    with pytest.raises(ModelError, match="keeps weights in other files"):
        OnnxSpeakerEncoder(path)
    path.write_bytes(path.read_bytes().replace(b"\n\x08location", b"\x8a\x80\x00\x88\x00location"))
    with pytest.raises(ModelError, match="keeps weights in other files"):
        OnnxSpeakerEncoder(path)


def test_words_that_look_like_a_place_are_no_place(tmp_path: Path) -> None:
    path = tmp_path / "e.onnx"
    write_speaker_encoder(path, width=4)
    graph = onnx.load(path)
    graph.graph.name = graph.graph.node[0].name = "location"
    path.write_bytes(graph.SerializeToString())
    assert OnnxSpeakerEncoder(path).embedding([torch.zeros(16_000)]).shape == (1, 4)


def test_without_the_package_or_the_processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_product(tmp_path / "t.onnx")
    monkeypatch.setattr(openvino_session, "_capabilities", lambda core: ["FP32", "INT8"])
    with pytest.raises(
        MachineError, match=r"does not compute in bfloat16 \(AVX-512 BF16 or AMX do\); prepare the corpus"
    ):
        OnnxSpeechTokenizer(tmp_path / "t.onnx", "bfloat16")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingPackageError, match=r"install it with pip install 'cosytune\[bfloat16\]'"):
        check_bfloat16()


def test_openvino_is_imported_without_its_telemetry() -> None:
    check_bfloat16()
    with pytest.raises(ModuleNotFoundError):
        import openvino_telemetry  # noqa: F401
    assert "openvino_telemetry.main" not in sys.modules


# Identity


@pytest.fixture
def mixed(tmp_path: Path) -> Model:
    """A native folder whose tokenizer is an ONNX graph and whose speaker encoder is ours."""
    write_product(tmp_path / "t.onnx", codes=81)
    model = replace(tiny_model(), onnx={"speech_tokenizer": tmp_path / "t.onnx"})
    # The graph makes 50 codes a second.
    model = replace(model, clock=replace(model.clock, token_rate=50), parts=dict(model.parts))
    del model.parts["speech_tokenizer"]
    write_model(model, tmp_path / "mixed")
    return read_model(tmp_path / "mixed")


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return make_corpus(tmp_path / "corpus", recorded(tmp_path / "in", range(8)))


def test_tokens_of_another_precision_are_another_feature(mixed: Model) -> None:
    usual, fast = FrontEnds(mixed), FrontEnds(mixed, "bfloat16")
    assert usual.hash == mixed.extractor_hash() != fast.hash == mixed.extractor_hash("bfloat16")
    assert {name for name, value in fast.hashes.items() if usual.hashes[name] != value} == {"speech_token"}


def test_front_ends_travel_with_their_precision(mixed: Model) -> None:
    ends = FrontEnds(mixed, "bfloat16")
    sent = pickle.dumps(ends.tokens)
    _front_ends_in.cache_clear()
    arrived = pickle.loads(sent)  # noqa: S301
    assert (arrived.__self__.hash, arrived.__self__._precision) == (ends.hash, "bfloat16")
    np.testing.assert_array_equal(arrived([tone(0.5, 16_000)])[0], ends.tokens([tone(0.5, 16_000)])[0])


def test_networks_of_our_own_have_no_other_precision() -> None:
    with pytest.raises(ModelError, match=r"speech tokenizer of tiny is no ONNX graph.*leave --onnx-precision out"):
        FrontEnds(tiny_model(), "bfloat16")


# A corpus


def test_a_corpus_keeps_its_precision(mixed: Model, corpus: Corpus) -> None:
    first = corpus_features(corpus, mixed, Quiet())
    assert precision_of(corpus, mixed) == "float32" and features_hash(corpus, mixed) == mixed.extractor_hash()
    set_precision(corpus, "bfloat16")
    again = Corpus(corpus.path)
    assert precision_of(again, mixed) == "bfloat16"
    assert precision_of(again, tiny_model()) == "float32", "networks of our own have no other"
    reporter = Quiet()
    second = corpus_features(again, mixed, reporter)
    assert reporter.lines[-1] == "features of corpus: the speech tokenizer ran in bfloat16"
    assert second.path == corpus.features_folder(mixed.extractor_hash("bfloat16")) != first.path
    assert with_voices(mixed, corpus).voices.keys() == second.speaker_vectors.keys()
    assert _heard_in(corpus, mixed) == {"onnx_precision": "bfloat16"}
    for mine, theirs in zip(second, first, strict=True):
        np.testing.assert_array_equal(mine.mel, theirs.mel)
    with pytest.raises(DataError, match="were made by extractors"):
        FeatureStore(second.path, extractors=mixed.extractor_hash())
    set_precision(corpus, "float32")
    assert corpus_features(corpus, mixed, Quiet()).path == first.path
    assert _heard_in(corpus, mixed) == {}


def test_prepare_chooses_once(mixed: Model, tmp_path: Path) -> None:
    recorded(tmp_path / "in", range(3))

    def prepared(*more: str) -> Any:
        words = ["data", "prepare", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", str(mixed.path)]
        return CliRunner().invoke(app, [*words, "--json", *more])

    assert isinstance(prepared("--onnx-precision", "bfloat16", "--model", "absent").exception, ModelError)
    assert not (tmp_path / "out").exists(), "what cannot be done is refused before recordings are looked at"
    for more, chosen in [
        ([], "float32"),
        (["--onnx-precision", "bfloat16"], "bfloat16"),
        ([], "bfloat16"),
        (["--onnx-precision", "float32"], "float32"),
    ]:
        assert json.loads(prepared(*more).stdout)["features"]["onnx_precision"] == chosen


def test_what_lies_beside_a_corpus_takes_its_precision(mixed: Model, corpus: Corpus, tmp_path: Path) -> None:
    set_precision(corpus, "bfloat16")
    tried = few_clips(corpus, mixed, tmp_path / "place")
    assert tried.made and tried.features.path.name == mixed.extractor_hash("bfloat16")[:16]
    other = make_corpus(tmp_path / "other", recorded(tmp_path / "in", range(2)))
    rehearsed = corpus_features(other, mixed, Quiet(), onnx_precision=precision_of(corpus, mixed))
    assert rehearsed.path.name == mixed.extractor_hash("bfloat16")[:16]


def test_a_damaged_record_is_not_guessed_at(mixed: Model, corpus: Corpus) -> None:
    set_precision(corpus, "bfloat16")
    (corpus.path / "features" / "onnx_precision.json").write_text('"float16"')
    with pytest.raises(
        DataError, match=r"onnx_precision\.json is damaged; prepare the corpus again with --onnx-precision"
    ):
        features_hash(corpus, mixed)


def test_what_the_machine_lacks_drops_no_clip(mixed: Model, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    set_precision(corpus, "bfloat16")
    monkeypatch.setattr(openvino_session, "_capabilities", lambda core: [])
    with pytest.raises(MachineError):
        corpus_features(corpus, mixed, Quiet())
    monkeypatch.setattr(openvino_session, "_capabilities", lambda core: ["BF16"])
    made = corpus_features(corpus, mixed, Quiet())
    assert len(made) == 8
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert corpus_features(corpus, mixed, Quiet()).ids == made.ids, "to read features takes no OpenVINO"
