"""Sentences that are nearly the same: found among a million without comparing each with each.

Two sentences are near-duplicates if four fifths of their letters, or of their words, are the same in the same order
(`similarity`, after case, punctuation and spacing are gone; a number counts as one letter, so that sentences that
differ in a number only are alike whatever the number). Pairs worth comparing share one of two kinds of hash:

- of the words without one of them: finds every pair that differs by one word put in, left out or exchanged;
- MinHash bands over pieces of four letters (two Chinese characters): finds pairs that differ in several places, nine
  of ten of those that share six tenths of their pieces (Broder 1997; Leskovec et al., Mining of Massive Datasets, 3.4).

Texts and hashes lie in temporary files; memory holds some ten bytes a sentence.
"""

from __future__ import annotations

import re
import tempfile
import unicodedata
import zlib
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import IO

import numpy as np
from rapidfuzz.distance import Indel

__all__ = ["THRESHOLD", "TextFile", "group", "near_pairs", "similarity", "words_of"]

THRESHOLD = 0.8

_BANDS, _ROWS = 16, 4
_RANDOM = np.random.default_rng(20260101).integers(1, 1 << 63, (2, _BANDS, _ROWS), dtype=np.uint64) | np.uint64(1)
_CHUNK = 4096
"""Sentences hashed at once."""
_PART = 1 << 20
"""Hashes sorted at once, about."""
_NEIGHBOURS = 4
"""In a bucket each sentence is compared with the first and with this many before it: buckets may be large."""
_BASE = np.uint64(0x9E3779B97F4A7C15)
_INVERSE = np.uint64(pow(int(_BASE), -1, 1 << 64))
_BUCKETED = np.dtype([("hash", np.uint64), ("sentence", np.uint32)])
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_TOKEN = re.compile(rf"\d+(?:[.,:/]\d+)*|[{_CJK}]|[^\W_\d{_CJK}]+(?:['’][^\W_\d{_CJK}]+)*")


