"""Speed of training: our loop beside the one that is written at first, in the same run, step by step in turn.

python benchmarks/training.py [--size 300m] [--part lm|flow] [--rounds 6] [--seconds 20] [--json]
python benchmarks/training.py --compare-precision [--size nano] [--steps 60]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from made_up_corpus import corpus_seconds, write_made_up
from measuring import machine, median, peak_mib
from reference_training import plain_training
from torch import nn

from cosytune.data.corpus import Corpus
from cosytune.data.features import FeatureStore
from cosytune.data.manifest import Utterance
from cosytune.models.loading import network_of
from cosytune.models.model import Model, TokenizerFile
from cosytune.models.sizes import family_size
from cosytune.text.tokenizers import SmallTokenizer, TextTokenizer, load_tokenizer
from cosytune.training.flow import FlowTask
from cosytune.training.lm import LMTask
from cosytune.training.loop import train
from cosytune.training.results import MetricPoint
from cosytune.training.run import PartRun
from cosytune.training.settings import LoopSettings
from cosytune.training.strategies import Situation, resolve
from cosytune.training.task import Task

VARIANTS = {
    "lm": ("plain", "full bfloat16", "lora bfloat16"),
    "flow": ("full float32", "full bfloat16", "lora bfloat16"),
}
CLIPS = 300
WARMUP = 1
BUSY = 1.25
"""A machine is called busy when the fastest and the slowest step of a variant differ by more than this factor."""
MANY = 1_000_000
"""Updates that no run reaches."""


class EnoughError(Exception):
    """Everything is measured."""


class UnstoredRun(PartRun):
    """A run whose random weights are kept nowhere; it remembers its curves."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, {})
        self.points: list[MetricPoint] = []

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Keep nothing."""

    def record(self, points: Any) -> None:
        """Remember."""
        self.points += points

    def finish(self, weights: dict[str, torch.Tensor], result: Any) -> None:
        """Keep nothing."""


class Meter:
    """Measures steps, and holds the loop after each until the next one is asked for.

    What is done before a network is called (drawing the batch, reading, encoding, padding) is counted as loading.
    """

    def __init__(self, network: nn.Module, part: str) -> None:
        self._lengths, self._padded = (3, 2) if part == "lm" else (1, 0)
        self._began = self._called = 0.0
        self._tokens = self._cells = 0
        network.register_forward_pre_hook(self._note)

    def _note(self, network: nn.Module, given: tuple[Any, ...]) -> None:
        self._called = time.perf_counter()
        self._tokens, self._cells = int(given[self._lengths].sum()), given[self._padded].numel()

    def watch(self, step: int) -> None:
        """Say what the step took and wait."""
        ended = time.perf_counter()
        row = {
            "seconds": ended - self._began,
            "loading": self._called - self._began,
            "tokens": self._tokens,
            "padded": self._cells,
            "peak_mib": peak_mib(),
        }
        print(json.dumps(row), flush=True)
        if not sys.stdin.readline():
            raise EnoughError
        self._began = time.perf_counter()


@dataclass(frozen=True)
class Material:
    """A model with random weights and what it is trained on."""

    model: Model
    tokenizer: TextTokenizer
    train: tuple[Utterance, ...]
    validation: tuple[Utterance, ...]
    features: FeatureStore


def material(part: str, size: str, folder: Path) -> Material:
    """One part of a family, and the made-up corpus in `folder`."""
    corpus, family = Corpus(folder / "corpus"), family_size(size)
    sides = corpus.utterances("train"), corpus.utterances("validation")
    if family.text_vocabulary:
        file, vocabulary = TokenizerFile("whisper"), family.text_vocabulary
    else:
        small = SmallTokenizer.train([clip.text or "" for clip in sides[0]], family.small_vocabulary)
        file, vocabulary = TokenizerFile("small", small.to_bytes()), small.vocabulary_size
    torch.manual_seed(0)
    parts = {part: network_of(family.parts(vocabulary)[part])}
    model = Model("random", "initial", family.clock, family.mel, parts, file)
    features = FeatureStore(corpus.features_folder("made up"))
    return Material(model, load_tokenizer(file.kind, file.data), *sides, features)


def write_corpus(part: str, size: str, folder: Path) -> None:
    """Features of the sizes that this family has."""
    family = family_size(size)
    config: Any = family.parts(family.text_vocabulary or family.small_vocabulary)[part]
    write_made_up(folder, family.clock, config.speech_codebook, config.speaker_width, family.mel.bins, CLIPS)


def task_of(part: str, given: Material, settings: LoopSettings) -> Task:
    """The part's own task."""
    sides, device = (given.train, given.validation), torch.device("cpu")
    if part == "lm":
        return LMTask(given.model, *sides, given.features, given.tokenizer, "tune", settings, device)
    return FlowTask(given.model, *sides, given.features, "tune", settings, device)


def settings_of(part: str, variant: str, **changes: Any) -> LoopSettings:
    """What `tune` would use, without interruptions."""
    strategy, precision = variant.split()
    situation = Situation("tune", "base", 300_000_000, 60.0)
    rare = {"validate_every": MANY, "checkpoint_every": MANY, "precision": precision}
    return resolve(strategy, part, situation, {**rare, **changes})[0]  # type: ignore[arg-type]


