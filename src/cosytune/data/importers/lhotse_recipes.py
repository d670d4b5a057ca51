"""Known corpora through Lhotse's recipes: LibriTTS, AISHELL-3 and VCTK by their trees, any other by its name."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile

from cosytune.audio.files import wave_info
from cosytune.data.importers.disk_index import DiskIndex
from cosytune.data.importers.lhotse_manifests import utterance_of
from cosytune.data.importers.places import Places
from cosytune.data.importers.source import Entry, dropped, is_recording, printable, walk
from cosytune.errors import DataError, InputError

__all__ = ["read_recipe", "recognise_recipe"]

_LIBRITTS_PARTS = (
    *("dev-clean", "dev-other", "test-clean", "test-other"),
    *("train-clean-100", "train-clean-360", "train-other-500"),
)
_LOSSES = ("No such file", "No recording exists")
"""How a recipe begins the warning that something it lists has no recording."""


def recognise_recipe(folder: Path) -> str | None:
    """The recipe whose corpus has this tree, if one of the three that we know by sight does."""
    if any(next((folder / part).glob("*/*/*.trans.tsv"), None) for part in _LIBRITTS_PARTS):
        return "libritts"
    if all((folder / name).exists() for name in ("spk-info.txt", "train/content.txt", "train/wav")):
        return "aishell3"
    if (folder / "speaker-info.txt").is_file() and (folder / "txt").is_dir() and list(folder.glob("wav48*")):
        return "vctk"
    return None


def read_recipe(folder: Path, name: str) -> Iterator[Entry]:
    """Run a Lhotse recipe on a folder: its supervisions, then every recording of the folder that it left out.

    Lhotse keeps a whole corpus in memory here (about 3 kB an utterance) and reads each recording's header.

    Args:
        folder: the corpus as its authors distribute it.
        name: as in `lhotse prepare NAME`, such as "ljspeech".

    Raises:
        DataError: Lhotse has no such recipe, it needs more than a folder, or it cannot read this one.
    """
    import lhotse.recipes

    prepare = getattr(lhotse.recipes, f"prepare_{name.replace('-', '_')}", None)
    if prepare is None:
        known = sorted(item.removeprefix("prepare_") for item in dir(lhotse.recipes) if item.startswith("prepare_"))
        raise DataError(f"lhotse has no recipe {name!r}; it has {', '.join(known)}")
    needed = [
        parameter.name
        for parameter in list(inspect.signature(prepare).parameters.values())[1:]
        if parameter.default is parameter.empty
    ]
    if needed:
        raise DataError(
            f"lhotse's recipe {name} needs {', '.join(needed)} beside a folder: run `lhotse prepare {name}` "
            "yourself and give the folder of manifests that it writes"
        )
    return _entries(folder.absolute(), _Recipe(name, prepare, _options(folder, name)))


def _options(folder: Path, name: str) -> dict[str, Any]:
    """What a recipe must be told about the folder."""
    if name in ("libritts", "librittsr"):
        return {"dataset_parts": [part for part in _LIBRITTS_PARTS if (folder / part).is_dir()]}
    if name == "vctk":
        return {"use_edinburgh_vctk_url": (folder / "wav48_silence_trimmed").is_dir()}
    return {}


@dataclass(frozen=True)
class _Recipe:
    """A function of lhotse.recipes and what it is called with."""

    name: str
    prepare: Callable[..., Any]
    options: Mapping[str, Any]

    def run(self, folder: Path) -> tuple[list[tuple[Any, Any]], list[str]]:
        """Pairs of recordings and supervisions, and the warnings about what was left out.

        Raises:
            DataError: the folder is not as the recipe expects it.
        """
        from lhotse.audio.utils import AudioLoadingError

        warnings = _Warnings()
        logging.getLogger().addHandler(warnings)
        try:
            # The recipes draw progress bars of their own.
            with contextlib.redirect_stderr(io.StringIO()):
                made = self.prepare(folder, **self.options)
        except (
            AudioLoadingError,
            soundfile.LibsndfileError,
            OSError,
            AssertionError,
            LookupError,
            ValueError,
        ) as error:
            raise DataError(
                f"lhotse's recipe {self.name} cannot read {folder} ({type(error).__name__}: {error}); complete the "
                "corpus, or list its recordings in a CSV table with the columns audio, text and speaker"
            ) from error
        finally:
            logging.getLogger().removeHandler(warnings)
        return list(_pairs(made)), warnings.losses


class _Warnings(logging.Handler):
    """Keeps the warnings that tell of something left out."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.losses: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith(_LOSSES):
            self.losses.append(message)


def _pairs(made: Any) -> Iterator[tuple[Any, Any]]:
    """The pairs in what a recipe returns, part by part, whatever it calls them (AISHELL-3's swaps the two names)."""
    from lhotse import RecordingSet, SupervisionSet

    values = list(made.values()) if isinstance(made, Mapping) else []
    recordings = next((value for value in values if isinstance(value, RecordingSet)), None)
    supervisions = next((value for value in values if isinstance(value, SupervisionSet)), None)
    if recordings is not None and supervisions is not None:
        yield recordings, supervisions
    for value in values:
        yield from _pairs(value)


def _entries(folder: Path, recipe: _Recipe) -> Iterator[Entry]:
    damaged: dict[Path, str] = {}
    try:
        pairs, losses = recipe.run(folder)
    except DataError:
        # One damaged recording stops a recipe: it is run again on a tree of links without such files.
        damaged = _damaged(folder)
        if not damaged:
            raise
        pairs, losses = _run_without(folder, recipe, damaged)
    used = DiskIndex()
    for recordings, supervisions in pairs:
        by_id = {recording.id: recording for recording in recordings}
        for item in sorted(supervisions, key=lambda item: item.id):
            recording = by_id[item.recording_id]
            entry = utterance_of(item.id, recording, Places(folder), item.start, item.end, item, recipe.name)
            used.add(printable(entry.audio))
            yield entry
    for path, reason in damaged.items():
        used.add(printable(path))
        yield dropped(path.relative_to(folder).with_suffix("").as_posix(), path, f"unreadable: {reason}")
    for number, loss in enumerate(losses, start=1):
        yield dropped(f"{recipe.name} warning {number}", folder, f"listed recording missing: {loss}")
    for path in walk(folder):
        if is_recording(path) and printable(path) not in used:
            identity = path.relative_to(folder).with_suffix("").as_posix()
            yield dropped(identity, path, f"not listed: lhotse's recipe {recipe.name} does not use it")


def _damaged(folder: Path) -> dict[Path, str]:
    reasons: dict[Path, str] = {}
    for path in filter(is_recording, walk(folder)):
        try:
            wave_info(path)
        except InputError as error:
            reasons[path] = str(error)
    return reasons


def _run_without(folder: Path, recipe: _Recipe, damaged: dict[Path, str]) -> tuple[list[tuple[Any, Any]], list[str]]:
    """The recipe on links to all files but the damaged ones; the paths that come out are the real ones."""
    with tempfile.TemporaryDirectory(prefix="cosytune-") as temporary:
        mirror = Path(temporary).resolve() / folder.name
        for path in walk(folder):
            if path not in damaged:
                link = mirror / path.relative_to(folder)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path)
        pairs, losses = recipe.run(mirror)
        real = str(folder)
        for recordings, _ in pairs:
            for recording in recordings:
                for source in recording.sources:
                    source.source = source.source.replace(str(mirror), real, 1)
    known = {word for path in damaged for word in (path.name, path.stem)}
    return pairs, [loss.replace(str(mirror), real) for loss in losses if known.isdisjoint(re.split(r"[\s/,()]+", loss))]
