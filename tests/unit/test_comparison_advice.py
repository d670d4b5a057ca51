"""Which start for which goal: rules, refusals, and a measured comparison that goes before them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cosytune.comparison.advice import (
    Goal,
    Measured,
    StartFacts,
    advise,
    cautions,
    check_goal,
    named_goal,
    named_keep,
)
from cosytune.comparison.results import PairVerdict, Verdict
from cosytune.errors import DataError, InputError
from cosytune.training.plan_results import DataFacts

DATA = DataFacts("mine", "c0ffee", 400, 60.0, ("ada",), ("en",), 1.0, 0.0, 24_000, 40, 40)


def start(name: str, kind: str, **changes: Any) -> StartFacts:
    facts = StartFacts(name, f"/models/{name}", kind, f"a {kind} model", (), 22_050, "", 0.0, 0.0, f"hash of {name}")
    return replace(facts, **changes)


BASE, SFT, INSTRUCT = start("base", "base"), start("sft", "sft", voices=("eve",)), start("instruct", "instruct")
TUNED, UNKNOWN = start("tuned", "fine-tuned", voices=("ada",)), start("strange", "unknown")


def first(goal: Goal, *starts: StartFacts, data: DataFacts = DATA, **how: Any) -> str:
    return advise(goal, data, starts, **how)[0][0].name


def test_the_goal_decides() -> None:
    everyone = (INSTRUCT, TUNED, UNKNOWN, SFT, BASE)
    assert first("voice", *everyone) == first("voices", *everyone) == first("language", *everyone) == "base"
    assert first("voice", INSTRUCT, TUNED, UNKNOWN) == "strange"
    assert first("language", SFT, UNKNOWN) == "strange"
    assert first("style", BASE, SFT) == "sft"


def test_few_minutes_are_for_a_start_that_speaks_from_speaker_vectors() -> None:
    advice, why, _ = advise("voice", replace(DATA, minutes=8.0), (BASE, SFT))
    assert [each.name for each in advice] == ["sft", "base"]
    assert [each.place for each in advice] == [1, 2]
    assert why == (
        "sft (goal voice, 8 minutes): below 15 minutes a start that speaks from speaker-level vectors has less to learn"
    )


def test_what_must_be_kept_goes_before_the_goal() -> None:
    assert first("voice", BASE, SFT, keep=("voices",)) == "sft"
    assert first("voice", SFT, BASE, data=replace(DATA, minutes=8.0), keep=("cloning",)) == "base"
    assert first("style", SFT, INSTRUCT, keep=("instructions",)) == "instruct"


def test_a_style_is_taught_to_the_start_that_has_the_voice() -> None:
    advice, why, _ = advise("style", DATA, (BASE, SFT, TUNED))
    assert advice[0].name == "tuned"
    assert "it speaks in that voice already" in why
    assert "it has a voice 'ada' already, which tuning would move" in advice[0].reasons


def test_two_of_a_kind_are_not_told_apart() -> None:
    _, why, _ = advise("voice", DATA, (BASE, start("other", "base")))
    assert why.endswith("other is of the same kind, and only a comparison can tell")
    assert advise("voice", DATA, (BASE,))[1] == "base: the only one that can be used"


@pytest.mark.parametrize(
    ("facts", "keep", "words"),
    [
        (start("a", "base", missing="missing: campplus.onnx"), (), "it cannot be fine-tuned (missing: campplus.onnx)"),
        (start("a", "untrained"), (), "its weights are random: run cosytune pretrain first"),
        (start("a", "base", unknown_letters=0.9), (), "has no token for 90% of the letters in the transcripts (en)"),
        (start("a", "base", voices=("eve",)), ("voices",), "named voices are to be kept and it has learned none"),
        (start("a", "sft"), ("voices",), "named voices are to be kept and it has learned none"),
        (SFT, ("instructions",), "instructions are to be kept and it follows none"),
    ],
)
def test_starts_that_cannot_be_used(facts: StartFacts, keep: Any, words: str) -> None:
    with pytest.raises(InputError, match="none of the starts can be used for goal voice: ") as error:
        advise("voice", DATA, (facts,), keep=keep)
    assert words in str(error.value)
    advice, _, _ = advise("voice", DATA, (facts, TUNED, INSTRUCT), keep=keep)
    refused = next(each for each in advice if each.name == facts.name)
    assert refused.place == 0
    assert words in refused.refusals[0]
    assert advice[0].place == 1


def test_what_speaks_against_a_start() -> None:
    advice, _, _ = advise(
        "voice",
        replace(DATA, sample_rate=16_000),
        (start("copied", "base", voices=("eve",), dense=0.25), INSTRUCT),
    )
    assert "its named voices are a table beside the weights, which proves nothing of what they can do" in (
        advice[0].reasons
    )
    assert "it speaks at 22050 Hz, some recordings have 16000: they will sound dull" in advice[0].reasons
    assert "25% of the clips have more text tokens than speech tokens to say them with" in advice[0].reasons
    assert "expect it to follow instructions less" in advice[1].reasons[0]


# What was measured


def measured(winner: str | None, seeds: int = 3, **changes: Any) -> Measured:
    pair = PairVerdict("base tuned", "sft tuned", seeds, 0.95, (), winner, "sft tuned did better on sim.")
    verdict = Verdict((pair,), (), winner, ())
    hashes = {"base": "hash of base", "sft": "hash of sft"}
    return replace(Measured(verdict, hashes, "kathleen", "c0ffee"), **changes)


def test_a_measured_winner_goes_first() -> None:
    advice, why, said = advise("voice", DATA, (BASE, SFT), measured=measured("sft tuned"))
    assert advice[0].name == "sft"
    assert why.startswith("sft: it did best when it was measured; the rules alone would say base (goal voice")
    assert said == "on these very recordings: sft tuned did better on sim."
    assert advise("voice", DATA, (BASE, SFT), measured=measured("sft tuned", corpus_hash="x"))[2].startswith(
        "on kathleen: "
    )


@pytest.mark.parametrize("found", [measured(None), measured("sft tuned", seeds=1)])
def test_no_winner_or_one_run_leaves_it_to_the_rules(found: Measured) -> None:
    advice, _, said = advise("voice", DATA, (BASE, SFT), measured=found)
    assert advice[0].name == "base"
    assert said.startswith("on these very recordings: ")


def test_a_comparison_of_other_starts_is_of_no_use() -> None:
    _, _, said = advise("voice", DATA, (BASE, UNKNOWN), measured=measured("sft tuned"))
    assert said.startswith("nothing of use: that comparison tuned base, sft, and fewer than two of the starts")


def test_without_a_comparison_it_says_so() -> None:
    assert advise("voice", DATA, (BASE, SFT))[2].startswith("nothing: no comparison of these starts was given")


def test_a_comparison_is_read_by_hash() -> None:
    result = {
        "arms": [{"start": "base", "result": {"start_hash": "1"}}, {"start": "sft", "result": {"start_hash": "2"}}],
        "verdict": Verdict((), (), None, ("x",)).to_json(),
        "corpus": "kathleen: 400 clips",
        "corpus_hash": "c0ffee",
    }
    assert Measured.from_json(result, "here").hashes == {"base": "1", "sft": "2"}
    for wrong in ({}, {**result, "verdict": {}}, []):
        with pytest.raises(InputError, match=r"^here is no result of a comparison .*; give the folder that"):
            Measured.from_json(wrong, "here")


# Recordings


@pytest.mark.parametrize(
    ("goal", "changes", "error", "words"),
    [
        ("voices", {}, InputError, "--goal voices with one speaker (ada); give --goal voice, or add speakers"),
        ("voice", {"speakers": ("a", "b")}, InputError, "--goal voice with 2 speakers (a, b): all of them"),
        ("voice", {"transcribed": 0.0}, DataError, "no training clip of mine has a transcript, and an LM tuned"),
        ("language", {"transcribed": 0.8}, DataError, "20% of the audio of mine has no transcript, and a language"),
        ("voice", {"sample_rate": 8000}, DataError, "recordings of mine have 8000 Hz: what lies above 4000 Hz"),
    ],
)
def test_recordings_that_do_not_fit(goal: Goal, changes: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as raised:
        check_goal(goal, replace(DATA, **changes), lm=True, force=False)
    assert words in str(raised.value)


def test_what_is_only_unwise_can_be_forced_and_the_flow_needs_no_text() -> None:
    check_goal("voice", replace(DATA, sample_rate=8000), lm=True, force=True)
    check_goal("voice", replace(DATA, transcribed=0.0), lm=False, force=False)
    check_goal("voice", replace(DATA, transcribed=0.5), lm=True, force=False)
    check_goal("language", replace(DATA, transcribed=0.95, speakers=("a", "b")), lm=True, force=False)


@pytest.mark.parametrize(
    ("goal", "changes", "words"),
    [
        ("voice", {"minutes": 2.0}, "2.0 minutes are little for goal voice: 5 and more"),
        ("voice", {"minutes": 4.98}, "4.9 minutes are little for goal voice: 5 and more"),
        ("voice", {"transcribed": 0.5}, "50% of the audio has no transcript"),
        ("voice", {"languages": ("en", "de")}, "the clips are in en and de"),
        ("language", {"minutes": 6000.0}, "a new language pushes out the old ones"),
        ("style", {"instructed": 0.5}, "50% of the clips have instructions: the LM learns to follow these"),
        ("voice", {"test_clips": 0}, "no clip is held out for a test"),
    ],
)
def test_cautions(goal: Goal, changes: Any, words: str) -> None:
    found = cautions(goal, replace(DATA, **changes), (), "advised", replay=False)
    assert len(found) == 1
    assert found[0].startswith(words)


def test_what_is_to_be_kept_asks_for_a_strategy() -> None:
    assert cautions("voice", DATA, (), "full", replay=False) == ()
    assert cautions("voice", DATA, ("voices",), "full", replay=False)[0].startswith("voices are to be kept: take")
    assert cautions("voice", DATA, ("voices",), "full", replay=True) == ()
    assert cautions("voice", DATA, ("voices",), "lora", replay=False) == ()


def test_names() -> None:
    assert named_goal("style") == "style"
    assert named_keep(["cloning", "voices"]) == ("voices", "cloning")
    with pytest.raises(InputError, match="--goal 'accent' is not known; goals are voice, voices, language, style"):
        named_goal("accent")
    with pytest.raises(InputError, match="--keep 'all' is not known; what can be kept is voices, cloning"):
        named_keep(["all"])
