"""What the processes of a launcher do in tests: `torchrun --nproc-per-node 2 together.py MODEL CORPUS FOLDER`."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cosytune.data.corpus import Corpus
from cosytune.data.manifest import Utterance
from cosytune.errors import TrainingError
from cosytune.training import processes
from cosytune.training.jobs import run_job
from cosytune.training.loop import train
from cosytune.training.run import PartRun, RunOptions
from cosytune.training.selection import Heard
from cosytune.training.settings import PARTS, LoopSettings
from cosytune.training.task import Draws, LossReport, Task
from tests.unit.toy import toy_job

CLIPS = [Utterance(f"c{index}", "none.wav", "x", "s", "en", seconds=1.0) for index in range(16)]


class Uneven(Task):
    """A line to be fitted, with a fault in the second process only: memory that is short, or a clip that is no number.

    Args:
        short: the second process has memory for so many clips at a time.
        poison: the update in which its clips are not numbers.
    """

    part = "lm"
    baseline_name = "zero"

    def __init__(self, short: int = 99, poison: int = -1) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.network = nn.Linear(1, 1)
        self.short, self.poison = short, poison

    def clips(self) -> list[Utterance]:
        return CLIPS

    def batch(self, ids: list[str], draws: Draws) -> list[str]:
        return ids

    def loss(self, ids: list[str], draws: Draws) -> LossReport:
        x = torch.tensor([[float(clip_id[1:])] for clip_id in ids])
        if processes.rank() == 1:
            if len(ids) > self.short:
                raise torch.OutOfMemoryError("none left")
            if draws.step == self.poison:
                x = x * float("nan")
        loss = (self.network(x) - 2 * x).square().mean()
        return LossReport(loss, {"first": x[0, 0]}, float(len(ids)), len(ids))

    def validate(self) -> dict[str, float]:
        return {"weight": float(self.network.weight.detach())}

    def baseline(self) -> dict[str, float]:
        return {"weight": 0.0}


class Seldom(Uneven):
    """The line again, beside weights that no process uses, or only the second."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.ParameterDict({"never": torch.ones(1), "second": torch.ones(1)})

    def loss(self, ids: list[str], draws: Draws) -> LossReport:
        report = super().loss(ids, draws)
        more = self.head["second"].square().sum() if processes.rank() == 1 else 0
        return replace(report, loss=report.loss + more)


def fit(folder: Path, task: Uneven) -> dict[str, Any]:
    settings = LoopSettings(
        steps=8, batch_seconds=8, learning_rate=0.01, weight_decay=0.1, checkpoint_every=2, validate_every=2
    )
    run = PartRun(folder, settings.model_dump(), writes=processes.leads())
    try:
        result = train(task, settings, run)
    except TrainingError as error:
        return {"error": str(error)}
    return {"end": result.end, "skipped": result.skipped, "seconds": result.audio_seconds}


@dataclass(frozen=True)
class Largest:
    """A listener that prefers large weights, so that an early checkpoint is the best."""

    identity = "largest"

    def __call__(self, part: str, network: nn.Module) -> Heard:
        """See `training.selection.Listener`."""
        assert processes.leads()
        return Heard(max(float(value.abs().max()) for value in network.state_dict().values()))


def statistics() -> dict[str, Any]:
    """What modules hold after the processes that differ in them were made alike."""
    mean, leader = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    for module in (mean, leader):
        for tensor in (module.running_mean, module.weight.data):
            tensor.fill_(1.0 + processes.rank())
    processes.average_buffers(mean)
    processes.copy_leader(leader)
    values = [mean.running_mean, mean.weight, leader.running_mean, leader.weight]
    return {"last": processes.gather([[float(value[0]) for value in values]])[-1]}


def fingerprint(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def main() -> None:
    processes.join()
    model, corpus, folder = (Path(place) for place in sys.argv[1:4])
    found: dict[str, Any] = {}
    for part in PARTS:
        changes = {"adversarial_share": 0.25} if part == "vocoder" else {}
        job = toy_job(part, model, Corpus(corpus), folder / part, steps=8, **changes)
        result = run_job(job)
        found[part] = {"result": len(set(processes.gather([repr(result)]))), "seconds": result.audio_seconds}
    heard = {"average": 0.5, "score_every": 3, "keep_best": 2}
    adapters = {"lora_rank": 2, "accumulate": 3}
    for part, name, changes in [
        ("lm", "lm-split", {}),
        ("flow", "flow-split", {}),
        ("lm", "few", {"batch_seconds": 0.5}),
        ("lm", "few-split", {"batch_seconds": 0.5}),
        ("lm", "heard", heard),
        ("lm", "heard-split", heard),
        ("lm", "lora", adapters),
        ("lm", "lora-split", adapters),
    ]:
        job = toy_job(part, model, Corpus(corpus), folder / name, steps=8, **changes)
        listener = Largest() if "score_every" in changes else None
        shard = processes.joined() and name.endswith("split")
        result = run_job(replace(job, options=RunOptions(shard=shard), listener=listener))
        found[name] = {"chosen": result.chosen_step, "heard": result.heard, "seconds": result.audio_seconds}
    cases = {"plain": Uneven(), "short": Uneven(short=1), "poisoned": Uneven(poison=3), "none": Uneven(short=0)}
    for name, task in cases.items():
        found[name] = fit(folder / name, task)
        found[name]["alike"] = len(set(processes.gather([fingerprint(task.network)]))) == 1
    seldom = Seldom()
    fit(folder / "seldom", seldom)
    found["seldom"] = {name: processes.gather([float(weight)]) for name, weight in seldom.head.items()}
    found["statistics"] = statistics()
    if processes.leads():
        (folder / "found.json").write_text(json.dumps(found))
    processes.leave()


if __name__ == "__main__":
    main()
