"""Importing a whole folder at once: entries measured one after the other, languages guessed, the account made."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from cosytune.data.importers.measuring import measure
from cosytune.data.importers.opening import open_source
from cosytune.data.importers.source import Entry, dropped
from cosytune.data.manifest import Utterance
from cosytune.data.results import Ledger, LedgerLine
from cosytune.text.language import detect_language, is_chinese

__all__ = ["Imported", "import_recordings"]


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
    """Read everything that `open_source` finds in a folder; each clip is decoded once.

    Args:
        folder: where the recordings are.
        language: code for all clips; None guesses from the texts and says so in the ledger's notes.
        shortest: seconds; shorter clips are dropped.
        longest: seconds; longer clips are dropped.

    Raises:
        DataError: the folder is missing or of no known layout, or its manifest.jsonl is damaged.
    """
    source = open_source(folder)
    seen = 0
    lines: list[LedgerLine] = []
    kept: list[Utterance] = []
    taken: dict[str, str] = {}
    for seen, entry in enumerate(source.entries, start=1):  # noqa: B007 - counted where clips are found
        decided = _decide(entry, taken, shortest, longest)
        if isinstance(decided, Utterance):
            taken[decided.id] = decided.audio
            kept.append(decided)
            decided = LedgerLine(decided.id, decided.audio, "kept")
        lines.append(decided)
    utterances, note = _with_languages(kept, language)
    return Imported(tuple(utterances), Ledger.of(lines, len(lines), note), source.layout)


def _decide(entry: Entry, taken: dict[str, str], shortest: float, longest: float) -> Entry:
    if isinstance(entry, LedgerLine):
        return entry
    if entry.id in taken:
        return dropped(entry.id, entry.audio, f"duplicate id: {taken[entry.id]} has it already")
    return measure(entry, shortest, longest)


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
