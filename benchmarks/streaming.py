"""How far streamed speech is from whole speech: recordings of a folder said again by a model, both ways.

    python benchmarks/streaming.py --model FOLDER --recordings FOLDER [--clips 4]

Recordings are converted (their own tokens, the first 3 s as the prompt), so that the LM has no part in it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from measuring import machine

from cosytune.models.folder import read_model
from cosytune.models.vocoder.stream import VocoderStream
from cosytune.synthesis import Request, Synthesiser
from cosytune.synthesis.conditions import read_recording
from cosytune.synthesis.streaming import StreamConfig

SETTINGS = {
    "no context, no look-ahead": StreamConfig(look_ahead=0.0, context=0.0),
    "look-ahead 0.4 s": StreamConfig(context=0.0),
    "context 1 s, look-ahead 0.2 s": StreamConfig(look_ahead=0.2, context=1.0),
    "context 1 s, look-ahead 0.4 s": StreamConfig(context=1.0),
    "context 3 s, look-ahead 0.4 s (default)": StreamConfig(),
    "context 3 s, look-ahead 1 s": StreamConfig(look_ahead=1.0),
}


class Listening(VocoderStream):
    """A vocoder stream that keeps the mel it is handed."""

    heard: list[torch.Tensor]

    def push(self, mel: torch.Tensor, final: bool = False) -> torch.Tensor:
        """As the vocoder's."""
        Listening.heard.append(mel)
        return super().push(mel, final)


def mel_of(synthesiser: Synthesiser, request: Request, config: StreamConfig) -> torch.Tensor:
    """The log-mel [M, F] of a stream."""
    Listening.heard = []
    for _ in synthesiser.stream(request, config):
        pass
    return torch.cat(Listening.heard, dim=1)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--recordings", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=4)
    arguments = parser.parse_args()
    from cosytune.synthesis import streaming

    streaming.VocoderStream = Listening  # type: ignore[misc]
    synthesiser = Synthesiser(read_model(arguments.model))
    requests = []
    for file in sorted(path for path in arguments.recordings.rglob("*") if path.suffix in (".wav", ".flac")):
        wave, rate = read_recording(file)
        if 5 * rate <= len(wave) and len(requests) < arguments.clips:
            requests.append(Request(source_wave=wave, source_rate=rate, prompt_wave=wave[: 3 * rate], prompt_rate=rate))
    wholes = [mel_of(synthesiser, request, StreamConfig(first=60.0)) for request in requests]
    print(json.dumps(machine() | {"clips": len(requests), "deviation": float(torch.cat(wholes, dim=1).std())}))
    print(f"{'mean |difference| of the log-mel':<42}{'mean':>8}{'rms':>8}")
    for name, config in SETTINGS.items():
        pairs = zip((mel_of(synthesiser, request, config) for request in requests), wholes, strict=True)
        difference = torch.cat([streamed - whole for streamed, whole in pairs], dim=1)
        print(f"{name:<42}{difference.abs().mean():>8.3f}{difference.square().mean().sqrt():>8.3f}")


if __name__ == "__main__":
    main()
