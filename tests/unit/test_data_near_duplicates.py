from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.data.near_duplicates import THRESHOLD, TextFile, group, near_pairs, similarity, words_of
from cosytune.data.sentences import sentences

WORDS = [f"{a}{b}{c}" for a in "bdfgklmn" for b in "aeo" for c in "nrst"]


def file_of(texts: list[str]) -> TextFile:
    made = TextFile()
    for text in texts:
        made.append(words_of(text))
    return made


def groups_of(texts: list[str], largest: int = 50) -> list[int]:
    found, _ = group(file_of(texts), np.arange(len(texts)), largest)
    return found.tolist()


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("The bridge was open all night.", "the bridge was open, all night", True),
        ("He was born on 3 May 1974.", "He was born on 21 May 1802.", True),
        ("The old captain sold his boat.", "The old captain sold my boat.", True),
        ("今天天气很好，我们去公园吧。", "今天天气很好，我们去学校吧。", True),
        ("The old captain sold his boat.", "A young doctor bought two gloves.", False),
        ("four", "fourteen", False),
        ("", "anything at all", False),
    ],
)
def test_what_is_nearly_the_same(one: str, other: str, near: bool) -> None:
    assert (similarity(words_of(one), words_of(other)) >= THRESHOLD) == near


@given(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=12), st.lists(st.sampled_from(WORDS), min_size=1, max_size=12)
)
def test_similarity_is_a_similarity(one: list[str], other: list[str]) -> None:
    first, second = " ".join(one), " ".join(other)
    assert similarity(first, first) == 1.0
    assert 0.0 <= similarity(first, second) <= 1.0
    assert similarity(first, second) == pytest.approx(similarity(second, first))
    assert similarity(first, second, THRESHOLD) in (0.0, pytest.approx(similarity(first, second)))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(WORDS), min_size=7, max_size=12, unique=True), st.data())
def test_a_word_exchanged_put_in_or_left_out_is_always_found(words: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(words) - 1))
    kind = data.draw(st.sampled_from(["exchanged", "put in", "left out"]))
    rest = words[place:] if kind == "put in" else words[place + 1 :]
    changed = [*words[:place], *([] if kind == "left out" else ["zulu"]), *rest]
    texts = file_of([" ".join(words), "quite another sentence about the harbour", " ".join(changed)])
    assert set(near_pairs(texts, np.arange(3))) == {(0, 2)}


def test_alike_is_grouped_under_the_first_and_the_rest_stays_alone() -> None:
    texts = [
        "The old captain sold his boat.",
        "Nobody came to the station.",
        "The old captain sold my boat.",
        "Where is the kettle?",
        "the OLD captain sold his boat",
    ]
    assert groups_of(texts) == [0, 1, 0, 3, 0]


def test_a_chain_that_is_too_long_is_joined_by_a_stricter_measure() -> None:
    """Each is like the next, the first is not like the last: one side must not swallow a whole corpus."""
    chain = [" ".join([*WORDS[shift : shift + 10]]) for shift in range(40)]
    together, strict = group(file_of(chain), np.arange(len(chain)), 50)
    assert set(together.tolist()) == {0}
    assert strict == 0
    apart, strict = group(file_of(chain), np.arange(len(chain)), 10)
    assert strict == len(chain)
    assert len(set(apart.tolist())) > 10


def test_different_sentences_are_hardly_ever_joined() -> None:
    texts = [sentence.text for sentence in sentences(400, kinds=("statement", "question", "name", "long"))]
    assert len(set(groups_of(texts))) >= 396


def test_texts_come_back_from_the_disk() -> None:
    texts = ["", "один два", "三 四", "five"]
    stored = file_of(texts)
    assert [stored[number] for number in range(len(stored))] == [words_of(text) for text in texts]
