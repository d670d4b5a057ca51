from __future__ import annotations

import json

import numpy as np
import pytest

from cosytune.comparison.verdict import Verdict, give_verdict
from cosytune.errors import InputError
from cosytune.evaluation.results import Evaluation, MetricInfo, Score, Vote

CER = MetricInfo("cer", "error rate", False, "listener", "misheard")
SIM = MetricInfo("sim", "cosine", True, "encoder", "similar")
PACE = MetricInfo("pace", "1/s", None, "none", "fast")
METRICS = (CER, SIM, PACE)
VOTES = (Vote("cer", True, "it works"), Vote("sim", True, "it works"), Vote("pace", False, "it describes"))


def scores(system, metric, mean, *, seeds=(0,), n=12, of_run=0.0, drop=(), salt=0):
    """Scores with a sentence effect that all systems share, and a little noise of their own."""
    shared = np.random.default_rng(0).normal(0, 0.1, n)
    found = []
    for seed in seeds:
        own = np.random.default_rng([seed, salt, *map(ord, system + metric)])
        shift = own.normal(0, of_run)
        noise = own.normal(0, 0.02, n)
        found += [
            Score(system, f"s{index:02}", metric, float(mean + shift + shared[index] + noise[index]), seed)
            for index in range(n)
            if f"s{index:02}" not in drop
        ]
    return found


def evaluation(*groups, metrics=METRICS, votes=VOTES):
    everything = tuple(score for group in groups for score in group)
    systems = tuple(dict.fromkeys(score.system for score in everything))
    return Evaluation(systems, everything, metrics, votes, ())


def of(pair, metric):
    return next(found for found in pair.metrics if found.metric == metric)


@pytest.fixture
def clear():
    """B mishears less than A, is as similar, and one run stands behind each."""
    return evaluation(
        scores("A", "cer", 0.30), scores("B", "cer", 0.20), scores("A", "sim", 0.8), scores("B", "sim", 0.8)
    )


def test_a_clear_difference_is_found_with_its_direction(clear):
    (pair,) = give_verdict(clear, ["A", "B"]).candidates
    cer, sim = of(pair, "cer"), of(pair, "sim")
    assert (cer.outcome, sim.outcome) == ("better", "no difference found")
    assert cer.interval is not None
    assert cer.interval.low < -0.1 < cer.interval.high < 0
    assert (cer.n, cer.seeds, cer.measures) == (12, 1, 2)
    assert cer.corrected == pytest.approx(2 * cer.p_value)
    assert 0 < sim.smallest_effect < 0.05
    assert pair.winner == "B"
    (mirrored,) = give_verdict(clear, ["B", "A"]).candidates
    assert of(mirrored, "cer").outcome == "worse"
    assert mirrored.winner == "B"


def test_the_words_say_what_one_run_may_not_claim(clear):
    verdict = give_verdict(clear, ["A", "B"])
    assert verdict.words[0] == "B did best among these runs."
    assert "B did better than A on cer; no difference found on sim" in verdict.words[1]
    assert "two runs: nothing is claimed about starts" in verdict.words[1]
    assert "Shown without a vote: pace" in verdict.words[1]
    reason = of(verdict.candidates[0], "sim").reason
    assert "zero lies inside the interval" in reason
    assert "would probably not have been seen" in reason
    assert "it has a vote: it works" in reason


def test_the_verdict_survives_json(clear):
    verdict = give_verdict(clear, ["A", "B"], starts={"B": "A"})
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict


def test_the_same_scores_give_the_same_verdict(clear):
    assert give_verdict(clear, ["A", "B"]) == give_verdict(clear, ["A", "B"])


def test_runs_that_differ_decide_nothing_where_one_run_would():
    def drawn(system, mean, seeds):
        return scores(system, "cer", mean, seeds=seeds, of_run=0.1)

    one = give_verdict(evaluation(drawn("A", 0.3, [4]), drawn("B", 0.3, [4])), ["A", "B"]).candidates[0]
    three = give_verdict(evaluation(drawn("A", 0.3, [4, 5, 6]), drawn("B", 0.3, [4, 5, 6])), ["A", "B"]).candidates[0]
    assert of(one, "cer").outcome in ("better", "worse")
    assert of(three, "cer").outcome == "no difference found"
    assert of(three, "cer").interval.runs == three.seeds == 3
    assert "rests on 3 runs of each" in three.words
    assert "claimed" not in three.words


