"""Fingerprints of recordings: the same recording is found again after coding, a change of level, or with silence added.

After Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002: the signs of the differences of
band energies along time and frequency, 32 bits every 16 ms.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from cosytune.audio.resample import resample
from cosytune.data.doctor.array_file import Arrays
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
PAIRED = 1 << 31
"""A pair of clips is one number: the first times this plus the second."""

MOST_FRAMES = 1_000_000
"""Frames (of four hours) that are looked at together: memory is bounded by it, at some 80 bytes each."""

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


def same_recordings(prints: Arrays) -> list[Match]:
    """All pairs of fingerprints that belong to one recording, sorted."""
    found = []
    for (first, second), offsets in sorted(_candidates(prints).items()):
        errors = min(_errors(prints[first], prints[second], offset) for offset in offsets)
        if errors <= (SHORT_ERRORS if _is_short(prints[first], prints[second]) else ERRORS):
            found.append(Match(first, second, errors))
    return found


def _candidates(prints: Arrays) -> dict[tuple[int, int], list[int]]:
    """Pairs that share rare values at one distance, with the distances that were seen most."""
    lengths = np.array([len(prints[number]) for number in range(len(prints))], np.int64)
    parts = max(1, -(-int(lengths.sum()) // MOST_FRAMES))
    seen = [_sightings(prints, part, parts) for part in range(parts)]
    pairs, offsets = (np.concatenate(both) for both in zip(*seen, strict=True))
    order = np.lexsort((offsets, pairs))
    pairs, offsets = pairs[order], offsets[order]
    first = np.flatnonzero(np.append(True, (np.diff(pairs) != 0) | (np.diff(offsets) != 0))[: len(pairs)])
    votes = np.diff(np.append(first, len(pairs)))
    pairs, offsets = pairs[first], offsets[first]
    # A frame more or less is the same distance.
    beside = (pairs[1:] == pairs[:-1]) & (offsets[1:] == offsets[:-1] + 1)
    near = votes.copy()
    near[1:] += np.where(beside, votes[:-1], 0)
    near[:-1] += np.where(beside, votes[1:], 0)
    left, right = pairs // PAIRED, pairs % PAIRED
    wanted = np.where(np.minimum(lengths[left], lengths[right]) < SHORT, 1, VOTES)
    best: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row in np.flatnonzero(near >= wanted).tolist():
        best[int(left[row]), int(right[row])].append(int(offsets[row]))
    return best


def _sightings(prints: Arrays, part: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Of one part of all values: pairs of clips that share a rare one, int64 [n], and by how many frames, int64 [n]."""
    owners, places, values = [], [], []
    for number in range(len(prints)):
        bits = prints[number]
        held = np.flatnonzero((bits != NOTHING) & (bits % np.uint32(parts) == part))
        owners.append(np.full(len(held), number, np.int32))
        places.append(held.astype(np.int32))
        values.append(bits[held])
    nothing = [np.zeros(0, np.int32)]
    value = np.concatenate([*values, np.zeros(0, np.uint32)])
    order = np.argsort(value, kind="stable")
    owner, place = (np.concatenate([*columns, *nothing])[order].astype(np.int64) for columns in (owners, places))
    _, group, sizes = np.unique(value[order], return_inverse=True, return_counts=True)
    rare = sizes[group] <= CROWD
    pairs, offsets = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for step in range(1, CROWD):
        (rows,) = np.nonzero((group[step:] == group[:-step]) & rare[step:] & (owner[step:] != owner[:-step]))
        left, right, offset = owner[rows], owner[rows + step], place[rows + step] - place[rows]
        pairs.append(np.minimum(left, right) * PAIRED + np.maximum(left, right))
        offsets.append(np.where(left < right, offset, -offset))
    return np.concatenate(pairs), np.concatenate(offsets)


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
