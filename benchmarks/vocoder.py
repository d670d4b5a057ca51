"""Speed of the vocoder: for speaking, the reference's way, in streams and in batches.

    python benchmarks/vocoder.py [--size 300m | --model FOLDER] [--frames 430] [--json]

The baseline is the reference's way with our weights (specification, 7.1 and 10.5), which is what the trained `Vocoder`
does: weight norms recomputed in every call, Snake out of place, plain Conv1d. All variants start from the same random
numbers.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measuring import alternate, machine, median, peak_mib, peak_of, times_faster
from torch import Tensor

from cosytune.models.layers.noise import NoiseTape
from cosytune.models.vocoder import Vocoder
from cosytune.models.vocoder import stream as streams
from cosytune.models.vocoder.inference import InferenceVocoder, for_inference
from cosytune.models.vocoder.stream import VocoderStream, look_ahead, vocode

BASELINE = "reference's way"
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ROUNDS = 3
CHUNKS = (20, 50, 100)
BATCH_SHARES = (0.3, 0.5, 0.7, 0.8, 0.9, 1.0)
"""Lengths of the rows of a batch, as parts of the frames asked for."""
AGREEMENT = 1e-4


def load(arguments: argparse.Namespace) -> Vocoder:
    """The vocoder of a folder, or one with random weights whose layers are as loud as a trained one's."""
    if arguments.model is not None:
        from cosytune.models.folder import read_model

        trained: Vocoder = read_model(arguments.model).part("vocoder")
        return trained.eval()
    from cosytune.models.sizes import family_size

    torch.manual_seed(0)
    vocoder = Vocoder(family_size(arguments.size).parts(1)["vocoder"]).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in vocoder.named_parameters():
            # Fresh gains are so small that the residual blocks hardly matter, and no distance would show.
            if name.endswith("original0") and not name.startswith(("f0", "conv_post")):
                parameter.fill_(1.0)
    return vocoder


class Utterance:
    """One mel and the random numbers of its excitation."""

    def __init__(self, vocoder: Vocoder, frames: int, seed: int = 0) -> None:
        self.config, self.seed = vocoder.config, seed
        generator = torch.Generator().manual_seed(seed)
        self.mel = 2 * torch.randn(self.config.mel_bins, frames, generator=generator) - 5
        self.phases = vocoder.harmonic_source.draw_phases(1, generator, torch.device("cpu"))[0]

    def tape(self) -> NoiseTape:
        """The noise, from its beginning."""
        return NoiseTape(self.config.harmonics + 1, self.seed)


@torch.no_grad()
def reference(vocoder: Vocoder, utterance: Utterance) -> Tensor:
    """The wave [N], the reference's way."""
    mel = utterance.mel.unsqueeze(0)
    noise = utterance.tape().take(mel.shape[-1] * vocoder.config.hop).unsqueeze(0)
    source = vocoder.source(vocoder.predict_f0(mel), phases=utterance.phases.unsqueeze(0), noise=noise)
    return vocoder.decode(mel, source)[0]


def variants(vocoder: Vocoder, utterance: Utterance) -> dict[str, Callable[[], Tensor]]:
    """Each makes the same wave [N]."""
    made: dict[str, Callable[[], Tensor]] = {BASELINE: partial(reference, vocoder, utterance)}
    for name, dtype in TYPES.items():
        fast = for_inference(vocoder, dtype)
        made[name] = partial(whole, fast, utterance)
        for frames in CHUNKS:
            made[f"{name}, chunks of {frames}"] = partial(chunked, fast, utterance, frames)
    return made


def whole(fast: InferenceVocoder, utterance: Utterance) -> Tensor:
    """The wave [N] of the whole mel at once."""
    return vocode(fast, [utterance.mel], [utterance.tape()], utterance.phases.unsqueeze(0))[0]


def chunked(fast: InferenceVocoder, utterance: Utterance, frames: int) -> Tensor:
    """The wave [N] as a stream gives it."""
    stream = VocoderStream(fast, utterance.tape(), utterance.phases)
    pieces = list(utterance.mel.split(frames, dim=1))
    return torch.cat([stream.push(mel, final=index == len(pieces) - 1) for index, mel in enumerate(pieces)])


def batches(vocoder: Vocoder, frames: int) -> dict[str, Callable[[], list[Tensor]]]:
    """Rows of different lengths one after the other, and as one padded batch."""
    fast = for_inference(vocoder)
    rows = [Utterance(vocoder, max(1, round(share * frames)), seed) for seed, share in enumerate(BATCH_SHARES)]
    mels, phases = [row.mel for row in rows], torch.stack([row.phases for row in rows])

    @torch.no_grad()
    def run(how: Callable[..., list[Tensor]]) -> list[Tensor]:
        return how(fast, mels, [row.tape() for row in rows], phases)

    return {"rows in turn": partial(run, vocode), "one padded batch": partial(run, streams._together)}


