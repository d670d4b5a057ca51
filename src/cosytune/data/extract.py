"""Turning the clips of a corpus into features, shard by shard, so that no work is ever done twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cosytune.audio.files import read_wave
from cosytune.audio.resample import resample
from cosytune.data.corpus import Corpus, read_json
from cosytune.data.features import FEATURES_MARKER, Extractors, FeatureStore, read_shard_note, write_shard
from cosytune.data.manifest import Utterance
from cosytune.data.results import Ledger, LedgerLine
from cosytune.data.splits import Side
from cosytune.errors import CosytuneError, DataError
from cosytune.files import hash_file, hash_json, lock, write_json
from cosytune.units import FEATURE_SAMPLE_RATE

__all__ = ["Progress", "extract_features"]

Progress = Callable[[int, int], None]
"""Called with the number of clips done and the number of all clips."""

_FORMAT = 1


def extract_features(
    corpus: Corpus,
    extractors: Extractors,
    *,
    progress: Progress | None = None,
    shard_size: int = 200,
    batch_seconds: float = 120.0,
) -> FeatureStore:
    """Make the features of all utterances, shard by shard.

    A finished shard is not made again unless its utterances, their recordings or the extractors changed. A clip that
    cannot be read, or that an extractor refuses with an error of ours or a ValueError, is dropped with a line in the
    store's ledger; any other error of an extractor is a fault of the program and stops the job.

    Args:
        corpus: what to extract from.
        extractors: the frozen models as functions.
        progress: called after each batch.
        shard_size: utterances of a shard.
        batch_seconds: longest clip times number of clips given to an extractor at once, at most.

    Raises:
        DataError: no clip is left.
    """
    folder = corpus.features_folder(extractors.hash)
    # Two runs on one corpus share its features: the later one waits, and then finds them made.
    with lock(folder / ".lock", wait=True):
        return _extract_all(corpus, extractors, folder, progress, shard_size, batch_seconds)


def _extract_all(
    corpus: Corpus,
    extractors: Extractors,
    folder: Path,
    progress: Progress | None,
    shard_size: int,
    batch_seconds: float,
) -> FeatureStore:
    utterances = corpus.utterances()
    groups = {
        f"shard-{begin // shard_size:05d}.parquet": utterances[begin : begin + shard_size]
        for begin in range(0, len(utterances), shard_size)
    }
    names, keys = list(groups), [_shard_key(corpus, extractors, group) for group in groups.values()]
    columns = [*extractors.columns, *(["spk_embedding"] if extractors.embedding is not None else [])]
    marker = {"format": _FORMAT, "extractors": extractors.hash, "corpus": corpus.hash, "columns": columns}
    marker["shards"] = names
    if _is_finished(folder, marker, keys):
        # The marker is not touched: another run may be reading these features.
        if progress is not None:
            progress(len(utterances), len(utterances))
        return FeatureStore(folder, extractors=extractors.hash)
    (folder / FEATURES_MARKER).unlink(missing_ok=True)
    for begin, (name, group), key in zip(range(0, len(utterances), shard_size), groups.items(), keys, strict=True):
        if read_shard_note(folder / name).get("key") != key:
            done = _Count(progress, begin, len(utterances))
            rows, dropped = _extract_group(corpus, extractors, group, batch_seconds, done)
            write_shard(folder / name, _table(rows, extractors), {"key": key, "dropped": dropped})
        elif progress is not None:
            progress(begin + len(group), len(utterances))
    for stale in set(folder.glob("shard-*.parquet")) - {folder / name for name in names}:
        stale.unlink()
    ledger = _account(folder, names, utterances)
    if not ledger.kept:
        raise DataError(f"no clip of {corpus.path} could be turned into features: {ledger.summary()}")
    if extractors.embedding is not None:
        _add_speaker_vectors(folder, names, corpus.splits)
    ledger.write(folder / "ledger.jsonl")
    write_json(folder / FEATURES_MARKER, marker)
    return FeatureStore(folder, extractors=extractors.hash)


def _is_finished(folder: Path, marker: dict[str, Any], keys: list[str]) -> bool:
    """Whether the folder holds exactly these features: the same marker, and every shard whole and of the same clips."""
    try:
        known = read_json(folder / FEATURES_MARKER)
    except DataError:
        return False
    return known == marker and [read_shard_note(folder / name).get("key") for name in marker["shards"]] == keys


@dataclass
class _Count:
    """How far the job is, told to `progress`."""

    progress: Progress | None
    done: int
    total: int

    def add(self, clips: int) -> None:
        self.done += clips
        if self.progress is not None:
            self.progress(self.done, self.total)


@dataclass(frozen=True)
class _Clip:
    """A loaded recording: waves [N] at 16 kHz and at the model's rate, whichever the extractors need."""

    utterance: Utterance
    audio_hash: str
    low: np.ndarray | None
    high: np.ndarray | None


