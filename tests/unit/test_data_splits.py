from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.data.manifest import Utterance
from cosytune.data.sentences import sentences
from cosytune.data.splits import make_splits, text_key
from cosytune.errors import DataError


def clip(identity: str, text: str | None, speaker: str = "s") -> Utterance:
    return Utterance(identity, f"{identity}.wav", text, speaker, "en", seconds=1.0)


def clips(count: int, speakers: int = 1, seed: int = 0) -> list[Utterance]:
    return [clip(f"c{i}", s.text, f"s{i % speakers}") for i, s in enumerate(sentences(count, seed=seed))]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefghijkl"), st.sampled_from("xyz")), max_size=60), st.integers(0, 5))
def test_no_text_is_on_two_sides(spoken: list[tuple[str, str]], seed: int) -> None:
    items = [clip(f"c{i}", text, speaker) for i, (text, speaker) in enumerate(spoken)]
    sides = make_splits(items, seed=seed, validation=0.2, test=0.2)
    assert set(sides) == {item.id for item in items}
    by_text = defaultdict(set)
    for item in items:
        by_text[text_key(item)].add(sides[item.id])
    assert all(len(found) == 1 for found in by_text.values())


def test_copies_that_differ_in_writing_only_have_one_key() -> None:
    key = text_key(clip("a", "Don’t stop, now!"))
    assert text_key(clip("b", "dont  STOP now")) == key
    assert text_key(clip("b", "DON'T STOP NOW")) == key
    assert text_key(clip("b", "Don't stop, then!")) != key
    assert text_key(clip("a", "你好,世界。")) == text_key(clip("b", "你好 世界"))
    assert text_key(clip("a", None)) != text_key(clip("b", None))
    assert text_key(clip("a", "...")) == text_key(clip("a", None))


def test_shares_are_met_for_every_speaker() -> None:
    items = clips(4000, speakers=4)
    counts = Counter((item.speaker, side) for item, side in zip(items, make_splits(items).values(), strict=True))
    for speaker in ("s0", "s1", "s2", "s3"):
        assert counts[speaker, "test"] == pytest.approx(100, abs=30)
        assert counts[speaker, "validation"] == pytest.approx(100, abs=30)


def test_clips_that_are_added_move_nobody() -> None:
    items = clips(600)
    before = make_splits(items[:300])
    after = make_splits(items)
    assert {identity: after[identity] for identity in before} == before


def test_kept_sides_stay_even_where_chance_had_to_be_helped() -> None:
    items = clips(40)
    for first in range(8, 40, 4):
        before = make_splits(items[:first], seed=3)
        after = make_splits(items, seed=3, keep=before)
        assert {identity: after[identity] for identity in before} == before


def test_a_sentence_that_was_trained_on_stays_in_training() -> None:
    old = {"a": "test", "b": "train"}
    sides = make_splits([clip("a", "same"), clip("b", "Same!"), clip("c", "SAME")], keep=old)  # type: ignore[arg-type]
    assert set(sides.values()) == {"train"}


@pytest.mark.parametrize("count", [8, 12, 40, 100])
def test_small_corpora_have_something_on_each_side(count: int) -> None:
    for seed in range(10):
        counts = Counter(make_splits(clips(count), seed=seed).values())
        assert min(counts["test"], counts["validation"]) >= min(5, count // 8)
        assert counts["train"] >= count / 2


def test_a_speaker_of_ten_sentences_is_on_each_side() -> None:
    items = [*clips(1000), *(clip(f"x{i}", f"Only {s.text}", "few") for i, s in enumerate(sentences(10, seed=9)))]
    for seed in range(10):
        sides = make_splits(items, seed=seed)
        assert {sides[f"x{i}"] for i in range(10)} == {"train", "validation", "test"}


def test_the_seed_matters_and_a_share_of_nothing_is_nothing() -> None:
    items = clips(200)
    assert make_splits(items) == make_splits(items)
    assert make_splits(items) != make_splits(items, seed=1)
    assert set(make_splits(items, validation=0.0).values()) == {"train", "test"}
    assert set(make_splits(items, validation=0.0, test=0.0).values()) == {"train"}
    assert make_splits([]) == {}


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0.1), (0.1, -0.1), (0.5, 0.5)])
def test_impossible_shares_are_refused(validation: float, test: float) -> None:
    with pytest.raises(DataError, match="whose sum is below 1"):
        make_splits([], validation=validation, test=test)
