"""Texts from a recogniser that the user has: pocketsphinx, or a Whisper or transformers model in a local folder."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from cosytune.audio.files import read_wave
from cosytune.data.manifest import Utterance
from cosytune.data.results import LedgerLine
from cosytune.errors import InputError, MissingPackageError
from cosytune.text.language import base_language
from cosytune.units import FEATURE_SAMPLE_RATE

__all__ = ["KINDS", "Recogniser", "open_recogniser", "transcribe_clip"]

KINDS = ("pocketsphinx", "faster-whisper", "whisper", "transformers")
_FULL_SCALE = 32_767
_WINDOW_SECONDS = 30
"""What Whisper hears at once, and what others are given at once."""
_ACCEPTED = (
    "give pocketsphinx (English), a faster-whisper folder (model.bin and config.json), an openai-whisper file (.pt) "
    "or a transformers folder (config.json and *.safetensors)"
)


@dataclass(frozen=True)
class Recogniser:
    """A recogniser by kind and place; the model is loaded where it is first used, so the record travels to workers.

    Attributes:
        kind: one of `KINDS`.
        path: folder or file of the model; None for pocketsphinx.
        language: code of what is spoken, or "" to let the model guess.
    """

    kind: str
    path: Path | None = None
    language: str = ""

    @property
    def name(self) -> str:
        """What the manifest says: kind and the model's own name."""
        return self.kind if self.path is None else f"{self.kind}:{self.path.resolve().name}"

    def transcribe(self, wave: np.ndarray) -> str:
        """What is said in a wave float32 [N] at 16 kHz, in one line; "" for nothing.

        Raises:
            MissingPackageError: the package that runs the model is not installed.
            InputError: the model cannot be loaded.
        """
        if not np.any(wave):
            return ""
        return " ".join(_model_of(self).hear(np.asarray(wave, np.float32)).split())


@lru_cache(maxsize=1)
def _model_of(recogniser: Recogniser) -> Any:
    """Loaded once in each process: a record that travels to a worker comes there anew with each clip."""
    return _MODELS[recogniser.kind](recogniser)


def open_recogniser(model: str, language: str = "") -> Recogniser:
    """Find out what a recogniser is, without loading it; nothing is ever downloaded.

    Args:
        model: "pocketsphinx", or the path of a model.
        language: code of what is spoken, or "" to let the model guess.

    Raises:
        InputError: it is neither, or it does not know the language.
        MissingPackageError: the package that runs it is not installed.
    """
    if model == "pocketsphinx":
        if language and base_language(language) != "en":
            raise InputError(f"pocketsphinx knows English only, and the recordings are in {language!r}; {_ACCEPTED}")
        found = Recogniser("pocketsphinx")
    else:
        path = Path(model)
        if not path.exists():
            raise InputError(f"there is no recogniser {model!r} here, and none is downloaded; {_ACCEPTED}")
        found = Recogniser(_kind_of(path), path, base_language(language) if language else "")
    _package(found.kind)
    return found


def transcribe_clip(utterance: Utterance, recogniser: Recogniser) -> Utterance | LedgerLine:
    """The utterance with what the recogniser hears as its text; unchanged if it has one.

    A function of its arguments and the recording alone: an engine may run it in workers.

    Returns:
        The utterance, marked with the recogniser's name, or the reason why it has no text.

    Raises:
        MissingPackageError: the package that runs the model is not installed.
        InputError: the model cannot be loaded.
    """
    if utterance.text is not None:
        return utterance
    try:
        wave, _ = read_wave(Path(utterance.audio), FEATURE_SAMPLE_RATE, utterance.start or 0.0, utterance.end)
    except InputError as error:
        return _dropped(utterance, f"unreadable: {error}")
    text = recogniser.transcribe(wave)
    if not any(map(str.isalnum, text)):
        return _dropped(utterance, f"nothing recognised: {recogniser.name} heard no word")
    return replace(utterance, text=text, transcribed_by=recogniser.name)


def _dropped(utterance: Utterance, reason: str) -> LedgerLine:
    return LedgerLine(utterance.id, utterance.audio, "dropped", reason, seconds=utterance.seconds or None)


def _kind_of(path: Path) -> str:
    names = {item.name for item in path.iterdir()} if path.is_dir() else set()
    if path.is_file() and path.suffix == ".pt":
        return "whisper"
    if {"model.bin", "config.json"} <= names and "pytorch_model.bin" not in names:
        return "faster-whisper"
    if "config.json" in names and any(name.endswith(".safetensors") for name in names):
        return "transformers"
    raise InputError(f"{path} is no recogniser that is known; {_ACCEPTED}")


