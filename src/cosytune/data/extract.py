"""Turning the clips of a corpus into features, many at once, so that no work is ever done twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cosytune.data.clip_features import ClipBatch, Outcome, extract_batch
from cosytune.data.corpus import Corpus, read_json
from cosytune.data.engine import Engine, open_engine
from cosytune.data.feature_index import FeatureIndex, IndexedClip, IndexWriter
from cosytune.data.feature_shards import (
    Cells,
    Donors,
    clip_address,
    read_shard_note,
    shard_count,
    shard_of,
    shard_path,
    shard_table,
    write_shard,
)
from cosytune.data.features import FEATURES_MARKER, Extractors, FeatureStore
from cosytune.data.pace import Clock, Progress
from cosytune.data.results import LedgerLine, write_ledger
from cosytune.errors import DataError
from cosytune.files import hash_json, lock, write_json

__all__ = ["extract_features"]

_FORMAT = 2
_KILLED = "killed its process: most often for want of memory"


def extract_features(
    corpus: Corpus,
    extractors: Extractors,
    *,
    engine: Engine | None = None,
    progress: Progress | None = None,
    shard_size: int = 128,
    batch_seconds: float = 24.0,
) -> FeatureStore:
    """Make the features of all utterances.

    What was made before is not made again: not after a crash, not for the clips that were there when others are added,
    and not in the columns whose extractor did not change. A clip that cannot be read, that an extractor refuses, or
    that kills its process twice is dropped with a line in the store's ledger. Shards do not depend on the engine.

    Args:
        corpus: what to extract from.
        extractors: the frozen models as functions.
        engine: where the work is done; None is this process.
        progress: told how far the job is.
        shard_size: utterances of a shard, at most, on average.
        batch_seconds: longest clip times number of clips given to an extractor at once, at most. Larger batches fall
            out of a processor's cache and are slower (benchmarks/features.py).

    Raises:
        DataError: no clip is left.
    """
    folder = corpus.features_folder(extractors.hash)
    count = shard_count(len(corpus), shard_size)
    marker = _marker(corpus, extractors, count)
    # Two runs on one corpus share its features: the later one waits, and then finds them made.
    with lock(folder / ".lock", wait=True):
        clock = Clock(progress, len(corpus))
        if _is_finished(folder, marker):
            # Nothing is touched: another run may be reading these features.
            clock.add(len(corpus))
        else:
            (folder / FEATURES_MARKER).unlink(missing_ok=True)
            with nullcontext(engine) if engine is not None else open_engine("local", 1) as at_work:
                kept = _Job(corpus, extractors, at_work, folder, count, batch_seconds, clock).run()
            write_json(folder / FEATURES_MARKER, {**marker, "clips": kept})
        return FeatureStore(folder, extractors=extractors.hash, pace=clock.pace)


def _marker(corpus: Corpus, extractors: Extractors, count: int) -> dict[str, Any]:
    speakers = ["spk_embedding"] if extractors.embedding is not None else []
    return {
        "format": _FORMAT,
        "extractors": extractors.hash,
        "hashes": extractors.column_hashes,
        "columns": [*extractors.columns, *speakers],
        "frames_per_token": extractors.frames_per_token,
        "corpus": corpus.hash,
        "shards": count,
    }


def _is_finished(folder: Path, marker: Mapping[str, Any]) -> bool:
    """Whether the folder holds exactly these features: the same marker, and every shard as long as it was written."""
    try:
        known = read_json(folder / FEATURES_MARKER)
        if {**marker, "clips": known.get("clips")} != known:
            return False
        sizes = FeatureIndex(folder).shard_bytes()
        paths = [shard_path(folder, number, marker["shards"]) for number in range(marker["shards"])]
        return sizes == [path.stat().st_size for path in paths]
    except (DataError, OSError, AttributeError):
        return False


@dataclass
class _Shard:
    """A shard in the making: what is there of its clips by content address, and how many batches are out."""

    number: int
    clips: list[IndexedClip]
    key: str
    cells: dict[str, Cells]
    reasons: dict[str, str] = field(default_factory=dict)
    batches_out: int = 0

    def take(self, batch: ClipBatch, outcomes: Iterable[Outcome]) -> None:
        for clip, outcome in zip(batch.clips, outcomes, strict=True):
            if isinstance(outcome, str):
                self.reasons[clip.clip] = outcome
            else:
                self.cells[clip.clip] |= outcome

    @property
    def dropped(self) -> dict[str, str]:
        """Reasons by id: two utterances may be one clip."""
        return {clip.utterance.id: self.reasons[clip.clip] for clip in self.clips if clip.clip in self.reasons}


@dataclass
class _Job:
    """One extraction. Batches of several shards are out at once; a shard is written when its last one is back."""

    corpus: Corpus
    extractors: Extractors
    engine: Engine
    folder: Path
    count: int
    batch_seconds: float
    clock: Clock

    def run(self) -> int:
        """Make all shards, then what spans them; returns the number of clips that have features."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.donors = Donors(self.folder, self.extractors.column_hashes)
        self.index = IndexWriter(self.folder, self._placed())
        try:
            self._make_shards()
            ledger = write_ledger(self.folder / "ledger.jsonl", self._lines(), len(self.corpus))
            if not ledger.usable:
                raise DataError(f"no clip of {self.corpus.path} could be turned into features: {ledger.summary()}")
            paths = [shard_path(self.folder, number, self.count) for number in range(self.count)]
            speakers = self._add_speaker_vectors(paths) if self.extractors.embedding is not None else {}
            for stale in set(self.folder.glob("shard-*.parquet")) - set(paths):
                stale.unlink()
            self.index.finish((path.stat().st_size for path in paths), speakers)
        except BaseException:
            self.index.discard()
            raise
        return ledger.usable

    def _placed(self) -> Iterator[tuple[IndexedClip, int]]:
        items = zip(self.corpus.stream(), self.corpus.sides(), strict=True)
        for ordinal, (utterance, (_, side)) in enumerate(items):
            audio_hash = self.corpus.audio_hash(utterance.audio)
            clip = clip_address(audio_hash, utterance.start, utterance.end)
            yield IndexedClip(ordinal, utterance, audio_hash, clip, side), shard_of(clip, self.count)

    def _make_shards(self) -> None:
        out: deque[tuple[_Shard, ClipBatch]] = deque()
        function: Callable[[ClipBatch], list[Outcome] | None] = partial(extract_batch, self.extractors)
        for outcomes in self.engine.map(function, self._batches(out), lost=lambda _: None):
            shard, batch = out.popleft()
            shard.take(batch, self._one_by_one(function, batch) if outcomes is None else outcomes)
            shard.batches_out -= 1
            self.clock.add(len(batch.clips), batch.seconds)
            if not shard.batches_out:
                self._write(shard)

    def _batches(self, out: deque[tuple[_Shard, ClipBatch]]) -> Iterator[ClipBatch]:
        """The batches of all shards; shards that need none are settled on the way."""
        columns = self.extractors.columns
        for number in range(self.count):
            clips = self.index.clips(number)
            key = _shard_key(self.extractors, clips)
            note = read_shard_note(shard_path(self.folder, number, self.count))
            if note.get("key") == key:
                self.index.settle(clips, note["dropped"])
                self.clock.add(len(clips))
                continue
            shard = _Shard(number, clips, key, self.donors.cells(number, self.count, {clip.clip for clip in clips}))
            batches = list(_by_length(_lacking(clips, shard.cells, columns), self.batch_seconds))
            shard.batches_out = len(batches)
            # Clips that are there, and second utterances of one clip, are in no batch.
            self.clock.add(len(clips) - sum(len(batch.clips) for batch in batches))
            if not batches:
                self._write(shard)
            for batch in batches:
                out.append((shard, batch))
                yield batch

    def _one_by_one(self, function: Callable[[ClipBatch], list[Outcome] | None], batch: ClipBatch) -> list[Outcome]:
        """A batch killed its process twice: find out which clip does."""
        if len(batch.clips) == 1:
            return [_KILLED]
        found = self.engine.map(function, batch.singles(), lost=lambda _: None)
        return [outcome for outcomes in found for outcome in outcomes or [_KILLED]]

    def _write(self, shard: _Shard) -> None:
        dropped = shard.dropped
        kept = [clip for clip in shard.clips if clip.utterance.id not in dropped]
        table = shard_table(kept, shard.cells, self.extractors.columns)
        note = {"key": shard.key, "extractors": self.extractors.column_hashes, "dropped": dropped}
        write_shard(shard_path(self.folder, shard.number, self.count), table, note)
        self.index.settle(shard.clips, dropped)

    def _lines(self) -> Iterator[LedgerLine]:
        for item, reason in self.index.outcomes():
            yield LedgerLine(item.id, item.audio, "dropped" if reason else "kept", reason or "", item.seconds)

    def _add_speaker_vectors(self, paths: Sequence[Path]) -> dict[str, np.ndarray]:
        """Give each row the mean direction of its speaker: vectors of length one, averaged over the train side.

        The reference averages the raw vectors (specification 9.1), so that loud ones count more (10.6, Q13); the
        networks use directions only.
        """
        sums: dict[str, np.ndarray] = {}
        counts: dict[str, int] = {}
        for number, path in enumerate(paths):
            trained = {clip.utterance.id for clip in self.index.clips(number) if clip.side == "train"}
            table = pq.read_table(path, columns=["utt", "spk", "utt_embedding"])
            for identity, speaker, vector in zip(
                *(table.column(name).to_pylist() for name in table.column_names), strict=True
            ):
                if identity in trained:
                    raw = np.asarray(vector, np.float64)
                    direction = raw / max(float(np.linalg.norm(raw)), 1e-12)
                    sums[speaker] = sums[speaker] + direction if speaker in sums else direction
                    counts[speaker] = counts.get(speaker, 0) + 1
        means = {speaker: (sums[speaker] / counts[speaker]).astype(np.float32) for speaker in sorted(sums)}
        for path in paths:
            _set_speaker_vectors(path, means)
        return means


