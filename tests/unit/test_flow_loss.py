"""The flow-matching loss, its draws and its trivial baseline."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from cosytune.models.flow.loss import FlowDraws, draw, flow_loss, flow_terms, gaussian_baseline
from cosytune.models.flow.model import FlowOutput
from tests.unit.flow_models import TINY, tiny_batch, tiny_flow


def draws_for(batch: dict[str, Any], seed: int = 5) -> FlowDraws:
    lengths = batch["frame_lengths"]
    generators = [torch.Generator().manual_seed(seed + row) for row in range(len(lengths))]
    return draw(TINY, lengths, batch["mel"].shape[2], generators)


def test_draws_follow_their_distributions() -> None:
    lengths = torch.full((20_000,), 11)
    draws = draw(TINY, lengths, 11, [torch.Generator().manual_seed(0)] * len(lengths))
    assert 0.49 < draws.t.mean() < 0.51
    assert draws.t.min() >= 0
    assert draws.t.max() < 1
    assert abs(draws.noise.std() - 1) < 0.01
    assert 0.79 < draws.keep_condition.float().mean() < 0.81
    # Half of the rows show nothing, the other half 0..int(0.3 * 11) = 3 frames, each equally often.
    shares = torch.bincount(draws.prompt_frames, minlength=4) / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.625, 0.125, 0.125, 0.125]), atol=0.01, rtol=0.0)


def test_draws_follow_the_generator_only() -> None:
    batch = tiny_batch([4, 6], [7, 11])
    torch.manual_seed(0)
    first = draws_for(batch)
    torch.manual_seed(1)
    second = draws_for(batch)
    for field in dataclasses.fields(FlowDraws):
        assert torch.equal(getattr(first, field.name), getattr(second, field.name))
    assert not torch.equal(first.t, draws_for(batch, seed=6).t)


def test_a_short_utterance_gets_no_prompt() -> None:
    draws = draw(TINY, torch.full((200,), 3), 3, [torch.Generator().manual_seed(0)] * 200)
    assert draws.prompt_frames.max() == 0


@torch.no_grad()
def test_the_loss_is_the_mean_over_utterances_alone() -> None:
    flow, batch = tiny_flow(), tiny_batch([6, 4], [11, 7])
    draws = draws_for(batch)
    together = flow_loss(flow, **batch, draws=draws, prior_weight=0.5)
    sums = 0.0
    for row, (tokens, frames) in enumerate([(6, 11), (4, 7)]):
        alone = {name: value[row : row + 1] for name, value in batch.items()}
        alone["tokens"], alone["mel"] = alone["tokens"][:, :tokens], alone["mel"][:, :, :frames]
        own = FlowDraws(*(getattr(draws, field.name)[row : row + 1] for field in dataclasses.fields(draws)))
        own = dataclasses.replace(own, noise=own.noise[:, :, :frames])
        sums += frames * flow_loss(flow, **alone, draws=own, prior_weight=0.5).item()
    assert together.item() == pytest.approx(sums / 18, rel=1e-5)


@torch.no_grad()
def test_padding_does_not_matter_whatever_it_holds() -> None:
    flow, batch = tiny_flow(), tiny_batch([6, 4], [11, 7])
    before = flow_loss(flow, **batch, draws=draws_for(batch), prior_weight=1.0)
    batch["mel"][1, :, 7:] = 1e4
    batch["tokens"][1, 4:] = torch.tensor([-1, 999])
    assert flow_loss(flow, **batch, draws=draws_for(batch), prior_weight=1.0) == before


@torch.no_grad()
def test_a_dropped_condition_hides_tokens_speaker_and_prompt() -> None:
    flow, batch = tiny_flow(), tiny_batch([6, 4], [11, 7])
    draws = dataclasses.replace(draws_for(batch), prompt_frames=torch.tensor([3, 2]))
    hidden = dataclasses.replace(draws, keep_condition=torch.tensor([False, False]))
    shown = dataclasses.replace(draws, keep_condition=torch.tensor([True, True]))
    other = {**batch, "tokens": 19 - batch["tokens"], "speaker": -batch["speaker"]}
    assert flow_loss(flow, **batch, draws=hidden) == flow_loss(flow, **other, draws=hidden)
    assert flow_loss(flow, **batch, draws=shown) != flow_loss(flow, **other, draws=shown)
    unprompted = dataclasses.replace(hidden, prompt_frames=torch.tensor([0, 0]))
    assert flow_loss(flow, **batch, draws=hidden) == flow_loss(flow, **batch, draws=unprompted)


@torch.no_grad()
def test_the_prompt_is_the_first_true_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    flow, batch = tiny_flow(), tiny_batch([6, 4], [11, 7])
    seen: list[torch.Tensor] = []

    def watch(*inputs: torch.Tensor) -> torch.Tensor:
        seen.append(inputs[-1])
        return inputs[0]

    monkeypatch.setattr(flow.estimator, "forward", watch)
    draws = dataclasses.replace(
        draws_for(batch), keep_condition=torch.tensor([True, True]), prompt_frames=torch.tensor([3, 0])
    )
    flow_loss(flow, **batch, draws=draws)
    assert torch.equal(seen[0][0, :, :3], batch["mel"][0, :, :3])
    assert seen[0][0, :, 3:].abs().sum() + seen[0][1].abs().sum() == 0


def test_the_terms_are_means_over_valid_frames() -> None:
    ones = torch.ones(2, 3, 4)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    mel = torch.where(mask[:, None], ones, 100.0)
    terms = flow_terms(FlowOutput(velocity=3 * ones, target=mel, mu=-2 * ones, mel=mel, mask=mask))
    assert terms.velocity.item() == pytest.approx(4.0)
    assert terms.prior.item() == pytest.approx(3.0)


def test_the_prior_weight_adds_the_distance_of_mu() -> None:
    flow, batch = tiny_flow(), tiny_batch([6, 4], [11, 7])
    draws = draws_for(batch)
    terms = flow_terms(flow(**batch, draws=draws))
    expected = terms.velocity + 0.3 * terms.prior
    torch.testing.assert_close(flow_loss(flow, **batch, draws=draws, prior_weight=0.3), expected)
    torch.testing.assert_close(flow_loss(flow, **batch, draws=draws), terms.velocity)


def test_an_empty_row_gives_a_finite_loss_and_gradient() -> None:
    flow, batch = tiny_flow(), tiny_batch([6, 0], [11, 0])
    with torch.autocast("cpu", torch.bfloat16):
        loss = flow_loss(flow, **batch, draws=draws_for(batch), prior_weight=1.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in flow.parameters())


def test_a_few_steps_learn() -> None:
    flow, batch = tiny_flow().train(), tiny_batch([6, 4], [11, 7])
    draws = dataclasses.replace(draws_for(batch), keep_condition=torch.tensor([True, True]))
    optimiser = torch.optim.Adam(flow.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        loss = flow_loss(flow, **batch, draws=draws, prior_weight=0.1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("sigma_min", [1e-6, 0.1])
def test_the_baseline_is_the_integral_over_time(sigma_min: float) -> None:
    variance = torch.tensor([0.04, 1.0, 4.0], dtype=torch.float64)
    t = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    a, c = 1 - (1 - sigma_min) * t, 1 - sigma_min
    losses = []
    for s2 in variance:
        covariance = t * s2 - a * c
        losses.append((s2 + c**2 - covariance**2 / (a**2 + t**2 * s2)).mean().item())
    assert gaussian_baseline(variance, sigma_min) == pytest.approx(sum(losses) / 3, rel=1e-4)


def test_the_baseline_is_what_least_squares_reaches_on_samples() -> None:
    """At each of many times, fit u = k y + b to samples and average the remaining error."""
    generator = torch.Generator().manual_seed(0)
    mean, deviation, errors = -3.0, 1.7, []
    for t in (torch.arange(60, dtype=torch.float64) + 0.5) / 60:
        x1 = mean + deviation * torch.randn(20_000, generator=generator, dtype=torch.float64)
        z = torch.randn(20_000, generator=generator, dtype=torch.float64)
        y, u = (1 - t) * z + t * x1, x1 - z
        centred = y - y.mean()
        slope = (centred * u).mean() / centred.square().mean()
        errors.append((u - u.mean() - slope * centred).square().mean().item())
    assert gaussian_baseline(torch.tensor([deviation**2])) == pytest.approx(sum(errors) / 60, rel=0.01)


def test_a_constant_band_costs_nothing() -> None:
    assert gaussian_baseline(torch.zeros(3)) == 0.0
