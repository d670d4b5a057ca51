"""The data doctor with its advisers: our judges listen, a model's tokenizer reads."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np

from cosytune.audio.resample import resample
from cosytune.data import transcripts
from cosytune.data.doctor import Advisers, Recogniser, check_recordings, make_exhibits
from cosytune.data.doctor_results import DoctorResult, Exhibit, SkippedCheck
from cosytune.data.engine import EngineName
from cosytune.data.transcripts import open_recogniser
from cosytune.errors import InputError
from cosytune.evaluation.judges.normaliser import normalise_for_scoring
from cosytune.evaluation.judges.pocketsphinx_judge import PocketsphinxJudge
from cosytune.evaluation.judges.resemblyzer_judge import ResemblyzerJudge
from cosytune.models.folder import read_model
from cosytune.text.tokenizers import load_tokenizer
from cosytune.training.jobs import Reporter
from cosytune.units import FEATURE_SAMPLE_RATE

__all__ = ["check", "check_paths", "make_advisers"]


def check(
    folder: Path,
    reporter: Reporter,
    *,
    language: str | None = None,
    model: Path | None = None,
    recogniser: str = "pocketsphinx",
    voices: bool = True,
    limit: int | None = None,
    engine: str = "local",
    workers: int | None = None,
) -> tuple[DoctorResult, list[Exhibit]]:
    """Check a folder of recordings: what was found, and the worst clips to see and hear. Nothing is written.

    Args:
        folder: what `open_source` reads.
        reporter: hears how far the work is.
        language: of clips whose source names none.
        model: folder of the model that the corpus is for; its tokenizer is asked.
        recogniser: "pocketsphinx", the path of a model that `open_recogniser` reads, or "none".
        voices: whether voices are compared.
        limit: clips to look at, at most.
        engine: "local" or "ray".
        workers: clips at a time.

    Raises:
        CosytuneError: folder, model or recogniser cannot be used.
    """
    advisers, skipped = make_advisers(model, recogniser, voices, language)

    def progress(done: int, total: int) -> None:
        if done == 1:
            reporter.start("clips", total)
        reporter.move("clips", done)

    # Sound that lies inside tables is a file for as long as it is listened to.
    with tempfile.TemporaryDirectory(prefix="cosytune-") as media:
        result = check_recordings(
            folder,
            language=language,
            advisers=advisers,
            media=Path(media),
            limit=limit,
            # Another name is refused where engines are opened.
            engine=cast(EngineName, engine),
            workers=workers,
            progress=progress,
        )
        exhibits = make_exhibits(result)
    why = {own.check: own for own in skipped}
    skipped_in_all = tuple(why.get(own.check, own) for own in result.skipped)
    clips = tuple(
        replace(clip, audio=str(folder)) if clip.audio.startswith(media + os.sep) else clip for clip in result.clips
    )
    return replace(result, skipped=skipped_in_all, clips=clips), exhibits


def check_paths(folder: Path, page: Path) -> tuple[Path, Path]:
    """The page of a check and the JSON beside it.

    Raises:
        InputError: the page has no suffix of a page, is a folder, or would lie among the recordings.
    """
    if page.suffix.lower() not in (".html", ".htm") or page.is_dir():
        raise InputError(f"{page} cannot be the page of a check: give a file name that ends in .html")
    if folder.is_dir() and folder.resolve() in page.resolve().parents:
        raise InputError(f"{page} lies in {folder}, where a check writes nothing: give a file name elsewhere")
    return page, page.with_suffix(".json")


def make_advisers(
    model: Path | None, recogniser: str, voices: bool, language: str | None = None
) -> tuple[Advisers, list[SkippedCheck]]:
    """Our judges and a model's tokenizer for the doctor, and why one of them is missing.

    Raises:
        CosytuneError: no such recogniser, its package is not installed, or the model cannot be read.
    """
    skipped = []
    ears = None
    if recogniser == "pocketsphinx" and importlib.util.find_spec("pocketsphinx") is not None:
        ears = Recogniser("pocketsphinx", frozenset({"en"}), _transcribe, normalise_for_scoring)
    elif recogniser == "pocketsphinx":
        skipped.append(SkippedCheck("transcript", "pocketsphinx is not installed (pip install pocketsphinx)"))
    elif recogniser != "none":
        own = open_recogniser(recogniser, language or "")
        ears = Recogniser(own.name, None, _Ears(own), normalise_for_scoring)
    embed = None
    if voices and importlib.util.find_spec("resemblyzer") is not None:
        embed = ("resemblyzer", _embed)
    elif voices:
        reason = "resemblyzer is not installed (pip install --no-deps resemblyzer): voices are not compared"
        skipped.append(SkippedCheck("speaker", reason))
    encode = None if model is None else (str(model), _encoder(model))
    return Advisers(embed, ears, encode), skipped


def _encoder(model: Path) -> Callable[[str], list[int]]:
    tokenizer = read_model(model).tokenizer
    return load_tokenizer(tokenizer.kind, tokenizer.data).encode


@dataclass(frozen=True)
class _Ears:
    """A recogniser of the user's for waves of any rate."""

    recogniser: transcripts.Recogniser

    def __call__(self, wave: np.ndarray, rate: int) -> str:
        return self.recogniser.transcribe(resample(wave, rate, FEATURE_SAMPLE_RATE))


@lru_cache(maxsize=1)
def _recogniser() -> PocketsphinxJudge:
    return PocketsphinxJudge()


@lru_cache(maxsize=1)
def _voice_encoder() -> ResemblyzerJudge:
    return ResemblyzerJudge()


def _transcribe(wave: np.ndarray, rate: int) -> str:
    """What pocketsphinx hears; a function of its own, so that each worker loads the model once."""
    return _recogniser().transcribe(wave, rate)


def _embed(wave: np.ndarray, rate: int) -> np.ndarray | None:
    """Resemblyzer's vector; a function of its own, so that each worker loads the model once."""
    return _voice_encoder().embed(wave, rate)
