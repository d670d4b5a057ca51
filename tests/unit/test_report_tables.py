"""Means, numbers as words, and the table for the terminal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosytune.evaluation.results import COUNTED, Evaluation, MetricInfo, Score, Vote
from cosytune.evaluation.statistics import hierarchical
from cosytune.report.tables import means_of, number, p_words, score_table
from tests.unit.report_examples import make_result

CER = MetricInfo("cer", "error rate", False, "somebody", "characters misheard")
PACE = MetricInfo("pace", "1/s", None, COUNTED, "pace of the speech")


def evaluation(*scores: Score) -> Evaluation:
    votes = (Vote("cer", True, "it works"), Vote("pace", False, "it describes"))
    systems = tuple(dict.fromkeys(score.system for score in scores))
    return Evaluation(systems, scores, (CER, PACE), votes, ())


def test_mean_over_runs_and_sentences_that_all_runs_have() -> None:
    scores = [Score("a", f"s{i}", "cer", 0.1 * i + 0.01 * seed, seed) for i in range(4) for seed in (0, 1)]
    mean = means_of(evaluation(*scores, Score("a", "s9", "cer", 5.0, 1)))["a", "cer"]
    assert mean.value == pytest.approx(0.155)
    assert (mean.n, mean.runs, mean.left_out) == (4, 2, 1)
    assert mean.interval is not None and mean.interval.low < mean.value < mean.interval.high
    assert not mean.constant


@pytest.mark.parametrize(
    ("unit", "scores", "ends"),
    [("error rate", (0.0, 0.0, 0.9), (0.0, None)), ("yes=1", (1.0, 1.0, 0.0), (0.0, 1.0)),
     ("MOS", (4.9, 4.9, 3.0), (1.0, 5.0)), ("cosine", (0.99, 0.99, 0.2), (None, 1.0)),
     ("dBFS", (-20.0, -20.0, -30.0), (None, None)), ("MOS", (0.9, 0.8, 0.7), (0.8, None))],
)  # fmt: skip
def test_an_interval_of_a_mean_ends_where_the_metric_ends(
    unit: str, scores: tuple[float, ...], ends: tuple[float | None, float | None]
) -> None:
    info = MetricInfo("m", unit, False, "somebody", "")
    given = tuple(Score("a", str(place), "m", value, 0) for place, value in enumerate(scores))
    mean = means_of(Evaluation(("a",), given, (info,), (), ()))["a", "m"]
    free = hierarchical(np.array([scores]), samples=2000)
    assert mean.interval is not None and mean.interval.low <= mean.value <= mean.interval.high
    # The last row: a judge may leave its own scale, and its mean lies inside its interval all the same.
    assert mean.interval.low == pytest.approx(free.low if ends[0] is None else ends[0])
    assert mean.interval.high == pytest.approx(free.high if ends[1] is None else ends[1])


def test_one_sentence_has_no_interval_and_equal_scores_are_constant() -> None:
    one = means_of(evaluation(Score("a", "s", "cer", 0.5, 0)))["a", "cer"]
    assert (one.value, one.interval, one.n) == (0.5, None, 1)
    same = means_of(evaluation(*(Score("a", f"s{i}", "cer", 0.5, 0) for i in range(3))))["a", "cer"]
    assert same.constant


def test_runs_without_a_common_sentence_have_a_mean_only() -> None:
    mean = means_of(evaluation(Score("a", "s", "cer", 0.2, 0), Score("a", "t", "cer", 0.4, 1)))["a", "cer"]
    assert mean.value == pytest.approx(0.3)
    assert (mean.interval, mean.n, mean.runs, mean.left_out) == (None, 2, 2, 0)


def test_table_says_who_votes_how_many_and_why_not() -> None:
    table = score_table(
        evaluation(
            *(Score("recordings", f"s{i}", "cer", 0.1, 0) for i in range(3)),
            *(Score("model", f"s{i}", "cer", 0.25, seed) for i in range(3) for seed in (0, 1)),
            *(Score("model", f"s{i}", "pace", 12.0, seed) for i in range(2) for seed in (0, 1)),
        )
    )
    lines = table.splitlines()
    assert lines[0].split() == ["metric", "unit", "recordings", "model", "better", "vote"]
    assert lines[1].split() == ["n=3", "n=3", "x", "2", "runs"]
    assert lines[3].split() == ["cer", "error", "rate", "0.100", "0.250", "lower", "yes"]
    assert lines[4].split() == ["pace", "1/s", "-", "12.0", "(n=2", "x", "2", "runs)", "-", "no"]
    assert "  pace: it describes" in lines
    assert score_table(Evaluation((), (), (CER,), (), ())) == "nothing was scored\n"


def test_table_of_a_whole_comparison_is_a_rectangle(tmp_path: Path) -> None:
    lines = score_table(make_result(tmp_path, clips=False, curves=False).evaluation).splitlines()
    rule = lines[2]
    assert set(rule) == {"-"} and len(rule) == len(lines[0]) == max(len(line) for line in lines[:10])


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "0"), (-0.0, "0"), (0.05, "0.0500"), (-0.1234, "-0.123"), (3.1, "3.10"), (182.4, "182"), (12345.6, "12346"),
     (0.00001, "1.0e-05"), (999.9, "1000")],
)  # fmt: skip
def test_numbers_in_words(value: float, words: str) -> None:
    assert number(value) == words


@given(st.floats(-1e6, 1e6))
def test_numbers_stay_near_their_value(value: float) -> None:
    assert float(number(value)) == pytest.approx(value, rel=0.051 if abs(value) < 1e-4 else 0.0051)


def test_p_values_in_words() -> None:
    assert [p_words(p) for p in (None, 0.0002, 0.0312, 1.0)] == ["–", "< 0.001", "0.031", "1.000"]
