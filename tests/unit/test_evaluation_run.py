from __future__ import annotations

import numpy as np
import pytest

from cosytune.errors import InputError
from cosytune.evaluation.judges.base import Recording
from cosytune.evaluation.results import ERROR_RATE, OPINION, SIMILARITY, Damage, MetricInfo, Score
from cosytune.evaluation.run import SpokenItem, decide_votes, metrics_of, score_system, sees_damage

RATE = 16_000
WER = MetricInfo("wer", ERROR_RATE, False, "stub", "words misheard")
MOS = MetricInfo("mos", OPINION, True, "stub", "opinion")
SIM = MetricInfo("sim", SIMILARITY, True, "stub", "similarity")


class LevelJudge:
    """Opinion = 5 - share of the wave that differs from a square of +-0.5; remembers what it heard."""

    name = "stub"
    version = "1"
    metrics = (MOS,)

    def __init__(self, deaf=False):
        self.deaf = deaf
        self.heard = []

    def score(self, wave, sample_rate, text, references):
        self.heard.append((len(wave), sample_rate, text, len(references)))
        if self.deaf or not wave.any():
            return {"mos": 3.0}
        return {"mos": 5.0 - float(np.abs(np.abs(wave) / np.abs(wave).mean() - 1.0).mean())}


def square(seed=0, seconds=0.5):
    signs = np.random.default_rng(seed).integers(0, 2, round(seconds * RATE)) * 2 - 1
    return (0.5 * signs).astype(np.float32)


def item(sentence, wave, seed=0):
    return SpokenItem(sentence, "Hands up.", wave, RATE, seed)


def values(scores, metric):
    return {score.sentence: score.value for score in scores if score.metric == metric}


def test_every_item_gets_every_judge_and_the_plain_metrics():
    judge = LevelJudge()
    scores = score_system("tuned", [item("a", square()), item("b", square(1), seed=0)], [judge], references=())
    assert {score.system for score in scores} == {"tuned"}
    assert {score.metric for score in scores} <= {info.name for info in metrics_of([judge])}
    assert values(scores, "mos") == pytest.approx({"a": 5.0, "b": 5.0})
    assert values(scores, "seconds") == {"a": 0.5, "b": 0.5}
    assert judge.heard[0] == (8000, RATE, "Hands up.", 0)


@pytest.mark.parametrize(
    "wave", [None, np.zeros(0, np.float32), np.zeros(9000, np.float32), np.full(9000, np.nan, np.float32)]
)
def test_what_was_not_spoken_is_counted_and_not_dropped(wave):
    judge = LevelJudge()
    scores = score_system("tuned", [item("a", wave), item("b", square())], [judge], references=())
    assert values(scores, "spoken") == {"a": 0.0, "b": 1.0}
    assert values(scores, "mos")["a"] == 3.0
    assert "a" not in values(scores, "seconds")


def test_a_recording_is_not_compared_with_itself():
    judge = LevelJudge()
    references = [Recording(square(seed), RATE) for seed in range(3)]
    score_system("recordings", [item("a", square(1)), item("b", square(7))], [judge], references=references)
    assert [heard[3] for heard in judge.heard] == [2, 3]


def test_an_item_given_twice_is_refused():
    with pytest.raises(InputError, match="is given twice"):
        score_system("tuned", [item("a", square()), item("a", square())], [], references=())
    assert score_system("tuned", [item("a", square()), item("a", square(), seed=1)], [], references=())


def test_a_wave_of_two_channels_is_refused_even_without_judges():
    with pytest.raises(InputError, match="give one channel"):
        score_system("tuned", [item("a", np.zeros((2, 100), np.float32))], [], references=())


def test_damage_is_seen_by_who_listens_and_not_by_the_deaf():
    recordings = [item(str(seed), square(seed)) for seed in range(3)]
    found = sees_damage(LevelJudge(), recordings)["mos"]
    assert found.seen
    assert found.clean == pytest.approx(5.0)
    assert found.clean > found.means[0] > found.means[1] > found.means[2]
    assert not sees_damage(LevelJudge(deaf=True), recordings)["mos"].seen
    assert sees_damage(LevelJudge(), recordings) == sees_damage(LevelJudge(), recordings)


@pytest.mark.parametrize(("recordings", "ratios"), [([], (20.0, 0.0)), ([item("a", square())], (0.0, 20.0))])
def test_a_damage_test_that_cannot_be_made_is_refused(recordings, ratios):
    with pytest.raises(InputError, match="falling noise ratios"):
        sees_damage(LevelJudge(), recordings, snr_db=ratios)


def scored(metric, *numbers):
    return [Score("recordings", str(index), metric, value, 0) for index, value in enumerate(numbers)]


@pytest.mark.parametrize(("errors", "votes"), [((0.1, 0.3), True), ((0.4, 0.4), True), ((0.9, 0.0, 0.6), False)])
def test_a_recogniser_that_cannot_follow_the_recordings_has_no_vote(errors, votes):
    (vote,) = decide_votes(scored("wer", *errors), [WER])
    assert vote.votes is votes
    assert f"{np.mean(errors):.0%} wrong on the recordings" in vote.reason


def test_an_opinion_votes_only_if_it_hears_damage():
    own = scored("mos", 3.0, 3.2)
    hears = Damage("mos", 3.1, (20.0, 0.0), (2.0, 1.0), True)
    deaf = Damage("mos", 3.1, (20.0, 0.0), (3.2, 3.1), False)
    assert [decide_votes(own, [MOS], damage={"mos": damage})[0].votes for damage in (hears, deaf)] == [True, False]
    (untested,) = decide_votes(own, [MOS])
    assert not untested.votes
    assert "nobody tried" in untested.reason


def test_a_similarity_votes_only_if_it_tells_speakers_apart():
    own = scored("sim", 0.9, 0.8, 0.85, 0.7)
    assert decide_votes(own, [SIM], other_speakers=scored("sim", 0.6, 0.5, 0.75))[0].votes
    assert not decide_votes(own, [SIM], other_speakers=scored("sim", 0.95, 0.9))[0].votes
    # A higher mean by one good clip is not enough: most pairs must be ranked rightly.
    assert not decide_votes(scored("sim", 0.99, 0.6, 0.6), [SIM], other_speakers=scored("sim", 0.65, 0.65))[0].votes
    (alone,) = decide_votes(own, [SIM])
    assert alone.votes
    assert "no other speakers were given" in alone.reason


def test_untried_and_describing_metrics_have_no_vote_and_counted_ones_have():
    votes = {vote.metric: vote for vote in decide_votes([], [*metrics_of([]), WER])}
    assert votes["runaway"].votes
    assert not votes["f0_median"].votes
    assert not votes["wer"].votes
    assert "not tried on recordings" in votes["wer"].reason
