"""How many codes of a speech tokenizer change when its graph runs in bfloat16, and what else changes as many.

    python benchmarks/codes.py MODEL [--recordings FOLDER] [--clips 300] [--json]

MODEL is a folder with a trained speech tokenizer of ours, which is exported as an ONNX graph. Beside bfloat16, which it
takes OpenVINO to run, each clip is read half a millisecond later, and with white noise 50 dB below its level.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from features import RECORDINGS, SUFFIXES, Tokens, export
from torch import Tensor

from cosytune.audio.files import read_wave
from cosytune.audio.resample import resample
from cosytune.models.folder import read_model
from cosytune.models.onnx_front_ends import OnnxSpeechTokenizer
from cosytune.units import FEATURE_SAMPLE_RATE

LATER = FEATURE_SAMPLE_RATE // 2000
"""Half a millisecond in samples."""
NOISE_DB = -50.0
SHORTEST, LONGEST = 0.2, 30.0
"""Seconds of the clips that are listened to."""


def graph_of(model: Path, path: Path) -> list[int]:
    """Write the graph of a model's tokenizer; returns the levels of its numbers (none for a table of codes)."""
    network = read_model(model).part("speech_tokenizer").eval()
    inputs = (torch.randn(1, network.config.bins, 200), torch.full((1,), 200, dtype=torch.int32))
    export(Tokens(network), inputs, {"listened": {2: "frames"}, "out": {1: "tokens"}}, path)
    return list(getattr(network.config.quantiser, "levels", ()))


def steps_between(one: np.ndarray, other: np.ndarray, levels: list[int]) -> np.ndarray:
    """By how many levels, over all numbers, codes [T] differ."""
    steps, place = np.zeros(len(one), np.int64), 1
    for level in levels:
        steps += np.abs(one // place % level - other // place % level)
        place *= level
    return steps


def with_noise(wave: Tensor, generator: torch.Generator) -> Tensor:
    """The wave [N] with white noise."""
    level = wave.square().mean().sqrt() * 10 ** (NOISE_DB / 20)
    return wave + level * torch.randn(len(wave), generator=generator)


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Shares of codes that differ from those in float32."""
    levels = graph_of(arguments.model, folder / "tokenizer.onnx")
    exact, fast = (OnnxSpeechTokenizer(folder / "tokenizer.onnx", name) for name in ("float32", "bfloat16"))
    paths = sorted(path for path in arguments.recordings.rglob("*") if path.suffix in SUFFIXES)[: arguments.clips]
    generator = torch.Generator().manual_seed(0)
    counts = dict.fromkeys(("clips", "codes", "bfloat16", "one level", "later", "noise"), 0)
    for path in paths:
        wave = torch.from_numpy(resample(*read_wave(path), FEATURE_SAMPLE_RATE))
        if not SHORTEST <= len(wave) / FEATURE_SAMPLE_RATE <= LONGEST:
            continue
        codes, rounded = exact.tokens([wave])[0], fast.tokens([wave])[0]
        later = torch.cat([wave[LATER:], torch.zeros(LATER)])
        counts["clips"] += 1
        counts["codes"] += len(codes)
        counts["bfloat16"] += int((codes != rounded).sum())
        counts["one level"] += int((steps_between(codes, rounded, levels) == 1).sum())
        counts["later"] += int((codes != exact.tokens([later])[0]).sum())
        counts["noise"] += int((codes != exact.tokens([with_noise(wave, generator)])[0]).sum())
    changed = {name: counts[name] / counts["codes"] for name in ("bfloat16", "later", "noise")}
    near = {"one_level": counts["one level"] / max(counts["bfloat16"], 1)} if levels else {}
    return {"clips": counts["clips"], "codes": counts["codes"], **changed, **near}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--recordings", type=Path, default=RECORDINGS)
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="cosytune-") as folder:
        result = measure(arguments, Path(folder))
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{result['clips']} clips, {result['codes']} codes; of these differ:")
    print(f"in bfloat16 {result['bfloat16']:.1%}, 0.5 ms later {result['later']:.1%}, with noise {result['noise']:.1%}")
    if "one_level" in result:
        print(f"of those in bfloat16 {result['one_level']:.0%} by one level of one number")


if __name__ == "__main__":
    main()
