"""From a folder of recordings to a prepared corpus, and from a corpus to features; both go on where they stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cosytune.data.corpus import MARKER, Contents, Corpus, read_json, read_sides, write_corpus
from cosytune.data.extract import Progress, extract_features
from cosytune.data.importers import import_recordings, source_files
from cosytune.data.splits import Side, make_splits
from cosytune.errors import DataError
from cosytune.files import hash_file

__all__ = ["Progress", "extract_features", "prepare_corpus"]

_CORPUS_FILES = frozenset(
    {
        MARKER,
        "manifest.jsonl",
        "sides.jsonl",
        "recordings.jsonl",
        "ledger.jsonl",
        "splits.json",
        "source.json",
        "features",
    }
)


def prepare_corpus(
    folder: Path,
    corpus: Path,
    *,
    language: str | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    shortest: float = 0.1,
    longest: float = 30.0,
) -> Corpus:
    """Import a folder, write the account and draw the sides.

    If the corpus exists and neither the source files (names, sizes, times) nor the settings have changed, it is
    returned as it is. If they have, it is brought up to date: clips known before stay on their side.

    Args:
        folder: where the recordings are (see `import_recordings`).
        corpus: where to write; a new or empty folder, or an earlier corpus.
        language: code for all clips, or None to guess.
        validation: share of sentences on the validation side.
        test: share of sentences on the test side.
        seed: of the split.
        shortest: seconds; shorter clips are dropped.
        longest: seconds; longer clips are dropped.

    Raises:
        DataError: nothing usable was found, or `corpus` holds something else.
    """
    _check_target(folder, corpus)
    settings = {"language": language, "shortest": shortest, "longest": longest}
    split_settings = {"validation": validation, "test": test, "seed": seed}
    listing = {
        "folder": str(folder.absolute()),
        "settings": {**settings, **split_settings},
        "files": _listing(folder) if folder.is_dir() else {},
    }
    earlier = read_json(corpus / "source.json") if (corpus / "source.json").is_file() else {}
    if (corpus / MARKER).is_file() and all(earlier.get(name) == value for name, value in listing.items()):
        return Corpus(corpus)
    imported = import_recordings(folder, language=language, shortest=shortest, longest=longest)
    if not imported.utterances:
        raise DataError(f"no clip of {folder} can be used: {imported.ledger.summary()} Correct these and prepare again")
    keep = _earlier_sides(corpus, split_settings)
    splits = make_splits(imported.utterances, validation=validation, test=test, seed=seed, keep=keep)
    audio = {path: hash_file(Path(path)) for path in sorted({item.audio for item in imported.utterances})}
    contents = Contents(
        utterances=[(item, splits[item.id], audio[item.audio]) for item in imported.utterances],
        recordings=audio.items(),
        lines=imported.ledger.lines,
        seen=imported.ledger.seen,
        notes=imported.ledger.notes,
        between=0.0,
        splits=split_settings,
        source={**listing, "layout": imported.layout},
    )
    return write_corpus(corpus, contents)


def _check_target(folder: Path, corpus: Path) -> None:
    if corpus.resolve() == folder.resolve():
        raise DataError(f"{corpus} is the folder of recordings itself; give the corpus a folder of its own")
    if corpus.is_file():
        raise DataError(f"{corpus} is a file; give the name of a folder for the corpus")
    foreign = sorted(
        path.name
        for path in (corpus.iterdir() if corpus.is_dir() else ())
        if path.name not in _CORPUS_FILES and not path.name.startswith(".")
    )
    if foreign:
        raise DataError(f"{corpus} is not a corpus: it holds {foreign[0]}; give a new or an empty folder")


def _listing(folder: Path) -> dict[str, list[int]]:
    return {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in source_files(folder)}


def _earlier_sides(corpus: Path, split_settings: dict[str, Any]) -> dict[str, Side]:
    """Sides of an earlier corpus drawn with the same settings; with others a new split is what was asked for."""
    if not ((corpus / "splits.json").is_file() and (corpus / "sides.jsonl").is_file()):
        return {}
    stored = read_json(corpus / "splits.json")
    same = all(stored.get(name) == value for name, value in split_settings.items())
    return dict(read_sides(corpus / "sides.jsonl")) if same else {}
