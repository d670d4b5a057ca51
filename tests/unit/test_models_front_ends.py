"""Released folders at work: speaking, and the ONNX front ends that prompts and training need."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosytune.errors import InputError, ModelError
from cosytune.models.extractors import FrontEnds, _front_ends_in
from cosytune.models.flow.solver import SolverConfig
from cosytune.models.folder import read_front_ends, read_model, write_model
from cosytune.models.onnx_front_ends import OnnxSpeakerEncoder, OnnxSpeechTokenizer
from cosytune.synthesis.requests import Request
from cosytune.synthesis.synthesiser import Synthesiser
from tests.unit.model_examples import (
    NEEDS_WHISPER,
    tiny_model,
    tone,
    write_speaker_encoder,
    write_speech_tokenizer,
)

# Speaking


@NEEDS_WHISPER
def test_a_released_folder_speaks(folder: Path) -> None:
    model = read_model(folder)
    synthesiser = Synthesiser(model, solver=SolverConfig(steps=2))
    voice = sorted(model.voices)[0]
    speech = synthesiser.speak(Request("a", voice))
    assert speech.sample_rate == 22050
    assert np.isfinite(speech.wave).all()
    assert len(speech.wave) == 256 * model.clock.frames_of_tokens(speech.tokens)


@NEEDS_WHISPER
def test_text_beyond_the_vocabulary(folder: Path) -> None:
    model = read_model(folder)
    with pytest.raises(ModelError, match=r"has the text token \d+, but the LM of released knows 120"):
        Synthesiser(model).speak(Request("Hello world.", sorted(model.voices)[0]))


@NEEDS_WHISPER
def test_an_lm_with_more_text_than_the_tokenizer(folder: Path) -> None:
    model = read_model(folder)
    lm = model.part("lm")
    lm.config = lm.config.model_copy(update={"text_vocabulary": 60_515})
    with pytest.raises(ModelError, match="another text tokenizer"):
        Synthesiser(model)


# The ONNX front ends


@NEEDS_WHISPER
def test_onnx_files_are_needed_for_prompts_only(folder: Path) -> None:
    synthesiser = Synthesiser(read_model(folder), solver=SolverConfig(steps=1))
    prompt = tone(1.0, 16_000)
    with pytest.raises(ModelError, match=r"speech_tokenizer_v1.onnx is missing; prompts and training need it"):
        synthesiser.speak(Request("a", prompt_wave=prompt, prompt_rate=16_000))
    with pytest.raises(ModelError, match=r"speech_tokenizer_v1.onnx is missing"):
        read_model(folder).extractor_hash()


@NEEDS_WHISPER
def test_zero_shot_and_features_with_onnx_files(full_folder: Path) -> None:
    model = read_model(full_folder)
    ends = FrontEnds(model)
    waves = [tone(1.0, 16_000), tone(0.5, 16_000, seed=1)]
    tokens = ends.tokens(waves)
    assert [row.dtype for row in tokens] == [np.int64, np.int64]
    assert [len(row) for row in tokens] == [50, 25]
    assert len(set(tokens[0].tolist())) > 1
    vectors = ends.embedding(waves)
    assert vectors.shape == (2, 24)
    assert vectors.dtype == np.float32
    assert not np.allclose(vectors[0], vectors[1])
    assert ends.hash == model.extractor_hash()
    request = Request("a", prompt_wave=tone(0.6, 22_050), prompt_rate=22_050, prompt_text="b", seed=3)
    synthesiser = Synthesiser(model, solver=SolverConfig(steps=2))
    speech = synthesiser.speak(request)
    assert len(speech.wave)
    assert np.array_equal(speech.wave, synthesiser.speak(request).wave)
    copied = synthesiser.resynthesise(waves[0], 16_000)
    assert len(copied) == 256 * model.clock.frames_of_tokens(50)


def test_the_frame_count_is_the_second_input(tmp_path: Path) -> None:
    write_speech_tokenizer(tmp_path / "t.onnx", codes=1_000_000)
    found = OnnxSpeechTokenizer(tmp_path / "t.onnx").tokens([torch.zeros(16_000)])[0]
    # The log-mel of silence is the same everywhere, so codes differ from those of a shorter wave by the frame counts.
    shorter = OnnxSpeechTokenizer(tmp_path / "t.onnx").tokens([torch.zeros(8_000)])[0]
    assert found[0] - shorter[0] == 50


def test_thirty_seconds_are_the_limit(full_folder: Path) -> None:
    ends = FrontEnds(read_model(full_folder))
    assert len(ends.tokens([np.zeros(480_000, np.float32)])[0]) == 1500
    with pytest.raises(InputError, match=r"30.0 s is too long|30.1 s is too long"):
        ends.tokens([np.zeros(481_600, np.float32)])


def test_each_kind_of_feature_has_a_hash_of_its_own(full_folder: Path) -> None:
    before = FrontEnds(read_model(full_folder))
    write_speaker_encoder(full_folder / "campplus.onnx", width=24, leaky=True)
    after = FrontEnds(read_model(full_folder))
    changed = {name for name, value in after.hashes.items() if before.hashes[name] != value}
    assert changed == {"utt_embedding"}
    assert before.hash != after.hash


def test_front_ends_travel_as_the_name_of_their_folder(full_folder: Path, tmp_path: Path) -> None:
    native, wave = tmp_path / "native", [tone(0.5, 16_000)]
    write_model(tiny_model(), native)
    for folder in (full_folder, native):
        ends = FrontEnds(read_model(folder))
        sent = pickle.dumps(ends.tokens)
        assert len(sent) < 1000
        np.testing.assert_array_equal(pickle.loads(sent)(wave)[0], ends.tokens(wave)[0])  # noqa: S301
        again = pickle.loads(pickle.dumps(ends))  # noqa: S301
        np.testing.assert_array_equal(again.embedding(wave), ends.embedding(wave))
    assert not next(iter(read_front_ends(native).part("speech_tokenizer").parameters())).is_meta
    assert next(iter(read_front_ends(native).part("lm").parameters())).is_meta
    with pytest.raises(ModelError, match="lies in no folder, so no other process can read it"):
        pickle.dumps(FrontEnds(tiny_model()))
    description = json.loads((native / "model.json").read_text())
    description["mel"]["fmax"] = 7000.0
    (native / "model.json").write_text(json.dumps(description))
    _front_ends_in.cache_clear()
    with pytest.raises(ModelError, match="was changed while it was at work; start again"):
        pickle.loads(sent)  # noqa: S301


def test_hash_of_other_files_differs(full_folder: Path) -> None:
    before = read_model(full_folder).extractor_hash()
    write_speech_tokenizer(full_folder / "speech_tokenizer_v1.onnx", codes=63)
    assert read_model(full_folder).extractor_hash() != before


def test_front_ends_of_another_model(full_folder: Path) -> None:
    model, wave = read_model(full_folder), [tone(1.0, 16_000)]
    write_speech_tokenizer(full_folder / "speech_tokenizer_v1.onnx", codes=4096)
    with pytest.raises(ModelError, match="its networks know 64"):
        FrontEnds(model).tokens(wave)
    write_speech_tokenizer(full_folder / "speech_tokenizer_v1.onnx", stride=4)
    with pytest.raises(ModelError, match="makes 25 tokens where 50 a second give 50"):
        FrontEnds(model).tokens(wave)
    write_speaker_encoder(full_folder / "campplus.onnx", width=20)
    with pytest.raises(ModelError, match="vectors of 20 numbers, its networks take 24"):
        FrontEnds(model).embedding(wave)


# Several clips at once


class Runs:
    """Stands before a session and notes how many clips each run was given."""

    def __init__(self, front_end: Any) -> None:
        self._session, self.clips = front_end._session, []
        front_end._session = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, values: Sequence[np.ndarray]) -> np.ndarray:
        self.clips.append(len(values[0]))
        return self._session.run(values)


def waves(*seconds: float) -> list[torch.Tensor]:
    return [torch.from_numpy(tone(length, 16_000, seed=index)) for index, length in enumerate(seconds)]


@pytest.mark.parametrize("stride", [2, 4])
def test_a_tokenizer_for_any_number_of_clips_is_given_many(tmp_path: Path, stride: int) -> None:
    write_speech_tokenizer(tmp_path / "t.onnx", codes=4096, stride=stride, batch="clips")
    tokenizer = OnnxSpeechTokenizer(tmp_path / "t.onnx")
    clips = waves(0.41, 1.0, 0.73, 0.52)
    alone = [tokenizer.tokens([clip])[0] for clip in clips]
    runs = Runs(tokenizer)
    together = tokenizer.tokens(clips)
    assert runs.clips[-1] == 4
    for mine, theirs in zip(together, alone, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    runs.clips.clear()
    tokenizer.tokens(waves(1.9, 2.0, 2.0, 2.0, 2.1, 9.0, 0.5))
    assert runs.clips == [4, 1, 1, 1]
    with pytest.raises(InputError, match=r"30.1 s is too long"):
        tokenizer.tokens([clips[0], torch.zeros(481_600)])


@pytest.mark.parametrize("changes", [{"batch": 1}, {"batch": "clips", "leaky": True}, {"batch": "clips", "stride": 3}])
def test_a_tokenizer_that_mixes_clips_or_takes_one_is_given_one_at_a_time(tmp_path: Path, changes: Any) -> None:
    write_speech_tokenizer(tmp_path / "t.onnx", codes=4096, **changes)
    tokenizer = OnnxSpeechTokenizer(tmp_path / "t.onnx")
    clips = waves(0.41, 1.0)
    alone = [tokenizer.tokens([clip])[0] for clip in clips]
    for mine, theirs in zip(tokenizer.tokens(clips), alone, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    runs = Runs(tokenizer)
    tokenizer.tokens(clips)
    assert runs.clips == [1, 1]


def test_an_encoder_for_any_number_of_clips_is_given_those_of_one_length(tmp_path: Path) -> None:
    write_speaker_encoder(tmp_path / "e.onnx", batch="clips")
    encoder = OnnxSpeakerEncoder(tmp_path / "e.onnx")
    clips = waves(0.5, 0.8, 0.5, 0.5)
    alone = np.concatenate([encoder.embedding([clip]) for clip in clips])
    together = encoder.embedding(clips)
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5 * float(np.linalg.norm(alone[0])))
    runs = Runs(encoder)
    encoder.embedding(clips)
    assert runs.clips == [3, 1]


@pytest.mark.parametrize("changes", [{"batch": 1}, {"batch": "clips", "leaky": True}])
def test_an_encoder_that_mixes_clips_or_takes_one_is_given_one_at_a_time(tmp_path: Path, changes: Any) -> None:
    write_speaker_encoder(tmp_path / "e.onnx", **changes)
    encoder = OnnxSpeakerEncoder(tmp_path / "e.onnx")
    clips = waves(0.5, 0.5)
    alone = np.concatenate([encoder.embedding([clip]) for clip in clips])
    np.testing.assert_array_equal(encoder.embedding(clips), alone)
    runs = Runs(encoder)
    encoder.embedding(clips)
    assert runs.clips == [1, 1]


def test_graphs_that_say_many_and_fail_at_it_are_given_one_at_a_time(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper

    from tests.unit.model_examples import _save

    first = numpy_helper.from_array(np.array([0], np.int64), "first")
    listened = helper.make_tensor_value_info("a", TensorProto.FLOAT, ["clips", 128, "frames"])
    count = helper.make_tensor_value_info("b", TensorProto.INT32, ["clips"])
    codes = helper.make_tensor_value_info("out", TensorProto.INT32, [128, "frames"])
    # The first axis can be taken away only if it is one.
    nodes = [
        helper.make_node("Squeeze", ["a", "first"], ["one"]),
        helper.make_node("Cast", ["one"], ["out"], to=TensorProto.INT32),
    ]
    _save(tmp_path / "t.onnx", nodes, [listened, count], codes, [first])
    found = OnnxSpeechTokenizer(tmp_path / "t.onnx").tokens(waves(0.3, 0.4))
    assert [len(row) for row in found] == [30 * 128, 40 * 128]
    features = helper.make_tensor_value_info("a", TensorProto.FLOAT, ["clips", "frames", 80])
    vector = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["frames", 80])
    nodes = [helper.make_node("Squeeze", ["a", "first"], ["out"])]
    _save(tmp_path / "e.onnx", nodes, [features], vector, [first])
    assert OnnxSpeakerEncoder(tmp_path / "e.onnx").embedding(waves(0.3, 0.3)).shape == (2, 28 * 80)


# Files


def test_files_that_are_no_such_graphs(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"not a graph at all")
    with pytest.raises(ModelError, match="not an ONNX graph"):
        OnnxSpeakerEncoder(path)
    write_speaker_encoder(path)
    with pytest.raises(ModelError, match="has the inputs input; 2 are expected"):
        OnnxSpeechTokenizer(path)
    write_speech_tokenizer(path)
    with pytest.raises(ModelError, match="has the inputs listened, count; 1 are expected"):
        OnnxSpeakerEncoder(path)


def test_graphs_that_fail_or_give_something_else(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    from tests.unit.model_examples import _save

    path = tmp_path / "x.onnx"
    listened = helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, 128, "frames"])
    count = helper.make_tensor_value_info("b", TensorProto.INT32, [1])
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 128, "frames"])
    _save(path, [helper.make_node("Neg", ["a"], ["out"])], [listened, count], output, [])
    with pytest.raises(ModelError, match="float32 values, not integer codes"):
        OnnxSpeechTokenizer(path).tokens([torch.zeros(16_000)])
    features = helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, "frames", 80])
    whole = helper.make_tensor_value_info("out", TensorProto.INT32, [1, "frames", 80])
    _save(path, [helper.make_node("Cast", ["a"], ["out"], to=TensorProto.INT32)], [features], whole, [])
    with pytest.raises(ModelError, match="int32 values, not a vector"):
        OnnxSpeakerEncoder(path).embedding([torch.zeros(16_000)])
    narrow = helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, "frames", 40])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, "frames", 40])
    _save(path, [helper.make_node("Neg", ["a"], ["out"])], [narrow], out, [])
    with pytest.raises(ModelError, match="could not be run"):
        OnnxSpeakerEncoder(path).embedding([torch.zeros(16_000)])


# Our own networks


def test_neighbours_in_a_batch_change_nothing() -> None:
    ends = FrontEnds(tiny_model())
    lengths = np.random.default_rng(0).uniform(0.2, 2.0, 12)
    clips = [tone(float(seconds), 16_000, seed=index) for index, seconds in enumerate(lengths)]
    together, vectors = ends.tokens(clips), ends.embedding(clips)
    for index, clip in enumerate(clips):
        np.testing.assert_array_equal(ends.tokens([clip])[0], together[index])
        alone = ends.embedding([clip])[0]
        np.testing.assert_allclose(vectors[index], alone, rtol=0, atol=1e-5 * float(np.linalg.norm(alone)))
