"""The switches of `LoopSettings`, seen in what the toy LM and flow become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cosytune.data.corpus import Corpus
from cosytune.errors import TrainingError
from cosytune.models.folder import read_model
from cosytune.models.layers.dropout import Dropout
from cosytune.training import loop as loop_module
from cosytune.training.jobs import run_job
from cosytune.training.results import PartResult, read_metrics
from cosytune.training.settings import PartName
from tests.unit.toy import outcome, same, toy_job, train_toy


def start_of(part: PartName, model: Path) -> dict[str, torch.Tensor]:
    return read_model(model).part(part).state_dict()


def distance(folder: Path, start: dict[str, torch.Tensor]) -> float:
    weights, _ = outcome(folder)
    return float(sum((weights[name] - value).double().square().sum() for name, value in start.items())) ** 0.5


def values(folder: Path, side: str, name: str) -> list[float]:
    return [p.value for p in read_metrics(folder / "metrics.jsonl") if (p.side, p.name) == (side, name)]


def test_frozen_is_frozen(toy_model: Path, toy_corpus: Corpus, tmp_path: Path) -> None:
    names = ("text_embedding", "decoder.layers.0.attention")
    train_toy("lm", toy_model, toy_corpus, tmp_path, freeze=names, weight_decay=0.5, average=0.9)
    weights, _ = outcome(tmp_path)
    start = start_of("lm", toy_model)
    for name, value in weights.items():
        frozen = any(name.startswith(f"{module}.") for module in names)
        assert torch.equal(value, start[name]) == frozen, name


def test_lower_layers_move_less(toy_model: Path, toy_corpus: Corpus, tmp_path: Path) -> None:
    start = start_of("lm", toy_model)
    for decay in (1.0, 0.1):
        train_toy("lm", toy_model, toy_corpus, tmp_path / str(decay), layer_decay=decay, weight_decay=0.0)

    def moved(decay: float, name: str) -> float:
        return float((outcome(tmp_path / str(decay))[0][name] - start[name]).abs().max())

    assert moved(0.1, "text_embedding.weight") < 0.01 * moved(1.0, "text_embedding.weight")
    assert moved(0.1, "head.weight") > 0.3 * moved(1.0, "head.weight")


@pytest.mark.parametrize("part", ["lm", "flow"])
def test_the_anchor_keeps_near_the_start(part: PartName, toy_model: Path, toy_corpus: Corpus, tmp_path: Path) -> None:
    start = start_of(part, toy_model)
    free = train_toy(part, toy_model, toy_corpus, tmp_path / "free", average=0.0)
    held = train_toy(part, toy_model, toy_corpus, tmp_path / "held", anchor="l2sp", anchor_weight=100.0, average=0.0)
    assert distance(tmp_path / "held", start) < 0.8 * distance(tmp_path / "free", start)
    assert free.end != held.end


def test_the_divergence_keeps_the_predictions(toy_model: Path, toy_corpus: Corpus, tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 20, "learning_rate": 1e-2, "anchor": "kl"}
    for weight in (1e-6, 10.0):
        train_toy("lm", toy_model, toy_corpus, tmp_path / str(weight), anchor_weight=weight, **options)
    loose, tight = (values(tmp_path / name, "train", "divergence")[-1] for name in ("1e-06", "10.0"))
    assert 0 < tight < 0.3 * loose


def test_the_train_curve_shows_the_loss_that_validation_shows(
    toy_model: Path, toy_corpus: Corpus, tmp_path: Path
) -> None:
    """Smoothing and anchor are in `loss`, never in `cross_entropy`: both sides are nats per token."""
    train_toy("lm", toy_model, toy_corpus, tmp_path / "plain", learning_rate=1e-9, steps=10)
    train_toy("lm", toy_model, toy_corpus, tmp_path / "smooth", learning_rate=1e-9, steps=10, smoothing=0.3)
    plain, smooth = (values(tmp_path / name, "train", "cross_entropy") for name in ("plain", "smooth"))
    assert smooth == pytest.approx(plain, rel=1e-6)
    assert values(tmp_path / "plain", "train", "loss") == pytest.approx(plain, rel=1e-6)
    assert values(tmp_path / "smooth", "train", "loss")[0] < plain[0]


@pytest.mark.parametrize("part", ["lm", "flow"])
def test_adapters_are_merged_into_a_plain_part(
    part: PartName, toy_model: Path, toy_corpus: Corpus, tmp_path: Path
) -> None:
    from peft import PeftModel

    start = start_of(part, toy_model)
    result = train_toy(part, toy_model, toy_corpus, tmp_path, lora_rank=2, learning_rate=2e-2, average=0.5)
    weights, _ = outcome(tmp_path)
    assert weights.keys() == start.keys()
    changed = {name for name, value in weights.items() if not torch.equal(value, start[name])}
    assert changed
    assert all(name.endswith(".weight") and any(w.isdigit() for w in name.split(".")) for name in changed)
    assert result.end != result.start
    # peft alone makes the same of its own files and the start.
    alone = PeftModel.from_pretrained(read_model(toy_model).part(part), str(tmp_path / "adapter")).merge_and_unload()
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=1e-6)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(toy_model)


def test_a_run_with_adapters_goes_on_where_it_was(toy_model: Path, toy_corpus: Corpus, tmp_path: Path) -> None:
    options: dict[str, Any] = {"lora_rank": 2, "lora_dropout": 0.2, "average": 0.5}
    train_toy("lm", toy_model, toy_corpus, tmp_path / "whole", **options)

    class StopHereError(Exception):
        pass

    def watch(step: int) -> None:
        if step == 5:
            raise StopHereError

    with pytest.raises(StopHereError):
        run_job(toy_job("lm", toy_model, toy_corpus, tmp_path / "parts", **options), watch)
    held = torch.load(tmp_path / "parts" / "checkpoints" / "step-00000004.pt", weights_only=True)["modules"]
    assert all("lora_" in name for name in held), "frozen weights are in the start and need no room in checkpoints"
    train_toy("lm", toy_model, toy_corpus, tmp_path / "parts", **options)
    assert same(tmp_path / "parts", tmp_path / "whole")


def test_a_bad_merge_is_not_written(
    toy_model: Path, toy_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loop_module.merge_lora

    def bad(network: Any) -> None:
        real(network)
        with torch.no_grad():
            network.head.weight.mul_(3)

    monkeypatch.setattr(loop_module, "merge_lora", bad)
    with pytest.raises(TrainingError, match=r"the merged lm has cross_entropy .*, with its adapters it had"):
        train_toy("lm", toy_model, toy_corpus, tmp_path, lora_rank=2)
    assert not (tmp_path / "weights.pt").exists()


@pytest.mark.parametrize("part", ["lm", "flow"])
def test_pieces_of_a_batch_teach_what_the_batch_teaches(
    part: PartName, toy_model: Path, toy_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to dropout, which has no numbers of its own for each clip."""
    monkeypatch.setattr(Dropout, "forward", lambda self, x: x)

    def run(name: str, **changes: Any) -> PartResult:
        return train_toy(part, toy_model, toy_corpus, tmp_path / name, learning_rate=1e-4, **changes)

    whole, pieces = run("whole"), run("pieces", accumulate=3)
    assert pieces.end == pytest.approx(whole.end, rel=1e-4)
    weights, others = outcome(tmp_path / "whole")[0], outcome(tmp_path / "pieces")[0]
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, atol=3e-5, rtol=1e-3)
