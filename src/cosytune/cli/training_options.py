"""What pretrain, sft and tune have in common on the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from cosytune.training.settings import PartName, StageName
    from cosytune.training.strategies import StrategyName

__all__ = [
    "DATA",
    "DISK_BUDGET",
    "FORCE",
    "JSON",
    "LISTEN",
    "OUTPUT",
    "PARTS",
    "REPLAY",
    "REPLAY_DATA",
    "SEED",
    "SETTINGS",
    "SHARD",
    "STRATEGY",
    "TRACK",
    "WORKERS",
    "Asked",
    "by_all_processes",
    "fine_tuning",
    "named_folder",
    "named_strategy",
    "run",
    "split_parts",
]

DATA = typer.Option(..., "--data", "-d", help="A prepared corpus, or a folder of recordings.")
START = typer.Option(..., "--start", help="Model folder to begin from.")
OUTPUT = typer.Option(..., "--output", "-o", help="Model folder to write; curves and checkpoints go to OUTPUT.run.")
PARTS = typer.Option(
    None, "--parts", help="Networks to train, comma-separated: speech_tokenizer, speaker_encoder, vocoder, lm, flow."
)
SETTINGS = typer.Option(None, "--settings", help='JSON file of settings by part, such as {"lm": {"steps": 600}}.')
SEED = typer.Option(0, "--seed", min=0, help="Of data order, noise and dropout.")
WORKERS = typer.Option(
    None,
    "--workers",
    min=1,
    help="Parts trained at a time (default: 2 on a processor if memory allows, 1 on a GPU).",
)
STRATEGY = typer.Option(
    None,
    "--strategy",
    help="How the weights may move: full, conservative, lora, or advised (by what the start is; the default of tune).",
)
FORCE = typer.Option(
    False,
    "--force",
    help="Allow rates and budgets far outside what was measured to work, and go on after a preflight that failed.",
)
REPLAY = typer.Option(
    None,
    "--replay",
    min=0.0,
    max=0.9,
    help="Share of updates that rehearse what the start could do: its own speech in its own voices, or --replay-data.",
)
REPLAY_DATA = typer.Option(None, "--replay-data", help="Prepared corpus or folder of recordings to rehearse.")
LISTEN = typer.Option(
    6,
    "--listen",
    min=0,
    help="Validation sentences that checkpoints speak; the one that sounds best is kept. 0: the last one is kept.",
)
TRACK = typer.Option(
    "tensorboard", "--track", help="Where curves are drawn too: tensorboard, mlflow, wandb (comma-separated), or none."
)
DISK_BUDGET = typer.Option(
    None,
    "--disk-budget",
    min=0.001,
    help="GB that OUTPUT.run may hold; older checkpoints go first. Free space is looked at in any case.",
)
SHARD = typer.Option(
    False, "--shard", help="Split the weights of LM and flow over the processes that a launcher started (FSDP)."
)
JSON = typer.Option(False, "--json", help="Print the result as JSON.")


@dataclass(frozen=True)
class Asked:
    """What a command line asks of a stage, by the names of its options; None where it says nothing."""

    stage: StageName
    start: Path
    data: Path
    output: Path
    parts: str | None
    settings: Path | None
    seed: int
    workers: int | None
    strategy: str | None
    force: bool
    as_json: bool
    replay: float | None = None
    replay_data: Path | None = None
    listen: int = 0
    track: str = "none"
    disk_budget: float | None = None
    shard: bool = False


def fine_tuning(stage: StageName, about: str) -> Callable[..., None]:
    """The command of a stage that begins from a trained model: `sft` and `tune` differ in their defaults only.

    Args:
        stage: its name.
        about: the help text of the command.
    """

    def command(
        data: Path = DATA,
        start: Path = START,
        output: Path = OUTPUT,
        parts: str = PARTS,
        settings: Path = SETTINGS,
        seed: int = SEED,
        workers: int = WORKERS,
        strategy: str = STRATEGY,
        replay: float = REPLAY,
        replay_data: Path = REPLAY_DATA,
        listen: int = LISTEN,
        track: str = TRACK,
        disk_budget: float = DISK_BUDGET,
        shard: bool = SHARD,
        force: bool = FORCE,
        as_json: bool = JSON,
    ) -> None:
        asked = Asked(stage, start, data, output, parts, settings, seed, workers, strategy, force, as_json)
        asked = replace(asked, replay=replay, replay_data=replay_data, listen=listen)
        run(replace(asked, track=track, disk_budget=disk_budget, shard=shard))

    command.__doc__ = about
    return command


def by_all_processes(command: Callable[..., None]) -> Callable[..., None]:
    """A verb that trains, as the processes of a launcher (torchrun, accelerate launch) run it: one leads, all train."""

    @wraps(command)
    def verb(*arguments: Any, **options: Any) -> None:
        from cosytune.training.jobs import following

        with following() as leads:
            if leads:
                command(*arguments, **options)

    return verb


def split_parts(text: str | None, stage: StageName) -> tuple[PartName, ...]:
    """`--parts` as names, the stage's own choice without it.

    Raises:
        InputError: an unknown part.
    """
    from cosytune.errors import InputError
    from cosytune.training.settings import PARTS as KNOWN
    from cosytune.training.stages import DEFAULT_PARTS

    if text is None:
        return DEFAULT_PARTS[stage]
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    if not chosen or (unknown := [name for name in chosen if name not in KNOWN]):
        raise InputError(
            f"--parts {text!r}: {unknown[0]!r} is not a part; parts are {', '.join(KNOWN)}"
            if chosen
            else "--parts names no part"
        )
    return tuple(part for part in KNOWN if part in chosen)


def named_strategy(text: str | None) -> StrategyName | None:
    """`--strategy` as a name.

    Raises:
        InputError: there is no such strategy.
    """
    from cosytune.errors import InputError
    from cosytune.training.strategies import STRATEGIES

    found = next((name for name in STRATEGIES if name == text), None)
    if text is not None and found is None:
        raise InputError(f"--strategy {text!r} is not known; strategies are {', '.join(STRATEGIES)}")
    return found


def with_replay(
    overrides: Mapping[PartName, Mapping[str, Any]], parts: Sequence[PartName], share: float | None
) -> dict[PartName, dict[str, Any]]:
    """Settings by part with `--replay` put into those of the parts that can rehearse; a settings file goes first."""
    from cosytune.training.settings import takes

    changed = {part: dict(changes) for part, changes in overrides.items()}
    if share is not None:
        for part in parts:
            if takes(part, "replay"):
                changed[part] = {"replay": share, **changed.get(part, {})}
    return changed


def beside(output: Path, kind: str) -> Path:
    """A folder next to the model that belongs to it."""
    return output.with_name(f"{output.name}.{kind}")


def named_folder(output: Path) -> Path:
    """The same folder by a path that ends in its name: `.` has none, and other folders are named after it."""
    return output if output.name not in ("", "..") else output.resolve()


def run(asked: Asked) -> None:
    """Prepare the data if needed, run the stage, print what came of it."""
    from cosytune.cli.output import print_result, progress
    from cosytune.comparison.compose import corpus_of
    from cosytune.comparison.compose.listening import ValidationListener
    from cosytune.errors import InputError
    from cosytune.training.disk import DiskBudget
    from cosytune.training.jobs import default_workers
    from cosytune.training.run import RunOptions
    from cosytune.training.settings import read_overrides
    from cosytune.training.stages import StagePlan, run_stage
    from cosytune.training.trackers import parse_trackers

    output = named_folder(asked.output)
    parts, strategy = split_parts(asked.parts, asked.stage), named_strategy(asked.strategy)
    disk = DiskBudget.of_gigabytes(beside(output, "run"), asked.disk_budget)
    options = RunOptions(parse_trackers(asked.track), disk, asked.shard)
    given = read_overrides(asked.settings) if asked.settings is not None else {}
    overrides = with_replay(given, parts, asked.replay)
    if asked.replay_data is not None and not any(changes.get("replay") for changes in overrides.values()):
        raise InputError("--replay-data without a share would never be looked at; give --replay too, such as 0.2")
    with progress() as bars:
        corpus = corpus_of(asked.data, beside(output, "corpus"))
        bars.say(corpus.ledger.summary())
        listener = ValidationListener(asked.start, corpus.path, asked.listen) if asked.listen else None
        if listener is not None:
            listener.check()
        rehearsal = None if asked.replay_data is None else corpus_of(asked.replay_data, beside(output, "rehearsal"))
        plan = StagePlan(
            asked.stage,
            asked.start,
            corpus.path,
            output,
            parts,
            overrides,
            asked.seed,
            asked.workers or default_workers(asked.start),
            strategy=strategy,
            force=asked.force,
            preflight=asked.stage != "pretrain",
            listener=listener,
            rehearsal=None if rehearsal is None else rehearsal.path,
            options=options,
        )
        result = run_stage(plan, bars)
    lines = [part.in_words() for part in result.parts]
    print_result(
        {"model": str(output), "stage": result.to_json()},
        "\n".join([*lines, f"model: {output}"]),
        as_json=asked.as_json,
    )
