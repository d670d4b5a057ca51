"""Euler steps, guidance, noise and batches of unequal utterances."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from cosytune.errors import InputError
from cosytune.models.flow.solver import integrate, starting_noise, synthesise, time_steps
from cosytune.models.layers.masks import length_mask
from tests.unit.flow_models import TINY, tiny_flow

BINS = TINY.mel_bins
RATIO = 22050 / 256 / 50


def conditions(rows: int, frames: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """noise, mask, mu, speaker, condition."""
    generator = torch.Generator().manual_seed(2)
    noise, mu, condition = (torch.randn(rows, BINS, frames, generator=generator) for _ in range(3))
    return noise, torch.ones(rows, frames, dtype=torch.bool), mu, torch.randn(rows, BINS), condition


def test_the_times_are_the_cosine_schedule() -> None:
    expected = [0, 0.0123116374, 0.0489434600, 0.1089934707, 0.1909829974, 0.2928932309]
    expected += [0.4122148156, 0.5460094810, 0.6909830570, 0.8435655236, 1.0]
    torch.testing.assert_close(time_steps(10), torch.tensor(expected), atol=1e-6, rtol=0.0)


def test_no_steps_are_refused() -> None:
    with pytest.raises(InputError, match="asked for 0 steps; give 1 or more"):
        time_steps(0)


def test_the_steps_add_up_to_euler_on_a_known_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """dx/dt = -x by Euler is a product of (1 - step)."""
    flow = tiny_flow()
    monkeypatch.setattr(flow.estimator, "forward", lambda x, *_: -x)
    noise, *rest = conditions(1, 3)
    times = [1 - math.cos(k / 4 * math.pi / 2) for k in range(5)]
    shrink = math.prod(1 - (after - before) for before, after in itertools.pairwise(times))
    torch.testing.assert_close(integrate(flow, noise, *rest, steps=4), noise * shrink)


def test_guidance_moves_away_from_the_unconditioned_velocity(monkeypatch: pytest.MonkeyPatch) -> None:
    flow, seen = tiny_flow(), []

    def velocity(x: Tensor, mask: Tensor, mu: Tensor, t: Tensor, speaker: Tensor, condition: Tensor) -> Tensor:
        seen.append(x.shape[0])
        return 1.0 + mu + speaker[:, :, None] + condition

    monkeypatch.setattr(flow.estimator, "forward", velocity)
    noise, mask, mu, speaker, condition = conditions(2, 3)
    told = 1.0 + mu + speaker[:, :, None] + condition
    guided = integrate(flow, noise, mask, mu, speaker, condition, steps=1)
    torch.testing.assert_close(guided, noise + 1.7 * told - 0.7)
    plain = integrate(flow, noise, mask, mu, speaker, condition, steps=1, guidance=0.0)
    torch.testing.assert_close(plain, noise + told)
    assert seen == [4, 2]


def test_more_steps_come_closer_to_the_solution() -> None:
    flow, inputs = tiny_flow(), conditions(1, 4)
    fine = integrate(flow, *inputs, steps=100)
    errors = [(integrate(flow, *inputs, steps=steps) - fine).abs().mean().item() for steps in (2, 8, 32)]
    assert errors[0] > errors[1] > errors[2]


def request(rows: int, tokens: int, prompt_tokens: int, prompt_frames: int, frames: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(9)
    return {
        "tokens": torch.randint(0, 20, (rows, tokens), generator=generator),
        "prompt_tokens": torch.randint(0, 20, (rows, prompt_tokens), generator=generator),
        "prompt_mel": torch.randn(rows, BINS, prompt_frames, generator=generator),
        "speaker": torch.randn(rows, TINY.speaker_width, generator=generator),
        "frames": frames,
        "frames_per_token": RATIO,
        "noise": torch.randn(rows, BINS, prompt_frames + frames, generator=generator),
    }


def test_equal_lengths_make_a_batch_of_singles() -> None:
    flow, batch = tiny_flow(), request(2, 45, 6, 10, 77)
    together = synthesise(flow, **batch, steps=3)
    assert together.shape == (2, BINS, 77)
    alone: dict[str, Any] = {name: value[1:] if isinstance(value, Tensor) else value for name, value in batch.items()}
    torch.testing.assert_close(synthesise(flow, **alone, steps=3), together[1:], atol=1e-4, rtol=0.0)


def test_unequal_lengths_make_a_batch_of_singles() -> None:
    """Three rows: long with a prompt, short with a longer prompt, middle without any prompt."""
    flow = tiny_flow()
    tokens, prompts, prompt_frames, frames = [45, 7, 30], [4, 9, 0], [6, 15, 0], [77, 12, 51]
    batch = request(3, 45, 9, 15, 77)
    totals = [a + b for a, b in zip(prompt_frames, frames, strict=True)]
    batch["noise"] = batch["noise"][:, :, : max(totals)]
    together = synthesise(
        flow,
        **{**batch, "frames": torch.tensor(frames)},
        steps=3,
        token_lengths=torch.tensor(tokens),
        prompt_token_lengths=torch.tensor(prompts),
        prompt_frame_lengths=torch.tensor(prompt_frames),
    )
    for row in range(3):
        alone = synthesise(
            flow,
            batch["tokens"][row : row + 1, : tokens[row]],
            batch["prompt_tokens"][row : row + 1, : prompts[row]],
            batch["prompt_mel"][row : row + 1, :, : prompt_frames[row]],
            batch["speaker"][row : row + 1],
            frames[row],
            frames_per_token=RATIO,
            noise=batch["noise"][row : row + 1, :, : totals[row]],
            steps=3,
        )
        torch.testing.assert_close(together[row : row + 1, :, : frames[row]], alone, atol=1e-4, rtol=0.0)
        assert together[row, :, frames[row] :].abs().sum() == 0


def without_noise(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in batch.items() if name != "noise"}


def test_a_generator_alone_decides_the_noise() -> None:
    flow, batch = tiny_flow(), without_noise(request(1, 8, 0, 0, 13))

    def speak(seed: int) -> Tensor:
        return synthesise(flow, **batch, generator=torch.Generator().manual_seed(seed), steps=2)

    torch.manual_seed(0)
    first = speak(4)
    state = torch.get_rng_state()
    assert torch.equal(first, speak(4))
    assert not torch.equal(first, speak(5))
    assert torch.equal(state, torch.get_rng_state())


def test_noise_of_one_row_is_the_global_generators_noise() -> None:
    torch.manual_seed(1986)
    expected = torch.randn(1, 80, 103)
    assert torch.equal(starting_noise([103], 80, torch.Generator().manual_seed(1986)), expected)


def test_a_generator_per_row_makes_rows_independent_of_their_batch() -> None:
    def seeded(*seeds: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    batch = starting_noise([5, 9, 7], 4, seeded(1, 2, 3))
    assert torch.equal(batch[2:, :, :7], starting_noise([7], 4, seeded(3)))
    assert batch[0, :, 5:].abs().sum() == 0
    with pytest.raises(InputError, match="2 generators for 3 utterances"):
        starting_noise([5, 9, 7], 4, seeded(1, 2))


@pytest.mark.parametrize("both", [True, False])
def test_noise_and_generator_exclude_each_other(both: bool) -> None:
    batch = request(1, 8, 0, 0, 13)
    arguments = {**batch, "generator": torch.Generator()} if both else without_noise(batch)
    with pytest.raises(InputError, match="exactly one of `noise` and `generator`"):
        synthesise(tiny_flow(), **arguments)


def test_noise_must_cover_prompt_and_speech() -> None:
    batch = request(1, 8, 3, 5, 13)
    batch["noise"] = batch["noise"][:, :, 5:]
    with pytest.raises(InputError, match=r"shape \(1, 8, 13\); prompt and speech together need \(1, 8, 18\)"):
        synthesise(tiny_flow(), **batch)


def test_empty_speech_is_refused() -> None:
    with pytest.raises(InputError, match=r"\[8\] speech tokens and \[0\] mel frames: each needs at least one"):
        synthesise(tiny_flow(), **{**request(1, 8, 0, 0, 13), "frames": 0})


def test_a_prompt_mel_without_tokens_is_refused() -> None:
    with pytest.raises(InputError, match="a prompt mel needs the tokens of the same recording"):
        synthesise(tiny_flow(), **request(1, 8, 0, 5, 13))


def test_the_prompt_reaches_the_estimator_and_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    flow, batch, seen = tiny_flow(), request(1, 8, 3, 5, 13), []
    real = flow.estimator.forward

    def watch(x: Tensor, mask: Tensor, mu: Tensor, t: Tensor, speaker: Tensor, condition: Tensor) -> Tensor:
        seen.append(condition)
        return real(x, mask, mu, t, speaker, condition)

    monkeypatch.setattr(flow.estimator, "forward", watch)
    mel = synthesise(flow, **batch, steps=1)
    assert mel.shape == (1, BINS, 13)
    assert torch.equal(seen[0][:1, :, :5], batch["prompt_mel"])
    assert seen[0][:1, :, 5:].abs().sum() == 0
    assert seen[0][1:].abs().sum() == 0


def test_a_mask_keeps_padding_out_of_the_integration() -> None:
    flow = tiny_flow()
    noise, _, mu, speaker, condition = conditions(1, 10)
    mask = length_mask(torch.tensor([7]), 10)
    padded = integrate(flow, noise, mask, mu, speaker, condition, steps=3)[:, :, :7]
    alone = integrate(flow, noise[:, :, :7], mask[:, :7], mu[:, :, :7], speaker, condition[:, :, :7], steps=3)
    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0.0)