def words_of(text: str) -> str:
    """Lower-case words with a space between them, without punctuation.

    Each Chinese character is a word, and each number one private character, by which two numbers can be told apart.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    if not folded.isascii():
        # Vowel signs of Indian scripts are no letters to a regular expression, and words would break at them.
        folded = "".join(character for character in folded if unicodedata.category(character)[0] != "M")
    return " ".join(map(_plain, _TOKEN.findall(folded)))


def _plain(token: str) -> str:
    if token[0].isdigit():
        return chr(0xF0000 + zlib.crc32(token.encode()) % 0xFFFE)
    return token.replace("'", "").replace("’", "")


def similarity(one: str, other: str, at_least: float = 0.0) -> float:
    """Share of letters, or of words if that is more, that are the same in the same order (indel).

    Args:
        one: as `words_of` makes it.
        other: as `words_of` makes it.
        at_least: a smaller similarity may be returned as 0.
    """
    letters = Indel.normalized_similarity(one.replace(" ", ""), other.replace(" ", ""), score_cutoff=at_least)
    if letters >= at_least > 0:
        return letters
    return max(letters, Indel.normalized_similarity(one.split(), other.split(), score_cutoff=at_least))


class TextFile:
    """Texts on disk that are read by number; 8 bytes of memory each."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the object
        self._ends = array("Q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, text: str) -> None:
        """Add a text as the last one."""
        encoded = text.encode("utf-8")
        self._file.seek(0, 2)
        self._file.write(encoded)
        self._ends.append(self._ends[-1] + len(encoded))

    def __getitem__(self, index: int) -> str:
        self._file.seek(self._ends[index])
        return self._file.read(self._ends[index + 1] - self._ends[index]).decode("utf-8")


def group(texts: TextFile, members: np.ndarray, largest: int) -> tuple[np.ndarray, int]:
    """Put near-duplicates together.

    What is alike is joined, and so are chains of it; a chain of more than `largest` sentences (templates with a word
    exchanged in each make such) is joined anew by a stricter measure, up to equality.

    Args:
        texts: as `words_of` makes them.
        members: int64 [N], numbers of the sentences to group.
        largest: sentences of a group, at most, unless they are equal.

    Returns:
        int64 [N], the smallest number of a sentence in the group of each; and how many sentences were joined anew.
    """
    groups = members.copy()
    left = np.arange(len(members))
    strict = 0
    for threshold in (THRESHOLD, 0.9, 0.95):
        groups[left] = _joined(texts, members[left], threshold)
        _, inverse, sizes = np.unique(groups[left], return_inverse=True, return_counts=True)
        left = left[sizes[inverse] > largest]
        strict = strict or len(left)
        if not len(left):
            return groups, strict
    groups[left] = members[left]
    return groups, strict


def near_pairs(texts: TextFile, members: np.ndarray, threshold: float = THRESHOLD) -> Iterator[tuple[int, int]]:
    """Pairs of numbers of near-duplicates among `members`, in a stable order; a pair may come twice."""
    for one, other in _candidates(texts, members):
        if similarity(texts[one], texts[other], threshold) >= threshold:
            yield one, other


def _joined(texts: TextFile, members: np.ndarray, threshold: float) -> np.ndarray:
    """The smallest number in the chain of near-duplicates of each member."""
    parents = array("q", range(int(members.max(initial=-1)) + 1))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = index = parents[parents[index]]
        return index

    for one, other in _candidates(texts, members):
        low, high = sorted((root(one), root(other)))
        # Most pairs of a large group are in it already and need no comparison.
        if low != high and similarity(texts[one], texts[other], threshold) >= threshold:
            parents[high] = low
    return np.array([root(index) for index in members.tolist()], np.int64)


def _candidates(texts: TextFile, members: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs worth comparing, the smaller number first."""
    parts = 1 + 2 * _BANDS * len(members) // _PART
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(parts)]
        for begin in range(0, len(members), _CHUNK):
            chunk = members[begin : begin + _CHUNK]
            lines = [texts[index] for index in chunk.tolist()]
            long = [position for position, line in enumerate(lines) if _is_comparable(line)]
            if long:
                _scatter(files, *_hashes([lines[position] for position in long]), chunk[long])
        for file in files:
            yield from _pairs(file)


def _is_comparable(line: str) -> bool:
    """Whether a small part of a sentence can be different: of "four" and "fourth" hardly."""
    return line.count(" ") >= 2 or len(line) >= 10


def _scatter(files: Sequence[IO[bytes]], hashes: np.ndarray, owners: np.ndarray, numbers: np.ndarray) -> None:
    rows = np.empty(len(hashes), _BUCKETED)
    rows["hash"], rows["sentence"] = hashes, numbers[owners]
    parts = (hashes >> np.uint64(40)) % np.uint64(len(files))
    for part, file in enumerate(files):
        file.write(rows[parts == part].tobytes())


def _pairs(file: IO[bytes]) -> Iterator[tuple[int, int]]:
    """Pairs of sentences in one bucket, from a file of (hash, sentence)."""
    file.seek(0)
    rows = np.sort(np.frombuffer(file.read(), _BUCKETED))
    hashes, sentences = rows["hash"], rows["sentence"]
    places = np.arange(len(rows))
    begins = np.maximum.accumulate(np.where(np.r_[True, hashes[1:] != hashes[:-1]], places, 0)[: len(rows)])
    found = [_coded(sentences[begins], sentences)]
    for step in range(1, _NEIGHBOURS + 1):
        inside = begins[step:] <= places[step:] - step
        found.append(_coded(sentences[:-step][inside], sentences[step:][inside]))
    for pair in np.unique(np.concatenate(found)).tolist():
        if pair >> 32 != pair & 0xFFFFFFFF:
            yield pair >> 32, pair & 0xFFFFFFFF


def _coded(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    ones, others = ones.astype(np.uint64), others.astype(np.uint64)
    return np.minimum(ones, others) << np.uint64(32) | np.maximum(ones, others)


def _hashes(lines: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """All hashes of some sentences, and the sentence of each (its place in `lines`)."""
    slots, owners = _slot_hashes(_codes("\n".join(lines) + "\n"))
    bands = _band_hashes(_codes("".join(line.replace(" ", "") + "\n\n\n" for line in lines)))
    return np.concatenate([slots, bands.ravel()]), np.concatenate([owners, np.tile(np.arange(len(lines)), _BANDS)])


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.uint64)


def _mixed(values: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64: every bit of the input changes half of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _powers(count: int) -> np.ndarray:
    return np.cumprod(np.r_[np.uint64(1), np.full(count, _BASE)])


def _slot_hashes(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each sentence whole and without each of its words: polynomials over its words, modulo 2**64."""
    ends = np.flatnonzero((codes == 32) | (codes == 10))
    starts = np.r_[0, ends[:-1] + 1]
    places = np.arange(len(codes)) - np.repeat(starts, ends + 1 - starts)
    letters = np.where((codes == 32) | (codes == 10), np.uint64(0), codes)
    words = _mixed(np.add.reduceat(letters * _powers(int(places.max()))[places], starts))
    last = np.flatnonzero(codes[ends] == 10)
    first = np.r_[0, last[:-1] + 1]
    counts = last + 1 - first
    owners = np.repeat(np.arange(len(first)), counts)
    terms = words * _powers(int(counts.max()))[np.arange(len(words)) - first[owners]]
    totals = np.add.reduceat(terms, first)
    before = np.cumsum(terms) - terms
    before -= before[first][owners]
    without = before + (totals[owners] - before - terms) * _INVERSE
    several = counts[owners] > 2
    return _mixed(np.r_[totals, without[several]]), np.r_[np.arange(len(first)), owners[several]]


def _band_hashes(codes: np.ndarray) -> np.ndarray:
    """uint64 [bands, sentences]: MinHash of each sentence's pieces, rows of a band in one."""
    at = np.flatnonzero(codes != 10)
    pieces = codes[at] * _BASE + codes[at + 1]
    chinese = (codes[at] >= 0x2E80) & (codes[at] < 0xF0000)
    pieces = _mixed(np.where(chinese, pieces, (pieces * _BASE + codes[at + 2]) * _BASE + codes[at + 3]))
    starts = np.flatnonzero(np.r_[True, np.diff(at) > 1])
    bands = np.empty((_BANDS, len(starts)), np.uint64)
    for band in range(_BANDS):
        value = np.full(len(starts), band, np.uint64)
        for factor, shift in zip(_RANDOM[0, band], _RANDOM[1, band], strict=True):
            value = value * _BASE + np.minimum.reduceat(pieces * factor + shift, starts)
        bands[band] = _mixed(value)
    return bands
