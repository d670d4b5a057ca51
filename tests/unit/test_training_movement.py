from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cosytune.errors import InputError
from cosytune.training.lora import add_lora, has_lora, merge_lora, write_adapter
from cosytune.training.movement import Movement, freeze, rate_shares
from cosytune.training.settings import LoopSettings, override


class Network(nn.Module):
    """Three numbered layers between an embedding and a head."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.embedding = nn.Embedding(5, 4)
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
            self.head = nn.Linear(4, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x).tanh()
        return self.head(x)


def settings(**changes: Any) -> LoopSettings:
    return LoopSettings(**{"steps": 10, "batch_seconds": 4, "learning_rate": 0.01, **changes})


def moving(network: nn.Module) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("names", "frozen"),
    [
        (["embedding"], {"embedding.weight"}),
        (["layers.0"], {"layers.0.weight", "layers.0.bias"}),
        (["layers.[01]", "head.bias"], {"head.bias", *(f"layers.{k}.{w}" for k in (0, 1) for w in ("weight", "bias"))}),
        (["layers"], {f"layers.{k}.{w}" for k in range(3) for w in ("weight", "bias")}),
        (["*.bias"], {"layers.0.bias", "layers.1.bias", "layers.2.bias", "head.bias"}),
    ],
)  # fmt: skip
def test_frozen_is_what_was_named_and_nothing_else(names: list[str], frozen: set[str]) -> None:
    network = Network()
    freeze(network, names)
    assert {name for name, _ in network.named_parameters()} - moving(network) == frozen


def test_names_that_freeze_nothing_or_all_are_refused() -> None:
    with pytest.raises(InputError, match="freeze names 'decoder', which this network does not have; its modules are"):
        freeze(Network(), ["decoder"])
    with pytest.raises(InputError, match=r"freeze \* leaves nothing to train"):
        freeze(Network(), ["*"])


def test_each_layer_moves_at_a_share_of_the_one_above() -> None:
    shares = rate_shares(Network(), 0.5)
    assert shares == {
        "embedding.weight": 1 / 16,
        **{f"layers.{k}.{w}": 0.5 ** (3 - k) for k in range(3) for w in ("weight", "bias")},
        "head.weight": 1.0,
        "head.bias": 1.0,
    }
    assert set(rate_shares(Network(), 1.0).values()) == {1.0}


def test_groups_hold_every_moving_weight_once() -> None:
    network, head = Network(), nn.Linear(2, 2)
    movement = Movement(network, settings(layer_decay=0.5, freeze=("embedding", "layers.0")))
    groups = movement.groups(head)
    assert {group["share"] for group in groups} == {0.25, 0.5, 1.0}
    held = [parameter for group in groups for parameter in group["params"]]
    expected = [p for p in (*network.parameters(), *head.parameters()) if p.requires_grad]
    assert len(held) == len(expected) == 8
    assert {id(p) for p in held} == {id(p) for p in expected}
    assert {id(p) for p in head.parameters()} <= {id(p) for p in groups[-1]["params"]}


def test_the_anchor_pulls_to_the_start() -> None:
    network = Network()
    start = {name: p.detach().clone() for name, p in network.named_parameters()}
    movement = Movement(network, settings(anchor="l2sp", anchor_weight=10.0, freeze=("embedding",), layer_decay=0.5))
    movement.remember_start()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 1.0
    movement.pull(0.01)
    for name, parameter in network.named_parameters():
        share = rate_shares(network, 0.5)[name]
        expected = 1.0 if name == "embedding.weight" else 1.0 - 0.1 * share
        torch.testing.assert_close(parameter - start[name], torch.full_like(parameter, expected))


def test_without_an_anchor_nothing_pulls_and_nothing_is_kept() -> None:
    network = Network()
    movement = Movement(network, settings())
    movement.remember_start()
    before = copy.deepcopy(network.state_dict())
    with torch.no_grad():
        network.head.bias += 1.0
    movement.pull(0.5)
    assert torch.equal(network.head.bias, before["head.bias"] + 1.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"anchor": "l2sp"}, "anchor 'l2sp' and anchor_weight 0.0 do not go together"),
        ({"anchor_weight": 1.0}, "anchor 'none' and anchor_weight 1.0 do not go together"),
        ({"anchor": "l2sp", "anchor_weight": 1.0, "lora_rank": 4}, "nothing to pull back"),
    ],
)
def test_switches_that_contradict_each_other_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        override(settings(), "lm", changes)


@pytest.mark.parametrize(
    ("part", "changes", "words"),
    [
        ("flow", {"smoothing": 0.1}, "flow.smoothing would do nothing; it is for lm"),
        ("vocoder", {"lora_rank": 4}, "vocoder.lora_rank would do nothing; it is for lm, flow"),
        ("vocoder", {"accumulate": 2}, "vocoder.accumulate would do nothing; it is for lm, flow"),
        ("flow", {"anchor": "kl", "anchor_weight": 1.0}, "flow.anchor = 'kl' is for the lm"),
    ],
)
def test_switches_of_other_parts_are_refused(part: Any, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        override(settings(), part, changes)


def test_adapters_begin_as_nothing_and_are_all_that_moves() -> None:
    network = Network()
    ids = torch.arange(5)
    before = network(ids)
    movement = Movement(network, settings(lora_rank=2, layer_decay=0.5))
    assert torch.equal(network(ids), before)
    assert moving(network) == {f"layers.{k}.lora_{m}.default.weight" for k in range(3) for m in "AB"}
    assert {group["share"] for group in movement.groups(None)} == {1 / 8, 1 / 4, 1 / 2}


def test_adapters_begin_alike_whatever_was_drawn_before() -> None:
    first = Network()
    Movement(first, settings(lora_rank=2))
    second = Network()
    torch.rand(7)
    Movement(second, settings(lora_rank=2))
    name = "layers.0.lora_A.default.weight"
    assert torch.equal(first.get_parameter(name), second.get_parameter(name))


def test_frozen_layers_get_no_adapters() -> None:
    network = Network()
    Movement(network, settings(lora_rank=2, freeze=("layers.1",)))
    assert {name.split(".")[1] for name in moving(network)} == {"0", "2"}
    with pytest.raises(InputError, match="no linear layers that could carry LoRA adapters"):
        add_lora(nn.Sequential(nn.Conv1d(2, 2, 1)), 2, 4, 0.0)


def trained_adapters() -> Network:
    network = Network()
    add_lora(network, 2, 6, 0.0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(1))
    return network


def test_merged_adapters_are_plain_weights_that_say_the_same() -> None:
    network, plain = trained_adapters(), Network()
    expected = network(torch.arange(5))
    assert has_lora(network)
    assert not torch.allclose(expected, plain(torch.arange(5)), atol=1e-2)
    merge_lora(network)
    assert not has_lora(network)
    assert {name: value.shape for name, value in network.state_dict().items()} == {
        name: value.shape for name, value in plain.state_dict().items()
    }
    torch.testing.assert_close(network(torch.arange(5)), expected)
    assert torch.equal(network.embedding.weight, plain.embedding.weight)


def test_peft_reads_the_adapters_that_were_written(tmp_path: Path) -> None:
    from peft import PeftModel

    network = trained_adapters()
    write_adapter(network, tmp_path / "adapter", "models/base")
    read = PeftModel.from_pretrained(Network(), str(tmp_path / "adapter"))
    torch.testing.assert_close(read(torch.arange(5)), network(torch.arange(5)))
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
