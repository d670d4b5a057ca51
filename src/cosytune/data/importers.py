"""Reading a person's folder of recordings: every clip found is either kept or dropped with a reason in words."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cosytune.audio.files import read_wave, wave_info
from cosytune.data.manifest import Utterance, read_manifest
from cosytune.data.results import Ledger, LedgerLine
from cosytune.errors import DataError, InputError
from cosytune.text.language import detect_language, is_chinese

__all__ = ["AUDIO_SUFFIXES", "TRANSCRIPT_SUFFIXES", "Imported", "import_recordings", "source_files"]

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".m4a")
TRANSCRIPT_SUFFIXES = (".txt", ".lab")

_ACCEPTED = (
    f"accepted are a folder with {', '.join(AUDIO_SUFFIXES)} files (a .txt or .lab of the same name beside each, one "
    "sub-folder per speaker), an LJSpeech folder (metadata.csv with id|text and wavs/), or a folder with manifest.jsonl"
)


@dataclass(frozen=True)
class Imported:
    """What a folder held.

    Attributes:
        utterances: the kept clips, in a stable order, with measured durations.
        ledger: the account of all clips found.
        layout: "plain", "ljspeech" or "manifest".
    """

    utterances: tuple[Utterance, ...]
    ledger: Ledger
    layout: str


def import_recordings(
    folder: Path, *, language: str | None = None, shortest: float = 0.1, longest: float = 30.0
) -> Imported:
    """Read a plain folder, an LJSpeech folder or a folder with manifest.jsonl.

    In a plain folder the first sub-folder is the speaker, at any depth below it; clips directly in the folder belong
    to a speaker named after the folder. Recordings without transcript are kept with text None. Hidden files are not
    looked at. Each clip is decoded once: a damaged one must be found here and not in the middle of a training.

    Args:
        folder: where the recordings are.
        language: code for all clips; None guesses from the texts and says so in the ledger's notes.
        shortest: seconds; shorter clips are dropped.
        longest: seconds; longer clips are dropped.

    Raises:
        DataError: the folder is missing or of no known layout, or its manifest.jsonl is damaged.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; {_ACCEPTED}")
    layout, entries = _recognise(folder)
    seen = 0
    lines: list[LedgerLine] = []
    kept: list[Utterance] = []
    taken: dict[str, str] = {}
    for entry in entries:
        seen += 1
        decided = entry if isinstance(entry, LedgerLine) else _admit(entry, taken, shortest, longest)
        if isinstance(decided, Utterance):
            taken[decided.id] = decided.audio
            kept.append(decided)
            decided = LedgerLine(decided.id, decided.audio, "kept")
        lines.append(decided)
    utterances, note = _with_languages(kept, language)
    return Imported(tuple(utterances), Ledger(tuple(lines), seen, note), layout)


def source_files(folder: Path) -> list[Path]:
    """All files that an import of `folder` reads, sorted: recordings, transcripts, metadata.csv, manifest.jsonl."""
    found = [path for path in _walk(folder) if path.suffix.lower() in AUDIO_SUFFIXES + TRANSCRIPT_SUFFIXES]
    manifest = folder / "manifest.jsonl"
    if manifest.is_file():
        found += [path for path in {Path(item.audio) for item in read_manifest(manifest)} if path.is_file()]
    found += [path for path in (manifest, folder / "metadata.csv") if path.is_file()]
    return sorted(set(found))


def _recognise(folder: Path) -> tuple[str, Iterator[Utterance | LedgerLine]]:
    if (folder / "manifest.jsonl").is_file():
        return "manifest", read_manifest(folder / "manifest.jsonl")
    if (folder / "metadata.csv").is_file():
        return "ljspeech", _ljspeech(folder)
    if any(path.suffix.lower() in AUDIO_SUFFIXES for path in _walk(folder)):
        return "plain", _plain(folder)
    raise DataError(f"no recordings found in {folder}; {_ACCEPTED}")