def _shard_key(extractors: Extractors, clips: Iterable[IndexedClip]) -> str:
    rows = [[clip.utterance.id, clip.utterance.audio, clip.clip] for clip in clips]
    said = [[clip.utterance.text, clip.utterance.speaker] for clip in clips]
    return hash_json([_FORMAT, extractors.column_hashes, rows, said])


def _lacking(
    clips: Iterable[IndexedClip], cells: Mapping[str, Cells], columns: Sequence[str]
) -> dict[tuple[str, ...], dict[str, IndexedClip]]:
    """Clips that are not whole, each once, under the columns that they lack."""
    groups: dict[tuple[str, ...], dict[str, IndexedClip]] = {}
    for clip in clips:
        lacks = tuple(column for column in columns if column not in cells[clip.clip])
        if lacks:
            groups.setdefault(lacks, {})[clip.clip] = clip
    return groups


def _by_length(
    groups: Mapping[tuple[str, ...], Mapping[str, IndexedClip]], batch_seconds: float
) -> Iterator[ClipBatch]:
    """Batches of clips of similar length, so that little is padded."""
    for columns, clips in sorted(groups.items()):
        batch: list[IndexedClip] = []
        for clip in sorted(clips.values(), key=lambda clip: (clip.utterance.seconds, clip.clip)):
            if batch and clip.utterance.seconds * (len(batch) + 1) > batch_seconds:
                yield ClipBatch(tuple(batch), columns)
                batch = []
            batch.append(clip)
        yield ClipBatch(tuple(batch), columns)


def _set_speaker_vectors(path: Path, means: Mapping[str, np.ndarray]) -> None:
    """Write the column `spk_embedding` of a shard, unless it holds these vectors already."""
    speakers = pq.read_table(path, columns=["spk"]).column("spk").to_pylist()
    mark = hash_json({name: means[name].tolist() for name in sorted(set(speakers)) if name in means})
    note = read_shard_note(path)
    if note.get("speakers") == mark:
        return
    table = pq.read_table(path)
    if "spk_embedding" in table.column_names:
        table = table.drop_columns(["spk_embedding"])
    vectors = pa.array([means.get(speaker) for speaker in speakers], pa.list_(pa.float32()))
    write_shard(path, table.append_column("spk_embedding", vectors), {**note, "speakers": mark})
