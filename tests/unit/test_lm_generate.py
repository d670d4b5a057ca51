from __future__ import annotations

import copy
import importlib
from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cosytune.errors import InputError, ModelError
from cosytune.models.layers import decoding as decoding_module
from cosytune.models.layers.decoding import StepwiseEncoder
from cosytune.models.lm import (
    GREEDY,
    LM,
    REFERENCE_SAMPLING,
    Decoder,
    Generated,
    Job,
    SamplingConfig,
    decode_all,
    generate,
    token_limits,
)
from tests.unit.lm_examples import NOTHING, make_job, recomputed, small_lm

TEXT = torch.tensor([3, 1, 4, 1, 5])
SPEAKER = torch.arange(6.0)
GENERATE = importlib.import_module("cosytune.models.lm.generate")  # the package's attribute is the function


def wanting_to_end(strength: float) -> LM:
    lm = small_lm()
    with torch.no_grad():
        lm.head.bias[lm.end_token] = strength
    return lm


LMODEL = wanting_to_end(1.5)
DECODER = Decoder(LMODEL)
GREEDILY = Decoder(LMODEL, sampling=GREEDY)
ENDLESS = Decoder(wanting_to_end(-100))


def traced(decoder: Decoder, jobs: Sequence[Job], rows: int) -> dict[Job, tuple[list[int], list[Tensor]]]:
    """What `decode_all` does, and for each job its tokens and the logits behind each."""
    waiting, decoding = deque(jobs), decoder.begin(rows)
    logits: dict[Job, list[Tensor]] = {job: [] for job in jobs}
    tokens: dict[Job, list[int]] = {}
    while waiting or len(decoding):
        decoding.enter([waiting.popleft() for _ in range(min(len(waiting), rows - len(decoding)))])
        for job, scores in zip(decoding.jobs, decoding.scores, strict=True):
            logits[job].append(scores.clone())
        tokens |= {job: result.tokens for job, result in decoding.advance()}
    return {job: (tokens[job], logits[job]) for job in jobs}


def results(decoder: Decoder, jobs: Sequence[Job], rows: int) -> list[Generated]:
    found = dict(decode_all(decoder, deque(jobs), rows))
    assert len(found) == len(jobs)
    return [found[job] for job in jobs]


@st.composite
def random_jobs(draw: st.DrawFn) -> Job:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))

    def ids(count: int, classes: int) -> Tensor:
        return torch.randint(0, classes, (count,), generator=generator)

    longest = draw(st.integers(1, 14))
    return make_job(
        ids(draw(st.integers(1, 9)), 30),
        torch.randn(6, generator=generator) if draw(st.booleans()) else None,
        prompt_text=ids(draw(st.integers(0, 4)), 30),
        prompt_speech=ids(draw(st.integers(0, 12)), 20),
        shortest=draw(st.integers(0, longest)),
        longest=longest,
        seed=draw(st.integers(0, 99)),
    )


def some_jobs(count: int = 5) -> list[Job]:
    return [
        make_job(
            torch.arange(1 + 3 * number % 7),
            torch.randn(6, generator=torch.Generator().manual_seed(number)) if number % 3 else None,
            prompt_speech=torch.arange(4 * number % 11),
            shortest=number,
            longest=4 + 5 * number % 12,
            seed=number,
        )
        for number in range(count)
    ]


@settings(max_examples=10, deadline=None)
@given(jobs=st.lists(random_jobs(), min_size=1, max_size=7), sampling=st.sampled_from((SamplingConfig(), GREEDY)))
def test_a_job_does_not_depend_on_its_neighbours(jobs: list[Job], sampling: SamplingConfig) -> None:
    expected = [recomputed(LMODEL, job, sampling) for job in jobs]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding_module, "FIRST_CAPACITY", 2)  # so that the buffers grow and are moved on the way
        decoder = Decoder(LMODEL, sampling=sampling)
        for rows in (1, 3, 8):
            trace = traced(decoder, jobs, rows)
            for job, (tokens, logits) in zip(jobs, expected, strict=True):
                assert trace[job][0] == tokens
                torch.testing.assert_close(torch.stack(trace[job][1]), torch.stack(logits), atol=1e-4, rtol=0)
        assert [result.tokens for result in results(decoder, jobs, rows=3)] == [tokens for tokens, _ in expected]


@pytest.mark.parametrize("sampling", [GREEDY, SamplingConfig(), REFERENCE_SAMPLING])
@pytest.mark.parametrize("speaker", [SPEAKER, None])
@pytest.mark.parametrize("prompt_size", [0, 4])
def test_cached_decoding_equals_recomputing_everything(
    speaker: Tensor | None, prompt_size: int, sampling: SamplingConfig
) -> None:
    prompt = {"prompt_text": torch.arange(prompt_size), "prompt_speech": torch.arange(2 * prompt_size) % 20}
    job = make_job(TEXT, speaker, shortest=30, longest=30, **prompt)
    got = generate(Decoder(LMODEL, sampling=sampling), job)
    assert got == Generated(recomputed(LMODEL, job, sampling)[0], "limit")


