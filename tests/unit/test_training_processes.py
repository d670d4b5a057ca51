"""What processes that train together are told, and what each of them trains with."""

from __future__ import annotations

import pytest
import torch
from accelerate.state import AcceleratorState

from cosytune.errors import InputError
from cosytune.training.processes import accelerator, join, joined


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("ACCELERATE_USE_DEEPSPEED", "true", "DEEPSPEED"),
        ("ACCELERATE_USE_FSDP", "True", "FSDP"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", "DYNAMO"),
    ],
)
def test_another_engine_of_the_launcher_is_refused(
    variable: str, value: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=rf"accelerate asks for {named}, .* launch without it, and give --shard"):
        join()


def test_what_a_launcher_says_by_default_is_no_other_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "NO")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "false")
    join()
    assert not joined()


def test_each_part_has_its_own_precision() -> None:
    """One after the other in the same process, for which accelerate has one precision."""
    matrix = torch.ones(2, 2)
    exact, fast, again = accelerator(bfloat16=False), accelerator(bfloat16=True), accelerator(bfloat16=False)
    for one, wanted in ((exact, torch.float32), (fast, torch.bfloat16), (again, torch.float32)):
        with one.autocast():
            assert (matrix @ matrix).dtype == wanted


def test_a_process_that_has_not_joined_trains_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers inherit the launcher's variables, and one that took them for its own would wait for the others."""
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    AcceleratorState._reset_state(reset_partial_state=True)
    assert accelerator(bfloat16=False).num_processes == 1


def test_pieces_are_weighed_by_items_whatever_the_launcher_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    weight = torch.ones(1, requires_grad=True)
    accelerator(bfloat16=False).backward(weight.sum())
    assert weight.grad == 1
