"""Speed, memory and exactness of the flow, beside the reference's way of computing it.

    python benchmarks/flow.py                             # random weights of the 300M size
    python benchmarks/flow.py --model FOLDER --wav FILE   # a trained flow on the tokens of a recording

Speech of 5 s, alone and after a prompt of 3 s, by the baseline (`reference_flow.py`) and by the prepared flow in both
types, in turn; the share of what the cores' matrix products allow; peak memory of each in a process of its own; what
bfloat16 and fewer or better steps cost in exactness. Random weights say nothing about the last: give a trained model.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from measuring import alternate, machine, median, peak_mib, peak_of, times_faster
from reference_flow import reference_synthesise
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cosytune.models.flow.inference import for_inference
from cosytune.models.flow.model import Flow
from cosytune.models.flow.solver import DEFAULT_SOLVER, SolverConfig, starting_noise, synthesise
from cosytune.models.layers.noise import NoiseTape
from cosytune.models.layers.packed import PackedLinear
from cosytune.models.sizes import family_size
from cosytune.units import Clock

SPEECH_SECONDS, PROMPT_SECONDS, QUALITY_SECONDS = 5, 3, 1
BASELINE, DTYPES = "baseline", {"float32": torch.float32, "bfloat16": torch.bfloat16}
SETTINGS = {
    "10 Euler steps": DEFAULT_SOLVER,
    "20 Euler steps": SolverConfig(20),
    "8 Euler steps": SolverConfig(8),
    "6 Euler steps": SolverConfig(6),
    "5 midpoint steps": SolverConfig(5, "midpoint"),
    "4 midpoint steps": SolverConfig(4, "midpoint"),
    "3 midpoint steps": SolverConfig(3, "midpoint"),
    "4 midpoint steps, guided to 0.5": SolverConfig(4, "midpoint", guidance_until=0.5),
    "10 Euler steps, guided to 0.5": SolverConfig(10, guidance_until=0.5),
    "10 Euler steps, unguided": SolverConfig(10, guidance=0.0),
}
SOLUTION = SolverConfig(50, "midpoint")
"""What settings are compared with: as dear as 100 Euler steps, which are still 0.5 % away from it."""
BUSY = 1.25
"""Slowest over fastest round above which something else was running."""


@dataclass(frozen=True)
class Case:
    """What is spoken: tokens [1, T], prompt tokens [1, T'] and mel [1, M, F'], speaker [1, E], noise [1, M, F]."""

    tokens: Tensor
    prompt_tokens: Tensor
    prompt_mel: Tensor
    speaker: Tensor
    noise: Tensor
    frames: int
    ratio: float

    def by(self, flow: Flow, solver: SolverConfig = DEFAULT_SOLVER) -> Tensor:
        """Mel [1, M, frames] by our solver."""
        with torch.inference_mode():
            return synthesise(
                flow, self.tokens, self.prompt_tokens, self.prompt_mel, self.speaker, self.frames,
                frames_per_token=self.ratio, noise=self.noise, solver=solver,
            )  # fmt: skip

    def by_reference(self, flow: Flow) -> Tensor:
        """Mel [1, M, frames] the reference's way."""
        return reference_synthesise(
            flow, self.tokens, self.prompt_tokens, self.prompt_mel, self.speaker, self.frames, self.ratio, self.noise
        )


def random_case(flow: Flow, clock: Clock, seconds: int, prompt_seconds: int) -> Case:
    """Random tokens, prompt and voice."""
    generator = torch.Generator().manual_seed(1)
    count, prompt = seconds * clock.token_rate, prompt_seconds * clock.token_rate
    frames, prompt_frames = (clock.frames_of_tokens(size) if size else 0 for size in (count, prompt))
    codes, bins = flow.config.speech_codebook, flow.config.mel_bins
    return Case(
        torch.randint(0, codes, (1, count), generator=generator),
        torch.randint(0, codes, (1, prompt), generator=generator),
        torch.randn(1, bins, prompt_frames, generator=generator),
        torch.randn(1, flow.config.speaker_width, generator=generator),
        starting_noise([frames + prompt_frames], [NoiseTape(bins, 1)]),
        frames,
        clock.frames_per_token,
    )