def test_prompt_text_and_text_are_read_as_one() -> None:
    together = make_job(torch.tensor([7, 8, 9, 3]))
    prompted = make_job(torch.tensor([9, 3]), prompt_text=torch.tensor([7, 8]))
    assert generate(GREEDILY, prompted) == generate(GREEDILY, together)


def test_the_prompt_is_heard() -> None:
    jobs = [
        make_job(TEXT, SPEAKER),
        make_job(TEXT, None),
        make_job(TEXT, -SPEAKER),
        make_job(TEXT, SPEAKER, prompt_text=torch.tensor([9])),
        make_job(TEXT, SPEAKER, prompt_speech=torch.tensor([9])),
    ]
    decoding = DECODER.begin(8)
    decoding.enter(jobs)
    order = [decoding.jobs.index(job) for job in jobs]
    for number, scores in enumerate(decoding.scores[order]):
        for other in decoding.scores[order][:number]:
            assert (scores - other).abs().max() > 1e-3


def test_the_seed_decides() -> None:
    jobs = [make_job(TEXT, SPEAKER, shortest=25, longest=25, seed=seed) for seed in (1, 1, 2)]
    first, again, other = results(DECODER, jobs, rows=3)
    assert first == again
    assert first.tokens != other.tokens
    assert len(set(first.tokens)) > 5


def test_the_end_token_ends_it_but_not_before_the_shortest() -> None:
    decoder = Decoder(wanting_to_end(100), sampling=GREEDY)
    ended = generate(decoder, make_job(TEXT, SPEAKER, shortest=9, longest=30))
    assert (len(ended.tokens), ended.reason) == (9, "end")
    assert generate(decoder, make_job(TEXT, SPEAKER)) == Generated([], "end")


def test_the_limit_ends_it_and_is_told() -> None:
    for longest in (1, 20):
        limited = generate(ENDLESS, make_job(TEXT, SPEAKER, longest=longest))
        assert (len(limited.tokens), limited.reason) == (longest, "limit")


def test_a_guard_ends_it_and_nobody_else() -> None:
    heard: list[list[int]] = []

    def stop(tokens: Sequence[int]) -> bool:
        heard.append(list(tokens))
        return len(tokens) == 4

    guarded, free = make_job(TEXT, SPEAKER, stop=stop), make_job(TEXT, SPEAKER)
    cut, whole = results(ENDLESS, [guarded, free], rows=2)
    assert (cut.tokens, cut.reason) == (whole.tokens[:4], "stop")
    assert (len(whole.tokens), whole.reason) == (12, "limit")
    assert heard == [whole.tokens[:count] for count in (1, 2, 3, 4)]


def test_jobs_may_be_added_while_it_runs() -> None:
    first, *others = some_jobs(6)
    waiting = deque([first])
    found = {}
    for job, result in decode_all(DECODER, waiting, rows=2):
        found[job] = result
        waiting.extend(others[:2])
        del others[:2]
    assert len(found) == 6
    for job, result in found.items():
        assert result == generate(DECODER, job)


def test_the_same_job_may_be_given_several_times() -> None:
    short, long = make_job(TEXT, longest=2), make_job(TEXT, longest=7)
    found = list(decode_all(ENDLESS, deque([short, long, long, short, long]), rows=2))
    assert sorted(len(result.tokens) for _, result in found) == [2, 2, 7, 7, 7]


def test_waiting_jobs_enter_in_their_order_as_soon_as_there_is_room() -> None:
    jobs = [make_job(TEXT, longest=longest) for longest in (5, 2, 2, 6, 1)]
    ended = [job for job, _ in decode_all(ENDLESS, deque(jobs), rows=2)]
    # Left after: 5 steps, 2, 2 + 2, 4 + 6, 5 + 1.
    assert [jobs.index(job) for job in ended] == [1, 2, 0, 4, 3]


def test_no_more_jobs_than_rows_are_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    step = StepwiseEncoder.step
    monkeypatch.setattr(StepwiseEncoder, "step", lambda self, x, cache: sizes.append(len(x)) or step(self, x, cache))
    jobs = [make_job(TEXT, longest=6) for _ in range(7)]
    assert len(results(ENDLESS, jobs, rows=3)) == 7
    assert set(sizes) == {3, 1}
    assert len(sizes) == 5 * 3  # the first token comes out of the prefix, nothing is computed after the last


def test_a_run_without_jobs_has_nothing_to_say_and_can_go_on() -> None:
    decoding = ENDLESS.begin(1)
    decoding.enter([])
    assert decoding.advance() == []
    first, second = make_job(TEXT, longest=2), make_job(TEXT[:2], longest=3)
    for job in (first, second):
        decoding.enter([job])
        steps = 0
        while not (done := decoding.advance()):
            steps += 1
        assert done == [(job, generate(ENDLESS, job))]
        assert steps == job.longest - 1
        assert decoding.advance() == []