def _walk(folder: Path) -> Iterator[Path]:
    """All files below `folder` in a stable order, hidden ones and the litter of macOS archives left out."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        yield from (Path(parent, name) for name in sorted(files) if not name.startswith("."))


def _plain(folder: Path) -> Iterator[Utterance | LedgerLine]:
    transcripts: dict[Path, Path] = {}
    recordings: list[Path] = []
    for path in _walk(folder):
        if path.suffix.lower() in TRANSCRIPT_SUFFIXES:
            known = transcripts.get(path.with_suffix(""))
            # .txt goes before .lab, whichever comes first in the folder.
            if known is None or path.suffix.lower() == ".txt":
                transcripts[path.with_suffix("")] = path
        elif path.suffix.lower() in AUDIO_SUFFIXES:
            recordings.append(path)
    for path in recordings:
        inside = path.relative_to(folder).with_suffix("")
        speaker = inside.parts[0] if len(inside.parts) > 1 else folder.resolve().name
        base = Utterance(inside.as_posix(), str(path.absolute()), None, speaker, "")
        beside = transcripts.get(path.with_suffix(""))
        yield base if beside is None else _with_transcript(base, beside)
    spoken = {path.with_suffix("") for path in recordings}
    for stem, path in sorted(transcripts.items()):
        if stem not in spoken:
            yield LedgerLine(
                stem.relative_to(folder).as_posix(), str(path), "dropped", "transcript without recording: " + path.name
            )


def _with_transcript(utterance: Utterance, path: Path) -> Utterance | LedgerLine:
    try:
        text = " ".join(path.read_text(encoding="utf-8-sig").split())
    except (OSError, UnicodeDecodeError) as error:
        reason = f"transcript unreadable: {path.name} is not UTF-8 text ({error})"
        return LedgerLine(utterance.id, utterance.audio, "dropped", reason)
    return replace(utterance, text=text)


def _ljspeech(folder: Path) -> Iterator[Utterance | LedgerLine]:
    table = folder / "metadata.csv"
    try:
        rows = table.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table} cannot be read ({error}); save it as UTF-8 text with lines id|text") from error
    recordings: dict[str, Path] = {}
    for path in _walk(folder / "wavs"):
        if path.suffix.lower() in AUDIO_SUFFIXES:
            recordings.setdefault(path.relative_to(folder / "wavs").with_suffix("").as_posix(), path)
    listed = set()
    for number, row in enumerate(rows, start=1):
        if not row.strip():
            continue
        name, *texts = [column.strip() for column in row.split("|")]
        stem = Path(name).with_suffix("").as_posix() if Path(name).suffix.lower() in AUDIO_SUFFIXES else name
        identity = stem.removeprefix("wavs/")
        listed.add(identity)
        if not texts:
            reason = f"not id|text: line {number} of metadata.csv has one column"
            yield LedgerLine(identity, str(table), "dropped", reason)
        elif identity not in recordings:
            reason = f"listed recording missing: there is no wavs/{identity} with {' '.join(AUDIO_SUFFIXES)}"
            yield LedgerLine(identity, str(folder / "wavs" / identity), "dropped", reason)
        else:
            # The normalised column, where there is one, holds the words as they were read.
            text = texts[1] if len(texts) > 1 and texts[1] else texts[0]
            yield Utterance(identity, str(recordings[identity].absolute()), text, folder.resolve().name, "")
    for identity, path in recordings.items():
        if identity not in listed:
            yield LedgerLine(identity, str(path), "dropped", "not listed in metadata.csv")


def _admit(utterance: Utterance, taken: dict[str, str], shortest: float, longest: float) -> Utterance | LedgerLine:
    """Measure a clip and decide on it."""

    def dropped(reason: str) -> LedgerLine:
        return LedgerLine(utterance.id, utterance.audio, "dropped", reason)

    if utterance.id in taken:
        return dropped(f"duplicate id: {taken[utterance.id]} has it already")
    if utterance.text is not None and not utterance.text.strip():
        return dropped("transcript empty")
    path = Path(utterance.audio)
    if not path.is_file():
        return dropped(f"listed recording missing: there is no file {path}")
    if path.stat().st_size == 0:
        return dropped("empty: the file has no bytes")
    try:
        total = wave_info(path).seconds
    except InputError as error:
        return dropped(f"unreadable: {error}")
    start, end = utterance.start or 0.0, total if utterance.end is None else utterance.end
    # A table's times are often rounded: half a tenth beyond the last sample is no error.
    if end > total + 0.05 or start >= total:
        return dropped(f"outside the recording: {start:g} to {end:g} s of {total:.2f} s")
    seconds = min(end, total) - start
    if seconds < shortest:
        return dropped(f"shorter than {shortest:g} s: it lasts {seconds:.3f} s")
    if seconds > longest:
        return dropped(f"longer than {longest:g} s: it lasts {seconds:.1f} s; cut it into sentences")
    try:
        read_wave(path, None, start, utterance.end)
    except InputError as error:
        return dropped(f"unreadable: {error}")
    return replace(utterance, seconds=round(seconds, 6))


def _with_languages(utterances: list[Utterance], language: str | None) -> tuple[list[Utterance], tuple[str, ...]]:
    """Fill in the language where the source named none; a guess is put down in the notes."""
    if language is not None:
        return [item if item.language else replace(item, language=language) for item in utterances], ()
    guesses = _guess([item for item in utterances if not item.language])
    if not guesses:
        return utterances, ()
    counts = ", ".join(f"{code} for {count}" for code, count in sorted(Counter(guesses.values()).items()))
    note = f"the language was not given and guessed from the texts: {counts} clips; correct it with --language"
    return [replace(item, language=guesses.get(item.id) or item.language) for item in utterances], (note,)


def _guess(utterances: list[Utterance]) -> dict[str, str]:
    """Language by id; in Latin letters one short sentence tells little, so all texts of a speaker vote together."""
    alphabetic: dict[str, list[str]] = defaultdict(list)
    for item in utterances:
        if item.text is not None and not is_chinese(item.text):
            alphabetic[item.speaker].append(item.text)
    of_speaker = {speaker: detect_language(" ".join(texts)) for speaker, texts in alphabetic.items()}
    guesses = {
        item.id: detect_language(item.text) if is_chinese(item.text) else of_speaker[item.speaker]
        for item in utterances
        if item.text is not None
    }
    common = Counter(guesses.values()).most_common(1)
    return {item.id: guesses.get(item.id) or (common[0][0] if common else "en") for item in utterances}
