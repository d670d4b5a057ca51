"""What the front ends ask of a program that runs an ONNX graph; each engine has a file of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from cosytune.errors import ModelError

__all__ = ["GraphInput", "OnnxPrecision", "OnnxSession", "check_self_contained", "not_opened", "not_run"]

OnnxPrecision = Literal["float32", "bfloat16"]
"""What the products of a graph are computed in; what goes in and comes out has the graph's own types in either."""

_KEY = b"location"
_BEFORE_KEY = re.compile(rb"(?:\x0a|\x8a\x80*\x00)(?:\x08|\x88\x80*\x00)\Z")
"""Protobuf's "field 1, 8 bytes long" in any spelling, as it stands before the key of a weight's external place."""
_LONGEST_SPELLING = 20


@dataclass(frozen=True)
class GraphInput:
    """One input of a graph.

    Attributes:
        name: as the file has it.
        shape: sizes; None where any size is taken.
    """

    name: str
    shape: tuple[int | None, ...]


class OnnxSession(Protocol):
    """A graph that can be run, one call at a time."""

    @property
    def inputs(self) -> Sequence[GraphInput]:
        """In the order in which `run` takes them."""

    def run(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """The first output for one value per input.

        Raises:
            ModelError: the graph does not take such values, or fails.
        """


def check_self_contained(data: bytes, path: Path) -> None:
    """Refuse a graph whose weights lie in other files.

    Engines look for them wherever the graph says, from the working directory on, so a stranger's graph could read any
    file; released front ends are whole. A tensor that is named `location` is refused as well, since it looks the same.

    Raises:
        ModelError: it names other files.
    """
    found = data.find(_KEY)
    while found >= 0:
        if _BEFORE_KEY.search(data[max(0, found - _LONGEST_SPELLING) : found]):
            raise ModelError(
                f"{path} keeps weights in other files, which are not read; get the released file, or save it again "
                "as one file"
            )
        found = data.find(_KEY, found + 1)


def not_opened(path: Path, why: str) -> ModelError:
    """The error of an engine that cannot open a graph."""
    return ModelError(f"{path} is not an ONNX graph that can be run ({why}); get it again")


def not_run(path: Path, why: str) -> ModelError:
    """The error of an engine in which a graph fails."""
    return ModelError(f"{path} could not be run ({why}); it is another network, or damaged")
