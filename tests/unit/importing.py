"""A folder as `prepare_corpus` takes it in, for tests of what importers yield."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosytune.data.corpus import read_json
from cosytune.data.manifest import Utterance
from cosytune.data.prepare import prepare_corpus
from cosytune.data.results import Ledger, LedgerLine


@dataclass(frozen=True)
class Imported:
    utterances: tuple[Utterance, ...]
    ledger: Ledger
    lines: tuple[LedgerLine, ...]
    layout: str


def import_recordings(folder: Path, **how: Any) -> Imported:
    """What a corpus of `folder` holds; long recordings are not cut."""
    with tempfile.TemporaryDirectory() as place:
        corpus = prepare_corpus(folder, Path(place) / "corpus", cut=False, **how)
        lines = tuple(corpus.ledger.lines)
        layout = read_json(corpus.path / "source.json")["layout"]
        return Imported(corpus.utterances(), Ledger.of(lines, len(lines), corpus.ledger.notes), lines, layout)