_PACKAGES = {
    "pocketsphinx": ("pocketsphinx", "pip install pocketsphinx"),
    "faster-whisper": ("faster_whisper", "pip install faster-whisper"),
    "whisper": ("whisper", "pip install openai-whisper"),
    "transformers": ("transformers", "pip install transformers"),
}


def _package(kind: str) -> ModuleType:
    module, install = _PACKAGES[kind]
    # Said before the import: huggingface_hub reads it then.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f"the recogniser needs the Python package {module}, which cannot be imported ({error}); "
            f"install it with: {install}"
        ) from error


class _Pocketsphinx:
    def __init__(self, _: Recogniser) -> None:
        self._decoder = _package("pocketsphinx").Decoder(samprate=float(FEATURE_SAMPLE_RATE), loglevel="FATAL")

    def hear(self, wave: np.ndarray) -> str:
        samples = np.round(np.clip(wave, -1, 1) * _FULL_SCALE).astype("<i2")
        # The front end carries state from clip to clip: without this, what is heard hangs on what came before.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        self._decoder.process_raw(samples.tobytes(), no_search=False, full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return str(hypothesis.hypstr) if hypothesis is not None else ""


class _FasterWhisper:
    def __init__(self, recogniser: Recogniser) -> None:
        model = _package("faster-whisper").WhisperModel
        self._model = _loaded(recogniser, model, str(recogniser.path), compute_type="default", local_files_only=True)
        self._language = _understood(recogniser, self._model.supported_languages) or None

    def hear(self, wave: np.ndarray) -> str:
        segments, _ = self._model.transcribe(
            wave, language=self._language, beam_size=5, temperature=0.0, condition_on_previous_text=False
        )
        return " ".join(segment.text for segment in segments)


class _Whisper:
    def __init__(self, recogniser: Recogniser) -> None:
        whisper = _package("whisper")
        # load_model takes a path as it is, and reads it with weights_only.
        self._model = _loaded(recogniser, whisper.load_model, str(recogniser.path), device="cpu")
        known = whisper.tokenizer.LANGUAGES if self._model.is_multilingual else ["en"]
        self._language = _understood(recogniser, known) or None

    def hear(self, wave: np.ndarray) -> str:
        heard = self._model.transcribe(
            wave, language=self._language, temperature=0.0, condition_on_previous_text=False, fp16=False, verbose=None
        )
        return str(heard["text"])


class _Transformers:
    def __init__(self, recogniser: Recogniser) -> None:
        self._pipeline = _loaded(
            recogniser,
            _package("transformers").pipeline,
            "automatic-speech-recognition",
            model=str(recogniser.path),
            trust_remote_code=False,
            # Not options of the pipeline itself: it hands on to the generation what it does not know.
            model_kwargs={"use_safetensors": True},
        )
        generation = getattr(self._pipeline.model, "generation_config", None)
        languages = getattr(generation, "lang_to_id", None) or {}
        self._options: dict[str, Any] = {}
        if _understood(recogniser, [token.strip("<|>") for token in languages] or [recogniser.language]) and languages:
            self._options["generate_kwargs"] = {"language": recogniser.language, "task": "transcribe"}
        # Whisper itself goes from window to window, by the times that it writes; others are given parts.
        by_times = hasattr(generation, "no_timestamps_token_id")
        self._long = {"return_timestamps": True} if by_times else {"chunk_length_s": _WINDOW_SECONDS}

    def hear(self, wave: np.ndarray) -> str:
        long = self._long if len(wave) > _WINDOW_SECONDS * FEATURE_SAMPLE_RATE else {}
        sound = {"raw": wave, "sampling_rate": FEATURE_SAMPLE_RATE}
        return str(self._pipeline(sound, **self._options, **long)["text"])


def _understood(recogniser: Recogniser, languages: Iterable[str]) -> str:
    """The recogniser's language, if its model knows it.

    Raises:
        InputError: it does not.
    """
    known = sorted(languages)
    if recogniser.language and recogniser.language not in known:
        raise InputError(
            f"{recogniser.path} does not know the language {recogniser.language!r}, only {', '.join(known)}: give "
            "another --language, or a model that knows it"
        )
    return recogniser.language


def _loaded(recogniser: Recogniser, load: Any, *arguments: Any, **options: Any) -> Any:
    try:
        return load(*arguments, **options)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{recogniser.path} cannot be loaded as a {recogniser.kind} model ({error}); {_ACCEPTED}"
        ) from error


_MODELS: dict[str, Any] = {
    "pocketsphinx": _Pocketsphinx,
    "faster-whisper": _FasterWhisper,
    "whisper": _Whisper,
    "transformers": _Transformers,
}
