"""The whole story on synthesised speech: corpora, pre-training, SFT, and both models as starts for a new voice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cosytune.comparison.compose.comparing import compare
from cosytune.comparison.compose.starts import initial_start
from cosytune.comparison.plan import ComparisonPlan, ComparisonResult
from cosytune.data.corpus import Corpus
from cosytune.data.manifest import read_manifest, write_manifest
from cosytune.data.prepare import prepare_corpus
from cosytune.data.synthesised import SynthVoice, make_voices, synthesise_corpus
from cosytune.errors import InputError
from cosytune.files import hash_json, write_json
from cosytune.training.jobs import Reporter
from cosytune.training.stages import DEFAULT_PARTS, StagePlan, run_stage

__all__ = ["FULL_DEMO", "TOY_DEMO", "DemoSize", "make_models", "run_demo"]


@dataclass(frozen=True)
class DemoSize:
    """How much of everything.

    Attributes:
        voices: in the pre-training corpus; one in four comes without transcripts.
        minutes: per pre-training voice.
        sft_voices: how many of them are labelled again for SFT; `sft_minutes` each.
        new_minutes: of the voice that both starts are tuned to.
        sentences: held-out sentences that every system speaks.
        seeds: trainings per start.
        listen: validation sentences that the checkpoints of the comparison speak.
        pretrain, sft, tune: loop settings by part.
    """

    voices: int
    minutes: float
    sft_voices: int
    sft_minutes: float
    new_minutes: float
    sentences: int
    seeds: int
    listen: int
    pretrain: Mapping[Any, Mapping[str, Any]]
    sft: Mapping[Any, Mapping[str, Any]]
    tune: Mapping[Any, Mapping[str, Any]]


_FAST = {"precision": "bfloat16", "validate_every": 200, "checkpoint_every": 100}

FULL_DEMO = DemoSize(
    voices=20,
    minutes=5.0,
    sft_voices=4,
    sft_minutes=3.0,
    new_minutes=5.0,
    sentences=10,
    seeds=1,
    listen=2,
    pretrain={
        "speech_tokenizer": {**_FAST, "steps": 1200},
        "speaker_encoder": {**_FAST, "steps": 200},
        "vocoder": {**_FAST, "steps": 1000},
        "lm": {**_FAST, "steps": 1200},
        "flow": {**_FAST, "steps": 1000},
    },
    sft={"lm": {**_FAST, "steps": 150, "batch_seconds": 12.0}, "flow": {**_FAST, "steps": 120}},
    tune={
        "lm": {**_FAST, "steps": 150, "batch_seconds": 12.0, "learning_rate": 3e-4, "score_every": 75},
        "flow": {**_FAST, "steps": 150, "batch_seconds": 12.0, "learning_rate": 5e-4, "score_every": 75},
        "vocoder": {**_FAST, "steps": 250, "score_every": 125},
    },
)
"""What `make demo` runs: under twenty minutes on two cores, installation included."""

_TOY = {"steps": 2, "batch_seconds": 6.0, "validate_every": 2, "checkpoint_every": 2}

TOY_DEMO = DemoSize(
    voices=4,
    minutes=0.5,
    sft_voices=2,
    sft_minutes=0.4,
    new_minutes=1.0,
    sentences=2,
    seeds=1,
    listen=0,
    pretrain=dict.fromkeys(DEFAULT_PARTS["pretrain"], _TOY),
    sft={"lm": _TOY, "flow": _TOY},
    tune={"lm": _TOY, "flow": _TOY, "vocoder": _TOY},
)
"""Every step of the story with nothing learned: for tests."""


def run_demo(folder: Path, size: DemoSize, reporter: Reporter, *, seed: int = 0, workers: int = 2) -> ComparisonResult:
    """Run the story in `folder`; a run that was stopped goes on where it was.

    Raises:
        InputError: a corpus in `folder` was not made by this demo with this size and seed.
        MissingPackageError: espeakng-loader is not installed.
        CosytuneError: whatever a stage raises.
    """
    base, sft = make_models(folder, size, reporter, seed=seed, workers=workers)
    new_voice = make_voices(size.voices + 1, seed=seed)[size.voices :]
    # A quarter is held out: with fewer than ten sentences no difference, however large, could pass the correction.
    new = _corpus(folder / "data" / "new-voice", new_voice, size.new_minutes, seed + 2, reporter, test=0.25)
    plan = ComparisonPlan(
        starts={"base": base, "sft": sft},
        corpus=new.path,
        output=folder / "comparison",
        seeds=tuple(range(size.seeds)),
        overrides=size.tune,
        sentences=size.sentences,
        parts=tuple(size.tune),
        workers=workers,
        listen=size.listen,
    )
    return compare(plan, reporter)


def make_models(folder: Path, size: DemoSize, reporter: Reporter, *, seed: int, workers: int) -> tuple[Path, Path]:
    """Pre-train a nano base on many voices and fine-tune it on some of them; returns both model folders.

    Raises:
        CosytuneError: as `run_demo`.
    """
    # One voice more is made and left out here: the one that neither stage has heard when the comparison tunes to it.
    voices = make_voices(size.voices + 1, seed=seed)[: size.voices]
    silent = size.voices // 4
    many = _corpus(folder / "data" / "many-voices", voices, size.minutes, seed, reporter, untranscribed=silent)
    initial = initial_start("nano", many, seed, folder / "models" / "initial")
    base, sft = folder / "models" / "base", folder / "models" / "sft"
    pretrain = StagePlan("pretrain", initial, many.path, base, DEFAULT_PARTS["pretrain"], size.pretrain, seed, workers)
    run_stage(replace(pretrain, label="pretrain"), reporter)
    few = _corpus(folder / "data" / "sft-voices", voices[: size.sft_voices], size.sft_minutes, seed + 1, reporter)
    run_stage(StagePlan("sft", base, few.path, sft, ("lm", "flow"), size.sft, seed, workers, label="sft"), reporter)
    return base, sft


def _corpus(
    folder: Path,
    voices: Sequence[SynthVoice],
    minutes: float,
    seed: int,
    reporter: Reporter,
    *,
    untranscribed: int = 0,
    test: float = 0.1,
) -> Corpus:
    """A prepared corpus of synthesised speech; the last `untranscribed` voices lose their transcripts."""
    settings = [[asdict(voice) for voice in voices], minutes, seed, untranscribed]
    made_from = {"made_from": hash_json(settings)}
    note = folder / "demo.json"
    if not folder.exists():
        _speak_corpus(folder, voices, minutes, seed, reporter, untranscribed, made_from)
    elif not note.is_file() or json.loads(note.read_text(encoding="utf-8")) != made_from:
        raise InputError(
            f"{folder} was not made by this demo with this size and seed; give another --output, or delete that folder"
        )
    corpus = prepare_corpus(folder, folder.with_name(folder.name + ".corpus"), seed=seed, test=test)
    reporter.say(f"{folder.name}: {corpus.ledger.summary()}")
    return corpus


def _speak_corpus(
    folder: Path,
    voices: Sequence[SynthVoice],
    minutes: float,
    seed: int,
    reporter: Reporter,
    untranscribed: int,
    made_from: Mapping[str, str],
) -> None:
    """Fill `folder` in one piece: a demo that was stopped must not go on with half a corpus."""
    name = f"speaking {folder.name}"
    reporter.start(name, len(voices))
    building = folder.with_name(f".{folder.name}.building").absolute()
    shutil.rmtree(building, ignore_errors=True)
    synthesise_corpus(
        building,
        voices=voices,
        minutes_per_voice=minutes,
        seed=seed,
        progress=lambda done, _: reporter.move(name, done),
    )
    silent = {voice.name for voice in voices[len(voices) - untranscribed :]}
    clips = [
        replace(
            clip,
            audio=Path(clip.audio).relative_to(building).as_posix(),
            text=None if clip.speaker in silent else clip.text,
        )
        for clip in read_manifest(building / "manifest.jsonl")
    ]
    write_manifest(building / "manifest.jsonl", clips)
    write_json(building / "demo.json", made_from)
    building.rename(folder)
