"""Small whole models that the tests of several files share."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from cosytune.models.folder import Model, TokenizerFile
from cosytune.models.loading import network_of
from cosytune.models.sizes import family_size
from cosytune.models.speech_tokenizer.config import FSQConfig
from cosytune.models.voices import Voice
from cosytune.text.tokenizers import SmallTokenizer

NEEDS_WHISPER = pytest.mark.skipif(
    find_spec("whisper") is None, reason="released models read with Whisper's vocabulary: pip install openai-whisper"
)

NANO_YAML = """\
__set_seed1: !apply:random.seed [1986]
sample_rate: 22050
width: 64
speaker: 24
codes: 64
llm: !new:some.where.Language
    text_encoder_input_size: 32
    llm_input_size: !ref <width>
    llm_output_size: !ref <width>
    text_token_size: 120
    speech_token_size: !ref <codes>
    spk_embed_dim: !ref <speaker>
    length_normalized_loss: True
    text_encoder: !new:some.where.TextEncoder {input_size: 32, output_size: !ref <width>, attention_heads: 4,
        linear_units: !ref <width> * 2, num_blocks: 2, input_layer: linear, static_chunk_size: 1}
    llm: !new:some.where.Trunk {input_size: !ref <width>, output_size: !ref <width>, attention_heads: 4,
        linear_units: 128, num_blocks: 2, input_layer: linear_legacy, static_chunk_size: 1}
    sampling: !name:some.where.sampling {top_p: 0.8}
flow: !new:some.where.Flow
    input_size: 48
    output_size: 80
    spk_embed_dim: !ref <speaker>
    vocab_size: !ref <codes>
    input_frame_rate: 50
    encoder: !new:some.where.Encoder {input_size: 48, output_size: 48, attention_heads: 4, linear_units: 96,
        num_blocks: 2, attention_dropout_rate: 0.1, input_layer: linear}
    length_regulator: !new:some.where.Regulator {channels: 80, sampling_ratios: [1, 1, 1, 1]}
    decoder: !new:some.where.Decoder
        in_channels: 240
        spk_emb_dim: 80
        cfm_params: !new:some.where.Dictionary
            content: {sigma_min: 1e-06, solver: euler, t_scheduler: cosine, training_cfg_rate: 0.2,
                inference_cfg_rate: 0.7}
        estimator: !new:some.where.Estimator {in_channels: 320, out_channels: 80, channels: [32, 32], dropout: 0.0,
            attention_head_dim: 16, n_blocks: 1, num_mid_blocks: 2, num_heads: 2, act_fn: gelu}
hift: !new:some.where.Vocoder
    in_channels: 80
    base_channels: 32
    nb_harmonics: 8
    sampling_rate: !ref <sample_rate>
    upsample_rates: [8, 8]
    upsample_kernel_sizes: [16, 16]
    istft_params: {n_fft: 16, hop_len: 4}
    resblock_kernel_sizes: [3, 7, 11]
    resblock_dilation_sizes: [[1, 3, 5], [1, 3, 5], [1, 3, 5]]
    source_resblock_kernel_sizes: [7, 11]
    source_resblock_dilation_sizes: [[1, 3, 5], [1, 3, 5]]
    f0_predictor: !new:some.where.Predictor {num_class: 1, in_channels: 80, cond_channels: 32}
feat_extractor: !name:some.where.mel {n_fft: 1024, num_mels: 80, sampling_rate: !ref <sample_rate>, hop_size: 256,
    win_size: 1024, fmin: 0, fmax: 8000, center: False}
