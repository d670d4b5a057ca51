"""The vocoder's layers as they run along time: each takes what has come and gives what is known.

A run belongs to one utterance (or one batch) and keeps the few positions that later outputs still need, so that cutting
time anywhere gives the same numbers as not cutting it. All tensors are [B, N, D].
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cosytune.models.vocoder.filters import Filter

__all__ = ["Activation", "Analysis", "Convolution", "Queue", "ReflectedStart", "Sum", "Upsampling", "zero_tails"]

Activation = Callable[[Tensor, Tensor], object]
"""Writes the activation of its first argument into its second; it must keep 0."""


def copy(x: Tensor, out: Tensor) -> None:
    """No activation."""
    out.copy_(x)


def zero_tails(x: Tensor, start: int, lengths: Sequence[int] | None) -> Tensor:
    """Zero, in place, what lies beyond each row's end.

    Alone, a row's layers would see zeros there; in a batch they would see what the bias of the layer before has made.

    Args:
        x: [B, N, D], positions `start` to `start + N` of the rows.
        start: position of the first column.
        lengths: positions of each row, or None if no row ends before the others.
    """
    for row, length in enumerate(lengths or ()):
        if length < start + x.shape[1]:
            x[row, max(0, length - start) :] = 0
    return x


class Convolution:
    """An activation and a convolution between `left` and `right` zeros."""

    def __init__(
        self,
        filter: Filter,
        left: int,
        right: int,
        *,
        activation: Activation = copy,
        lengths: Sequence[int] | None = None,
    ) -> None:
        """A run at its beginning; `lengths` are those of the outputs."""
        self._filter, self._left, self._right = filter, left, right
        self._activation, self._lengths = activation, lengths
        self._rest: Tensor | None = None
        self._made = 0

    def push(self, x: Tensor, final: bool) -> Tensor:
        """The next inputs [B, n, I] -> the next outputs [B, m, O]; all the rest of them if `final`."""
        batch, count = x.shape[:2]
        rest = self._rest
        if rest is None:
            rest = x.new_zeros(batch, self._left, self._filter.inputs, dtype=self._filter.dtype)
        begin, end = rest.shape[1], rest.shape[1] + count
        seen = rest.new_empty(batch, end + (self._right if final else 0), self._filter.inputs)
        seen[:, :begin] = rest
        self._activation(x, seen[:, begin:end])
        seen[:, end:] = 0
        y = zero_tails(self._filter(seen), self._made, self._lengths)
        # A copy: a view would keep the whole buffer.
        self._rest = seen[:, y.shape[1] * self._filter.stride :].clone()
        self._made += y.shape[1]
        return y


class Upsampling:
    """A transposed convolution, written as `upsampling_weight` does, without its first and last samples."""

    def __init__(
        self,
        filter: Filter,
        rate: int,
        trim: int,
        *,
        fewer: int = 0,
        activation: Activation = copy,
        lengths: Sequence[int] | None = None,
    ) -> None:
        """A run at its beginning.

        Args:
            filter: [rate O, I, taps].
            rate: outputs per input.
            trim: outputs left out at the beginning.
            fewer: n inputs make (n - fewer) rate outputs; what is beyond is left out.
            activation: of the inputs.
            lengths: outputs of each row.
        """
        right = max(0, -(-(trim - fewer * rate) // rate))
        self._convolution = Convolution(filter, filter.kernel - 1, right, activation=activation)
        self._rate, self._trim, self._fewer, self._lengths = rate, trim, fewer, lengths
        self._taken = self._made = 0

    def push(self, x: Tensor, final: bool) -> Tensor:
        """The next inputs [B, n, I] -> the next outputs [B, m, O]; all the rest of them if `final`."""
        self._taken += x.shape[1]
        blocks = self._convolution.push(x, final)
        y = blocks.unflatten(2, (self._rate, -1)).flatten(1, 2)
        skipped = min(self._trim, y.shape[1])
        self._trim -= skipped
        y = y[:, skipped:]
        if final:
            y = y[:, : max(0, (self._taken - self._fewer) * self._rate - self._made)]
        zero_tails(y, self._made, self._lengths)
        self._made += y.shape[1]
        return y


class Queue:
    """Positions that wait for others to catch up."""

    def __init__(self) -> None:
        self._pieces: deque[Tensor] = deque()
        self.length = 0

    def put(self, x: Tensor) -> None:
        """Append [B, n, D]; the queue may write into it."""
        if x.shape[1] or not self._pieces:
            self._pieces.append(x)
        self.length += x.shape[1]

    def take(self, count: int) -> Tensor:
        """The next `count` positions [B, count, D]."""
        pieces = self._next(count)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)

    def add_to(self, y: Tensor) -> Tensor:
        """Add the next positions to all of y [B, n, D], in place and without joining them first."""
        start = 0
        for piece in self._next(y.shape[1]):
            y[:, start : start + piece.shape[1]] += piece
            start += piece.shape[1]
        return y

    def _next(self, count: int) -> list[Tensor]:
        self.length -= count
        taken = []
        while count > self._pieces[0].shape[1]:
            taken.append(self._pieces.popleft())
            count -= taken[-1].shape[1]
        taken.append(self._pieces[0][:, :count])
        self._pieces[0] = self._pieces[0][:, count:]
        return taken


class Sum:
    """Adds several streams that arrive at different times."""

    def __init__(self, streams: int) -> None:
        self._queues = [Queue() for _ in range(streams)]

    def push(self, *streams: Tensor) -> Tensor:
        """The next part of each stream [B, n_i, D], which is given away -> the next sums [B, n, D]."""
        for queue, x in zip(self._queues, streams, strict=True):
            queue.put(x)
        first, *others = self._queues
        total = first.take(min(queue.length for queue in self._queues))
        for queue in others:
            queue.add_to(total)
        return total


class ReflectedStart:
    """One more position in front: the second one, as reflection pads it."""

    def __init__(self) -> None:
        self._waiting: Tensor | None = None
        self._begun = False

    def push(self, x: Tensor) -> Tensor:
        """The next inputs [B, n, D] -> the next outputs; nothing until two inputs are there."""
        if self._begun:
            return x
        if self._waiting is not None:
            x = torch.cat((self._waiting, x), dim=1)
        if x.shape[1] < 2:
            self._waiting = x
            return x[:, :0]
        self._begun = True
        return torch.cat((x[:, 1:2], x), dim=1)


class Analysis:
    """The centred short-time spectrum of a wave, whose two ends are padded by reflection as `torch.stft` does."""

    def __init__(self, basis: Tensor, hop: int) -> None:
        """A run at its beginning; `basis` [n_fft, n_fft + 2] makes real and imaginary parts of a frame."""
        self._basis, self._hop, self._half = basis, hop, len(basis) // 2
        self._rest: Tensor | None = None
        self._tail: Tensor | None = None
        self._begun = False

    def push(self, wave: Tensor, final: bool) -> Tensor:
        """The next samples [B, n] -> the next frames [B, f, n_fft + 2].

        The whole wave must be longer than half of n_fft.
        """
        seen = wave if self._rest is None else torch.cat((self._rest, wave), dim=1)
        if not self._begun and seen.shape[1] > self._half:
            seen = torch.cat((seen[:, 1 : self._half + 1].flip(1), seen), dim=1)
            self._begun = True
        tail = wave if self._tail is None else torch.cat((self._tail, wave), dim=1)
        self._tail = tail[:, -self._half - 1 :]
        if final:
            seen = torch.cat((seen, self._tail[:, :-1].flip(1)), dim=1)
        size = len(self._basis)
        frames = max(0, (seen.shape[1] - size) // self._hop + 1) if self._begun else 0
        self._rest = seen[:, frames * self._hop :]
        if not frames:
            return wave.new_empty(wave.shape[0], 0, self._basis.shape[1])
        return F.linear(seen.unfold(1, size, self._hop), self._basis.T)
