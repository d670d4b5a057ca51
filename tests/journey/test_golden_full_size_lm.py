"""The 300M-size language model with weights made by rule, against the recorded numbers (1.3 GB of memory)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cosytune.models.layers.decoding import StepwiseEncoder
from cosytune.models.lm import GREEDY, LM, Decoder, config_from_released, from_released, lm_loss, to_released
from tests.golden_fill import filled_input, filled_weights
from tests.unit.lm_examples import FULL_SECTION, make_job

TEXT = torch.tensor([[50260, *range(10, 100, 10)]])
SPEECH = torch.tensor([[5, 7, 11, 4095]])


@pytest.fixture(scope="module")
def lm() -> Iterator[LM]:
    with torch.device("meta"):
        model = LM(config_from_released(FULL_SECTION))
    released = to_released(model.state_dict())
    filled: dict[str, Tensor] = {}
    for name, tensor in released.items():  # one at a time: the float64 work space of all would not fit
        filled.update(filled_weights({name: tensor}))
    model.load_state_dict(from_released(filled), strict=True, assign=True)
    with torch.inference_mode():
        yield model.eval()


@pytest.fixture(scope="module")
def rows(golden: Path) -> dict[str, Any]:
    recorded: dict[str, Any] = json.loads((golden / "golden.json").read_text())
    return recorded


def agree(tensor: Tensor, row: dict[str, Any]) -> None:
    assert list(tensor.shape) == row["shape"]
    flat = tensor.flatten()
    torch.testing.assert_close(flat[: len(row["first"])], torch.tensor(row["first"]), atol=1e-4, rtol=0)
    torch.testing.assert_close(flat[-len(row["last"]) :], torch.tensor(row["last"]), atol=1e-4, rtol=0)
    assert tensor.mean().item() == pytest.approx(row["mean"], abs=1e-5)
    assert tensor.abs().mean().item() == pytest.approx(row["absmean"], abs=1e-5)


def test_text_encoder(lm: LM, rows: dict[str, Any]) -> None:
    agree(lm.text_encoder(lm.text_embedding(TEXT)), rows["v1llm.text_encoder"])
    agree(lm.encode_text(TEXT), rows["v1llm.encode"])


def test_logits_whole_and_in_two_calls(lm: LM, rows: dict[str, Any]) -> None:
    speaker = filled_input("in:spk", (1, 192))
    logits = lm(TEXT, torch.tensor([10]), SPEECH, torch.tensor([4]), speaker).logits
    agree(logits, rows["v1llm.logits_full"])
    assert logits[0, -1].argmax() == 3039
    stepwise = StepwiseEncoder(lm.decoder)
    cache = stepwise.new_cache()
    first = stepwise.enter(list(lm.prefix(lm.encode_text(TEXT), speaker, SPEECH[:, :3])), cache)
    second = stepwise.step(lm.embed_speech(SPEECH[:, 3]), cache)
    torch.testing.assert_close(lm.head(torch.cat((first, second))), logits[0, -2:], atol=1e-5, rtol=0)


def test_logits_of_the_decoder(lm: LM, rows: dict[str, Any]) -> None:
    speaker = filled_input("in:spk", (1, 192))
    logits = lm(TEXT, torch.tensor([10]), SPEECH, torch.tensor([4]), speaker).logits[0]
    decoding = Decoder(lm, sampling=GREEDY).begin(rows=2)
    # The same request twice, cut at another place: half of the text and of the speech may come as a prompt.
    whole = make_job(TEXT[0], speaker[0], prompt_speech=SPEECH[0])
    prompted = make_job(TEXT[0, 4:], speaker[0], prompt_text=TEXT[0, :4], prompt_speech=SPEECH[0, :2])
    decoding.enter([whole, prompted])
    assert decoding.jobs == [whole, prompted]
    torch.testing.assert_close(decoding.scores, logits[[-1, -3]], atol=1e-4, rtol=0)
    last = rows["v1llm.logits_full"]["last"]
    torch.testing.assert_close(decoding.scores[0, -len(last) :], torch.tensor(last), atol=1e-4, rtol=0)
    decoding.advance()
    assert decoding.spoken(whole) == [3039]


def test_training_loss(lm: LM, rows: dict[str, Any]) -> None:
    text = torch.tensor([[50260, 10, 20, 30, 40], [50259, 11, 21, 0, 0]])
    speech = torch.tensor([[1, 2, 3, 4, 5, 6, 7], [100, 200, 300, 400, 0, 0, 0]])
    speakers = filled_input("in:spk2", (2, 192))
    result = lm_loss(lm(text, torch.tensor([5, 3]), speech, torch.tensor([7, 4]), speakers))
    loss, accuracy = rows["v1llm.loss"]
    assert result.loss.item() == pytest.approx(loss, abs=1e-4)
    assert result.accuracy.item() == accuracy
