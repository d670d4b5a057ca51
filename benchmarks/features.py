"""Speed of feature extraction against one file at a time, the way the upstream tools do it, in the same run.

    python benchmarks/features.py [--front-ends nano | onnx | onnx-many] [--recordings FOLDER] [--clips 200] [--json]

The reference makes tokens, speaker vectors and mel in three passes over the recordings, each of which decodes and
resamples anew, one clip after the other in one process; once with one processor thread (what the upstream tools set)
and once with all. Ours is `extract_features` with worker processes, shards on disk included; the start of the workers,
which a job pays once, is shown apart. Weights are random: only the times mean something.

Two rows between them tell where the difference comes from: one pass in one process, without and with batches.

`onnx` are graphs of our 300M front ends: the tokenizer has the size of the released `speech_tokenizer_v1.onnx` (six
blocks of width 1280, 522 MB), which takes one clip at a time; `onnx-many` are the same graphs declared for any number.
Where OpenVINO is installed and the processor has bfloat16, they are run in that precision too (`--onnx-precision`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import alternate, machine, median, times_faster
from torch import Tensor, nn

from cosytune.audio.files import read_wave, wave_info
from cosytune.audio.resample import resample
from cosytune.data.corpus import Contents, Corpus, write_corpus
from cosytune.data.engine import Engine, open_engine, usable_cores
from cosytune.data.extract import extract_features
from cosytune.data.features import Extractors, FeatureStore
from cosytune.data.manifest import Utterance
from cosytune.data.results import LedgerLine
from cosytune.errors import MachineError, MissingPackageError
from cosytune.files import hash_file
from cosytune.models.extractors import FrontEnds
from cosytune.models.folder import read_model, write_model
from cosytune.models.loading import network_of
from cosytune.models.model import Model, TokenizerFile
from cosytune.models.openvino_session import check_bfloat16
from cosytune.models.sizes import family_size
from cosytune.units import FEATURE_SAMPLE_RATE

RECORDINGS = Path(__file__).parents[2] / "shared" / "speech" / "kathleen"
SUFFIXES = {".wav", ".flac", ".mp3", ".ogg"}


class Tokens(nn.Module):
    """A speech tokenizer with the inputs of the released graph."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Codes [B, T] of log-mel [B, M, F] and frame counts int32 [B]."""
        return self.network.encode(features, lengths.long())[0].int()


