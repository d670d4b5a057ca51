"""Which checkpoint to keep, by what is heard: a score handed in from outside ranks them and says when to stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn

__all__ = ["Heard", "Listener", "Selection", "is_sampled"]

MOST_SAMPLED = 16
"""Checkpoints whose samples are kept beside the untouched start's and the last one's, however often a run is heard."""


@dataclass(frozen=True)
class Heard:
    """What listening to a network gave.

    Attributes:
        score: one number, the higher the better.
        values: what it is made of, by name, for the curves.
        alarm: why training should stop (an ability is being lost, speech runs away), or nothing.
        samples: files to keep so that people can hear it too, by name.
    """

    score: float
    values: Mapping[str, float] = field(default_factory=dict)
    alarm: str = ""
    samples: Mapping[str, bytes] = field(default_factory=dict)


class Listener(Protocol):
    """Speaks a fixed set of sentences with a network in training and scores what is heard; the trainer has no judges.

    It must be picklable, answer alike for the same weights, and look at nothing that a verdict will use.
    """

    @property
    def identity(self) -> str:
        """What decides its answers beside the weights: a run with another listener is another run."""
        ...

    def __call__(self, part: str, network: nn.Module) -> Heard:
        """Hear `network`, in evaluation mode, as the `part` of the model that is being trained."""
        ...


def is_sampled(step: int, every: int, steps: int) -> bool:
    """Whether the samples of a step are kept, in a run of `steps` updates that is heard after each `every`.

    It depends on nothing else, so that a run that was killed keeps those of the uninterrupted one.
    """
    stride = -(-(steps // every) // MOST_SAMPLED) or 1
    return step == steps or (step % every == 0 and step // every % stride == 0)


@dataclass
class Selection:
    """The best checkpoints so far and whether to go on.

    Attributes:
        keep: how many of the best.
        patience: scores in a row without a new best that end the run; 0: none do.
        heard: step and score of all that was heard; step 0 is the untouched start, the line to compare with.
        alarm: the first alarm, with its step, in words.
    """

    keep: int
    patience: int
    heard: list[tuple[int, float]] = field(default_factory=list)
    alarm: str = ""

    def add(self, step: int, heard: Heard) -> None:
        """Note what was heard at a step."""
        self.heard.append((step, heard.score))
        if heard.alarm and not self.alarm:
            self.alarm = f"{heard.alarm} (at step {step})"

    @property
    def best(self) -> list[int]:
        """Steps of the best checkpoints, the best first; of equal ones the earlier, which moved less."""
        trained = [(step, score) for step, score in self.heard if step > 0]
        return [step for step, _ in sorted(trained, key=lambda entry: (-entry[1], entry[0]))[: self.keep]]

    @property
    def stop(self) -> str:
        """Why the run should end now; empty if it should go on."""
        if self.alarm:
            return self.alarm
        if not self.patience or not self.best:
            return ""
        best, last = self.best[0], self.heard[-1][0]
        since = sum(step > best for step, _ in self.heard)
        if since < self.patience:
            return ""
        score = dict(self.heard)[best]
        return f"none of {since} hearings after update {best} scored above its {score:.4g}, up to update {last}"

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"heard": self.heard, "alarm": self.alarm}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state`."""
        self.heard = [(int(step), float(score)) for step, score in state["heard"]]
        self.alarm = state["alarm"]