def _shard_key(corpus: Corpus, extractors: Extractors, group: Sequence[Utterance]) -> str:
    clips = [
        [item.id, corpus.audio_hashes[item.audio], item.start, item.end, item.text, item.speaker] for item in group
    ]
    made_by = [extractors.hash, extractors.sample_rate, extractors.frames_per_token, list(extractors.columns)]
    return hash_json([_FORMAT, made_by, clips])


def _extract_group(
    corpus: Corpus, extractors: Extractors, group: Sequence[Utterance], batch_seconds: float, done: _Count
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows of one shard in manifest order, and the reason of each clip that was dropped."""
    rows: dict[str, dict[str, Any]] = {}
    dropped: dict[str, str] = {}
    for batch in _by_length(group, batch_seconds):
        clips: list[_Clip] = []
        for utterance in batch:
            try:
                clips.append(_load(utterance, corpus.audio_hashes[utterance.audio], extractors))
            except (CosytuneError, OSError) as error:
                dropped[utterance.id] = f"unreadable: {error}"
        for clip, outcome in zip(clips, _extract(extractors, clips), strict=True):
            if isinstance(outcome, str):
                dropped[clip.utterance.id] = outcome
            else:
                rows[clip.utterance.id] = outcome
        done.add(len(batch))
    return [rows[item.id] for item in group if item.id in rows], dropped


def _by_length(group: Sequence[Utterance], batch_seconds: float) -> Iterator[list[Utterance]]:
    """Batches of clips of similar length, so that little is padded."""
    batch: list[Utterance] = []
    for utterance in sorted(group, key=lambda item: (item.seconds, item.id)):
        if batch and utterance.seconds * (len(batch) + 1) > batch_seconds:
            yield batch
            batch = []
        batch.append(utterance)
    if batch:
        yield batch


def _load(utterance: Utterance, audio_hash: str, extractors: Extractors) -> _Clip:
    path = Path(utterance.audio)
    state = path.stat()
    if _hash(path, state.st_size, state.st_mtime_ns) != audio_hash:
        raise DataError(f"{path} has changed since the corpus was prepared; prepare it again")
    wave, rate = read_wave(path, start=utterance.start or 0.0, end=utterance.end)
    needs_low = extractors.tokens is not None or extractors.embedding is not None
    low = resample(wave, rate, FEATURE_SAMPLE_RATE) if needs_low else None
    high = resample(wave, rate, extractors.sample_rate) if extractors.mel is not None else None
    return _Clip(utterance, audio_hash, low, high)


@lru_cache(maxsize=256)
def _hash(path: Path, size: int, changed: int) -> str:
    """`hash_file`, once for the many utterances that one long recording may hold; size and time tell of a change."""
    return hash_file(path)


def _extract(extractors: Extractors, clips: list[_Clip]) -> list[dict[str, Any] | str]:
    """A row for each clip, or the reason why there is none; a batch that is refused is tried clip by clip."""
    if not clips:
        return []
    low = [clip.low for clip in clips if clip.low is not None]
    try:
        tokens = extractors.tokens(low) if extractors.tokens is not None else [None] * len(clips)
        vectors = extractors.embedding(low) if extractors.embedding is not None else [None] * len(clips)
        mels = [extractors.mel(clip.high) if extractors.mel and clip.high is not None else None for clip in clips]
    except (CosytuneError, ValueError) as error:
        if len(clips) == 1:
            return [f"refused by an extractor: {error}"]
        return [outcome for clip in clips for outcome in _extract(extractors, [clip])]
    return [_row(extractors, *one) for one in zip(clips, tokens, vectors, mels, strict=True)]


def _row(
    extractors: Extractors, clip: _Clip, tokens: np.ndarray | None, vector: np.ndarray | None, mel: np.ndarray | None
) -> dict[str, Any] | str:
    ratio = extractors.frames_per_token
    if tokens is not None and mel is not None and ratio is not None and float(ratio).is_integer():
        # Offline tokens and mel frames round differently (specification 9.3): keep what both have.
        pairs = min(len(tokens), mel.shape[1] // int(ratio))
        tokens, mel = tokens[:pairs], mel[:, : pairs * int(ratio)]
    if tokens is not None and len(tokens) == 0:
        return "no speech tokens: the recording is too short for the tokenizer"
    if any(part is not None and not np.isfinite(part).all() for part in (vector, mel)):
        return "not finite: an extractor made numbers that are none"
    utterance = clip.utterance
    row: dict[str, Any] = {"utt": utterance.id, "wav": utterance.audio, "text": utterance.text}
    row |= {"spk": utterance.speaker, "audio_hash": clip.audio_hash}
    if tokens is not None:
        row["speech_token"] = np.asarray(tokens, np.int32)
    if vector is not None:
        row["utt_embedding"] = np.asarray(vector, np.float32)
    if mel is not None:
        row["mel"] = np.ascontiguousarray(mel, np.float32).tobytes()
        row["mel_shape"] = list(mel.shape)
    return row


def _table(rows: list[dict[str, Any]], extractors: Extractors) -> pa.Table:
    columns = [(name, pa.string()) for name in ("utt", "wav", "text", "spk", "audio_hash")]
    if extractors.tokens is not None:
        columns.append(("speech_token", pa.list_(pa.int32())))
    if extractors.embedding is not None:
        columns.append(("utt_embedding", pa.list_(pa.float32())))
    if extractors.mel is not None:
        columns += [("mel", pa.binary()), ("mel_shape", pa.list_(pa.int32()))]
    return pa.Table.from_pylist(rows, schema=pa.schema(columns))


def _account(folder: Path, names: Iterable[str], utterances: Sequence[Utterance]) -> Ledger:
    dropped: dict[str, str] = {}
    for name in names:
        dropped |= read_shard_note(folder / name)["dropped"]
    lines = tuple(
        LedgerLine(item.id, item.audio, "dropped" if item.id in dropped else "kept", dropped.get(item.id, ""))
        for item in utterances
    )
    return Ledger(lines, len(utterances))


def _add_speaker_vectors(folder: Path, names: list[str], sides: dict[str, Side]) -> None:
    """Give each row the mean direction of its speaker: vectors of length one, averaged over the train side.

    The reference averages the raw vectors (specification 9.1), so that loud ones count more (10.6, Q13); the networks
    use directions only.
    """
    sums: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    for name in names:
        table = pq.read_table(folder / name, columns=["utt", "spk", "utt_embedding"])
        for identity, speaker, vector in zip(*(table.column(c).to_pylist() for c in table.column_names), strict=True):
            if sides[identity] == "train":
                raw = np.asarray(vector, np.float64)
                direction = raw / max(float(np.linalg.norm(raw)), 1e-12)
                sums[speaker] = sums[speaker] + direction if speaker in sums else direction
                counts[speaker] = counts.get(speaker, 0) + 1
    means = {speaker: (sums[speaker] / counts[speaker]).astype(np.float32).tolist() for speaker in sorted(sums)}
    mark = hash_json(means)
    for name in names:
        note = read_shard_note(folder / name)
        if note.get("speakers") == mark:
            continue
        table = pq.read_table(folder / name)
        if "spk_embedding" in table.column_names:
            table = table.drop_columns(["spk_embedding"])
        vectors = [means.get(speaker) for speaker in table.column("spk").to_pylist()]
        table = table.append_column("spk_embedding", pa.array(vectors, pa.list_(pa.float32())))
        write_shard(folder / name, table, {**note, "speakers": mark})
