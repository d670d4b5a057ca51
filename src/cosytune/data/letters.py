"""How the letters of a transcript sound in its own recording: learned from the parts that are placed for certain.

Each letter is a Gaussian over cepstra, and a text is said by going through its letters from left to right (a hidden
Markov model of one state a letter; Rabiner, Proceedings of the IEEE 77(2), 1989). It starts flat, every letter as long
as any other, and is trained by Viterbi's alignment. It knows nothing of the language, so any alphabet will do; a
script whose signs hardly ever return (Chinese) teaches it nothing, which `hear_letters` notices.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from cosytune.audio.pauses import waves_at_16_khz
from cosytune.text.normalise import normalise
from cosytune.units import FEATURE_SAMPLE_RATE

__all__ = ["Letters", "Line", "Run", "Sound", "align", "hear_letters", "letters_of", "read_sound", "score_runs"]

FRAMES_PER_SECOND = 50
BANDS, CEPSTRA = 40, 13
BLOCK = 10 * FEATURE_SAMPLE_RATE
SKIP = -4.0
"""Nats of a letter that is not heard."""
PRIOR_FRAMES = 20.0
"""Frames of the whole recording that are mixed into each letter: a rare one sounds like all."""
NARROWEST = 0.1
"""Of the variance of the whole recording."""
ROUNDS = 6
FEWEST_LINES = 16
NULL_SHARE = 0.9
"""Of the wrong texts that must be worse than half of the right ones, or else the letters tell nothing."""
TOGETHER = 48
"""Texts that are gone through at a time."""
UNHEARD = -1e4
"""Nats of what cannot be."""


@dataclass(frozen=True)
class Sound:
    """The speech of a recording.

    Attributes:
        frames: float32 [T, D], 50 a second, pauses left out, each column with mean 0 and variance 1.
        begins: int [K + 1], frames before each stretch of speech, and all.
    """

    frames: np.ndarray
    begins: np.ndarray


@dataclass(frozen=True)
class Line:
    """A text and where it is said.

    Attributes:
        first: frame where it begins.
        last: one after the frame where it ends.
        letters: int [L], numbers of its letters.
    """

    first: int
    last: int
    letters: np.ndarray


@dataclass(frozen=True)
class Letters:
    """How letters sound.

    Attributes:
        table: float32 [T, A], nats by which each frame is more like a letter than like any.
        usual: nats a frame that right texts have, the median over lines that were not learned from.
        wrong: nats a frame that texts of other lines have; one in a hundred has more.
    """

    table: np.ndarray
    usual: float
    wrong: float


def letters_of(texts: Sequence[str], language: str) -> tuple[list[np.ndarray], int]:
    """The letters of each text as numbers, and how many there are; figures count as their words."""
    spelt = [normalise(text, language or None) if re.search(r"\d", text) else text for text in texts]
    found = [[char for char in text.casefold() if char.isalnum()] for text in spelt]
    numbers = {char: number for number, char in enumerate(sorted({char for text in found for char in text}))}
    return [np.array([numbers[char] for char in text], int) for text in found], len(numbers)


def read_sound(path: Path, start: float, end: float, speech: np.ndarray) -> Sound:
    """The cepstra of a recording's speech, in memory of its frames alone (19 MB an hour).

    Args:
        path: of the recording.
        start: seconds to begin at; `speech` counts from here.
        end: seconds to stop at.
        speech: [K, 2], stretches of speech in seconds, in order.

    Raises:
        InputError: it cannot be read.
    """
    cepstra = np.concatenate(list(_cepstra(waves_at_16_khz(path, start, end))))
    slopes = np.zeros_like(cepstra)
    slopes[1:-1] = cepstra[2:] - cepstra[:-2]
    both = np.concatenate([cepstra, slopes], axis=1)
    edges = np.clip(np.round(speech * FRAMES_PER_SECOND).astype(int), 0, len(both))
    edges[:, 1] = np.maximum(edges[:, 1], np.minimum(edges[:, 0] + 1, len(both)))
    frames = np.concatenate([both[first:last] for first, last in edges])
    frames = (frames - frames.mean(axis=0)) / np.maximum(frames.std(axis=0), 1e-6)
    return Sound(frames.astype(np.float32), np.concatenate([[0], np.cumsum(edges[:, 1] - edges[:, 0])]))


def _cepstra(waves: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    """[F, CEPSTRA] of each stretch of about ten seconds, 50 frames a second."""
    # Loaded where a long transcript is placed only: it takes seconds.
    import torch

    from cosytune.audio.fbank import kaldi_fbank

    bands = np.arange(BANDS) + 0.5
    transform = np.cos(np.pi / BANDS * np.outer(np.arange(CEPSTRA), bands)).astype(np.float32)
    step, window = FEATURE_SAMPLE_RATE // FRAMES_PER_SECOND, 400
    rest = np.zeros(0, np.float32)
    for wave in waves:
        rest = np.concatenate([rest, wave.astype(np.float32)])
        if len(rest) >= BLOCK:
            count = (len(rest) - window) // step
            yield kaldi_fbank(torch.from_numpy(rest[: (count - 1) * step + window]), BANDS).numpy()[::2] @ transform.T
            rest = rest[count * step :]
    if len(rest) >= window:
        yield kaldi_fbank(torch.from_numpy(rest), BANDS).numpy()[::2] @ transform.T


def hear_letters(sound: Sound, lines: Sequence[Line], alphabet: int) -> Letters | None:
    """Learn how letters sound, or None where what was learned does not tell a right text from a wrong one.

    That is tried first on each half of the lines with what the other half teaches.

    Args:
        sound: of the recording.
        lines: that are certain.
        alphabet: different letters.
    """
    if len(lines) < FEWEST_LINES:
        return None
    right: list[float] = []
    wrong: list[float] = []
    for half in (0, 1):
        table = _learn(sound, lines[1 - half :: 2], alphabet)
        own = sorted(lines[half::2], key=lambda line: len(line.letters))
        right += list(_means(table, own))
        others = [Line(line.first, line.last, other.letters) for line, other in pairwise(own)]
        others += [Line(line.first, line.last, other.letters) for other, line in pairwise(own)]
        wrong += list(_means(table, others))
    usual = float(np.median(right))
    if np.mean(np.array(wrong) < usual) < NULL_SHARE:
        return None
    return Letters(_learn(sound, lines, alphabet), usual, float(np.percentile(wrong, 99)))


def _means(table: np.ndarray, lines: Sequence[Line]) -> np.ndarray:
    """Nats a frame of each line."""
    found = [
        float(table[np.arange(line.first, line.last), line.letters[path]].mean())
        for line, path in zip(lines, align(table, lines), strict=True)
    ]
    return np.array(found)


def _learn(sound: Sound, lines: Sequence[Line], alphabet: int) -> np.ndarray:
    """The table of `Letters`."""
    frames = sound.frames
    paths = [np.arange(line.last - line.first) * len(line.letters) // (line.last - line.first) for line in lines]
    places = np.concatenate([np.arange(line.first, line.last) for line in lines])
    for number in range(ROUNDS):
        said = np.concatenate([line.letters[path] for line, path in zip(lines, paths, strict=True)])
        table, share = _likelihoods(frames, places, said, alphabet)
        if number < ROUNDS - 1:
            paths = align(table, lines)
    return table - np.logaddexp.reduce(table + share, axis=1, keepdims=True)


def _likelihoods(
    frames: np.ndarray, places: np.ndarray, said: np.ndarray, alphabet: int
) -> tuple[np.ndarray, np.ndarray]:
    """Logarithmic likelihood of each frame for each letter [T, A], and how often each letter is [A]."""
    chosen = np.zeros((alphabet, len(said)), np.float32)
    chosen[said, np.arange(len(said))] = 1
    heard = frames[places]
    count = chosen.sum(axis=1, keepdims=True)
    # All columns have mean 0 and variance 1, and so has the prior.
    mean = (chosen @ heard) / (count + PRIOR_FRAMES)
    variance = (chosen @ np.square(heard) + PRIOR_FRAMES) / (count + PRIOR_FRAMES) - np.square(mean)
    variance = np.maximum(variance, NARROWEST)
    square = np.square(frames) @ (1 / variance).T - 2 * frames @ (mean / variance).T
    constant = (np.square(mean) / variance + np.log(variance)).sum(axis=1)
    share = np.log((count[:, 0] + 1) / (count.sum() + alphabet))
    return (-0.5 * (square + constant)).astype(np.float32), share.astype(np.float32)


def align(table: np.ndarray, lines: Sequence[Line]) -> list[np.ndarray]:
    """For each line which of its letters each of its frames is, int [frames]."""
    paths: list[np.ndarray] = [np.zeros(0, int)] * len(lines)
    # Lines of like length go together.
    order = sorted(range(len(lines)), key=lambda number: lines[number].last - lines[number].first)
    for begin in range(0, len(order), TOGETHER):
        numbers = order[begin : begin + TOGETHER]
        batch = [lines[number] for number in numbers]
        frames = [line.last - line.first for line in batch]
        heard = _heard(table, [line.first for line in batch], max(frames), [line.letters for line in batch])
        came = np.zeros(heard.shape, np.int8)
        states = np.empty_like(heard)
        states[0] = _begin(heard)
        for time in range(1, len(heard)):
            states[time], came[time] = _move(states[time - 1])
            states[time] += heard[time]
        for place, number in enumerate(numbers):
            last = len(batch[place].letters) - 1
            path = np.empty(frames[place], int)
            end = states[frames[place] - 1, place]
            at = last - 1 if last and end[last - 1] + SKIP > end[last] else last
            for time in range(frames[place] - 1, -1, -1):
                path[time] = at
                at -= int(came[time, place, at])
            paths[number] = path
    return paths


@dataclass(frozen=True)
class Run:
    """A place where a text may begin, and the frames and letters at which parts of it may end.

    Attributes:
        first: frame where it begins.
        frames: int [S], frames from there to each end that is asked for, growing.
        letters: int [L], of the whole text.
        sizes: int [U], letters of each part that begins with it, growing.
    """

    first: int
    frames: np.ndarray
    letters: np.ndarray
    sizes: np.ndarray


def score_runs(table: np.ndarray, runs: Sequence[Run]) -> list[np.ndarray]:
    """For each run the nats [U, S] of each part of its text being what is said up to each of its ends."""
    found = [np.full((len(run.sizes), len(run.frames)), -np.inf, np.float32) for run in runs]
    order = sorted(range(len(runs)), key=lambda number: runs[number].frames[-1])
    for begin in range(0, len(order), TOGETHER):
        numbers = order[begin : begin + TOGETHER]
        batch = [runs[number] for number in numbers]
        asked: dict[int, list[tuple[int, int]]] = {}
        for place, run in enumerate(batch):
            for column, frames in enumerate(run.frames):
                asked.setdefault(int(frames), []).append((place, column))
        longest = max(int(run.frames[-1]) for run in batch)
        heard = _heard(table, [run.first for run in batch], longest, [run.letters for run in batch])
        state = _begin(heard)
        for time in range(longest):
            if time:
                state = _best(state) + heard[time]
            for place, column in asked.get(time + 1, ()):
                ends = batch[place].sizes
                last, before = state[place, ends - 1], state[place, np.maximum(ends - 2, 0)] + np.float32(SKIP)
                found[numbers[place]][:, column] = np.where(ends > 1, np.maximum(last, before), last)
    return found


def _heard(table: np.ndarray, firsts: Sequence[int], frames: int, letters: Sequence[np.ndarray]) -> np.ndarray:
    """The nats [T, B, L] of each letter of some texts in the frames from a first one on."""
    heard = np.full((frames, len(firsts), max(map(len, letters))), UNHEARD, np.float32)
    for place, (first, own) in enumerate(zip(firsts, letters, strict=True)):
        scores = table[first : first + frames][:, own]
        heard[: len(scores), place, : len(own)] = scores
    return heard


def _begin(heard: np.ndarray) -> np.ndarray:
    state = np.full(heard.shape[1:], UNHEARD, np.float32)
    state[:, 0] = 0.0
    state[:, 1:2] = SKIP
    return state + heard[0]


def _best(state: np.ndarray) -> np.ndarray:
    """States [B, L] a frame later, before that frame is heard."""
    best = state.copy()
    np.maximum(best[:, 1:], state[:, :-1], out=best[:, 1:])
    np.maximum(best[:, 2:], state[:, :-2] + np.float32(SKIP), out=best[:, 2:])
    return best


def _move(state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same, and by how many letters each came forward."""
    best = _best(state)
    came = np.full(state.shape, 2, np.int8)
    came[:, 1:][best[:, 1:] == state[:, :-1]] = 1
    came[best == state] = 0
    return best, came
