"""The settings of a preparation."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cosytune.audio.pauses import Detector
from cosytune.data.cutting import CutSettings
from cosytune.data.splits import SplitSettings
from cosytune.errors import DataError, InputError

__all__ = ["Preparation"]


@dataclass(frozen=True)
class Preparation:
    """How a corpus is made.

    Attributes:
        language: code for all clips, or None to guess where the source names none.
        validation: share of sentences on the validation side.
        test: share of sentences on the test side.
        seed: of the split.
        shortest: seconds; shorter clips are dropped.
        longest: seconds; longer recordings are cut, or dropped without `cut`.
        cut: whether recordings that are longer, or have subtitles and no transcript, are cut into clips of 2 to 20 s
            (less if `longest` is).
        detector: how speech is found in what is cut (see `audio.pauses`).
        transcribe: recogniser for clips without transcript ("pocketsphinx", or the path of a model); None: they stay
            without.
        check: JSON of the data doctor whose decisions are carried out; None: none are.
        recipe: name of a Lhotse recipe that reads the folder; None: what the folder is, is recognised.

    Raises:
        InputError: a number is out of range, a name is none, or there is no such detector.
        DataError: the shares of the sides cannot be cut.
    """

    language: str | None = None
    validation: float = 0.1
    test: float = 0.1
    seed: int = 0
    shortest: float = 0.1
    longest: float = 30.0
    cut: bool = True
    detector: Detector = "auto"
    transcribe: str | None = None
    check: Path | None = None
    recipe: str | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.shortest) and 0 <= self.shortest < self.longest):
            raise InputError(
                f"clips of {self.shortest:g} to {self.longest:g} s were asked for, which no clip can be; give 0 <= "
                "shortest < longest seconds"
            )
        if self.language is not None and not self.language.strip():
            raise InputError("the language is empty; give a code such as en or zh, or none, to have it guessed")
        # Also where nothing is to be cut.
        CutSettings(detector=self.detector)
        _ = self.splits

    @property
    def splits(self) -> SplitSettings:
        """How the sides are drawn."""
        return SplitSettings(self.validation, self.test, self.seed)

    @property
    def cut_settings(self) -> CutSettings | None:
        """How long recordings are cut."""
        if not self.cut:
            return None
        usual = CutSettings()
        return CutSettings(
            shortest=min(usual.shortest, self.longest / 4),
            longest=min(usual.longest, self.longest),
            keep_silence=min(usual.keep_silence, self.longest / 4),
            detector=self.detector,
        )

    def to_json(self) -> dict[str, Any]:
        """What decides the corpus beside its source; the doctor's decisions by their contents."""
        try:
            decided = None if self.check is None else hashlib.sha256(self.check.read_bytes()).hexdigest()
        except OSError as error:
            raise DataError(
                f"the check {self.check} cannot be read ({error.strerror}); give the JSON that "
                "cosytune data check left beside its page"
            ) from error
        return {**asdict(self), "check": decided}