def test_what_was_spoken_so_far() -> None:
    jobs = some_jobs(3)
    decoding = ENDLESS.begin(3)
    with pytest.raises(ValueError, match="not at work"):
        decoding.spoken(jobs[0])
    decoding.enter(jobs)
    so_far: dict[Job, list[int]] = {job: [] for job in jobs}
    while len(decoding):
        for job, result in decoding.advance():
            assert result.tokens[:-1] == so_far.pop(job)
            with pytest.raises(ValueError, match="not at work"):
                decoding.spoken(job)
        for job, before in so_far.items():
            assert decoding.spoken(job)[:-1] == before
            so_far[job] = list(decoding.spoken(job))
    assert not so_far


@pytest.mark.parametrize(("positions", "count"), [(1, 6), (30, 4), (10_000, 1)])
def test_prefixes_taken_in_by_groups_give_the_same(positions: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = some_jobs(6)
    expected = results(DECODER, jobs, rows=1)
    groups: list[list[int]] = []
    enter = StepwiseEncoder.enter

    def recorded(self: StepwiseEncoder, prefixes: Sequence[Tensor], cache: Any) -> Tensor:
        groups.append([len(prefix) for prefix in prefixes])
        return enter(self, prefixes, cache)

    monkeypatch.setattr(StepwiseEncoder, "enter", recorded)
    monkeypatch.setattr(GENERATE, "PREFIX_POSITIONS", positions)
    assert results(DECODER, jobs, rows=6) == expected
    assert sum(len(group) for group in groups) == 6
    assert all(len(group) == 1 or len(group) * max(group) <= positions for group in groups)
    assert len(groups) == count


def test_the_decoder_does_not_drop_out_and_leaves_the_model_alone() -> None:
    lm = small_lm().train()
    before = copy.deepcopy(lm.state_dict())
    job = make_job(TEXT, SPEAKER, shortest=15, longest=15)
    quiet = generate(Decoder(small_lm()), job)
    assert [generate(Decoder(lm), job) for _ in range(2)] == [quiet, quiet]
    assert lm.training and lm.text_encoder.training and lm.decoder.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in lm.state_dict().items())
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in lm.parameters())


def test_random_numbers_of_others_are_left_alone() -> None:
    state = torch.get_rng_state()
    results(Decoder(LMODEL), some_jobs(4), rows=2)
    assert torch.equal(state, torch.get_rng_state())


def test_bfloat16_stays_near_float32() -> None:
    rough = Decoder(LMODEL, dtype=torch.bfloat16)
    jobs = some_jobs(5)
    scores = []
    for decoder in (DECODER, rough):
        decoding = decoder.begin(5)
        decoding.enter(jobs)
        assert decoding.scores.dtype == torch.float32
        scores.append(decoding.scores)
    assert 0 < (scores[1] - scores[0]).abs().max() < 0.05
    for job, result in zip(jobs, results(rough, jobs, rows=3), strict=True):
        assert job.shortest <= len(result.tokens) <= job.longest
        assert all(0 <= token < 20 for token in result.tokens)


def test_limits_follow_the_ratios_of_the_model() -> None:
    config = LMODEL.config
    assert token_limits(config, 5) == (10, 100)
    odd = config.model_copy(update={"min_ratio": 2.5, "max_ratio": 7.3})
    assert token_limits(odd, 5) == (12, 36)


def test_there_must_be_something_to_say() -> None:
    with pytest.raises(InputError, match="there is nothing to say"):
        make_job(NOTHING, prompt_text=TEXT)


@pytest.mark.parametrize(("shortest", "longest"), [(5, 4), (-1, 4), (0, 0)])
def test_limits_must_not_exclude_each_other(shortest: int, longest: int) -> None:
    with pytest.raises(InputError, match=rf"5 tokens was to become at least {shortest} and at most {longest} speech"):
        make_job(TEXT, shortest=shortest, longest=longest)


@pytest.mark.parametrize("rows", [0, -1])
def test_at_least_one_row_is_needed(rows: int) -> None:
    with pytest.raises(InputError, match=f"{rows} texts were to be decoded at once; give 1 or more"):
        list(decode_all(DECODER, deque(), rows))


@pytest.mark.parametrize("damage", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", ["head.bias", "decoder.norm.weight", "text_embedding.weight", "mark_embedding.weight"])
def test_damaged_weights_are_told(damage: float, name: str) -> None:
    lm = small_lm()
    with torch.no_grad():
        lm.get_parameter(name).fill_(damage)
    with pytest.raises(ModelError, match="not-a-number"):
        generate(Decoder(lm), make_job(TEXT, SPEAKER))