def test_an_effect_larger_than_the_runs_differ_is_found_over_runs():
    groups = [scores(s, "cer", mean, seeds=range(4), of_run=0.01) for s, mean in (("A", 0.5), ("B", 0.3))]
    verdict = give_verdict(evaluation(*groups), ["A", "B"])
    assert of(verdict.candidates[0], "cer").outcome == "better"
    assert verdict.words[0] == "B did best."


def test_missing_clips_are_counted_and_reported():
    found = evaluation(
        scores("A", "cer", 0.3),
        scores("B", "cer", 0.1, drop=("s03", "s07")),
        scores("A", "sim", 0.8),
        scores("B", "sim", 0.8, drop=("s03",)),
    )
    (pair,) = give_verdict(found, ["A", "B"]).candidates
    cer = of(pair, "cer")
    assert (cer.n, cer.missing_first, cer.missing_second) == (10, 0, 2)
    assert "2 sentences could not be compared" in cer.reason
    assert "1 sentence could not be compared" in of(pair, "sim").reason
    assert "Some clips have no scores" in pair.words


def test_a_sentence_is_compared_only_if_every_run_has_it():
    other = [score for score in scores("B", "cer", 0.1, seeds=(0, 1)) if (score.sentence, score.seed) != ("s05", 1)]
    (pair,) = give_verdict(evaluation(scores("A", "cer", 0.3, seeds=(0, 1)), other), ["A", "B"]).candidates
    assert (of(pair, "cer").n, of(pair, "cer").missing_second) == (11, 1)


def test_too_few_sentences_are_not_judged_and_never_called_equal():
    (pair,) = give_verdict(
        evaluation(scores("A", "cer", 0.3, n=1), scores("B", "cer", 0.1, n=1)), ["A", "B"]
    ).candidates
    cer = of(pair, "cer")
    assert (cer.outcome, cer.interval, cer.p_value, cer.smallest_effect) == ("not judged", None, None, None)
    assert "at least two are needed" in cer.reason
    assert "not judged for want of scores: cer, sim" in pair.words


def test_a_handful_of_sentences_could_not_have_shown_anything():
    (pair,) = give_verdict(
        evaluation(scores("A", "cer", 0.9, n=4), scores("B", "cer", 0.1, n=4)), ["A", "B"]
    ).candidates
    cer = of(pair, "cer")
    assert cer.outcome == "no difference found"
    assert cer.smallest_effect is None
    assert "so few sentences could not have shown any effect" in cer.reason


def test_many_measures_are_corrected():
    names = [f"m{index}" for index in range(20)]
    metrics = tuple(MetricInfo(name, "none", True, "listener", "") for name in names)
    votes = tuple(Vote(name, True, "it works") for name in names)

    def weak(system, name, mean):
        generator = np.random.default_rng([7, *map(ord, system + name)])
        return [Score(system, f"s{i}", name, float(mean + generator.normal(0, 1)), 0) for i in range(30)]

    groups = [weak("A", name, 0.0) for name in names] + [weak("B", name, 0.3) for name in names]
    (pair,) = give_verdict(evaluation(*groups, metrics=metrics, votes=votes), ["A", "B"]).candidates
    raw = [found for found in pair.metrics if found.p_value <= 0.05]
    assert raw
    assert all(found.corrected > 0.05 and found.outcome == "no difference found" for found in raw)
    assert any("not after correction for 20 measures" in found.reason for found in raw)
    assert pair.winner is None


def test_a_metric_without_a_vote_is_shown_and_decides_nothing(clear):
    mute = Evaluation(clear.systems, clear.scores, METRICS, (Vote("cer", False, "it cannot follow"),), ())
    (pair,) = give_verdict(mute, ["A", "B"]).candidates
    assert of(pair, "cer").outcome == "better"
    assert "it has no vote: it cannot follow" in of(pair, "cer").reason
    assert "nobody decided whether it works" in of(pair, "sim").reason
    assert pair.winner is None
    assert "no metric had a vote, so nothing is decided" in pair.words


def test_a_metric_without_direction_is_neither_better_nor_worse():
    found = evaluation(scores("A", "pace", 12.0), scores("B", "pace", 15.0))
    pace = of(give_verdict(found, ["A", "B"]).candidates[0], "pace")
    assert pace.outcome == "not judged"
    assert "neither better nor worse" in pace.reason


