from __future__ import annotations

from cosytune.data.languages import VOTING_CHARACTERS, LanguageVote, with_languages
from cosytune.data.manifest import Utterance


def clip(text: str | None, speaker: str = "k", language: str = "") -> Utterance:
    return Utterance("id", "a.wav", text, speaker, language)


def test_languages_are_voted_by_speaker() -> None:
    items = [clip("Der Hund und die Katze."), clip("Apfel"), clip("你好"), clip(None), clip(None, "nobody")]
    assert [item.language for item in with_languages(items, None)] == ["de", "de", "zh", "de", ""]
    assert [item.language for item in with_languages(items, "fr")] == ["fr"] * 5


def test_a_language_that_is_given_stays_and_does_not_vote() -> None:
    items = [clip("Der Hund und die Katze.", language="nl"), clip("Apple")]
    assert [item.language for item in with_languages(items, None)] == ["nl", "en"]


def test_a_vote_needs_only_the_first_texts_of_a_speaker() -> None:
    vote = LanguageVote()
    vote.add(clip("Der Hund und die Katze. " * (VOTING_CHARACTERS // 20)))
    assert vote.guess(clip("x")) == "de"
    for _ in range(2000):
        vote.add(clip("The dog and the cat."))
    assert vote.guess(clip("x")) == "de"
    vote.add(clip("The dog and the cat.", "other"))
    assert vote.guess(clip("x", "other")) == "en"
