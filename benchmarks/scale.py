"""A made-up corpus of a million utterances without audio: written, opened, filtered, split, dealt out, trained on.

Each step runs in a process of its own, so that its peak memory is its own: `python benchmarks/scale.py --utterances N`.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from cosytune.data.clip_index import ClipIndex
from cosytune.data.corpus import Contents, Corpus, write_corpus
from cosytune.data.features import Features
from cosytune.data.manifest import Utterance
from cosytune.data.results import LedgerLine
from cosytune.data.sampler import BatchPlan, endless, endless_places
from cosytune.data.splits import SplitSettings, Splitter

SPEAKERS = 1000
WORDS = 20_000
BUDGET = 120.0
"""Seconds of a batch."""
MEGABYTE = 1024


def made_up(utterances: int) -> Iterator[Utterance]:
    """Clips of random lengths and words; one text in ten is an earlier one, half of these with a word changed."""
    rng = random.Random(1)
    letters = "aaabcdeeeefghiiiklmnnooprrssttuuvwz"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(WORDS)]
    recent: list[list[str]] = []
    for number in range(utterances):
        if recent and rng.random() < 0.1:
            text = list(rng.choice(recent))
            if rng.random() < 0.5:
                text[rng.randrange(len(text))] = rng.choice(words)
        else:
            text = rng.choices(words, k=rng.randint(4, 20))
        if len(recent) < 1000:
            recent.append(text)
        else:
            recent[rng.randrange(1000)] = text
        speaker = f"s{rng.randrange(SPEAKERS):04d}"
        seconds = round(0.4 * len(text) * rng.uniform(0.7, 1.3) + 0.5, 3)
        identity = f"{speaker}/{number:07d}"
        yield Utterance(identity, f"/made/up/{identity}.wav", " ".join(text), speaker, "en", seconds=seconds)


def write(folder: Path, utterances: int) -> str:
    """Draw the sides and write a corpus."""
    splitter = Splitter(SplitSettings())
    for clip in made_up(utterances):
        splitter.add(clip)
    begin = time.perf_counter()
    drawn = splitter.draw()
    drawing = time.perf_counter() - begin
    contents = Contents(
        utterances=((clip, drawn.side(number) or "train", "0") for number, clip in enumerate(made_up(utterances))),
        recordings=((clip.audio, "0") for clip in made_up(min(1, utterances))),
        lines=(LedgerLine(clip.id, clip.audio, "kept", seconds=clip.seconds) for clip in made_up(utterances)),
        seen=utterances,
        notes=drawn.notes,
        between=0.0,
        splits=drawn.info,
        source={},
    )
    corpus = write_corpus(folder, contents)
    groups, sentences = drawn.info["groups"], drawn.info["sentences"]
    return f"sides drawn in {drawing:.1f} s: {sentences} sentences in {groups} groups, {corpus.info['sides']}"


def opened(folder: Path, utterances: int) -> str:
    """Open the corpus and its account."""
    corpus = Corpus(folder)
    return f"{len(corpus)} utterances, {corpus.ledger.kept} kept"


def filtered(folder: Path, utterances: int) -> str:
    """Go through the training side and count what one speaker says between 3 and 6 s."""
    return f"{sum(1 for _ in Corpus(folder).stream('train', speaker='s0007', shortest=3.0, longest=6.0))} clips"


def first_batch(folder: Path, utterances: int) -> str:
    """Index the training side and draw the first batch, with its utterances read."""
    begin = time.perf_counter()
    clips = ClipIndex(Corpus(folder), "train")
    indexed = time.perf_counter() - begin
    batch = next(endless_places(clips.seconds, seconds=BUDGET, seed=0))
    return f"index in {indexed:.1f} s; {len(clips.read(batch))} clips in the first batch"


def thousand_batches(folder: Path, utterances: int) -> str:
    """The first thousand batches, after the index."""
    clips = ClipIndex(Corpus(folder), "train")
    begin = time.perf_counter()
    drawn = sum(len(batch) for batch in islice(endless_places(clips.seconds, seconds=BUDGET, seed=0), 1000))
    return f"{1e3 * (time.perf_counter() - begin) / 1000:.2f} ms a batch, {drawn} clips"


def resumed(folder: Path, utterances: int) -> str:
    """Go on in the middle of the eleventh epoch."""
    clips = ClipIndex(Corpus(folder), "train")
    plan = BatchPlan.of(clips.seconds, BUDGET)
    begin = time.perf_counter()
    next(endless_places(clips.seconds, seconds=BUDGET, seed=0, start_step=10 * plan.steps + plan.steps // 2))
    return f"{plan.steps} batches an epoch; first batch after {time.perf_counter() - begin:.1f} s"


def lm_task(folder: Path, utterances: int) -> str:
    """The LM's side of training on all clips, with few and the same speech tokens for each, and ten batches."""
    import torch

    from cosytune.text.tokenizers import load_tokenizer
    from cosytune.training.lm import LMTask
    from cosytune.training.settings import LoopSettings
    from cosytune.training.stages import initial_model
    from cosytune.training.task import Draws

    corpus = Corpus(folder)
    model = initial_model("nano", [clip.text or "" for clip in islice(corpus.stream("train"), 1000)], seed=0)
    tokenizer = load_tokenizer(model.tokenizer.kind, model.tokenizer.data)
    settings = LoopSettings(steps=10, batch_seconds=BUDGET, learning_rate=1e-3, concatenate=0.3)
    before, begin = _peak(), time.perf_counter()
    sides = ClipIndex(corpus, "train"), ClipIndex(corpus, "validation")
    task = LMTask(model, *sides, _Tokens(), tokenizer, "pretrain", settings, torch.device("cpu"))  # type: ignore[arg-type]
    built, memory = time.perf_counter() - begin, _peak() - before
    for step, ids in enumerate(islice(endless(task.clips(), seconds=BUDGET, seed=0), 10)):
        task.batch(ids, Draws(0, step))
    return f"{len(task.clips())} clips: {memory:.0f} MB, {built:.1f} s; with ten batches {_peak() - before:.0f} MB"