def test_equal_scores_are_called_the_same_and_cost_no_correction(clear):
    flags = MetricInfo("runaway", "yes=1", False, "none", "")
    same = [Score(system, f"s{i:02}", "runaway", 0.0, 0) for system in "AB" for i in range(12)]
    more = Evaluation(
        clear.systems, (*clear.scores, *same), (*METRICS, flags), (*VOTES, Vote("runaway", True, "counted")), ()
    )
    (pair,) = give_verdict(more, ["A", "B"]).candidates
    assert of(pair, "runaway").outcome == "no difference found"
    assert "both scored the same" in of(pair, "runaway").reason
    assert of(pair, "cer").measures == 2


def test_opposite_finds_have_no_winner():
    found = evaluation(
        scores("A", "cer", 0.30), scores("B", "cer", 0.20), scores("A", "sim", 0.9), scores("B", "sim", 0.8)
    )
    verdict = give_verdict(found, ["A", "B"])
    assert verdict.winner is None
    assert verdict.words[0] == "No system did better than all others."
    assert "B did better than A on cer; B did worse than A on sim" in verdict.words[1]


def test_each_tuned_system_is_held_against_its_untouched_start():
    found = evaluation(
        scores("base", "cer", 0.5, seeds=(9,)),
        scores("from base", "cer", 0.3, seeds=(0, 1, 2), of_run=0.005),
        scores("from sft", "cer", 0.3, seeds=(0, 1, 2), of_run=0.005),
        scores("sft", "cer", 0.3, seeds=(9,)),
    )
    verdict = give_verdict(found, ["from base", "from sft"], starts={"from base": "base", "from sft": "sft"})
    assert [(pair.first, pair.second) for pair in verdict.against_start] == [("base", "from base"), ("sft", "from sft")]
    assert [of(pair, "cer").outcome for pair in verdict.against_start] == ["better", "no difference found"]
    assert "than its untouched start base on cer" in verdict.against_start[0].words
    assert "3 runs of the tuned system" in verdict.against_start[0].words
    alone = give_verdict(found, ["from base"], starts={"from base": "base"})
    assert alone.candidates == ()
    assert alone.winner is None


def test_one_tuned_run_against_its_start_claims_nothing_about_other_seeds():
    found = evaluation(scores("base", "cer", 0.5, seeds=(9,)), scores("tuned", "cer", 0.3))
    verdict = give_verdict(found, ["tuned"], starts={"tuned": "base"})
    assert "one run: nothing is claimed about what another seed would give" in verdict.words[0]


def test_single_runs_are_compared_whatever_their_seeds_and_others_by_equal_seeds():
    single = evaluation(scores("A", "cer", 0.3, seeds=(1,)), scores("B", "cer", 0.3, seeds=(2,)))
    assert give_verdict(single, ["A", "B"]).candidates[0].seeds == 1
    partly = evaluation(scores("A", "cer", 0.3, seeds=(1, 2, 3)), scores("B", "cer", 0.3, seeds=(2, 3)))
    (pair,) = give_verdict(partly, ["A", "B"]).candidates
    assert pair.seeds == 2
    assert "Runs with the seeds 1 have no partner" in pair.words


def test_three_candidates_are_compared_in_pairs_with_one_winner():
    found = evaluation(*(scores(s, "cer", mean) for s, mean in (("A", 0.5), ("B", 0.3), ("C", 0.1))))
    verdict = give_verdict(found, ["A", "B", "C"])
    assert [(pair.first, pair.second) for pair in verdict.candidates] == [("A", "B"), ("A", "C"), ("B", "C")]
    assert verdict.winner == "C"
    assert {of(pair, "cer").measures for pair in verdict.candidates} == {3}


@pytest.mark.parametrize(
    ("candidates", "starts", "message"),
    [
        (["A"], {}, "name two different systems"),
        (["A", "A"], {}, "name two different systems"),
        (["A", "stranger"], {}, "there are no scores of 'stranger'"),
        (["A", "C"], {}, "runs can be compared only with the same seeds"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_words(candidates, starts, message):
    found = evaluation(
        scores("A", "cer", 0.3, seeds=(0, 1)),
        scores("B", "cer", 0.3, seeds=(0, 1)),
        scores("C", "cer", 0.3, seeds=(7,)),
    )
    with pytest.raises(InputError, match=message):
        give_verdict(found, candidates, starts=starts)