class Vectors(nn.Module):
    """A speaker encoder with the input of the released graph."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        """Vectors [B, E] of filter banks [B, F, 80], all of them whole."""
        return self.network(features, torch.full((features.shape[0],), features.shape[1], dtype=torch.int64))


def write_graphs(folder: Path, *, many: bool) -> dict[str, Path]:
    """Graphs of the 300M front ends with random weights."""
    configs = family_size("300m").parts(1)
    batch = {0: "clips"} if many else {}
    rows = 2 if many else 1
    lengths = torch.full((rows,), 200, dtype=torch.int32)
    graphs = {
        "speech_tokenizer": (
            Tokens(network_of(configs["speech_tokenizer"]).eval()),
            (torch.randn(rows, 128, 200), lengths),
            {"listened": {**batch, 2: "frames"}, "count": batch, "out": {**batch, 1: "tokens"}},
        ),
        "speaker_encoder": (
            Vectors(network_of(configs["speaker_encoder"]).eval()),
            (torch.randn(rows, 200, 80),),
            {"listened": {**batch, 1: "frames"}, "out": batch},
        ),
    }
    for name, (network, inputs, axes) in graphs.items():
        export(network, inputs, axes, folder / f"{name}.onnx")
    return {name: folder / f"{name}.onnx" for name in graphs}


def export(network: Tokens | Vectors, inputs: tuple[Tensor, ...], axes: dict[str, dict[int, str]], path: Path) -> None:
    """Write a front end as an ONNX graph.

    Args:
        network: to write.
        inputs: examples.
        axes: names of axes of any size, by input or output.
        path: file to write.
    """
    network.network._check = lambda *_: None  # questions about values cannot be part of a graph
    names = ["listened", "count"][: len(inputs)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, inputs, path, input_names=names, output_names=["out"], dynamic_axes=axes, dynamo=False,
            opset_version=17,
        )  # fmt: skip


def write_front_ends(kind: str, folder: Path) -> None:
    """A model folder with nothing but front ends."""
    torch.manual_seed(0)
    family = family_size("nano" if kind == "nano" else "300m")
    names = ("speech_tokenizer", "speaker_encoder")
    parts, onnx = {}, {}
    if kind == "nano":
        configs = family.parts(100)
        parts = {name: network_of(configs[name]) for name in names}
    else:
        onnx = write_graphs(folder.parent, many=kind == "onnx-many")
    write_model(Model(kind, "initial", family.clock, family.mel, parts, TokenizerFile("whisper"), onnx=onnx), folder)
    for path in onnx.values():
        path.unlink()


def corpus_of(recordings: Path, clips: int, folder: Path) -> Corpus:
    """The first recordings of a folder, all on the train side."""
    paths = sorted(path for path in recordings.rglob("*") if path.suffix in SUFFIXES)[:clips]
    items = [Utterance(path.name, str(path), None, "one", "en", seconds=wave_info(path).seconds) for path in paths]
    hashes = {item.audio: hash_file(Path(item.audio)) for item in items}
    utterances = [(item, "train", hashes[item.audio]) for item in items]
    lines = [LedgerLine(item.id, item.audio, "kept") for item in items]
    return write_corpus(
        folder,
        Contents(utterances, sorted(hashes.items()), lines, len(items), (), 0.0, {}, {}),  # type: ignore[arg-type]
    )


def one_at_a_time(corpus: Corpus, ends: FrontEnds, threads: int) -> dict[str, list[np.ndarray]]:
    """Three passes, one clip after the other; nothing is written."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)

    def waves(rate: int) -> Any:
        return (resample(*read_wave(Path(item.audio)), rate) for item in corpus.stream())

    try:
        return {
            "speech_token": [ends.tokens([wave])[0] for wave in waves(FEATURE_SAMPLE_RATE)],
            "utt_embedding": [ends.embedding([wave])[0] for wave in waves(FEATURE_SAMPLE_RATE)],
            "mel": [ends.mel(wave) for wave in waves(ends.sample_rate)],
        }
    finally:
        torch.set_num_threads(before)


def ours(corpus: Corpus, ends: FrontEnds, engine: Engine, **settings: Any) -> FeatureStore:
    """From nothing to finished shards."""
    shutil.rmtree(corpus.path / "features", ignore_errors=True)
    extractors = Extractors(
        ends.hash, ends.sample_rate, ends.tokens, ends.embedding, ends.mel, ends.frames_per_token, ends.hashes
    )
    return extract_features(corpus, extractors, engine=engine, **{"batch_seconds": ends.batch_seconds, **settings})


def differences(reference: dict[str, list[np.ndarray]], store: FeatureStore) -> dict[str, float]:
    """Share of tokens that differ, and the largest difference of a vector as a share of its length."""
    tokens = wrong = 0
    vector = 0.0
    for codes, direction, made in zip(reference["speech_token"], reference["utt_embedding"], store, strict=True):
        assert made.speech_tokens is not None and made.utterance_vector is not None
        kept = codes[: len(made.speech_tokens)]
        tokens, wrong = tokens + len(kept), wrong + int((kept != made.speech_tokens).sum())
        difference = np.abs(made.utterance_vector - direction).max() / np.linalg.norm(direction)
        vector = max(vector, float(difference))
    return {"tokens": wrong / tokens, "vector": vector}


def start_of_workers(engine: Engine, ends: FrontEnds) -> float:
    """Seconds until every worker has answered for the first time, its front ends read."""
    began = time.perf_counter()
    noise = np.random.default_rng(0).standard_normal(FEATURE_SAMPLE_RATE).astype(np.float32) / 10
    # Two clips, so that graphs for any number are probed, too.
    for function in (ends.tokens, ends.embedding):
        list(engine.map(function, [[noise, noise]] * engine.workers))
    return time.perf_counter() - began


