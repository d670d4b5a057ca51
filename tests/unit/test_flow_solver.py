"""Steps, guidance, noise and batches of unequal utterances."""

from __future__ import annotations

import itertools
import math
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from cosytune.errors import InputError
from cosytune.models.flow.solver import SolverConfig, integrate, starting_noise, synthesise, time_steps
from cosytune.models.layers.masks import length_mask
from cosytune.models.layers.noise import NoiseTape
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
    torch.testing.assert_close(integrate(flow, noise, *rest, SolverConfig(4)), noise * shrink)


def test_guidance_moves_away_from_the_unconditioned_velocity(monkeypatch: pytest.MonkeyPatch) -> None:
    flow, seen = tiny_flow(), []

    def velocity(x: Tensor, mask: Tensor, mu: Tensor, t: Tensor, speaker: Tensor, condition: Tensor) -> Tensor:
        seen.append(x.shape[0])
        return 1.0 + mu + speaker[:, :, None] + condition

    monkeypatch.setattr(flow.estimator, "forward", velocity)
    noise, mask, mu, speaker, condition = conditions(2, 3)
    told = 1.0 + mu + speaker[:, :, None] + condition
    guided = integrate(flow, noise, mask, mu, speaker, condition, SolverConfig(1))
    torch.testing.assert_close(guided, noise + 1.7 * told - 0.7)
    plain = integrate(flow, noise, mask, mu, speaker, condition, SolverConfig(1, guidance=0.0))
    torch.testing.assert_close(plain, noise + told)
    early = integrate(flow, noise, mask, mu, speaker, condition, SolverConfig(2, guidance_until=0.1))
    step = 1 - math.cos(math.pi / 4)
    torch.testing.assert_close(early, noise + step * (1.7 * told - 0.7) + (1 - step) * told)
    never = integrate(flow, noise, mask, mu, speaker, condition, SolverConfig(1, guidance_until=0.0))
    assert torch.equal(never, plain)
    assert seen == [4, 2, 4, 2, 2]


def test_more_steps_come_closer_to_the_solution() -> None:
    flow, inputs = tiny_flow(), conditions(1, 4)
    fine = integrate(flow, *inputs, SolverConfig(60))
    methods: tuple[Literal["euler", "midpoint"], ...] = ("euler", "midpoint")
    for method in methods:
        ends = [integrate(flow, *inputs, SolverConfig(steps, method)) for steps in (2, 6, 18)]
        errors = [(end - fine).abs().mean().item() for end in ends]
        assert errors[0] > errors[1] > errors[2], method


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2)])
def test_the_error_falls_with_the_order_of_the_method(
    monkeypatch: pytest.MonkeyPatch, method: Literal["euler", "midpoint"], order: int
) -> None:
    """dx/dt = -x from 1 ends at 1 / e; twice the steps leave 1 / 2^order of the error."""
    flow = tiny_flow()
    monkeypatch.setattr(flow.estimator, "forward", lambda x, *_: -x)
    _, *rest = conditions(1, 3)

    def error(steps: int) -> float:
        end = integrate(flow, torch.ones(1, BINS, 3), *rest, SolverConfig(steps, method))
        return abs(end[0, 0, 0].item() - math.exp(-1))

    assert error(10) / error(20) == pytest.approx(2**order, rel=0.15)


def test_both_halves_of_a_step_are_guided_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps, the first one's middle at 0.146: guidance until 0.1 holds for all of it."""
    flow = tiny_flow()
    monkeypatch.setattr(flow.estimator, "forward", lambda x, mask, mu, *_: 1.0 + mu)
    noise, mask, mu, speaker, condition = conditions(1, 3)
    made = integrate(flow, noise, mask, mu, speaker, condition, SolverConfig(2, "midpoint", guidance_until=0.1))
    share = 1 - math.cos(math.pi / 4)
    torch.testing.assert_close(made, noise + 1.0 + mu + share * 0.7 * mu)


