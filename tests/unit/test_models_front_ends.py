"""Released folders at work: speaking, and the ONNX front ends that prompts and training need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cosytune.errors import InputError, ModelError
from cosytune.models.extractors import FrontEnds
from cosytune.models.flow.solver import SolverConfig
from cosytune.models.folder import read_model
from cosytune.models.onnx_front_ends import OnnxSpeakerEncoder, OnnxSpeechTokenizer
from cosytune.synthesis.requests import Request
from cosytune.synthesis.synthesiser import Synthesiser
from tests.unit.model_examples import (
    NEEDS_WHISPER,
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
