"""The doctor's round: every clip is listened to on its own, then all are compared, then each is decided on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from cosytune.data.doctor.array_file import ArrayFile, Arrays
from cosytune.data.doctor.clips import Clip, main_languages
from cosytune.data.doctor.comparing import compare_bands, compare_levels, compare_paces, find_copies, find_repeats
from cosytune.data.doctor.deciding import decide, describe, draw_histograms, spare_common
from cosytune.data.doctor.judges import compare_transcripts, compare_voices
from cosytune.data.doctor.listening import Embed, Heard, Listener, Recogniser, lost_clip
from cosytune.data.doctor.settings import Limits
from cosytune.data.doctor.sound_findings import sound_findings
from cosytune.data.doctor.text_findings import text_findings
from cosytune.data.doctor.texts import main_script
from cosytune.data.doctor_results import ClipCheck, DoctorResult, Finding, SkippedCheck
from cosytune.data.engine import EngineName, open_engine
from cosytune.data.importers import open_source, with_distinct_ids
from cosytune.data.languages import with_languages
from cosytune.data.manifest import Utterance
from cosytune.data.results import LedgerLine
from cosytune.errors import DataError
from cosytune.text.language import base_language

__all__ = ["Advisers", "Progress", "check_recordings", "conclude", "make_listener"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Advisers:
    """Who is asked besides the doctor's own measures; None is not asked.

    Attributes:
        embed: voice encoder; its name for the report.
        recogniser: who writes down what is said.
        encode: a model's text tokenizer, and the name of the model.
    """

    embed: tuple[str, Embed] | None = None
    recogniser: Recogniser | None = None
    encode: tuple[str, Callable[[str], list[int]]] | None = None


def check_recordings(
    path: Path,
    *,
    language: str | None = None,
    limits: Limits | None = None,
    advisers: Advisers | None = None,
    media: Path | None = None,
    limit: int | None = None,
    engine: EngineName = "local",
    workers: int | None = None,
    progress: Progress | None = None,
) -> DoctorResult:
    """Look at everything that `open_source` finds; nothing is written.

    Each clip is decoded in a worker of its own and only numbers come back; fingerprints and voices wait on disk until
    they are compared, so that memory holds some 3 kB per clip. A file that cannot be read, or that kills its
    worker, becomes a dropped clip.

    Args:
        path: a folder or a table of recordings.
        language: code of all clips whose source names none; None guesses from the texts.
        limits: when a measure becomes a finding.
        advisers: judges and tokenizer.
        media: folder for sound that lies inside Parquet tables; without it such clips are dropped.
        limit: look at so many clips at most, spread evenly over the folder.
        engine: "local" or "ray".
        workers: clips at a time.
        progress: called with the clips done and all clips.

    Raises:
        DataError: `path` holds no recordings that can be recognised, or nothing at all.
    """
    limits, advisers = limits or Limits(), advisers or Advisers()
    source = open_source(path, media=media)
    refused, utterances = _collect(source.entries)
    if not utterances and not refused:
        raise DataError(f"{path} holds no recordings; give a folder with recordings, or a table that lists some")
    chosen = _spread(utterances, limit)
    items = with_languages(chosen, language)
    heard = _listen(items, advisers, engine, workers, progress)
    result = conclude(items, heard, refused, limits, advisers)
    left_out = len(utterances) - len(chosen)
    # How much there is in all is not known of a part.
    said = tuple(finding for finding in result.corpus if not left_out or finding.kind != "too little")
    return replace(result, folder=str(path), layout=source.layout, corpus=said, left_out=left_out)


def conclude(
    items: Sequence[Utterance],
    heard: Iterable[Heard],
    refused: Sequence[ClipCheck],
    limits: Limits,
    advisers: Advisers,
) -> DoctorResult:
    """Compare clips that were listened to and decide on each.

    Args:
        items: with their languages.
        heard: what the `Listener` kept of each.
        refused: clips that were dropped before anybody listened.
        limits: when a measure becomes a finding.
        advisers: those that listened.
    """
    clips: list[Clip] = []
    prints, vectors = ArrayFile(np.uint32), ArrayFile(np.float32)
    for item, own in zip(items, heard, strict=True):
        prints.append(own.prints)
        vectors.append(own.vector)
        clips.append(Clip(item, replace(own, prints=None, vector=None)))
    skipped = _judge(clips, prints, vectors, limits, advisers)
    said = spare_common(clips, limits)
    checks = (*(decide(clip, limits) for clip in clips), *refused)
    return DoctorResult(
        folder="",
        layout="",
        clips=checks,
        corpus=(*said, *describe(checks, limits)),
        skipped=tuple(skipped),
        histograms=draw_histograms(checks, limits),
        settings=limits.to_json(),
        listeners=_listeners(advisers),
    )


def _collect(entries: Iterator[Utterance | LedgerLine]) -> tuple[list[ClipCheck], list[Utterance]]:
    """What was refused at reading, as dropped clips, and the utterances, each with an id of its own."""
    refused: list[ClipCheck] = []
    utterances: list[Utterance] = []
    taken: set[str] = set()
    for entry, _ in with_distinct_ids(entries):
        if isinstance(entry, LedgerLine):
            refused.append(_refused(entry.id, entry.audio, entry.reason))
        else:
            # A recording in two formats; what the doctor says of it is a copy.
            own = replace(entry, id=f"{entry.id}{Path(entry.audio).suffix}") if entry.id in taken else entry
            taken.add(entry.id)
            utterances.append(own)
    return refused, utterances


def _refused(identity: str, audio: str, reason: str) -> ClipCheck:
    kind, _, detail = reason.partition(": ")
    finding = Finding("unreadable", "drop", f"{kind[:1].upper()}{kind[1:]}{': ' if detail else ''}{detail}.")
    return ClipCheck(identity, audio, None, "", "", "dropped", reason, None, None, 0.0, 0.0, None, (finding,))


def _spread(utterances: Sequence[Utterance], limit: int | None) -> Sequence[Utterance]:
    if limit is None or limit >= len(utterances):
        return utterances
    return [utterances[place * len(utterances) // limit] for place in range(limit)]


def make_listener(items: Sequence[Utterance], advisers: Advisers) -> Listener:
    """The worker's function for these clips: the recogniser is only asked about languages that it knows."""
    recogniser = advisers.recogniser
    codes = {item.language for item in items if item.language}
    understood = {code for code in codes if recogniser is not None and recogniser.understands(code)}
    return Listener(
        embed=advisers.embed[1] if advisers.embed is not None else None,
        transcribe=recogniser.transcribe if recogniser is not None else None,
        languages=frozenset(understood),
    )


