"""What a recogniser hears in a long recording, as evidence of where its transcript is said."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rapidfuzz.distance import Levenshtein

from cosytune.audio.files import read_wave
from cosytune.audio.pauses import Activity
from cosytune.data.alignment import WIDE, Unit, units_of_text
from cosytune.data.manifest import Utterance
from cosytune.data.pieces import CutSettings, choose_pieces, joints_of_speech
from cosytune.text.normalise import normalise
from cosytune.units import FEATURE_SAMPLE_RATE

__all__ = ["Hearing", "hear_recording", "words_of"]

PARTS = CutSettings(shortest=1.0, longest=15.0)
"""What a recogniser is given at once."""
NEIGHBOURS = 6
"""Words on each side of a pause that must be heard rightly for it to be known where in the text it is."""
MOST = 6
"""Words. What is farther away is simply wrong."""
WEIGHT = 1.5
"""Nats for each word."""
SLACK = 2
"""Words: how well it is known which of a part's words were said in which of its stretches."""


class Hearing:
    """Words that were heard in parts of a recording, laid along the words of its transcript by edit distance.

    Args:
        units: of the transcript.
        language: its code.
        speech: [K, 2], stretches of speech in seconds.
        borders: for each end of a part the number of stretches of speech before it, [parts + 1].
        heard: words of each part.
    """

    def __init__(
        self,
        units: Sequence[Unit],
        language: str,
        speech: np.ndarray,
        borders: Sequence[int],
        heard: Sequence[Sequence[str]],
    ) -> None:
        text = [words_of(unit.text, language) for unit in units]
        said = [word for unit in text for word in unit]
        sound = [word for part in heard for word in part]
        self._said_before = np.cumsum([0, *map(len, text)])
        self._match = np.full(len(sound), -1)
        for block in Levenshtein.opcodes(sound, said):
            if block.tag == "equal":
                self._match[block.src_start : block.src_end] = np.arange(block.dest_start, block.dest_end)
        heard_before = np.cumsum([0, *map(len, heard)])
        spoken = np.concatenate([[0.0], np.cumsum(speech[:, 1] - speech[:, 0])])
        self._heard_at = np.interp(spoken, spoken[np.asarray(borders)], heard_before)
        self._places = {
            stretch: [self._place(int(word), side) for side in (-1, 1)]
            for stretch, word in zip(borders[1:-1], heard_before[1:-1], strict=True)
        }

    def evidence(self, unit: int, stretch: int) -> float:
        """Nats that speak for the border before a unit lying in the pause before a stretch; 0 where no part ends."""
        # Words before the pause and words after it tell different places where a part of the text was not read.
        sides = [
            share * (MOST / 2 - min(MOST, abs(float(self._said_before[unit]) - place)))
            for place, share in self._places.get(stretch, ())
            if share
        ]
        return WEIGHT * max(sides, default=0.0)

    def agreement(self, units: tuple[int, int], stretches: tuple[int, int]) -> float:
        """Share of the words of some units that were heard in some stretches, both as first and one after the last."""
        first, last = self._said_before[list(units)]
        begin, end = self._heard_at[list(stretches)]
        near = self._match[max(0, round(begin) - SLACK) : round(end) + SLACK]
        return float(np.sum((near >= first) & (near < last))) / max(1, last - first)

    def _place(self, word: int, side: int) -> tuple[float, float]:
        """Words of the text before heard word `word`, and the share of its neighbours on one side that tell so."""
        first, last = (word - NEIGHBOURS, word) if side < 0 else (word, word + NEIGHBOURS)
        near = np.arange(max(0, first), min(len(self._match), last))
        known = near[self._match[near] >= 0]
        if not len(known):
            return 0.0, 0.0
        # Each matched neighbour says where the pause is, if no word between was missed or made up.
        votes = self._match[known] - known + word
        place = float(np.median(votes))
        return place, float(np.sum(np.abs(votes - place) <= 1)) / NEIGHBOURS


def hear_recording(utterance: Utterance, activity: Activity, transcribe: Callable[[np.ndarray], str]) -> Hearing:
    """Let a recogniser hear a recording part by part, and compare with its transcript.

    Args:
        utterance: the recording with its whole transcript.
        activity: its speech, in seconds from the utterance's start.
        transcribe: wave [N] at 16 kHz to words.
    """
    offset = utterance.start or 0.0
    borders, heard = [0], []
    for piece in choose_pieces(joints_of_speech(activity, PARTS), PARTS):
        begin, end = offset + piece.start, offset + min(piece.end, activity.seconds)
        wave, _ = read_wave(Path(utterance.audio), FEATURE_SAMPLE_RATE, begin, end)
        heard.append(words_of(transcribe(wave), utterance.language))
        borders.append(int(np.searchsorted(activity.speech[:, 1], piece.end, side="right")))
    borders[-1] = len(activity.speech)
    units = units_of_text(utterance.text or "", utterance.language)
    return Hearing(units, utterance.language, activity.speech, borders, heard)


def words_of(text: str, language: str) -> list[str]:
    """Words to compare: numbers spelt, lower case, no marks; each ideograph is a word."""
    if re.search(r"\d", text):
        text = normalise(text, language or None)
    parted = WIDE.sub(lambda match: f" {match[0]} ", re.sub(r"['’]", "", text.casefold()))
    return "".join(char if char.isalnum() else " " for char in parted).split()