data_pipeline: [!ref <feat_extractor>]
"""
"""Our own description of tests/golden/nano in the format of released folders."""


def released_folder(golden: Path, folder: Path, *, yaml: str = NANO_YAML) -> Path:
    """A released-layout folder without ONNX files: the recorded nano weights and our own yaml."""
    folder.mkdir(parents=True)
    for name in ("llm.pt", "flow.pt", "hift.pt", "spk2info.pt"):
        shutil.copyfile(golden / "nano" / name, folder / name)
    (folder / "cosyvoice.yaml").write_text(yaml, encoding="utf-8")
    return folder


def write_speech_tokenizer(
    path: Path, *, codes: int = 64, stride: int = 2, batch: int | str = 1, leaky: bool = False
) -> None:
    """A graph with the inputs of a released tokenizer: code = (|100 x mean band| + frame count) mod `codes`.

    Args:
        path: file to write.
        codes: how many there are.
        stride: frames per code.
        batch: the first axis: 1, or a name for any number of clips.
        leaky: use the largest frame count of the batch instead of each clip's own.
    """
    inputs = [
        helper.make_tensor_value_info("listened", TensorProto.FLOAT, [batch, 128, "frames"]),
        helper.make_tensor_value_info("count", TensorProto.INT32, [batch]),
    ]
    constants = {"first": [0], "last": [2**31 - 1], "axis": [1], "clips": [0], "stride": [stride]}
    tensors = [numpy_helper.from_array(np.array(value, dtype=np.int64), name) for name, value in constants.items()]
    tensors.append(numpy_helper.from_array(np.array(100.0, dtype=np.float32), "scale"))
    tensors.append(numpy_helper.from_array(np.array(codes, dtype=np.int32), "codes"))
    nodes = [
        helper.make_node("ReduceMean", ["listened", "axis"], ["mean"], keepdims=0),
        helper.make_node("Slice", ["mean", "first", "last", "axis", "stride"], ["thinned"]),
        helper.make_node("Mul", ["thinned", "scale"], ["scaled"]),
        helper.make_node("Abs", ["scaled"], ["positive"]),
        helper.make_node("Cast", ["positive"], ["whole"], to=TensorProto.INT32),
        helper.make_node("Unsqueeze", ["count", "axis"], ["counts"]),
        helper.make_node("ReduceMax", ["counts", "clips"], ["largest"], keepdims=1),
        helper.make_node("Add", ["whole", "largest" if leaky else "counts"], ["moved"]),
        helper.make_node("Mod", ["moved", "codes"], ["out"]),
    ]
    output = helper.make_tensor_value_info("out", TensorProto.INT32, [batch, "tokens"])
    _save(path, nodes, inputs, output, tensors)


def write_speaker_encoder(path: Path, *, width: int = 24, batch: int | str = 1, leaky: bool = False) -> None:
    """A graph with the input of a released encoder: the loudest value of the first `width` bands.

    Args:
        path: file to write.
        width: numbers in the vector.
        batch: the first axis: 1, or a name for any number of clips.
        leaky: subtract the mean over the batch.
    """
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, "frames", 80])]
    constants = {"first": [0], "last": [width], "bands": [1], "time": [1], "clips": [0]}
    tensors = [numpy_helper.from_array(np.array(value, dtype=np.int64), name) for name, value in constants.items()]
    nodes = [
        helper.make_node("ReduceMean", ["input", "clips"], ["common"], keepdims=1),
        helper.make_node("Sub", ["input", "common"], ["own"]),
        helper.make_node("ReduceMax", ["own" if leaky else "input", "time"], ["loudest"], keepdims=0),
        helper.make_node("Slice", ["loudest", "first", "last", "bands"], ["vector"]),
    ]
    output = helper.make_tensor_value_info("vector", TensorProto.FLOAT, [batch, width])
    _save(path, nodes, inputs, output, tensors)


def _save(path: Path, nodes: list, inputs: list, output: Any, tensors: list) -> None:
    graph = helper.make_graph(nodes, "test", inputs, [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def tiny_model(*voices: str) -> Model:
    """A native model with the nano's clock and random weights, much smaller, that reads English letters."""
    family = family_size("nano")
    tokenizer = SmallTokenizer.train(["hello there, how are you this morning?"] * 3, 40)
    encoder = {"width": 32, "heads": 2, "feed_forward": 32, "layers": 1}
    changes: dict[str, dict[str, Any]] = {
        "speech_tokenizer": {
            "width": 32, "heads": 2, "feed_forward": 32, "layers_before": 1, "layers_after": 1,
            "quantiser": FSQConfig(levels=(3,) * 4),
        },
        "speaker_encoder": {
            "speaker_width": 16, "tdnn_channels": 16, "growth": 8, "bottleneck": 16, "blocks": (1,), "dilations": (1,),
            "front_blocks": (1,),
        },
        "lm": {
            "speech_codebook": 81, "speaker_width": 16, "text_encoder": encoder | {"input": 32, "chunk": 1},
            "decoder": encoder | {"input": 32, "chunk": 1, "activation": "relu", "input_relu": True},
        },
        "flow": {
            "speech_codebook": 81, "speaker_width": 16, "token_width": 32, "encoder": encoder | {"input": 32},
            "regulator_layers": 1,
            "estimator": {"channels": (32,), "blocks": 1, "mid_blocks": 1, "heads": 2, "head_width": 16},
        },
        "vocoder": {
            "base_channels": 16, "f0_width": 16, "resblock_kernels": (3,), "resblock_dilations": ((1,),),
            "source_kernels": (3, 3), "source_dilations": ((1,), (1,)),
        },
    }  # fmt: skip
    torch.manual_seed(0)
    parts = {}
    for name, config in family.parts(tokenizer.vocabulary_size).items():
        parts[name] = network_of(type(config)(**{**config.model_dump(), **changes[name]}))
    # Without training each of 82 classes is as likely: speech would last until its limit, be doubted and made again.
    torch.nn.init.constant_(parts["lm"].head.bias[-1:], 2.0)
    vectors = {name: Voice(torch.randn(16)) for name in voices}
    file = TokenizerFile("small", tokenizer.to_bytes())
    return Model("tiny", "initial", family.clock, family.mel, parts, file, voices=vectors)


def tone(seconds: float, sample_rate: int, seed: int = 0) -> np.ndarray:
    """A hum with some noise, float32 [N]."""
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    noise = np.random.default_rng(seed).standard_normal(len(times))
    return (0.3 * np.sin(2 * np.pi * 140 * times) + 0.02 * noise).astype(np.float32)
