"""The training loop of every part: one update after the other, with validation, curves and checkpoints between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from cosytune.data.manifest import Utterance
from cosytune.data.sampler import endless
from cosytune.errors import StoppedError, TrainingError
from cosytune.training.average import WeightAverage
from cosytune.training.gradients import Gradients
from cosytune.training.lora import has_lora, merge_lora, plain_copy, write_adapter
from cosytune.training.means import Sums, add_update, mean_values
from cosytune.training.movement import Movement
from cosytune.training.pace import Pace
from cosytune.training.processes import accelerator, any_of, average_buffers, gather, leads, rank, share, size, wait
from cosytune.training.rehearsal import is_rehearsal, mixed, rehearsed_before
from cosytune.training.results import MetricPoint, PartResult
from cosytune.training.run import PartRun, load_moving, moving_state
from cosytune.training.selection import Listener, Selection, is_sampled
from cosytune.training.settings import LoopSettings, learning_rate
from cosytune.training.sharding import Sharding, split_as, whole
from cosytune.training.stopping import StopRequest, stop_request
from cosytune.training.task import Task

__all__ = ["LOG_EVERY", "Progress", "Watch", "train"]

SKIPS_BEFORE_ROLLBACK = 3
"""Updates in a row without finite numbers after which the run goes back to its last checkpoint."""
LARGEST_ROLLBACKS = 3
MERGE_TOLERANCE = 1e-3
"""Relative difference of validation values that rounding may make when adapters are merged."""
LOG_EVERY = 10
CLIPS_NAMED = 8

Watch = Callable[[int], None]


@dataclass
class Progress:
    """Everything a checkpoint holds beside weights and optimizer."""

    step: int = 0
    audio_seconds: float = 0.0
    skips_in_a_row: int = 0
    skipped: list[tuple[int, list[str]]] = field(default_factory=list)
    rollbacks: list[int] = field(default_factory=list)
    rate_share: float = 1.0
    sums: Sums = field(default_factory=dict)
    start: dict[str, float] = field(default_factory=dict)


def train(
    task: Task,
    settings: LoopSettings,
    run: PartRun,
    watch: Watch | None = None,
    listener: Listener | None = None,
    shard: bool = False,
    batches: Sequence[list[str]] | None = None,
) -> PartResult:
    """Train `task` for `settings.steps` updates; continue where an earlier, killed run of the same folder stopped.

    An update whose loss or gradient is not finite is left out and its clips are named in the result; after three in a
    row the run goes back to its last checkpoint and on at half the rate. A batch that memory is too small for is worked
    through in pieces. SIGTERM saves first. Where several processes train together each calls this with its own copy of
    everything; the leading one writes.

    Args:
        task: network, clips and loss.
        settings: as resolved.
        run: folder of curves and checkpoints.
        watch: told the number of updates done, after each.
        listener: hears the start, and a checkpoint every `score_every` updates and at the end; the best heard is kept.
        shard: split weights and optimizer over the processes that train together; no result depends on it.
        batches: ids of each update's clips, where somebody tries out an update and not the sampler chooses.

    Raises:
        TrainingError: the numbers stayed non-finite after three such returns, one clip alone needs too much memory, or
            a checkpoint cannot be read.
        StoppedError: SIGTERM came; the same call goes on.
    """
    if (done := share(run.finished())) is not None:
        return done
    loop = _Loop(task, settings, run, listener, shard, batches)
    loop.begin()
    with stop_request() as stop:
        while not loop.ended:
            loop.run_on(watch, stop)
    return loop.finish()


def _named(clips: Sequence[str]) -> str:
    """The clips of a batch in words; all of them are in the result."""
    more = f" and {len(clips) - CLIPS_NAMED} more" if len(clips) > CLIPS_NAMED else ""
    return f"its clips: {', '.join(clips[:CLIPS_NAMED])}{more}"


class _Loop:
    """The moving parts of one run: modules, optimizer, average and progress."""

    def __init__(
        self,
        task: Task,
        settings: LoopSettings,
        run: PartRun,
        listener: Listener | None,
        shard: bool,
        batches: Sequence[list[str]] | None,
    ) -> None:
        self.task, self.settings, self.run, self.listener = task, settings, run, listener
        self.chosen = batches
        self.movement = Movement(task.network, settings)
        self.accelerator = accelerator(bfloat16=settings.precision == "bfloat16")
        self.sharding = Sharding(task.network, self.accelerator) if shard else None
        self.movement.remember_start()
        self.modules = nn.ModuleDict({"network": task.network} | ({} if task.head is None else {"head": task.head}))
        groups = self.movement.groups(task.head)
        self.trained = [parameter for group in groups for parameter in group["params"]]
        self.pace = Pace()
        self.gradients = Gradients(task, settings, self.trained, self.pace, self.accelerator, shard=shard)
        task.accelerate(self.accelerator)
        # Fused: one pass through memory instead of a dozen. 311 million weights on two cores: 0.12 s instead of 1.05.
        self.optimizer = torch.optim.AdamW(
            groups, lr=settings.learning_rate, betas=task.betas, weight_decay=settings.weight_decay, fused=True
        )
        self.average = WeightAverage(task.network, settings.average)
        self.selection = Selection(settings.keep_best, settings.patience)
        self.progress = Progress()

    @property
    def ended(self) -> bool:
        """Whether all updates are done, or what was heard says that no more are worth it."""
        stopped = self.settings.obey_stops and self.selection.stop
        return self.progress.step >= self.settings.steps or bool(stopped)

    def begin(self) -> None:
        """Take everything from the newest whole checkpoint; a new run measures the start and writes the first one."""
        restored = self._restore()
        wait()
        if not restored:
            self.progress.start = self.validate()
            self._listen()
            self._save()

    def run_on(self, watch: Watch | None, stop: StopRequest) -> None:
        """Update after update until the last one, or until a rollback changes which batch is next."""
        progress = self.progress
        for ids in self.pace.fed(self._batches()):
            with self.pace.update():
                self.update(ids)
            if progress.skips_in_a_row >= SKIPS_BEFORE_ROLLBACK:
                self._roll_back()
                return
            self._record_speed()
            self.between_updates()
            if watch is not None:
                watch(progress.step)
            if self.ended:
                return
            if any_of(stop.came):
                self._save()
                raise StoppedError(
                    f"stopped by SIGTERM after update {progress.step} of the {self.task.part}; "
                    "the same command goes on from there"
                )

    def _batches(self) -> Iterator[list[str]]:
        """Ids of each update's clips from the present step on, those of the rehearsal at its share of the updates."""
        settings, step = self.settings, self.progress.step
        if self.chosen is not None:
            return iter(self.chosen[step:])

        def clips_of(clips: Sequence[Utterance], begun: int) -> Iterator[list[str]]:
            return endless(
                clips,
                seconds=settings.batch_seconds,
                seed=settings.seed,
                start_step=begun,
                rank=rank(),
                world_size=size(),
            )

        if not settings.replay:
            return clips_of(self.task.clips(), step)
        old = rehearsed_before(step, settings.replay)
        return mixed(
            clips_of(self.task.clips(), step - old), clips_of(self.task.rehearsal(), old), settings.replay, step
        )

    def update(self, ids: list[str]) -> None:
        """One optimizer update on a batch, or, where loss or gradient are not finite, none and a note of it."""
        settings, progress = self.settings, self.progress
        rate = learning_rate(settings, progress.step) * progress.rate_share
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        self.modules.train()
        counted, pieces = [buffer.clone() for buffer in self.modules.buffers()], self.gradients.pieces
        report = self.gradients.of(ids, progress.step)
        if self.gradients.pieces > pieces:
            self._say(
                f"memory is too small for the batch of update {progress.step + 1}: from here on a batch is worked "
                f"through in {self.gradients.pieces} pieces, with the same gradient"
            )
        norm = whole(nn.utils.clip_grad_norm_(self.trained, settings.clip_norm))
        if math.isfinite(report.loss.item()) and math.isfinite(norm.item()):
            self.optimizer.step()
            self.movement.pull(rate)
            self.average.update(self.task.network)
            average_buffers(self.modules)
            side = "rehearsal" if is_rehearsal(progress.step, settings.replay) else "train"
            add_update(progress.sums, side, report, norm.item())
            progress.skips_in_a_row = 0
        else:
            # Batch statistics were counted on the way to the loss, and one number that is none would stay in them.
            for buffer, before in zip(self.modules.buffers(), counted, strict=True):
                buffer.copy_(before)
            clips = list(dict.fromkeys(gather(ids)))
            progress.skipped.append((progress.step, clips))
            progress.skips_in_a_row += 1
            self._say(f"update {progress.step + 1} is left out, loss or gradient is not finite; {_named(clips)}")
        self.optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        progress.audio_seconds += report.audio_seconds
        self.pace.learned(report.audio_seconds)
        if self._at_a_point:
            for side, sums in progress.sums.items():
                self._record(side, mean_values(sums))
            self._record("train", {"learning_rate": rate})
            progress.sums = {}

    @property
    def _at_a_point(self) -> bool:
        """Whether the training curves have a point here."""
        return self.progress.step % LOG_EVERY == 0 or self.progress.step == self.settings.steps

    def _record_speed(self) -> None:
        if self._at_a_point and (speed := self.pace.take(self.progress.step)) is not None:
            self.run.record_speed(self.task.part, speed)

    def between_updates(self) -> None:
        """Validate, listen and save where the settings ask for it."""
        step, settings = self.progress.step, self.settings
        last = step == settings.steps
        if step % settings.validate_every == 0 and not last:
            self.validate()
        heard = self.listener is not None and (step % settings.score_every == 0 or last)
        if heard:
            self._listen()
        if heard or (step % settings.checkpoint_every == 0 and not last):
            self._save()
            # Only now: a run that is killed before the checkpoint was whole goes back to one that knows these files.
            self.run.keep_only(self.selection.best)

    def validate(self) -> dict[str, float]:
        """Held-out values of the averaged weights, also written into the curves; only the leading process looks.

        Where the network is split all have to compute along.
        """
        if not leads() and self.sharding is None:
            return {}
        with self.average.applied(self.task.network):
            return self._validated()

    def _validated(self) -> dict[str, float]:
        # As in training: else the two curves could not be compared.
        with self.accelerator.autocast():
            values = self.task.validate()
        self._record("validation", values)
        return values

    def _restore(self) -> bool:
        """Go to the newest whole checkpoint, if there is one."""
        saved = self.run.load() if leads() else None
        newest = share(None if saved is None else int(saved["progress"]["step"]))
        if newest is None:
            return False
        saved = saved or self.run.read(newest)
        load_moving(self.modules, saved["modules"], self.run.folder)
        self.optimizer.load_state_dict(split_as(saved["optimizer"], self.optimizer))
        self.average.load_state(saved["average"])
        self.task.load_state(saved["task"])
        self.selection.load_state(saved["selection"])
        self.gradients.pieces = saved["pieces"]
        vars(self.progress).update(saved["progress"])
        return True

    def _roll_back(self) -> None:
        """Back to the last checkpoint and on at half the rate; what was skipped on the way stays on record."""
        progress = self.progress
        reached, skipped, rollbacks = progress.step, progress.skipped, [*progress.rollbacks, progress.step]
        if len(rollbacks) > LARGEST_ROLLBACKS:
            raise TrainingError(
                f"the loss of the {self.task.part} was not finite for {SKIPS_BEFORE_ROLLBACK} updates in a row up to "
                f"update {reached}, also after {LARGEST_ROLLBACKS} returns to the last checkpoint at half the rate "
                f"each time; the last clips were {', '.join(skipped[-1][1][:5])}: remove them or lower the learning "
                "rate, and give another output folder"
            )
        self._restore()
        wait()  # before the checkpoint that all of them read is written again
        progress.skipped, progress.rollbacks = skipped, rollbacks
        progress.rate_share /= 2
        progress.skips_in_a_row = 0
        self._say(
            f"{SKIPS_BEFORE_ROLLBACK} updates in a row were left out: back from update {reached} to {progress.step}, "
            f"and on at {progress.rate_share:g} of the rate"
        )
        self._save()

    def _say(self, line: str) -> None:
        if leads():
            self.run.say(line)

    def _listen(self) -> None:
        """Hear the averaged weights as they are, and keep them if they are among the best."""
        if self.listener is None:
            return
        with self.average.applied(self.task.network):
            network, weights = self._plain(), moving_state(self.modules)
            if leads():
                self._hear(self.listener, plain_copy(network), weights)
        self.selection.load_state(share(self.selection.state()))

    def _hear(self, listener: Listener, network: nn.Module, weights: dict[str, Tensor]) -> None:
        step = self.progress.step
        heard = listener(self.task.part, network.eval())
        self.selection.add(step, heard)
        self.run.rank(self.selection.best)
        if step in self.selection.best:
            self.run.keep(step, weights)
        if is_sampled(step, self.settings.score_every, self.settings.steps):
            self.run.keep_samples(step, heard.samples)
        self._record("heard", {"score": heard.score, **heard.values})

    def finish(self) -> PartResult:
        """Take the best weights, validate, merge adapters, write weights and result, and close the folder.

        The leading process does, and the others take its word. The last weights stay where they are none of the best.
        """
        step = self.progress.step
        chosen = self.selection.best[0] if self.selection.best else step
        if self.selection.best and step not in self.selection.best:
            with self.average.applied(self.task.network):
                self.run.keep_last(step, moving_state(self.modules))
        with self._chosen(chosen):
            self.task.network = self._plain()
            result = share(self._finished(chosen) if leads() else None)
        assert result is not None
        return result

    def _finished(self, chosen: int) -> PartResult:
        task, progress = self.task, self.progress
        end = self._validated()
        if has_lora(task.network):
            write_adapter(task.network, self.run.folder / "adapter", start=task.start)
            apart = end if self.settings.precision == "float32" else task.validate()
            merge_lora(task.network)
            self._check_merged(apart)
        weights = {name: value.detach().cpu().clone() for name, value in task.network.state_dict().items()}
        result = PartResult(
            part=task.part,
            steps=progress.step,
            audio_seconds=progress.audio_seconds,
            start=progress.start,
            end=end,
            baseline=task.baseline(),
            baseline_name=task.baseline_name,
            skipped=progress.skipped,
            rollbacks=progress.rollbacks,
            heard=self.selection.heard,
            chosen_step=chosen,
            stop=self.selection.stop,
            settings=self.settings.model_dump(mode="json"),
            pieces=self.gradients.pieces,
        )
        self.run.finish(weights, result)
        return result

    def _plain(self) -> nn.Module:
        """The network as one piece; where it is split, only the leading process gets it."""
        network = self.task.network
        return network if self.sharding is None else self.sharding.plain() or network

    @contextmanager
    def _chosen(self, step: int) -> Iterator[None]:
        """The network with the weights of the chosen step: kept ones, or the (averaged) last."""
        if self.selection.best:
            load_moving(self.modules, self.run.kept(step), self.run.folder)
            yield
        else:
            with self.average.applied(self.task.network):
                yield

    def _check_merged(self, apart: dict[str, float]) -> None:
        """Merged weights must validate as the network with adapters did, in float32: rounding would hide a mistake."""
        merged = self.task.validate()
        for name, value in apart.items():
            if not math.isclose(merged[name], value, rel_tol=MERGE_TOLERANCE, abs_tol=MERGE_TOLERANCE):
                raise TrainingError(
                    f"the merged {self.task.part} has {name} {merged[name]:.6g}, with its adapters it had {value:.6g}; "
                    "the adapters are kept in the run folder, the model is not written"
                )

    def _record(self, side: str, values: dict[str, float]) -> None:
        part, progress = self.task.part, self.progress
        self.run.record(
            MetricPoint(part, progress.step, side, name, value, progress.audio_seconds)
            for name, value in values.items()
        )

    def _save(self) -> None:
        self.run.save(
            self.progress.step,
            {
                "modules": moving_state(self.modules),
                "optimizer": whole(self.optimizer.state_dict()),
                "average": self.average.state(),
                "task": self.task.state(),
                "selection": self.selection.state(),
                "pieces": self.gradients.pieces,
                "progress": vars(self.progress),
            },
        )
