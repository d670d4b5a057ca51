"""What a run begins with: a corpus and a model of random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cosytune.data.corpus import MARKER, Corpus
from cosytune.data.prepare import prepare_corpus
from cosytune.errors import InputError, ModelError
from cosytune.files import hash_json
from cosytune.models.folder import read_model, write_model
from cosytune.training.stages import initial_model

__all__ = ["corpus_of", "initial_start", "keep_apart"]


def corpus_of(data: Path, place: Path) -> Corpus:
    """The corpus `data`, or one prepared from the folder of recordings `data` and kept in `place`.

    Raises:
        InputError: there is no such folder.
        DataError: it cannot be used.
    """
    if not data.is_dir():
        raise InputError(f"there is no folder {data}; give a folder of recordings or a prepared corpus")
    return Corpus(data) if (data / MARKER).is_file() else prepare_corpus(data, place)


def keep_apart(data: Path, output: Path) -> None:
    """Let no speech be made where recordings are looked for: the next run would take it for recordings.

    Raises:
        InputError: `output` is `data` or lies in it.
    """
    if data.resolve() in (output.resolve(), *output.resolve().parents):
        raise InputError(
            f"{output} lies in {data}, where the next run would take the speech made there for recordings; "
            "give an --output beside it"
        )


def initial_start(size: str, corpus: Corpus, seed: int, place: Path) -> Path:
    """A model folder of random weights in `place`; one made earlier from the same size, texts and seed is kept.

    Raises:
        InputError: unknown size, or `place` holds a trained model.
        DataError: a text tokenizer has to be trained and the corpus has no transcripts.
    """
    texts = [clip.text for clip in corpus.utterances("train") if clip.text]
    made_from = {"stage": "initial", "size": size, "seed": seed, "corpus_hash": corpus.hash, "texts": hash_json(texts)}
    if (place / "model.json").is_file():
        try:
            earlier = read_model(place)
        except ModelError:
            earlier = None
        if earlier is not None and earlier.stage != "initial":
            raise InputError(
                f"{place} holds a trained model and is to hold one of random weights; give another --output"
            )
        if earlier is not None and earlier.lineage == [made_from]:
            return place
    write_model(replace(initial_model(size, texts, seed), lineage=[made_from]), place)
    return place
