"""Features made by a Ray cluster of two nodes are those of the local engine, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from cosytune.data.corpus import Corpus
from cosytune.data.engine import Engine, open_engine
from cosytune.data.features import FeatureStore
from cosytune.data.prepare import prepare_corpus
from cosytune.errors import DataError, InputError
from cosytune.models.folder import read_model, write_model
from cosytune.training.features import corpus_features
from tests.unit.model_examples import tiny_model
from tests.unit.test_data_extract import make_corpus, recorded
from tests.unit.test_data_pipeline import files_of, talk
from tests.unit.worker_functions import die, node, refuse

ray = pytest.importorskip("ray", reason="the package ray (extra `cluster`) is not installed")


class Quiet:
    """A reporter that keeps quiet."""

    def start(self, name: str, total: int) -> None: ...

    def move(self, name: str, done: int) -> None: ...

    def say(self, line: str) -> None: ...


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Ray's own processes find the tests' modules, as all nodes of a real cluster have cosytune installed.
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster.address
        cluster.shutdown()


@pytest.fixture(scope="module")
def engine(address: str) -> Iterator[Engine]:
    with open_engine("ray", address=address) as engine:
        yield engine


def contents(store: FeatureStore) -> dict[str, bytes]:
    names = ("*.parquet", "ledger.jsonl", "features.json")
    return {path.name: path.read_bytes() for name in names for path in sorted(store.path.glob(name))}


def test_two_nodes_make_what_one_machine_makes(engine: Engine, tmp_path: Path) -> None:
    clips = recorded(tmp_path / "in", range(16))
    Path(clips[3].audio).write_bytes(b"no audio")
    corpora = [make_corpus(tmp_path / name, clips) for name in ("local", "ray")]
    write_model(tiny_model(), tmp_path / "model")
    model = read_model(tmp_path / "model")
    assert engine.workers == 2
    assert len(set(engine.map(node, range(8)))) == 2
    local = corpus_features(corpora[0], model, Quiet(), workers=1)
    cluster = corpus_features(corpora[1], model, Quiet(), engine="ray")
    assert contents(local) == contents(cluster)
    assert (len(cluster), cluster.ledger.dropped) == (15, 1)
    assert Corpus(tmp_path / "ray").hash == Corpus(tmp_path / "local").hash


def test_two_nodes_prepare_what_one_machine_prepares(engine: Engine, address: str, tmp_path: Path) -> None:
    folder = tmp_path / "录 音"
    recorded(folder, range(10))
    talk(folder / "talk.wav", [16.0, 12.0, 9.0])
    (folder / "broken.wav").write_bytes(b"RIFF nonsense")
    local = prepare_corpus(folder, tmp_path / "local", detector="energy")
    cluster = prepare_corpus(folder, tmp_path / "ray", detector="energy", engine="ray", address=address, workers=None)
    assert files_of(cluster) == files_of(local)
    assert local.ledger.fixed >= 2
    assert local.ledger.dropped == 1


def test_errors_and_deaths_are_those_of_the_local_engine(engine: Engine) -> None:
    results = engine.map(refuse, range(9))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match="no 3"):
        next(results)
    fatal = partial(die, of=2)
    assert list(engine.map(fatal, range(4), lost=lambda item: -item)) == [0, 1, -2, 3]
    with pytest.raises(DataError, match="the process that worked on 2 was killed"):
        list(engine.map(fatal, range(4)))


def test_an_address_without_a_cluster(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)

    def nobody(*_: object, **__: object) -> None:
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(ray, "init", nobody)
    with (
        pytest.raises(InputError, match=r"no Ray cluster could be used at here:1 \(nobody answers\); start"),
        open_engine("ray", address="here:1"),
    ):
        pass