def recorded_case(model: Any, flow: Flow, wav: Path) -> Case:
    """Tokens and voice of a recording, by the model's own front ends."""
    from cosytune.audio.files import read_wave
    from cosytune.audio.resample import resample
    from cosytune.models.extractors import FrontEnds

    heard, ends = resample(*read_wave(wav), 16_000), FrontEnds(model)
    tokens = torch.from_numpy(ends.tokens([heard])[0])[None].long()
    case, frames = random_case(flow, model.clock, 1, 0), model.clock.frames_of_tokens(tokens.shape[1])
    noise = starting_noise([frames], [NoiseTape(flow.config.mel_bins, 1)])
    return replace(case, tokens=tokens, speaker=torch.from_numpy(ends.embedding([heard])), frames=frames, noise=noise)


def large_products() -> dict[str, Callable[[], Tensor]]:
    """One large matrix product in each type, the fastest way torch has: what the cores allow."""
    x, weight = torch.randn(4096, 2048), torch.randn(2048, 2048)
    layers = {name: (PackedLinear(weight, None, dtype), x.to(dtype)) for name, dtype in DTYPES.items()}
    return {f"{name} limit": (lambda layer=layer, x=x: layer(x)) for name, (layer, x) in layers.items()}


LARGE_PRODUCT = 2.0 * 4096 * 2048 * 2048
"""Operations of one of `large_products`."""


def operations(flow: Flow, case: Case) -> float:
    """Floating point operations of all matrix products that the baseline needs for a case."""
    # Tensors without numbers; torch's own group norm, because autocast regions are unknown there.
    with torch.device("meta"):
        shadow = Flow(flow.config.model_copy(update={"reference_padding": True})).eval()
        frames = case.noise.shape[2]
        x, mask, voice = torch.empty(2, flow.config.mel_bins, frames), torch.ones(2, frames).bool(), torch.empty(2)
        speaker = torch.empty(2, flow.config.mel_bins)
        with FlopCounterMode(display=False) as step, torch.no_grad():
            shadow.estimator(x, mask, x, voice, speaker, x)
        tokens = torch.empty(1, case.tokens.shape[1] + case.prompt_tokens.shape[1], flow.config.token_width)
        with FlopCounterMode(display=False) as encoder, torch.no_grad():
            shadow.encoder(tokens)
    return float(DEFAULT_SOLVER.steps * step.get_total_flops() + encoder.get_total_flops())


def distance(made: Tensor, exact: Tensor) -> dict[str, float]:
    """Mean absolute distance of two mels, in itself and as a share of the exact one's spread around its mean."""
    absolute = (made - exact).abs().mean().item()
    return {"absolute": absolute, "relative": absolute / (exact - exact.mean()).abs().mean().item()}


def measure_speed(flow: Flow, case: Case, rounds: int) -> dict[str, Any]:
    """Seconds, ratios and distances of every variant for one case; the limits are measured between them."""
    prepared = {name: for_inference(flow, dtype) for name, dtype in DTYPES.items()}
    runs: dict[str, Callable[[], Tensor]] = {BASELINE: lambda: case.by_reference(flow)}
    runs |= {name: (lambda ready=ready: case.by(ready)) for name, ready in prepared.items()}
    mels: dict[str, Tensor] = {}

    def kept(name: str) -> Callable[[], None]:
        return lambda: mels.update({name: runs[name]()})

    with torch.inference_mode():
        products = large_products()
        alternate(products, rounds=2)
        seconds = alternate({**products, **{name: kept(name) for name in runs}}, rounds=rounds, warmup=0)
    off = (mels["float32"] - mels[BASELINE]).abs().max().item()
    assert off < 1e-3, f"the prepared flow is {off} away from the baseline: they do not compute the same"
    limits = {name: LARGE_PRODUCT / median(seconds[f"{name} limit"]) for name in DTYPES}
    work = operations(flow, case)
    return {
        "limits": limits,
        "variants": {
            name: {
                "seconds": median(seconds[name]),
                "rounds": seconds[name],
                "times_baseline": times_faster(seconds[BASELINE], seconds[name]),
                "share_of_limit": work / median(seconds[name]) / limits.get(name, limits["float32"]),
                "distance": distance(mels[name], mels["float32"]),
            }
            for name in runs
        },
    }


