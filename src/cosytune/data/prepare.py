"""From recordings to a prepared corpus: examined, decided on, given languages and sides, and written as a stream."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cosytune.data.corpus import MARKER, Contents, Corpus, read_json, read_sides, write_corpus
from cosytune.data.decisions import decided, read_decisions
from cosytune.data.engine import EngineName, open_engine
from cosytune.data.examining import Examiner
from cosytune.data.importers import open_source, source_files, with_distinct_ids
from cosytune.data.importers.disk_index import DiskIndex
from cosytune.data.languages import LanguageVote
from cosytune.data.manifest import Utterance, read_manifest
from cosytune.data.preparation import Preparation
from cosytune.data.remedies import what_to_do
from cosytune.data.results import LedgerLine
from cosytune.data.splits import SplitSettings, Splitter, text_key
from cosytune.data.taking_in import examine_all
from cosytune.data.transcripts import open_recogniser
from cosytune.data.working_index import WorkingIndex
from cosytune.errors import DataError
from cosytune.files import json_line, lock

__all__ = ["Preparation", "prepare_corpus"]

INDEX = ".working.sqlite"
MEDIA = "media"
"""Where sound goes that a source holds inside its tables."""

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
        MEDIA,
    }
)
LITTLE_MINUTES = 5.0
"""Below this nobody has reported a voice that was learned."""

Progress = Callable[[int], None]


def prepare_corpus(
    folder: Path,
    corpus: Path,
    *,
    engine: EngineName = "local",
    workers: int | None = 1,
    address: str | None = None,
    progress: Progress | None = None,
    **how: Any,
) -> Corpus:
    """Import recordings, write the account and draw the sides.

    If the corpus exists and neither the source files (names, sizes, times) nor the settings have changed, it is
    returned as it is. If they have, it is brought up to date: recordings that were examined before are not decoded
    again, and clips known before stay on their side. A preparation that was killed goes on where it was. The corpus is
    the same, byte for byte, whatever the engine and the number of workers.

    Args:
        folder: what `open_source` takes: a folder, a table, one recording.
        corpus: where to write; a new or empty folder, or an earlier corpus.
        engine: "local", or "ray" for a cluster.
        workers: processes that decode; None is one per core.
        address: of the Ray cluster.
        progress: told how many recordings are done.
        how: fields of `Preparation`.

    Raises:
        DataError: nothing usable was found, or `corpus` holds something else.
        InputError: a setting is out of range, or the recogniser does not exist.
        MissingPackageError: a package for recogniser, detector or engine is not installed.
    """
    wanted = Preparation(**how)
    _check_target(folder, corpus)
    recogniser = None if wanted.transcribe is None else open_recogniser(wanted.transcribe, wanted.language or "")
    source = open_source(folder, recipe=wanted.recipe, media=corpus / MEDIA)
    examiner = Examiner(wanted.shortest, wanted.longest, wanted.cut_settings, recogniser)
    listing = {"folder": str(folder.absolute()), "settings": wanted.to_json(), "files": _listing(folder, wanted.recipe)}
    # Two preparations of one corpus would write the same files: the later one waits, and then finds it made.
    with closing(lock(corpus / ".lock", wait=True)):
        earlier = read_json(corpus / "source.json") if (corpus / "source.json").is_file() else {}
        if (corpus / MARKER).is_file() and all(earlier.get(name) == value for name, value in listing.items()):
            return Corpus(corpus)
        with closing(WorkingIndex(corpus / INDEX)) as index:
            decisions = DiskIndex() if wanted.check is None else read_decisions(wanted.check)
            entries = decided(with_distinct_ids(source.entries), decisions)
            with open_engine(engine, workers, address=address) as at_work:
                for done, found in enumerate(examine_all(entries, examiner, index, at_work.map), start=1):
                    index.add(found)
                    if progress is not None:
                        progress(done)
            notes = _give_languages(index, wanted.language)
            info, more = _draw_sides(index, corpus, wanted.splits)
            return _write(index, corpus, folder, info, (*notes, *more), {**listing, "layout": source.layout})


def _write(
    index: WorkingIndex,
    corpus: Path,
    folder: Path,
    info: dict[str, Any],
    notes: tuple[str, ...],
    source: dict[str, Any],
) -> Corpus:
    seconds = sum(clip.seconds for _, clip in index.clips())
    if not seconds:
        raise DataError(
            f"no clip of {folder} can be used: {index.seen} clips came in and all were dropped: "
            f"{what_to_do(index.lines())}. Correct these and prepare again"
        )
    if (lost := index.seen - sum(1 for _ in index.clips())) > index.seen / 2:
        notes = (*notes, f"most clips were dropped, {lost} of {index.seen}: {what_to_do(index.lines())}")
    if seconds < 60 * LITTLE_MINUTES:
        notes = (
            *notes,
            f"{seconds / 60:.1f} minutes are little to learn a voice from; an hour is what is advised",
        )
    contents = Contents(
        utterances=index.utterances(),
        recordings=index.recordings(),
        lines=index.lines(),
        seen=index.seen,
        notes=notes,
        between=index.between,
        splits=info,
        source=source,
    )
    return write_corpus(corpus, contents)


def _give_languages(index: WorkingIndex, language: str | None) -> tuple[str, ...]:
    """Fill in the language where the source named none; a guess is put down in the notes.

    Clips that nothing tells of get the commonest language.
    """
    if language is not None:
        index.replace((n, replace(clip, language=language)) for n, clip in index.clips() if not clip.language)
        return ()
    vote = LanguageVote()
    for _, clip in index.clips():
        vote.add(clip)
    counts = Counter(vote.guess(clip) for _, clip in index.clips() if not clip.language)
    if not counts:
        return ()
    untold = counts.pop("", 0)
    if not counts:
        common = "en"
        note = f"the language was not given and nothing tells it: {common} was taken; correct it with --language"
    else:
        common = counts.most_common(1)[0][0]
        counts[common] += untold
        named = ", ".join(f"{code} for {count}" for code, count in sorted(counts.items()))
        note = f"the language was not given and guessed from the texts: {named} clips; correct it with --language"
    index.replace(
        (number, replace(clip, language=vote.guess(clip) or common))
        for number, clip in index.clips()
        if not clip.language
    )
    return (note,)


def _draw_sides(index: WorkingIndex, corpus: Path, settings: SplitSettings) -> tuple[dict[str, Any], tuple[str, ...]]:
    index.keep_sides(_earlier_sides(corpus, settings))
    splitter = Splitter(settings)
    for _, clip in index.clips():
        splitter.add(clip, index.earlier_side(clip.id, text_key(clip)))
    drawn = splitter.draw()
    placed = array("Q", (number for number, _ in index.clips()))
    sides = ((number, drawn.side(place)) for place, number in enumerate(placed))
    index.set_sides((number, side) for number, side in sides if side is not None)
    ties = {number for place, number in enumerate(placed) if drawn.side(place) is None}
    index.drop((number, _tie(clip)) for number, clip in index.clips() if number in ties)
    return drawn.info, drawn.notes


def _tie(clip: Utterance) -> LedgerLine:
    reason = "would tie two sides together: its text is nearly that of a training clip and of a held-out one"
    return LedgerLine(clip.id, clip.audio, "dropped", reason, seconds=clip.seconds)


def _earlier_sides(corpus: Path, settings: SplitSettings) -> Iterator[tuple[str, str, Any]]:
    """Sides of an earlier corpus drawn with the same settings; with others a new split is what was asked for."""
    files = [corpus / name for name in ("splits.json", "sides.jsonl", "manifest.jsonl")]
    if not all(file.is_file() for file in files):
        return
    stored = read_json(files[0])
    if any(stored.get(name) != value for name, value in asdict(settings).items()):
        return
    for clip, (identity, side) in zip(read_manifest(files[2]), read_sides(files[1]), strict=False):
        if clip.id == identity:
            yield identity, text_key(clip), side


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


def _listing(folder: Path, recipe: str | None) -> str:
    """One hash of names, sizes and times of all source files."""
    digest = hashlib.sha256()
    for path in source_files(folder, recipe=recipe):
        state = path.stat()
        digest.update(json_line([str(path), state.st_size, state.st_mtime_ns]))
    return digest.hexdigest()
