"""Speed of the whole way from text to wave: one request, sixteen together, and a stream.

    python benchmarks/speech.py [--size 300m | --model FOLDER] [--rows 16] [--json]

With random weights nothing ends by itself, so every request becomes as long as it may; only the times mean something.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from measuring import machine, peak_mib, result_of

from cosytune.models.folder import Model, read_model
from cosytune.models.loading import network_of
from cosytune.models.model import TokenizerFile
from cosytune.models.sizes import family_size
from cosytune.models.voices import Voice
from cosytune.synthesis import Request, Synthesiser
from cosytune.synthesis.guards import GuardConfig
from cosytune.text.small_tokenizer import SmallTokenizer

TEXT = "The quick brown fox jumps over the lazy dog."
FIRST = "So."
"""Spoken once before the clock runs: the kernels of a shape are made when it is first met."""


def load(arguments: argparse.Namespace) -> Model:
    """The model of a folder, or a family of some size with random weights and one voice."""
    if arguments.model is not None:
        return read_model(arguments.model)
    size = family_size(arguments.size)
    torch.manual_seed(0)
    if size.text_vocabulary:
        tokenizer, vocabulary = TokenizerFile("whisper"), size.text_vocabulary
    else:
        small = SmallTokenizer.train([TEXT], size.small_vocabulary)
        tokenizer, vocabulary = TokenizerFile("small", small.to_bytes()), small.vocabulary_size
    configs = size.parts(vocabulary)
    parts = {name: network_of(configs[name]).eval() for name in ("lm", "flow", "vocoder")}
    voice = Voice(torch.randn(parts["lm"].config.speaker_width))  # type: ignore[union-attr]
    return Model("random", "initial", size.clock, size.mel, parts, tokenizer, {"random": voice})


def synthesiser(model: Model, precision: str, rows: int) -> Synthesiser:
    """Warmed up; no second tries, they would make random weights look slow."""
    guards = GuardConfig(retries=0, loop_seconds=1e6)
    speaker = Synthesiser(model, precision=precision, guards=guards, rows=rows)  # type: ignore[arg-type]
    speaker.speak(request(model, 0, FIRST))
    return speaker


def request(model: Model, seed: int, text: str = TEXT) -> Request:
    """One sentence by the first voice."""
    return Request(text, sorted(model.voices)[0], seed=seed)


def one(model: Model, precision: str) -> dict[str, Any]:
    """One request alone."""
    speaker = synthesiser(model, precision, 1)
    speech = speaker.speak(request(model, 1))
    return {"seconds": speech.seconds, "rtf": speech.real_time_factor, "rtf_by_part": speech.real_time_factors}


def many(model: Model, precision: str, rows: int) -> dict[str, Any]:
    """So many requests together."""
    speaker = synthesiser(model, precision, rows)
    began = time.perf_counter()
    speeches = [outcome.result for outcome in speaker.speak_all(request(model, seed) for seed in range(rows))]
    spent = time.perf_counter() - began
    seconds = sum(speech.seconds for speech in speeches)  # type: ignore[union-attr]
    parts = {
        part: sum(speech.seconds_spent[part] for speech in speeches) / seconds  # type: ignore[union-attr]
        for part in ("lm", "flow", "vocoder")
    }
    return {"seconds": seconds, "rtf": spent / seconds, "rtf_by_part": parts}


def stream(model: Model, precision: str) -> dict[str, Any]:
    """A stream: when the first chunk is there, and whether the rest keeps up."""
    speaker = synthesiser(model, precision, 1)
    began = time.perf_counter()
    with speaker.stream(request(model, 1)) as chunks:
        samples = sum(map(len, chunks))
        first, spent = chunks.first_chunk_seconds, chunks.seconds_spent
    seconds = samples / speaker.sample_rate
    return {
        "seconds": seconds,
        "rtf": (time.perf_counter() - began) / seconds,
        "rtf_by_part": {part: value / seconds for part, value in spent.items()},
        "first_chunk_seconds": first,
    }


def variants(rows: int) -> dict[str, Any]:
    """What is measured, by name."""
    return {
        "one, float32": lambda model: one(model, "float32"),
        "one, bfloat16": lambda model: one(model, "bfloat16"),
        f"{rows} together, bfloat16": lambda model: many(model, "bfloat16", rows),
        "stream, bfloat16": lambda model: stream(model, "bfloat16"),
    }


def table(result: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [f"{'variant':<24}{'RTF':>8}{'lm':>8}{'flow':>8}{'vocoder':>9}{'peak MiB':>10}  first chunk"]
    for name, each in result["variants"].items():
        parts = each["rtf_by_part"]
        first = f"  {each['first_chunk_seconds']:.2f} s" if "first_chunk_seconds" in each else ""
        lines.append(
            f"{name:<24}{each['rtf']:>8.2f}{parts['lm']:>8.2f}{parts['flow']:>8.2f}{parts['vocoder']:>9.2f}"
            f"{each['peak_mib']:>10.0f}{first}"
        )
    lines.append("RTF: wall seconds per second of speech")
    return "\n".join(lines)


def main() -> None:
    """Measure each variant in a process of its own, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="300m")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only is not None:
        model = load(arguments)
        print(json.dumps({**variants(arguments.rows)[arguments.only](model), "peak_mib": peak_mib()}))
        return
    source = ["--size", arguments.size] if arguments.model is None else ["--model", str(arguments.model)]
    measured = {
        name: result_of(Path(__file__), [*source, "--rows", str(arguments.rows), "--only", name])
        for name in variants(arguments.rows)
    }
    result = {"variants": measured, "machine": machine()}
    print(json.dumps(result) if arguments.json else table(result))


if __name__ == "__main__":
    main()
