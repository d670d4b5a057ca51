"""Agreement with the numbers that the reference implementation computed for a small random model."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cosytune.models.lm import GREEDY, LM, Decoder, Job, decode_all, generate, lm_loss
from tests.unit.lm_examples import make_job, nano_lm


@pytest.fixture(scope="module")
def lm(golden: Path) -> LM:
    return nano_lm(golden)


@pytest.fixture(scope="module")
def expected(golden: Path) -> dict[str, torch.Tensor]:
    return load_file(golden / "nano" / "expected.safetensors")


@torch.no_grad()
def test_teacher_forcing_agrees(lm: LM, expected: dict[str, torch.Tensor]) -> None:
    output = lm(
        expected["lm.in.text_token"],
        expected["lm.in.text_token_len"],
        expected["lm.in.speech_token"],
        expected["lm.in.speech_token_len"],
        expected["lm.in.embedding"],
    )
    torch.testing.assert_close(output.logits, expected["lm.out.logits"], atol=1e-5, rtol=0)
    result = lm_loss(output)
    torch.testing.assert_close(result.loss, expected["lm.out.loss"][0], atol=1e-5, rtol=0)
    torch.testing.assert_close(result.accuracy, expected["lm.out.accuracy"][0], atol=1e-6, rtol=0)


PROMPTS = {"greedy": (0, 0), "greedy_prompted": (3, 9)}


def recorded_job(expected: dict[str, torch.Tensor], name: str) -> Job:
    text, speech = PROMPTS[name]
    return make_job(
        expected["lm.in.text_token"][1, :5],
        expected["lm.in.embedding"][1],
        prompt_text=expected["lm.in.text_token"][0, :text],
        prompt_speech=expected["lm.in.speech_token"][0, :speech],
        shortest=20,
        longest=40,
    )


@pytest.mark.parametrize("name", PROMPTS)
def test_greedy_tokens_agree(lm: LM, expected: dict[str, torch.Tensor], name: str) -> None:
    got = generate(Decoder(lm, sampling=GREEDY), recorded_job(expected, name))
    assert got.tokens == expected[f"lm.out.{name}"].tolist()


def test_greedy_tokens_agree_side_by_side(lm: LM, expected: dict[str, torch.Tensor]) -> None:
    jobs = {recorded_job(expected, name): name for name in PROMPTS}
    for job, got in decode_all(Decoder(lm, sampling=GREEDY), deque(jobs), rows=2):
        assert got.tokens == expected[f"lm.out.{jobs[job]}"].tolist()