def measure_settings(flow: Flow, case: Case) -> dict[str, Any]:
    """Seconds and distance to the solution of every solver setting, float32."""
    ready = for_inference(flow)
    exact, results = case.by(ready, SOLUTION), {}
    for name, solver in SETTINGS.items():
        began = time.perf_counter()
        mel = case.by(ready, solver)
        results[name] = {"seconds": time.perf_counter() - began, **distance(mel, exact)}
    return results


def measure_memory(arguments: list[str]) -> dict[str, float]:
    """Peak MiB of a process that loads the flow and speaks the first case once."""
    script = Path(__file__).resolve()
    return {name: peak_of(script, [*arguments, "--only", name]) for name in (BASELINE, *DTYPES)}


def load(options: argparse.Namespace) -> tuple[Flow, Clock, Any]:
    """The flow, its rates, and the model it came from if it is a folder."""
    if options.model is None:
        torch.manual_seed(0)
        size = family_size(options.size)
        return Flow(size.parts(1)["flow"]).eval(), size.clock, None  # type: ignore[arg-type]
    from cosytune.models.folder import read_model

    model = read_model(options.model)
    return model.part("flow").eval(), model.clock, model


def show(result: dict[str, Any]) -> None:
    """Tables for people."""
    print(", ".join(f"{name} {value}" for name, value in result["machine"].items()))
    for case, measured in result["speed"].items():
        limits = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in measured["limits"].items())
        print(f"\n{case:32} seconds  x baseline  of limit  distance to float32   (limits in GFLOP/s: {limits})")
        for name, row in measured["variants"].items():
            gap = f"{row['distance']['absolute']:.5f} ({row['distance']['relative']:.2%})"
            figures = f"{row['seconds']:7.2f} {row['times_baseline']:11.2f} {row['share_of_limit']:9.0%}"
            print(f"  {name:30} {figures}  {gap}")
            if max(row["rounds"]) > BUSY * min(row["rounds"]):
                spread = ", ".join(f"{seconds:.2f}" for seconds in row["rounds"])
                print(f"    not to be trusted, the machine was busy: {spread} s; run again")
    print("\npeak memory: " + ", ".join(f"{name} {peak:.0f} MiB" for name, peak in result["peak_mib"].items()))
    print(f"\n{result['quality_of']:32} seconds  distance to {SOLUTION.steps} {SOLUTION.method} steps")
    for name, row in result["settings"].items():
        print(f"  {name:32} {row['seconds']:7.2f}  {row['absolute']:.4f} ({row['relative']:.1%})")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="300m", help="size of random weights: 300m or nano")
    parser.add_argument("--model", type=Path, help="model folder with a trained flow, instead of random weights")
    parser.add_argument("--wav", type=Path, help="recording whose tokens the solver settings are compared on")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each variant")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--only", choices=(BASELINE, *DTYPES), help="run one variant once and print its peak memory")
    options = parser.parse_args()
    flow, clock, model = load(options)
    whole = random_case(flow, clock, SPEECH_SECONDS, 0)
    if options.only is not None:
        if options.only == BASELINE:
            whole.by_reference(flow)
        else:
            # As a synthesiser would: the trained layers are let go once the prepared ones exist.
            flow = for_inference(flow, DTYPES[options.only])
            whole.by(flow)
        print(json.dumps({"peak_mib": peak_mib()}))
        return
    prompted = random_case(flow, clock, SPEECH_SECONDS, PROMPT_SECONDS)
    spoken = recorded_case(model, flow, options.wav) if options.wav else random_case(flow, clock, QUALITY_SECONDS, 0)
    arguments = ["--model", str(options.model)] if options.model else ["--size", options.size]
    result = {
        "machine": machine(),
        "speed": {
            f"{SPEECH_SECONDS} s": measure_speed(flow, whole, options.rounds),
            f"{SPEECH_SECONDS} s after {PROMPT_SECONDS} s": measure_speed(flow, prompted, options.rounds),
        },
        "peak_mib": measure_memory(arguments),
        "quality_of": str(options.wav.name) if options.wav else "random tokens",
        "settings": measure_settings(flow, spoken),
    }
    if options.json:
        print(json.dumps(result))
    else:
        show(result)


if __name__ == "__main__":
    main()
