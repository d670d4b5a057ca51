from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cosytune.errors import InputError, ModelError
from cosytune.models.folder import Model, read_model, write_model
from cosytune.training.mixing import average, dial


@pytest.fixture
def pair(toy_model: Path) -> tuple[Model, Model]:
    """A start, and the same model with other weights in LM and flow."""
    start, tuned = read_model(toy_model), read_model(toy_model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for part in ("lm", "flow"):
            for parameter in tuned.part(part).parameters():
                parameter += torch.randn(parameter.shape, generator=generator)
    return start, replace(tuned, name="tuned", stage="tune")


def weights(model: Model, part: str) -> torch.Tensor:
    return torch.cat([value.flatten() for value in model.part(part).state_dict().values()])


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0, 1.5])
def test_the_dial_goes_from_start_to_tuned(pair: tuple[Model, Model], strength: float) -> None:
    start, tuned = pair
    mixed = dial(start, tuned, strength)
    for part in start.parts:
        expected = torch.lerp(weights(start, part), weights(tuned, part), strength)
        torch.testing.assert_close(weights(mixed, part), expected)
    assert mixed.parts.keys() == start.parts.keys()
    assert all(torch.equal(weights(mixed, part), weights(start, part)) for part in ("vocoder", "speaker_encoder"))


def test_the_ends_of_the_dial_are_exact_and_nothing_given_is_changed(pair: tuple[Model, Model]) -> None:
    start, tuned = pair
    before = (start.hash(), tuned.hash())
    assert torch.equal(weights(dial(start, tuned, 0.0), "lm"), weights(start, "lm"))
    assert torch.equal(weights(dial(start, tuned, 1.0), "lm"), weights(tuned, "lm"))
    assert (start.hash(), tuned.hash()) == before


def test_the_lineage_says_what_was_mixed(pair: tuple[Model, Model], tmp_path: Path) -> None:
    start, tuned = pair
    write_model(dial(start, tuned, 0.25), tmp_path / "m")
    entry = read_model(tmp_path / "m").lineage[-1]
    assert (entry["dial"], entry["start_hash"], entry["mixed_with"]) == (0.25, tuned.hash(), [start.hash()])
    assert entry["result_hash"] == read_model(tmp_path / "m").hash()
    assert average([start, tuned]).lineage[-1]["average_of"] == 2


def test_the_average_is_the_mean(pair: tuple[Model, Model]) -> None:
    start, tuned = pair
    mixed = average([start, tuned, tuned])
    torch.testing.assert_close(weights(mixed, "flow"), (weights(start, "flow") + 2 * weights(tuned, "flow")) / 3)


def test_what_cannot_be_mixed_is_refused(pair: tuple[Model, Model]) -> None:
    start, tuned = pair
    for strength in (-0.1, 1.6, float("nan")):
        with pytest.raises(InputError, match=r"is out of range; give 0 \(the start\) to 1.5"):
            dial(start, tuned, strength)
    with pytest.raises(InputError, match=r"1 model has no average; give two or more, or a run \(OUTPUT.run\)"):
        average([start])
    parts: dict[str, Any] = {name: part for name, part in tuned.parts.items() if name != "vocoder"}
    with pytest.raises(ModelError, match="only models of the same parts can be mixed"):
        dial(start, replace(tuned, parts=parts), 0.5)
    with pytest.raises(ModelError, match="different text tokenizers"):
        dial(start, replace(tuned, tokenizer=replace(tuned.tokenizer, data=b"{}")), 0.5)
    with torch.no_grad():
        next(tuned.part("speaker_encoder").parameters()).add_(1.0)
    with pytest.raises(ModelError, match="different front ends"):
        dial(start, tuned, 0.5)


def test_other_sizes_are_refused(pair: tuple[Model, Model]) -> None:
    start, tuned = pair
    tuned.part("lm").head = torch.nn.Linear(16, 9)
    with pytest.raises(ModelError, match="the lm of toy-initial and tuned differ in size"):
        dial(start, tuned, 0.5)
