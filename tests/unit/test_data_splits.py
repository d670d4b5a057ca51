from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.data.manifest import Utterance
from cosytune.data.near_duplicates import THRESHOLD, similarity, words_of
from cosytune.data.sentences import sentences
from cosytune.data.splits import Side, SplitSettings, Splitter, text_key
from cosytune.errors import DataError


def clip(identity: str, text: str | None, speaker: str = "s") -> Utterance:
    return Utterance(identity, f"{identity}.wav", text, speaker, "en", seconds=1.0)


def clips(count: int, speakers: int = 1, seed: int = 0) -> list[Utterance]:
    return [clip(f"c{i}", s.text, f"s{i % speakers}") for i, s in enumerate(sentences(count, seed=seed))]


def sides_of(items: list[Utterance], *, keep: dict[str, Side] | None = None, **how: Any) -> dict[str, Side]:
    """The side of each clip by id; those that must be left out are absent."""
    splitter = Splitter(SplitSettings(**how))
    for item in items:
        splitter.add(item, (keep or {}).get(item.id))
    drawn = splitter.draw()
    sides = ((item.id, drawn.side(number)) for number, item in enumerate(items))
    return {identity: side for identity, side in sides if side is not None}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefghijkl"), st.sampled_from("xyz")), max_size=60), st.integers(0, 5))
def test_no_text_is_on_two_sides(spoken: list[tuple[str, str]], seed: int) -> None:
    items = [clip(f"c{i}", text, speaker) for i, (text, speaker) in enumerate(spoken)]
    sides = sides_of(items, seed=seed, validation=0.2, test=0.2)
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
    assert text_key(clip("a", "\u0939\u093f")) == text_key(clip("b", "\u0939\u093f!"))
    assert text_key(clip("a", None)) != text_key(clip("b", None))
    assert text_key(clip("a", "...")) == text_key(clip("a", None))


def test_shares_are_met_for_every_speaker() -> None:
    items = clips(4000, speakers=4)
    counts = Counter((item.speaker, side) for item, side in zip(items, sides_of(items).values(), strict=True))
    for speaker in ("s0", "s1", "s2", "s3"):
        assert counts[speaker, "test"] == pytest.approx(100, abs=8)
        assert counts[speaker, "validation"] == pytest.approx(100, abs=8)


def test_clips_that_are_added_move_nobody() -> None:
    items = clips(600)
    for first in (8, 40, 300):
        before = sides_of(items[:first], seed=3)
        after = sides_of(items, seed=3, keep=before)
        assert {identity: after[identity] for identity in before} == before
        assert Counter(after.values())["test"] == pytest.approx(60, abs=10)


def test_a_sentence_that_was_trained_on_counts_as_training() -> None:
    old: dict[str, Side] = {"a": "test", "b": "train"}
    sides = sides_of([clip("a", "same"), clip("b", "Same!"), clip("c", "SAME")], keep=old)
    assert sides == {"a": "test", "b": "train", "c": "train"}


@pytest.mark.parametrize("one", list(range(0, 60, 7)))
def test_near_duplicates_are_on_one_side(one: int) -> None:
    text = sentences(60, seed=4)[one].text
    words = text.split()
    near = [
        text,
        " ".join([*words[:2], "indeed", *words[2:]]),
        " ".join(words[:1] + words[2:]) if len(words) > 5 else text.upper(),
        text.replace("the", "teh"),
    ]
    items = [*clips(60, seed=4), *(clip(f"near{i}", other) for i, other in enumerate(near))]
    for seed in range(3):
        sides = sides_of(items, seed=seed)
        assert len({sides[f"near{i}"] for i in range(4)}) == 1


def test_sentences_that_differ_in_a_number_are_on_one_side() -> None:
    items = [*clips(60), *(clip(f"n{year}", f"In {year} the harbour froze.") for year in range(1900, 1915))]
    for seed in range(5):
        sides = sides_of(items, seed=seed)
        assert len({sides[f"n{year}"] for year in range(1900, 1915)}) == 1


