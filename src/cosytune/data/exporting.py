"""Writing a prepared corpus as the upstream CosyVoice's training reads it: lists of Parquet shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cosytune.audio.files import encode_wave, read_wave
from cosytune.data.corpus import Corpus
from cosytune.data.features import Features, FeatureStore
from cosytune.data.manifest import Utterance
from cosytune.data.results import Ledger, LedgerLine, write_ledger
from cosytune.data.splits import SIDES, Side
from cosytune.errors import DataError, InputError
from cosytune.files import hash_file, write_folder, write_json, write_text

__all__ = ["write_upstream_lists"]

_READ_AS_THEY_ARE = (".wav", ".flac", ".mp3", ".ogg")
"""Files that go into a shard byte by byte; others, and parts of recordings, are encoded as FLAC."""
_BATCH = 64
"""Rows of a row group: what upstream's loader has in memory at once, and so do we."""

_Row = dict[str, Any]


def write_upstream_lists(corpus: Corpus, store: FeatureStore, folder: Path, *, rows: int = 1000) -> Ledger:
    """Write `train/`, `validation/` and `test/`, each with data.list, utt2data.list, spk2data.list and their shards.

    The columns are those of upstream's tools/make_parquet_list.py (specification 9.2): `utt`, `audio_data`, `wav`,
    `text`, `spk`, and `utt_embedding`, `spk_embedding`, `speech_token` as far as the store has them. `spk_embedding`
    is our mean of directions; a speaker without training clips has the clip's own vector there. `instruct` is a column
    of those shards in which an utterance has one.

    Args:
        corpus: a prepared corpus.
        store: features of it, made by the model that upstream's training starts from.
        folder: a new or empty folder; the lists name shards by this absolute path.
        rows: utterances of a shard.

    Returns:
        The account, also in `ledger.jsonl`: an utterance without transcript, features or readable sound is left out.

    Raises:
        DataError: the folder holds something, or no utterance can be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is there and not empty; give the name of a new folder for the lists")
    with write_folder(folder) as partial:
        lines = (line for side in SIDES for line in _write_side(corpus, store, partial, folder.absolute(), side, rows))
        ledger = write_ledger(partial / "ledger.jsonl", lines, len(corpus))
        if not ledger.kept:
            raise DataError(f"nothing of {corpus.path} can be written for upstream's training: {ledger.summary()}")
    return Ledger.read(folder / "ledger.jsonl")


def _write_side(
    corpus: Corpus, store: FeatureStore, partial: Path, final: Path, side: Side, rows: int
) -> Iterator[LedgerLine]:
    """Write the shards and lists of one side into `partial`; they name each other by their place in `final`."""
    lists: dict[str, list[str]] = {"data.list": [], "utt2data.list": [], "spk2data.list": []}
    utterances = corpus.stream(side)
    place = partial / side
    place.mkdir()
    while chunk := list(islice(utterances, rows)):
        number = f"{len(lists['data.list']):09d}"
        shard = f"parquet_{number}.tar"
        lines = _write_shard(place / shard, chunk, corpus, store)
        yield from lines
        kept = [item for item, line in zip(chunk, lines, strict=True) if line.decision == "kept"]
        if not kept:
            continue
        lists["data.list"].append(str(final / side / shard))
        for kind, keys in (("utt", [item.id for item in kept]), ("spk", [item.speaker for item in kept])):
            name = f"{kind}2parquet_{number}.json"
            write_json(place / name, dict.fromkeys(keys, str(final / side / shard)))
            lists[f"{kind}2data.list"].append(str(final / side / name))
    for name, paths in lists.items():
        write_text(place / name, "".join(f"{path}\n" for path in paths))


def _write_shard(path: Path, chunk: Sequence[Utterance], corpus: Corpus, store: FeatureStore) -> list[LedgerLine]:
    """Write what can be written of some utterances; no file if that is nothing. A line for each utterance."""
    instructed = any(item.instruct for item in chunk)
    schema = _schema(store, instructed)
    lines: list[LedgerLine] = []
    written = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as out:
        for begin in range(0, len(chunk), _BATCH):
            rows: list[_Row] = []
            for item in chunk[begin : begin + _BATCH]:
                row = _row(item, corpus, store)
                if isinstance(row, str):
                    lines.append(LedgerLine(item.id, item.audio, "dropped", row, item.seconds))
                else:
                    lines.append(LedgerLine(item.id, item.audio, "kept", seconds=item.seconds))
                    rows.append({**row, "instruct": item.instruct or ""} if instructed else row)
            if rows:
                out.write_table(pa.Table.from_pylist(rows, schema))
            written += len(rows)
    if not written:
        path.unlink()
    return lines


def _schema(store: FeatureStore, instructed: bool) -> pa.Schema:
    columns = [("utt", pa.string()), ("audio_data", pa.binary())]
    columns += [(name, pa.string()) for name in ("wav", "text", "spk")]
    if "utt_embedding" in store.columns:
        columns += [(name, pa.list_(pa.float32())) for name in ("utt_embedding", "spk_embedding")]
    if "speech_token" in store.columns:
        columns.append(("speech_token", pa.list_(pa.int32())))
    return pa.schema([*columns, ("instruct", pa.string())] if instructed else columns)


def _row(utterance: Utterance, corpus: Corpus, store: FeatureStore) -> _Row | str:
    """The row of an utterance, or the reason why there is none."""
    if not utterance.text:
        return "without transcript: upstream's training reads transcribed speech only"
    if utterance.id not in store:
        return "without features: the ledger of the features says why"
    try:
        sound = _sound(utterance, corpus.audio_hash(utterance.audio))
    except (DataError, InputError, OSError) as error:
        return f"unreadable: {error}"
    (features,) = store.read([utterance.id])
    row: _Row = {"utt": utterance.id, "audio_data": sound, "wav": utterance.audio}
    row |= {"text": utterance.text, "spk": utterance.speaker, **_vectors(features)}
    if features.speech_tokens is not None:
        row["speech_token"] = np.asarray(features.speech_tokens, np.int32)
    return row


def _vectors(features: Features) -> _Row:
    if features.utterance_vector is None:
        return {}
    mean = features.speaker_vector if features.speaker_vector is not None else features.utterance_vector
    return {"utt_embedding": features.utterance_vector, "spk_embedding": mean}


def _sound(utterance: Utterance, known: str) -> bytes:
    """The encoded recording of an utterance.

    Raises:
        DataError: the recording is not the one that the corpus was prepared from.
        InputError: it cannot be decoded.
    """
    path = Path(utterance.audio)
    state = path.stat()
    if _hash(path, state.st_size, state.st_mtime_ns) != known:
        raise DataError(f"{path} has changed since the corpus was prepared; prepare it again")
    whole = utterance.start is None and utterance.end is None
    if whole and path.suffix.lower() in _READ_AS_THEY_ARE:
        return path.read_bytes()
    wave, rate = read_wave(path, None, utterance.start or 0.0, utterance.end)
    return encode_wave(wave, rate, "flac")


@lru_cache(maxsize=256)
def _hash(path: Path, size: int, changed: int) -> str:
    """`hash_file`, once for the many utterances of one long recording; size and time tell of a change."""
    return hash_file(path)