def in_bfloat16(kind: str, folder: Path) -> FrontEnds | None:
    """The released front ends with their tokenizer in bfloat16, where this machine can."""
    if kind == "nano":
        return None
    try:
        check_bfloat16()
    except (MachineError, MissingPackageError) as error:
        print(error, file=sys.stderr)
        return None
    return FrontEnds(read_model(folder), "bfloat16")


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures of one kind of front ends."""
    write_front_ends(arguments.front_ends, folder / "model")
    corpus = corpus_of(arguments.recordings, arguments.clips, folder / "corpus")
    names = {1: "one at a time, 1 thread", usable_cores(): f"one at a time, {usable_cores()} threads"}
    # onnxruntime takes the number of threads when it opens a graph: front ends of their own for each number.
    references = {name: (FrontEnds(read_model(folder / "model")), threads) for threads, name in names.items()}
    ends = FrontEnds(read_model(folder / "model"))
    with open_engine("local", 1) as alone, open_engine("local", arguments.workers) as engine:
        start = start_of_workers(engine, ends)
        start_of_workers(alone, ends)
        fast = in_bfloat16(arguments.front_ends, folder / "model")
        if fast is not None:
            start_of_workers(engine, fast)
        for front, threads in references.values():
            torch.set_num_threads(threads)
            front.tokens([np.zeros(FEATURE_SAMPLE_RATE, np.float32)])
            front.embedding([np.zeros(FEATURE_SAMPLE_RATE, np.float32)])
        torch.set_num_threads(1)
        variants: dict[str, Any] = {
            name: lambda front=front, threads=threads: one_at_a_time(corpus, front, threads)
            for name, (front, threads) in references.items()
        }
        # Where the difference comes from: decoding once, then batches, then processes.
        if arguments.front_ends != "onnx":  # which takes one clip at a time anyway
            variants["ours, 1 worker, no batches"] = lambda: ours(corpus, ends, alone, batch_seconds=0.0)
        variants["ours, 1 worker"] = lambda: ours(corpus, ends, alone)
        own_name = f"ours, {arguments.workers} workers"
        variants[own_name] = lambda: ours(corpus, ends, engine)
        if fast is not None:
            variants[f"{own_name}, bfloat16"] = lambda: ours(corpus, fast, engine)
        seconds = alternate(variants, arguments.rounds, warmup=0)
        reference = one_at_a_time(corpus, *references[names[1]])
        unequal = {own_name: differences(reference, ours(corpus, ends, engine))}
        if fast is not None:
            unequal[f"{own_name}, bfloat16"] = differences(reference, ours(corpus, fast, engine))
    audio = float(corpus.info["seconds"])
    return {
        "front_ends": arguments.front_ends,
        "machine": machine(),
        "clips": len(corpus),
        "audio_seconds": audio,
        "start_of_workers_seconds": start,
        "hours_per_hour": {name: audio / median(values) for name, values in seconds.items()},
        "times_as_fast_as": {
            name: {other: times_faster(seconds[name], values) for other, values in seconds.items()}
            for name in references
        },
        "differences": unequal,
    }


def table(result: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [f"{result['front_ends']}: {result['clips']} clips, {result['audio_seconds'] / 60:.1f} min of audio"]
    for name, pace in result["hours_per_hour"].items():
        faster = ", ".join(f"{paces[name]:.2f} x {base}" for base, paces in result["times_as_fast_as"].items())
        lines.append(f"{name:<28}{pace:>8.1f} hours of audio per hour: {faster}")
    lines.append(f"start of the workers: {result['start_of_workers_seconds']:.1f} s, once")
    for name, unequal in result["differences"].items():
        lines.append(
            f"{name}: {unequal['tokens']:.2%} of the tokens differ, vectors by at most {unequal['vector']:.1e} of "
            "their length"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--front-ends", choices=("nano", "onnx", "onnx-many"), default="nano")
    parser.add_argument("--recordings", type=Path, default=RECORDINGS)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--workers", type=int, default=usable_cores())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cosytune-") as folder:
        result = measure(arguments, Path(folder))
    print(json.dumps(result) if arguments.json else table(result))


if __name__ == "__main__":
    main()
