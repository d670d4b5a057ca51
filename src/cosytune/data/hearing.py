"""What a recogniser hears in a long recording, as evidence of where its transcript is said."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rapidfuzz.distance import Levenshtein

from cosytune.audio.files import read_wave
from cosytune.audio.pauses import Activity
from cosytune.data.alignment import WIDE, Evidence, Unit, units_of_text
from cosytune.data.manifest import Utterance
from cosytune.data.pieces import CutSettings, choose_pieces, joints_of_speech
from cosytune.text.normalise import normalise
from cosytune.units import FEATURE_SAMPLE_RATE

__all__ = ["evidence_of_recogniser", "evidence_of_words"]

PARTS = CutSettings(shortest=1.0, longest=15.0)
"""What a recogniser is given at once."""
NEIGHBOURS = 6
"""Words on each side of a pause that must be heard rightly for it to be known where in the text it is."""
MOST = 6
"""Words. What is farther away is simply wrong."""
WEIGHT = 1.5
"""Nats for each word."""


def evidence_of_recogniser(
    utterance: Utterance, activity: Activity, transcribe: Callable[[np.ndarray], str]
) -> Evidence:
    """Let a recogniser hear a recording part by part, and compare with its transcript.

    Args:
        utterance: the recording with its whole transcript.
        activity: its speech, in seconds from the utterance's start.
        transcribe: wave [N] at 16 kHz to words.
    """
    offset = utterance.start or 0.0
    borders, heard = [0], []
    for piece in choose_pieces(joints_of_speech(activity, PARTS), PARTS):
        wave, _ = read_wave(
            Path(utterance.audio), FEATURE_SAMPLE_RATE, offset + piece.start, offset + min(piece.end, activity.seconds)
        )
        heard.append(words_of(transcribe(wave), utterance.language))
        borders.append(int(np.searchsorted(activity.speech[:, 1], piece.end - 1e-6)))
    units = units_of_text(utterance.text or "", utterance.language)
    return evidence_of_words(units, utterance.language, borders, heard)


def evidence_of_words(
    units: Sequence[Unit], language: str, borders: Sequence[int], heard: Sequence[Sequence[str]]
) -> Evidence:
    """How well each border of the text fits each pause, by the words heard before and after.

    Args:
        units: of the transcript.
        language: its code.
        borders: for each end of a part the number of stretches of speech before it, [parts + 1].
        heard: words of each part.
    """
    counts = [len(words_of(unit.text, language)) for unit in units]
    said_before = np.concatenate([[0], np.cumsum(counts)])
    text = [word for unit in units for word in words_of(unit.text, language)]
    sound = [word for part in heard for word in part]
    match = np.full(len(sound), -1)
    for block in Levenshtein.opcodes(sound, text):
        if block.tag == "equal":
            match[block.src_start : block.src_end] = np.arange(block.dest_start, block.dest_end)
    heard_before = np.cumsum([0, *map(len, heard)])
    places = {
        stretch: [_place(match, int(word), side) for side in (-1, 1)]
        for stretch, word in zip(borders[1:-1], heard_before[1:-1], strict=True)
    }

    def evidence(unit: int, stretch: int) -> float:
        # Words before the pause and words after it tell different places where a part of the text was not read.
        sides = [
            share * (MOST / 2 - min(MOST, abs(float(said_before[unit]) - place)))
            for place, share in places.get(stretch, ())
            if share
        ]
        return WEIGHT * max(sides, default=0.0)

    return evidence


def _place(match: np.ndarray, word: int, side: int) -> tuple[float, float]:
    """Words of the text before heard word `word`, and the share of its neighbours on one side that tell so."""
    near = (
        np.arange(max(0, word - NEIGHBOURS), word) if side < 0 else np.arange(word, min(len(match), word + NEIGHBOURS))
    )
    known = near[match[near] >= 0]
    if not len(known):
        return 0.0, 0.0
    # Each matched neighbour says where the pause is, if no word between was missed or made up.
    votes = match[known] - known + word
    place = float(np.median(votes))
    return place, float(np.sum(np.abs(votes - place) <= 1)) / NEIGHBOURS


def words_of(text: str, language: str) -> list[str]:
    """Words to compare: numbers spelt, lower case, no marks; each ideograph is a word."""
    if re.search(r"\d", text):
        text = normalise(text, language or None)
    parted = WIDE.sub(lambda match: f" {match[0]} ", re.sub(r"['’]", "", text.casefold()))
    return "".join(char if char.isalnum() else " " for char in parted).split()