def only(part: str, size: str, folder: Path, variant: str, seconds: float) -> None:
    """One variant, held by its meter after every step, until nobody asks for another."""
    given = material(part, size, folder)
    meter = Meter(given.model.part(part), part)
    if variant == "plain":
        ids = [clip.id for clip in given.train]
        clips = round(seconds / corpus_seconds(CLIPS).mean())
        plain_training(given.model.part(part), given.features, ids, given.tokenizer.encode, clips, meter.watch)
        return
    settings = settings_of(part, variant, batch_seconds=seconds, steps=MANY)
    with tempfile.TemporaryDirectory(dir=folder) as run:
        train(task_of(part, given, settings), settings, UnstoredRun(Path(run)), meter.watch)


def measure(part: str, size: str, folder: Path, rounds: int, seconds: float) -> dict[str, list[dict[str, Any]]]:
    """`rounds` steps of each variant in turn, after some that nobody counts; each in a process of its own."""
    source = ["--part", part, "--size", size, "--seconds", str(seconds), "--folder", str(folder)]
    rows: dict[str, list[dict[str, Any]]] = {}
    with ExitStack() as stack:
        at_work = {}
        for name in VARIANTS[part]:
            command = [sys.executable, __file__, *source, "--only", name]
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            at_work[name] = stack.enter_context(child)
            _row(child)
        for _ in range(WARMUP + rounds):
            for name, child in at_work.items():
                assert child.stdin is not None
                child.stdin.write("on\n")
                child.stdin.flush()
                row = _row(child)
                sys.stderr.write(f"{name}: {row['tokens']} tokens in {row['seconds']:.1f} s\n")
                rows.setdefault(name, []).append(row)
        for child in at_work.values():
            child.communicate()
    return {name: made[WARMUP:] for name, made in rows.items()}


def _row(child: subprocess.Popen[str]) -> dict[str, Any]:
    assert child.stdout is not None
    found: dict[str, Any] = json.loads(child.stdout.readline())
    return found


def summary(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians of each variant; ratios are medians of the ratios round by round."""
    rates = {name: [row["tokens"] / row["seconds"] for row in made] for name, made in rows.items()}
    first = next(iter(rates.values()))
    return {
        name: {
            "tokens_per_second": median(rates[name]),
            "times_faster": median([rate / base for rate, base in zip(rates[name], first, strict=True)]),
            "step_seconds": median([row["seconds"] for row in made]),
            "tokens": median([row["tokens"] for row in made]),
            "padding": 1 - sum(row["tokens"] for row in made) / sum(row["padded"] for row in made),
            "loading": sum(row["loading"] for row in made) / sum(row["seconds"] for row in made),
            "peak_mib": max(row["peak_mib"] for row in made),
            "spread": max(rates[name]) / min(rates[name]),
        }
        for name, made in rows.items()
    }


def table(found: dict[str, Any]) -> str:
    """The figures for people."""
    names = ("tokens/s", "x", "s/step", "tokens", "padding", "loading", "peak MiB", "spread")
    lines = [f"{'variant':<15}" + "".join(f"{name:>9}" for name in names)]
    for name, row in found.items():
        lines.append(
            f"{name:<15}{row['tokens_per_second']:>9.1f}{row['times_faster']:>9.2f}{row['step_seconds']:>9.2f}"
            f"{row['tokens']:>9.0f}{row['padding']:>9.1%}{row['loading']:>9.2%}{row['peak_mib']:>9.0f}"
            f"{row['spread']:>9.2f}"
        )
    if max(row["spread"] for row in found.values()) > BUSY:
        lines.append("busy machine: steps of one variant differ much in speed; only what is far apart is meant")
    return "\n".join(lines)


def compare_precision(size: str, folder: Path, steps: int, seconds: float) -> dict[str, Any]:
    """The LM from the same random weights, on the same batches with the same dropout, in both precisions."""
    ends, curves = {}, {}
    for precision in ("float32", "bfloat16"):
        changes = {"batch_seconds": seconds, "steps": steps, "learning_rate": 1e-3, "warmup_steps": 5}
        settings = settings_of("lm", f"full {precision}", **changes)
        run = UnstoredRun(folder / precision)
        result = train(task_of("lm", material("lm", size, folder), settings), settings, run)
        ends[precision] = {"before": result.start["cross_entropy"], "after": result.end["cross_entropy"]}
        curves[precision] = [point.value for point in run.points if (point.side, point.name) == ("train", "loss")]
    apart = [abs(one - other) for one, other in zip(*curves.values(), strict=True)]
    return {"steps": steps, "validation": ends, "largest_difference_of_training_loss": max(apart)}


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="300m")
    parser.add_argument("--part", choices=list(VARIANTS), default="lm")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=20.0, help="of speech in a step")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--compare-precision", action="store_true", help="what bfloat16 does to the loss of the LM")
    parser.add_argument("--steps", type=int, default=30, help="of the comparison")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only is not None:
        with suppress(EnoughError):
            only(given.part, given.size, given.folder, given.only, given.seconds)
        return
    with tempfile.TemporaryDirectory(prefix="cosytune-training-") as name:
        folder = Path(name)
        write_corpus(given.part, given.size, folder)
        if given.compare_precision:
            print(json.dumps(compare_precision(given.size, folder, given.steps, given.seconds), indent=1))
            return
        found = summary(measure(given.part, given.size, folder, given.rounds, given.seconds))
    print(json.dumps({"variants": found, "machine": machine()}) if given.json else table(found))


if __name__ == "__main__":
    main()