def test_a_long_chain_does_not_swallow_the_corpus() -> None:
    names = [s.text.split()[0] + str(i) for i, s in enumerate(sentences(400))]
    items = [clip(f"c{i}", f"I will ask {name} about the letter.") for i, name in enumerate(names)]
    splitter = Splitter(SplitSettings())
    for item in items:
        splitter.add(item)
    drawn = splitter.draw()
    counts = Counter(drawn.side(number) for number in range(400))
    assert counts["test"] == counts["validation"] == 40
    assert any("alike in chains too long for one side" in note for note in drawn.notes)


def test_a_new_clip_that_ties_two_sides_is_left_out() -> None:
    train = clip("train", "The old ferry crosses the wide river at dawn.")
    test = clip("test", "The old ferry leaves a wide river at night.")
    other = clip("other", "Nobody answered the telephone.")
    bridge = clip("new", "The old ferry crosses a wide river at night.")
    keep: dict[str, Side] = {"train": "train", "test": "test", "other": "train"}
    assert similarity(words_of(train.text or ""), words_of(test.text or "")) < THRESHOLD
    sides = sides_of([train, test, other, bridge], keep=keep)
    assert sides == keep
    follower = clip("follows", "The old ferry leaves a wide river by night.")
    assert sides_of([train, test, other, bridge, follower], keep=keep) == {**keep, "follows": "test"}
    assert "new" in sides_of([train, other, bridge], keep={"train": "train", "other": "train"})


def test_everyone_reading_the_same_few_words_is_split_by_word() -> None:
    digits = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    items = [clip(f"{s}-{d}-{i}", d, f"s{s}") for s in range(6) for d in digits for i in range(3)]
    sides = sides_of(items)
    words = defaultdict(set)
    for item in items:
        words[sides[item.id]].add(item.text)
    assert {side: len(found) for side, found in words.items()} == {"train": 8, "validation": 1, "test": 1}
    for speaker in range(6):
        assert {sides[f"s{speaker}"[1:] + f"-{d}-0"] for d in digits} == {"train", "validation", "test"}


def test_one_sentence_cannot_be_split_and_that_is_said() -> None:
    splitter = Splitter(SplitSettings())
    for number in range(5):
        splitter.add(clip(f"c{number}", "The only sentence."))
    drawn = splitter.draw()
    assert {drawn.side(number) for number in range(5)} == {"train"}
    assert "for validation and test: there are only 1 different sentences" in drawn.notes[0]


def test_clips_without_text_stay_with_their_recording_wherever_it_lies() -> None:
    def pieces(folder: str) -> list[Utterance]:
        return [Utterance(f"r{i // 5}-{i}", f"{folder}/r{i // 5}.wav", None, "s", "en") for i in range(200)]

    sides = sides_of(pieces("/here"))
    assert sides == sides_of(pieces("/there"))
    for recording in range(40):
        assert len({side for identity, side in sides.items() if identity.startswith(f"r{recording}-")}) == 1
    assert Counter(sides.values()) == {"train": 150, "validation": 25, "test": 25}


@pytest.mark.parametrize("count", [8, 12, 40, 100])
def test_small_corpora_have_something_on_each_side(count: int) -> None:
    for seed in range(10):
        counts = Counter(sides_of(clips(count), seed=seed).values())
        assert min(counts["test"], counts["validation"]) >= min(5, count // 8)
        assert counts["train"] >= count / 2


def test_a_speaker_of_ten_sentences_is_on_each_side() -> None:
    items = [*clips(1000), *(clip(f"x{i}", f"Only {s.text}", "few") for i, s in enumerate(sentences(10, seed=9)))]
    for seed in range(10):
        sides = sides_of(items, seed=seed)
        assert {sides[f"x{i}"] for i in range(10)} == {"train", "validation", "test"}


def test_the_seed_matters_and_a_share_of_nothing_is_nothing() -> None:
    items = clips(200)
    assert sides_of(items) == sides_of(items)
    assert sides_of(items) != sides_of(items, seed=1)
    assert set(sides_of(items, validation=0.0).values()) == {"train", "test"}
    assert set(sides_of(items, validation=0.0, test=0.0).values()) == {"train"}
    assert sides_of([]) == {}


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0.1), (0.1, -0.1), (0.5, 0.5)])
def test_impossible_shares_are_refused(validation: float, test: float) -> None:
    with pytest.raises(DataError, match="whose sum is below 1"):
        sides_of([], validation=validation, test=test)
