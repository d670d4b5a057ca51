"""Does it say the words? English word and character error rates by the pocketsphinx recogniser (model in its wheel)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from cosytune.audio.files import pcm16
from cosytune.errors import InputError
from cosytune.evaluation.judges.base import JUDGE_RATE, Recording, heard, is_silent, load_package, package_version
from cosytune.evaluation.judges.normaliser import NORMALISER, normalise_for_scoring
from cosytune.evaluation.results import ERROR_RATE, MetricInfo

__all__ = ["PocketsphinxJudge"]


class PocketsphinxJudge:
    """CER and WER of English. A weak recogniser, equal on every machine; it cannot follow some synthetic voices."""

    name = "pocketsphinx"
    metrics = (
        MetricInfo("cer", ERROR_RATE, False, "pocketsphinx", "characters misheard, of all characters of the text"),
        MetricInfo("wer", ERROR_RATE, False, "pocketsphinx", "words misheard, of all words of the text"),
    )

    @property
    def version(self) -> str:
        """Recogniser, error counter and text normaliser."""
        return f"{package_version('pocketsphinx')} en-us, {package_version('jiwer')}, normaliser {NORMALISER}"

    @cached_property
    def _decoder(self) -> Any:
        package = load_package("pocketsphinx", "pip install pocketsphinx")
        return package.Decoder(samprate=float(JUDGE_RATE), loglevel="FATAL")

    @cached_property
    def _jiwer(self) -> Any:
        return load_package("jiwer", "pip install jiwer")

    def transcribe(self, wave: np.ndarray, sample_rate: int) -> str:
        """What the recogniser hears in a wave float32 [N]: lower-case words, empty for silence.

        Raises:
            InputError: the wave cannot be judged.
            MissingPackageError: pocketsphinx is not installed.
        """
        wave = heard(wave, sample_rate)
        if is_silent(wave, JUDGE_RATE):
            return ""
        # The front end carries state from clip to clip, whatever `cmn` says: without this, scores hang on order.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        self._decoder.process_raw(pcm16(wave).tobytes(), no_search=False, full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return str(hypothesis.hypstr) if hypothesis is not None else ""

    def score(self, wave: np.ndarray, sample_rate: int, text: str, references: Sequence[Recording]) -> dict[str, float]:
        """`cer` and `wer` of a wave float32 [N] against its text; references are not used. Silence scores 1.

        Raises:
            InputError: the wave cannot be judged, or the text has no words.
            MissingPackageError: pocketsphinx or jiwer is not installed.
        """
        wanted = normalise_for_scoring(text)
        if not wanted:
            raise InputError(f"the text {text!r} has no words that could be recognised; give a sentence with letters")
        got = normalise_for_scoring(self.transcribe(wave, sample_rate))
        return {"cer": float(self._jiwer.cer(wanted, got)), "wer": float(self._jiwer.wer(wanted, got))}