def distances(made: Tensor, expected: Tensor) -> dict[str, float]:
    """Largest difference, signal to noise in dB and log-spectral distance in dB of two waves [N]."""
    error = made - expected
    noise = error.square().mean().clamp(min=1e-20)
    window = torch.hann_window(1024)
    powers = [
        torch.stft(wave, 1024, 256, window=window, return_complex=True).abs().square().clamp(min=1e-8)
        for wave in (made, expected)
    ]
    logs = 10 * (powers[0].log10() - powers[1].log10())
    return {
        "largest": float(error.abs().max()),
        "snr_db": 10 * math.log10(float(expected.square().mean() / noise)),
        "log_spectral_db": float(logs.square().mean(dim=0).sqrt().mean()),
    }


@torch.no_grad()
def check(vocoder: Vocoder, utterance: Utterance) -> float:
    """How far the float32 vocoder for speaking is from the trained one at most; nothing is timed if that is too far.

    Both get the same excitation: from their own, phases part by what rounding does to F0, summed over the utterance.
    """
    mel, fast = utterance.mel.unsqueeze(0), for_inference(vocoder)
    source = vocoder.source(vocoder.predict_f0(mel), torch.Generator().manual_seed(0))
    apart = float((fast.decode(mel, source) - vocoder.decode(mel, source)).abs().max())
    if apart > AGREEMENT:
        raise SystemExit(f"float32 is {apart:.1e} from the {BASELINE}: nothing here is worth timing")
    return apart


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    vocoder = load(arguments)
    utterance = Utterance(vocoder, arguments.frames)
    agreement = check(vocoder, utterance)
    runs = variants(vocoder, utterance)
    expected = runs[BASELINE]()
    apart = {name: distances(run(), expected) for name, run in runs.items() if name != BASELINE}
    rounds = alternate(runs, ROUNDS, warmup=0)
    together = batches(vocoder, arguments.frames)
    batch_seconds = {name: median(values) for name, values in alternate(together, ROUNDS - 1).items()}
    speech = arguments.frames * vocoder.config.hop / vocoder.config.sample_rate
    return {
        "machine": machine(),
        "frames": arguments.frames,
        "same_excitation_apart": agreement,
        "speech_seconds": speech,
        "look_ahead_frames": look_ahead(vocoder.config),
        "look_ahead_ms": 1000 * look_ahead(vocoder.config) * vocoder.config.hop / vocoder.config.sample_rate,
        "variants": {
            name: {
                "seconds": median(values),
                "real_time_factor": median(values) / speech,
                "times_baseline": times_faster(rounds[BASELINE], values),
                **apart.get(name, {}),
            }
            for name, values in rounds.items()
        },
        "batch_seconds": batch_seconds,
        "peak_mib": {name: peak_of(Path(__file__), [*sizes(arguments), "--only", name]) for name in (BASELINE, *TYPES)},
    }


def sizes(arguments: argparse.Namespace) -> list[str]:
    """The arguments that say what is measured."""
    what = ["--size", arguments.size] if arguments.model is None else ["--model", str(arguments.model)]
    return [*what, "--frames", str(arguments.frames)]


def only(arguments: argparse.Namespace) -> dict[str, float]:
    """Peak memory of one variant, weights and libraries included."""
    vocoder = load(arguments)
    utterance = Utterance(vocoder, arguments.frames)
    if arguments.only == BASELINE:
        reference(vocoder, utterance)
    else:
        fast = for_inference(vocoder, TYPES[arguments.only])
        del vocoder
        whole(fast, utterance)
    return {"peak_mib": peak_mib()}


def table(result: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [
        f"{result['speech_seconds']:.2f} s of speech ({result['frames']} frames), {result['machine']}",
        f"{'':26}{'seconds':>9}{'RTF':>8}{'times':>8}{'SNR dB':>9}{'LSD dB':>8}{'largest':>10}{'MiB':>7}",
    ]
    for name, row in result["variants"].items():
        line = f"{name:26}{row['seconds']:9.3f}{row['real_time_factor']:8.3f}{row['times_baseline']:8.2f}"
        if "snr_db" in row:
            line += f"{row['snr_db']:9.1f}{row['log_spectral_db']:8.3f}{row['largest']:10.1e}"
        if name in result["peak_mib"]:
            line = f"{line:78}{result['peak_mib'][name]:7.0f}"
        lines.append(line)
    lines.append(f"float32 with the same excitation: {result['same_excitation_apart']:.1e} apart at most")
    lines.append(f"look-ahead {result['look_ahead_frames']} frames = {result['look_ahead_ms']:.0f} ms")
    lines += [f"{len(BATCH_SHARES)} {name}: {value:.3f} s" for name, value in result["batch_seconds"].items()]
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="300m", help="shapes with random weights: nano or 300m")
    parser.add_argument("--model", type=Path, help="a model folder instead")
    parser.add_argument("--frames", type=int, default=430, help="mel frames")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--only", choices=[BASELINE, *TYPES], help="run one variant once and print its peak memory")
    arguments = parser.parse_args()
    if arguments.only is not None:
        print(json.dumps(only(arguments)))
        return
    result = measure(arguments)
    print(json.dumps(result) if arguments.json else table(result))


if __name__ == "__main__":
    main()