def test_the_middle_of_a_step_is_asked_at_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """dx/dt = 2 t ends at 1 exactly, whatever the steps."""
    flow = tiny_flow()
    monkeypatch.setattr(flow.estimator, "forward", lambda x, mask, mu, t, *_: 2 * t[:, None, None] + 0 * x)
    noise, *rest = conditions(1, 3)
    made = integrate(flow, noise, *rest, SolverConfig(3, "midpoint", guidance=0.0))
    torch.testing.assert_close(made, noise + 1.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "asked for 0 steps; give 1 or more"),
        ({"method": "heun"}, "no solver 'heun'; methods are euler, midpoint"),
        ({"guidance": -0.1}, "guidance was set to -0.1; give 0"),
        ({"guidance": math.nan}, "guidance was set to nan"),
        ({"guidance_until": 1.5}, "until time 1.5; give 0 .never. to 1"),
    ],
)
def test_a_solver_that_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SolverConfig(**values)


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
    together = synthesise(flow, **batch, solver=SolverConfig(3))
    assert together.shape == (2, BINS, 77)
    alone: dict[str, Any] = {name: value[1:] if isinstance(value, Tensor) else value for name, value in batch.items()}
    torch.testing.assert_close(synthesise(flow, **alone, solver=SolverConfig(3)), together[1:], atol=1e-4, rtol=0.0)


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
        solver=SolverConfig(3),
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
            solver=SolverConfig(3),
        )
        torch.testing.assert_close(together[row : row + 1, :, : frames[row]], alone, atol=1e-4, rtol=0.0)
        assert together[row, :, frames[row] :].abs().sum() == 0


def test_a_prompt_of_any_proportion_is_spoken_on() -> None:
    """Streaming prompts with a voice and with speech of its own, whose lengths follow no ratio."""
    flow, batch = tiny_flow(), request(2, 30, 37, 64, 51)
    assert synthesise(flow, **batch, solver=SolverConfig(2)).shape == (2, BINS, 51)
    lengths = {
        "token_lengths": torch.tensor([30, 7]),
        "prompt_token_lengths": torch.tensor([12, 37]),
        "prompt_frame_lengths": torch.tensor([64, 3]),
        "frames": torch.tensor([20, 51]),
    }
    batch["noise"] = batch["noise"][:, :, :84]
    made = synthesise(flow, **{**batch, **lengths}, solver=SolverConfig(2))
    assert made.shape == (2, BINS, 51)
    assert made.isfinite().all()
    assert made[0, :, 20:].abs().sum() == 0


def test_noise_is_read_from_each_rows_own_tape() -> None:
    batch = starting_noise([5, 9, 7], [NoiseTape(4, seed) for seed in (1, 2, 3)])
    assert batch.shape == (3, 4, 9)
    assert torch.equal(batch[2:, :, :7], starting_noise([7], [NoiseTape(4, 3)]))
    assert batch[0, :, 5:].abs().sum() == 0
    tape = NoiseTape(4, 2)
    pieces = [starting_noise([frames], [tape]) for frames in (2, 7)]
    assert torch.equal(batch[1:2], torch.cat(pieces, dim=2))


@pytest.mark.parametrize("tapes", [[], [NoiseTape(4, 1)], [NoiseTape(4, 1), NoiseTape(5, 1)]])
def test_a_tape_too_few_or_of_another_width_is_refused(tapes: list[NoiseTape]) -> None:
    with pytest.raises(InputError, match="for 2 utterances: give each utterance one, all as wide as the mel"):
        starting_noise([5, 9], tapes)


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
    mel = synthesise(flow, **batch, solver=SolverConfig(1))
    assert mel.shape == (1, BINS, 13)
    assert torch.equal(seen[0][:1, :, :5], batch["prompt_mel"])
    assert seen[0][:1, :, 5:].abs().sum() == 0
    assert seen[0][1:].abs().sum() == 0


def test_a_mask_keeps_padding_out_of_the_integration() -> None:
    flow = tiny_flow()
    noise, _, mu, speaker, condition = conditions(1, 10)
    mask = length_mask(torch.tensor([7]), 10)
    padded = integrate(flow, noise, mask, mu, speaker, condition, SolverConfig(3))[:, :, :7]
    alone = integrate(flow, noise[:, :, :7], mask[:, :7], mu[:, :, :7], speaker, condition[:, :, :7], SolverConfig(3))
    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0.0)