def _listen(
    items: Sequence[Utterance], advisers: Advisers, engine: EngineName, workers: int | None, progress: Progress | None
) -> Iterator[Heard]:
    listener = make_listener(items, advisers)
    with open_engine(engine, workers) as pool:
        for done, heard in enumerate(pool.map(listener, items, lost=lost_clip), start=1):
            if progress is not None:
                progress(done, len(items))
            yield heard


def _judge(
    clips: Sequence[Clip], prints: Arrays, vectors: Arrays, limits: Limits, advisers: Advisers
) -> list[SkippedCheck]:
    """Fill in all findings; what could not be checked comes back."""
    own = main_languages([clip.utterance for clip in clips])
    scripts = _scripts(clips)
    encode = advisers.encode[1] if advisers.encode is not None else None
    for clip in clips:
        item = clip.utterance
        if clip.measures is None:
            kind, _, detail = clip.heard.problem.partition(": ")
            clip.findings.append(Finding("unreadable", "drop", detail or kind))
            continue
        clip.findings += sound_findings(clip.measures, limits)
        script = scripts.get(base_language(item.language), "")
        clip.findings += text_findings(item.text, item.language, own.get(item.speaker, ()), script, encode)
    compare_paces(clips, limits)
    compare_levels(clips, limits)
    compare_bands(clips, limits)
    find_copies(clips, prints)
    find_repeats(clips)
    return [*_unasked(clips, advisers), *_ask(clips, vectors, limits, advisers)]


def _scripts(clips: Sequence[Clip]) -> dict[str, str]:
    texts: dict[str, list[str]] = {}
    for clip in clips:
        if clip.utterance.text:
            texts.setdefault(base_language(clip.utterance.language), []).append(clip.utterance.text)
    return {code: main_script(islice(own, 5000)) for code, own in texts.items()}


def _ask(clips: Sequence[Clip], vectors: Arrays, limits: Limits, advisers: Advisers) -> list[SkippedCheck]:
    skipped = compare_voices(clips, vectors, limits) if advisers.embed is not None else []
    if advisers.recogniser is not None:
        skipped += compare_transcripts(clips, advisers.recogniser, limits)
    return skipped


def _unasked(clips: Sequence[Clip], advisers: Advisers) -> list[SkippedCheck]:
    """Checks for which nobody was there, with the reason."""
    skipped = []
    if advisers.embed is None:
        skipped.append(SkippedCheck("speaker", "no voice encoder was given: nobody compared the voices"))
    if advisers.recogniser is None:
        skipped.append(SkippedCheck("transcript", "no recogniser was given: transcripts are not checked"))
    else:
        spoken = {base_language(clip.utterance.language) for clip in clips if clip.utterance.text}
        for code in sorted(spoken):
            if advisers.recogniser.understands(code):
                continue
            reason = f"no recogniser for {code or 'clips of unknown language'}: their transcripts are not checked"
            skipped.append(SkippedCheck("transcript", reason))
    if advisers.encode is None:
        skipped.append(SkippedCheck("unknown characters", "no model was given (--model): its tokenizer was not asked"))
    return skipped


def _listeners(advisers: Advisers) -> tuple[str, ...]:
    names = [advisers.embed[0]] if advisers.embed is not None else []
    names += [advisers.recogniser.name] if advisers.recogniser is not None else []
    names += [f"tokenizer of {advisers.encode[0]}"] if advisers.encode is not None else []
    return tuple(names)
