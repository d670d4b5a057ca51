from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cosytune.errors import InputError
from cosytune.evaluation.results import Damage, Evaluation, Interval, JudgeInfo, MetricInfo, Score, Vote

CER = MetricInfo("cer", "error rate", False, "listener", "characters misheard")
PACE = MetricInfo("pace", "1/s", None, "none", "how fast")
EVALUATION = Evaluation(
    systems=("base", "tuned"),
    scores=(Score("base", "one", "cer", 0.25, 0), Score("tuned", "one", "cer", 0.0, 3)),
    metrics=(CER, PACE),
    votes=(Vote("cer", True, "it gets 12% wrong"),),
    judges=(JudgeInfo("listener", "listener 1.0"),),
)


@pytest.mark.parametrize(
    "record",
    [
        EVALUATION,
        Interval(0.1, -0.2, 0.3, 0.95, 12),
        Interval(0.1, -0.2, 0.3, 0.95, 12, runs=3),
        Damage("mos", 3.0, (20.0, 0.0), (2.0, 1.0), True),
        PACE,
    ],
)
def test_records_survive_json(record):
    assert type(record).from_json(json.loads(json.dumps(record.to_json()))) == record


def test_whole_numbers_are_read_as_floats():
    assert Score.from_json({"system": "a", "sentence": "b", "metric": "c", "value": 1, "seed": 0}).value == 1.0


@pytest.mark.parametrize(
    "data",
    [
        {"metric": "cer", "votes": True},
        {"metric": "cer", "votes": True, "reason": "", "more": 1},
        {"metric": "cer", "votes": "yes", "reason": ""},
        [],
    ],
)
def test_unreadable_records_are_refused_in_words(data):
    with pytest.raises(InputError, match="not a Vote as cosytune writes it"):
        Vote.from_json(data)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_is_a_finite_number(value):
    with pytest.raises(InputError, match="must be a finite number"):
        Score("a", "b", "c", value, 0)


def test_a_score_of_an_unlisted_system_or_metric_is_refused():
    for score in (Score("stranger", "one", "cer", 0.0, 0), Score("base", "one", "sim", 0.0, 0)):
        with pytest.raises(InputError, match="list what was scored"):
            Evaluation(("base",), (score,), (CER,), (), ())


def test_a_sentence_scored_twice_is_refused():
    score = Score("base", "one", "cer", 0.0, 0)
    with pytest.raises(InputError, match="twice"):
        Evaluation(("base",), (score, score), (CER,), (), ())


def test_a_metric_is_found_by_name():
    assert EVALUATION.metric("cer") is CER
    with pytest.raises(InputError, match="there is no metric 'sim'"):
        EVALUATION.metric("sim")


def test_results_statistics_and_verdict_do_not_load_torch():
    code = (
        "import sys, cosytune.evaluation.results, cosytune.evaluation.statistics, cosytune.comparison.verdict; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
