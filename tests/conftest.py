"""What every test may ask for."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cosytune.data.corpus import Corpus

HERE = Path(__file__).parent

# What imports torch is imported inside fixtures: pytest-xdist's own process, which runs no test, reads this file too.

# What is imported and collected stays: to look through it at every collection is a fifth of the tests' time.
gc.disable()


def pytest_collection_finish() -> None:
    """From here on there is garbage."""
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """One thread makes sums the same on every machine and lets the suite run beside other work."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden() -> Path:
    """Recorded numbers of the reference implementation (tests/golden)."""
    return HERE / "golden"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real recordings and recorded features beside the project; skips where it is absent."""
    folder = HERE.parent.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the folder ../shared with real recordings is not here")
    return folder


@pytest.fixture(scope="session")
def toy_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Four synthesised voices of 20 seconds, one of them without transcripts."""
    from tests.unit.toy import make_corpus

    return make_corpus(tmp_path_factory.mktemp("toy-corpus"))


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory, toy_corpus: Corpus) -> Path:
    """The toy family with random weights; its features of the toy corpus are made."""
    from cosytune.models.folder import read_model
    from cosytune.training.features import corpus_features
    from tests.unit.toy import Quiet, make_model

    folder = make_model(tmp_path_factory.mktemp("toy-model") / "initial", toy_corpus)
    corpus_features(toy_corpus, read_model(folder), Quiet())
    return folder
