"""Utterances of large corpora: how long each lasts is in memory, the rest is read when it is asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import overload

import numpy as np

from cosytune.data.corpus import Corpus
from cosytune.data.manifest import Utterance, parse_utterance
from cosytune.data.splits import Side

__all__ = ["ClipIndex", "ClipView", "IndexedClips", "clips_at", "only"]

_BLOCK = 1000
"""Utterances in memory while all are gone through."""


class IndexedClips(Sequence[Utterance], ABC):
    """Utterances in an order, read when they are asked for.

    Attributes:
        seconds: float64 [N], of each utterance.
    """

    seconds: np.ndarray

    @abstractmethod
    def read(self, indices: Sequence[int]) -> list[Utterance]:
        """Some utterances, in the order asked for; indices count from 0."""

    def __len__(self) -> int:
        return len(self.seconds)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> list[Utterance]: ...
    def __getitem__(self, index: int | slice) -> Utterance | list[Utterance]:
        places = range(len(self))[index]
        return self.read(places) if isinstance(places, range) else self.read([places])[0]

    def __iter__(self) -> Iterator[Utterance]:
        for begin in range(0, len(self), _BLOCK):
            yield from self[begin : begin + _BLOCK]


class ClipIndex(IndexedClips):
    """The utterances of a corpus or of one side, read from the manifest.

    In memory are 16 bytes an utterance: where its line begins, and how long it lasts.

    Args:
        corpus: prepared.
        side: only this side.
    """

    def __init__(self, corpus: Corpus, side: Side | None = None) -> None:
        self._manifest = corpus.path / "manifest.jsonl"
        self._begins, self.seconds = corpus.index(side)

    def read(self, indices: Sequence[int]) -> list[Utterance]:
        """As `IndexedClips.read`."""
        found = []
        with self._manifest.open("rb") as lines:
            for index in indices:
                lines.seek(int(self._begins[index]))
                where = f"{self._manifest}, byte {self._begins[index]}"
                found.append(parse_utterance(lines.readline().decode("utf-8"), where, self._manifest.parent))
        return found


class ClipView(IndexedClips):
    """Utterances of another sequence in another form, or only some of them.

    Args:
        clips: looked at.
        places: int [M], which of them, in this order; None is all.
        seconds: as long as each of them is said to last; None is its own length.
        change: what is made of an utterance when it is read; its length stays.
    """

    def __init__(
        self,
        clips: Sequence[Utterance],
        places: np.ndarray | None = None,
        *,
        seconds: float | None = None,
        change: Callable[[Utterance], Utterance] = lambda clip: clip,
    ) -> None:
        chosen = np.arange(len(clips)) if places is None else places
        self._clips, self._places = clips, chosen.astype(np.uint32)
        self._said, self._change = seconds, change
        self.seconds = np.full(len(chosen), seconds) if seconds is not None else _seconds(clips)[chosen]

    def read(self, indices: Sequence[int]) -> list[Utterance]:
        """As `IndexedClips.read`."""
        found = clips_at(self._clips, self._places[list(indices)].tolist())
        if self._said is not None:
            found = [replace(clip, seconds=self._said) for clip in found]
        return [self._change(clip) for clip in found]


def only(clips: Sequence[Utterance], keep: Callable[[Utterance], bool]) -> Sequence[Utterance]:
    """The utterances that `keep` says yes to; each is looked at once, here."""
    kept = np.fromiter((keep(clip) for clip in clips), bool, len(clips))
    return clips if kept.all() else ClipView(clips, np.flatnonzero(kept))


def clips_at(clips: Sequence[Utterance], places: Sequence[int]) -> list[Utterance]:
    """Some utterances of any sequence, in the order asked for."""
    return clips.read(places) if isinstance(clips, IndexedClips) else [clips[place] for place in places]


def _seconds(clips: Sequence[Utterance]) -> np.ndarray:
    return clips.seconds if isinstance(clips, IndexedClips) else np.array([clip.seconds for clip in clips], np.float64)