class _Tokens:
    """A store of features that has no file."""

    def read(self, ids: Sequence[str]) -> list[Features]:
        return [Features(clip, None, "s", np.arange(20), np.ones(128, np.float32)) for clip in ids]


STEPS: dict[str, Callable[[Path, int], str]] = {
    "write": write,
    "open": opened,
    "filter": filtered,
    "first-batch": first_batch,
    "thousand-batches": thousand_batches,
    "resume": resumed,
    "lm-task": lm_task,
}


def run(step: str, folder: Path, utterances: int) -> None:
    """Run one step in this process and print its row as JSON."""
    before = _peak()
    begin = time.perf_counter()
    what = STEPS[step](folder, utterances)
    seconds = time.perf_counter() - begin
    print(json.dumps({"step": step, "seconds": seconds, "peak": _peak(), "imported": before, "what": what}))


def _peak() -> float:
    """Largest resident memory of this process so far, MB (Linux counts in kB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEGABYTE


def main() -> None:
    """Run all steps, or those that are named, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/cosytune-scale"))
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = arguments.folder / str(arguments.utterances)
    if arguments.inside:
        run(arguments.steps[0], folder, arguments.utterances)
        return
    print(f"{'step':18} {'s':>7} {'peak MB':>8} {'of it imports':>14}  what")
    for step in arguments.steps:
        command = [sys.executable, __file__, "--inside", "--steps", step, "--utterances", str(arguments.utterances)]
        done = subprocess.run([*command, "--folder", str(arguments.folder)], check=True, capture_output=True, text=True)
        row = json.loads(done.stdout)
        print(f"{step:18} {row['seconds']:7.1f} {row['peak']:8.0f} {row['imported']:14.0f}  {row['what']}", flush=True)


if __name__ == "__main__":
    main()
