"""Speed of decoding speech tokens: ours, the reference's way, and what the matrix products alone would allow.

python benchmarks/lm.py [--size 300m | --model FOLDER] [--tokens 250] [--rows 16] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from measuring import alternate, machine, peak_mib, peak_of
from reference_lm import ReferenceDecoding

from cosytune.models.layers.packed import PackedLinear
from cosytune.models.lm.generate import Decoder, Decoding, Job
from cosytune.models.lm.model import LM

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ROUNDS = 5
TEXT_TOKENS = 40
NOTHING = torch.zeros(0, dtype=torch.int64)


def load(arguments: argparse.Namespace) -> LM:
    """The LM of a folder, or one of full size with random weights that never ends by itself."""
    if arguments.model is not None:
        from cosytune.models.folder import read_model

        lm: LM = read_model(arguments.model).part("lm")
    else:
        from cosytune.models.sizes import family_size

        size = family_size(arguments.size)
        torch.manual_seed(0)
        lm = LM(size.parts(size.text_vocabulary or size.small_vocabulary)["lm"])  # type: ignore[arg-type]
    return lm.eval()


def job(lm: LM, seed: int, tokens: int, prompt: int = 0) -> Job:
    """A text of `TEXT_TOKENS` tokens that becomes exactly so many speech tokens."""
    generator = torch.Generator().manual_seed(seed)

    def ids(count: int, below: int) -> torch.Tensor:
        return torch.randint(0, below, (count,), generator=generator)

    text = ids(TEXT_TOKENS, lm.config.text_vocabulary)
    speaker = torch.randn(lm.config.speaker_width, generator=generator)
    return Job(text, speaker, NOTHING, ids(prompt, lm.config.speech_codebook), tokens, tokens, seed)


def started(decoder: Decoder, lm: LM, rows: int, prompt: int = 0) -> Decoding:
    """A run with so many rows that never end."""
    decoding = decoder.begin(rows)
    decoding.enter([job(lm, seed, 1_000_000, prompt) for seed in range(rows)])
    return decoding


def steps(advance: Callable[[], object], count: int) -> Callable[[], None]:
    """`count` steps as one thing to time."""

    def run() -> None:
        for _ in range(count):
            advance()

    return run


def products(lm: LM, dtype: torch.dtype, rows: int, packed: bool) -> Callable[[], None]:
    """The matrix products of one step and nothing else: every weight is read once."""
    width, hidden, layers = lm.config.decoder.width, lm.config.decoder.feed_forward, lm.config.decoder.layers
    shapes = [(3 * width, width), (width, width), (hidden, width), (width, hidden)] * layers
    shapes.append((lm.config.speech_codebook + 1, width))
    inputs = {size: torch.randn(rows, size).to(dtype) for size in (width, hidden)}
    weights = [(torch.randn(out, size), torch.randn(out), inputs[size]) for out, size in shapes]
    if packed:
        prepared = [(PackedLinear(weight, bias, dtype), x) for weight, bias, x in weights]
        return lambda: [layer(x) for layer, x in prepared]  # type: ignore[return-value]
    plain = [(weight.to(dtype), bias.to(dtype), x) for weight, bias, x in weights]
    return lambda: [F.linear(x, weight, bias) for weight, bias, x in plain]  # type: ignore[return-value]


def check(lm: LM) -> None:
    """The baseline must say what ours says."""
    request = job(lm, 0, 12)
    reference = ReferenceDecoding(lm, request.text, request.speaker, 0, greedy=True)  # type: ignore[arg-type]
    for _ in range(12):
        reference.advance()
    from cosytune.models.lm.generate import generate
    from cosytune.models.lm.sampling import GREEDY

    ours = generate(Decoder(lm, sampling=GREEDY), request).tokens
    assert ours == reference.tokens, f"the baseline says {reference.tokens}, ours {ours}: they must be the same network"


def rate(seconds: list[float], tokens: int) -> float:
    """Tokens per second over all rounds."""
    return tokens * len(seconds) / sum(seconds)


@torch.inference_mode()
def measure(lm: LM, tokens: int, rows: int) -> dict[str, Any]:
    """Every variant in turn, `ROUNDS` times a fifth of the tokens."""
    count = max(1, tokens // ROUNDS)
    request = job(lm, 0, tokens)
    reference = ReferenceDecoding(lm, request.text, request.speaker, 0)  # type: ignore[arg-type]
    variants: dict[str, Callable[[], object]] = {"reference": steps(reference.advance, count)}
    decoders = {name: Decoder(lm, dtype=dtype) for name, dtype in TYPES.items()}
    for name, decoder in decoders.items():
        variants[f"{name} x 1"] = steps(started(decoder, lm, 1).advance, count)
        variants[f"{name} x {rows}"] = steps(started(decoder, lm, rows).advance, count)
    seconds = alternate(variants, ROUNDS, warmup=0)
    many = {name: rows if name.endswith(f"x {rows}") else 1 for name in variants}
    return {
        "tokens_per_second": {name: rate(each, count * many[name]) for name, each in seconds.items()},
        "limit": limits(lm, rows),
        "context": {name: context(decoder, lm) for name, decoder in decoders.items()},
    }


def limits(lm: LM, rows: int) -> dict[str, float]:
    """Tokens per second that the products alone allow, the better of plain and packed weights."""
    found = {}
    for name, dtype in TYPES.items():
        for count in (1, rows):
            variants = {str(packed): steps(products(lm, dtype, count, packed), 5) for packed in (False, True)}
            seconds = alternate(variants, ROUNDS)
            found[f"{name} x {count}"] = 5 * count / min(statistics.median(each) for each in seconds.values())
    return found


def context(decoder: Decoder, lm: LM) -> dict[str, float]:
    """Milliseconds per token of one stream with 100 and with 1,000 positions behind it."""
    behind = TEXT_TOKENS + 3
    variants = {
        str(positions): steps(started(decoder, lm, 1, positions - behind).advance, 10) for positions in (100, 1000)
    }
    return {name: 100 * statistics.median(each) for name, each in alternate(variants, ROUNDS).items()}


@torch.inference_mode()
def only(lm: LM, variant: str, tokens: int) -> None:
    """Decode with one variant, for its peak memory."""
    if variant == "reference":
        request = job(lm, 0, tokens)
        reference = ReferenceDecoding(lm, request.text, request.speaker, 0)  # type: ignore[arg-type]
        steps(reference.advance, tokens)()
    elif variant != "weights":
        name, rows = variant.split(" x ")
        decoder = Decoder(lm, dtype=TYPES[name])
        steps(started(decoder, lm, int(rows)).advance, tokens)()
    print(json.dumps({"peak_mib": peak_mib()}))


def table(result: dict[str, Any], rows: int) -> str:
    """The figures for people."""
    speed, limit = result["tokens_per_second"], result["limit"]
    lines = [f"{'variant':<18}{'tokens/s':>10}{'x reference':>13}{'of the limit':>14}{'peak MiB':>10}"]
    for name, value in speed.items():
        share = f"{value / limit[name]:.0%}" if name in limit else ""
        peak = result["peak_mib"].get(name, float("nan"))
        lines.append(f"{name:<18}{value:>10.1f}{value / speed['reference']:>13.1f}{share:>14}{peak:>10.0f}")
    single, many = speed["bfloat16 x 1"], speed[f"bfloat16 x {rows}"]
    lines.append(f"bfloat16, {rows} rows against one: {many / single:.1f} times")
    for name, each in result["context"].items():
        lines.append(
            f"{name}: {each['100']:.1f} ms a token after 100 positions, {each['1000']:.1f} ms after 1,000 "
            f"({each['1000'] / each['100'] - 1:+.0%})"
        )
    lines.append("limit (products only): " + ", ".join(f"{name} {value:.0f}/s" for name, value in limit.items()))
    return "\n".join(lines)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="300m")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--tokens", type=int, default=250)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    lm = load(arguments)
    if arguments.only is not None:
        only(lm, arguments.only, min(arguments.tokens, 25))
        return
    began = time.perf_counter()
    check(lm)
    result = measure(lm, arguments.tokens, arguments.rows)
    source = ["--size", arguments.size] if arguments.model is None else ["--model", str(arguments.model)]
    names = ["weights", *result["tokens_per_second"]]
    result["peak_mib"] = {name: peak_of(Path(__file__), [*source, "--only", name]) for name in names}
    result |= {"machine": machine(), "tokens": arguments.tokens, "seconds": time.perf_counter() - began}
    print(json.dumps(result) if arguments.json else table(result, arguments.rows))


if __name__ == "__main__":
    main()
