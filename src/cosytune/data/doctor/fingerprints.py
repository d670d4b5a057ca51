"""Fingerprints of recordings: the same recording is found again after coding, a change of level, or with silence added.

After Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002: the signs of the differences of
band energies along time and frequency, 32 bits every 16 ms.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cosytune.audio.resample import resample
from cosytune.data.doctor.spectra import power_spectra

__all__ = ["Match", "fingerprint", "same_recordings"]

RATE = 8000
SIZE, HOP = 1024, 128
BITS = 32
LOW_HERTZ, HIGH_HERTZ = 250.0, 3400.0
LAG = 4
"""Frames between the two that are compared: one hop of 16 ms changes too little under a window of 128 ms."""

SILENT_DB = 60.0
"""Frames so far below the loudest have no bits: rounding noise alone would decide them."""

NOTHING = np.uint32(0)
CROWD = 12
"""A value that more frames share is a habit of speech and no sign of a copy."""

VOTES = 3
"""Frames that must agree fully at one distance before two clips are compared; one is enough for a clip under 1 s."""

SHORT = 60
"""Frames of a clip of 1 s."""

OVERLAP = 0.6
"""Share of the shorter clip that must be covered."""

ERRORS, SHORT_ERRORS = 0.2, 0.15
"""Share of the bits that may differ. Independent recordings of one sentence differ in 0.35 and more, those of one short
word in 0.26 and more (measured on real voices)."""


@dataclass(frozen=True)
class Match:
    """Two clips that hold one recording, by their places in the list; `first` < `second`; share of different bits."""

    first: int
    second: int
    errors: float


def fingerprint(wave: np.ndarray, rate: int) -> np.ndarray:
    """Bits of a wave [N], as uint32 [frames]; 0 where it is silent."""
    spectra = np.concatenate(list(power_spectra(resample(wave, rate, RATE), SIZE, HOP)))
    edges = np.round(np.geomspace(LOW_HERTZ, HIGH_HERTZ, BITS + 2) * SIZE / RATE).astype(int)
    edges = np.maximum.accumulate(np.maximum(edges, edges[0] + np.arange(BITS + 2)))
    energy = np.add.reduceat(spectra[:, : edges[-1]], edges[:-1], axis=1)
    loudness = energy.sum(axis=1)
    shape = np.diff(np.log(energy + 1e-14), axis=1)
    if len(shape) <= LAG:
        return np.zeros(0, np.uint32)
    signs = shape[LAG:] > shape[:-LAG]
    bits = (signs.astype(np.uint32) << np.arange(BITS, dtype=np.uint32)).sum(axis=1, dtype=np.uint32)
    limit = max(float(loudness.max()) * 10 ** (-SILENT_DB / 10), 1e-11)
    bits[(loudness[LAG:] < limit) | (loudness[:-LAG] < limit)] = NOTHING
    return bits


def same_recordings(prints: Sequence[np.ndarray]) -> list[Match]:
    """All pairs of fingerprints that belong to one recording, sorted."""
    found = []
    for (first, second), offsets in sorted(_candidates(prints).items()):
        errors = min(_errors(prints[first], prints[second], offset) for offset in offsets)
        if errors <= (SHORT_ERRORS if _is_short(prints[first], prints[second]) else ERRORS):
            found.append(Match(first, second, errors))
    return found


def _candidates(prints: Sequence[np.ndarray]) -> dict[tuple[int, int], list[int]]:
    """Pairs that share rare values at one distance, with the distances that were seen most."""
    owners = np.repeat(np.arange(len(prints)), [len(bits) for bits in prints])
    places = np.concatenate([np.arange(len(bits)) for bits in prints] or [np.zeros(0, int)])
    values = np.concatenate([*prints, np.zeros(0, np.uint32)])
    held = values != NOTHING
    owners, places, values = owners[held], places[held], values[held]
    order = np.argsort(values, kind="stable")
    owners, places, values = owners[order], places[order], values[order]
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    rare = sizes[group] <= CROWD
    votes: dict[tuple[int, int, int], int] = defaultdict(int)
    for step in range(1, CROWD):
        paired = (group[step:] == group[:-step]) & rare[step:] & (owners[step:] != owners[:-step])
        (rows,) = np.nonzero(paired)
        for row in rows:
            left, right = int(owners[row]), int(owners[row + step])
            offset = int(places[row + step] - places[row])
            votes[(left, right, offset) if left < right else (right, left, -offset)] += 1
    best: dict[tuple[int, int], list[int]] = defaultdict(list)
    for (left, right, offset), count in votes.items():
        near = count + votes.get((left, right, offset - 1), 0) + votes.get((left, right, offset + 1), 0)
        if near >= (1 if _is_short(prints[left], prints[right]) else VOTES):
            best[left, right].append(offset)
    return best


def _is_short(left: np.ndarray, right: np.ndarray) -> bool:
    return min(len(left), len(right)) < SHORT


def _errors(left: np.ndarray, right: np.ndarray, offset: int) -> float:
    """Share of bits that differ where frame n of `left` lies on frame n + offset of `right`; 1 if too little does."""
    begin, end = max(0, -offset), min(len(left), len(right) - offset)
    if end <= begin:
        return 1.0
    a, b = left[begin:end], right[begin + offset : end + offset]
    held = (a != NOTHING) & (b != NOTHING)
    shorter = min(int((left != NOTHING).sum()), int((right != NOTHING).sum()))
    if held.sum() < max(1, OVERLAP * shorter):
        return 1.0
    different = np.bitwise_xor(a[held], b[held])
    return float(np.unpackbits(different.view(np.uint8)).sum()) / (BITS * len(different))
