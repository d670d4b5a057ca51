from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cosytune.audio.files import read_wave, wave_info
from cosytune.data import sentences_zh
from cosytune.data.sentences import KINDS, sentences, stream
from cosytune.data.synthesised import SynthVoice, make_voices, synthesise_corpus, synthesise_texts
from cosytune.errors import DataError, InputError, MissingPackageError
from tests.unit.importing import import_recordings


def test_thousands_of_distinct_sentences_of_every_kind() -> None:
    made = sentences(4000, seed=1)
    assert len({sentence.text for sentence in made}) == 4000
    assert Counter(sentence.kind for sentence in made) == dict.fromkeys(KINDS, 500)
    words = {word.strip('.,?!;"').lower() for sentence in made for word in sentence.text.split()}
    assert len(words) > 1500


def test_sentences_are_written_properly() -> None:
    for sentence in sentences(4000):
        text = sentence.text
        assert re.fullmatch(r"[A-Za-z ,.;?!\"'’-]+", text), text
        assert "  " not in text
        assert re.match(r'"?[A-Z]', text), text
        assert text.rstrip('"')[-1] in ".?!", text
        assert not re.search(r"\ba [aeio]|\ban [bcdfgjklmnpqrstvwxyz]", text), text
    ends = {kind: {s.text[-1] for s in sentences(50, kinds=[kind])} for kind in ("question", "exclamation")}
    assert ends == {"question": {"?"}, "exclamation": {"!"}}
    assert len(sentences(1, kinds=["long"])[0].text) > 60


def test_mandarin_sentences_are_written_properly() -> None:
    made = sentences(4000, language="zh")
    assert len({sentence.text for sentence in made}) == 4000
    assert Counter(sentence.kind for sentence in made) == dict.fromkeys(KINDS, 500)
    assert len({character for sentence in made for character in sentence.text}) > 600
    for sentence in made:
        assert re.fullmatch(r"[\u4e00-\u9fff，。；：？！、“”]+", sentence.text), sentence.text
        assert sentence.text.rstrip("”")[-1] in "。？！", sentence.text
    ends = {kind: {s.text[-1] for s in made if s.kind == kind} for kind in ("question", "exclamation")}
    assert ends == {"question": {"？"}, "exclamation": {"！"}}


@pytest.mark.parametrize(
    ("value", "written"),
    [(7, "七"), (10, "十"), (15, "十五"), (20, "二十"), (105, "一百零五"), (110, "一百一十"), (1005, "一千零五"),
     (1050, "一千零五十"), (10_000, "一万"), (10_005, "一万零五"), (12_000, "一万二千"),
     (99_999, "九万九千九百九十九")],
)  # fmt: skip
def test_mandarin_numbers(value: int, written: str) -> None:
    assert sentences_zh.number(value) == written


def test_a_longer_list_begins_with_the_shorter_one() -> None:
    assert sentences(100)[:30] == sentences(30)
    assert sentences(30) != sentences(30, seed=1)


def test_impossible_sentences_are_refused() -> None:
    with pytest.raises(InputError, match=r"kinds of sentences are statement, .* 'poem' was given"):
        stream(kinds=["poem"])
    with pytest.raises(InputError, match="'none' was given"):
        sentences(1, kinds=[])
    with pytest.raises(InputError, match="-1 sentences cannot be made"):
        sentences(-1)
    with pytest.raises(InputError, match="sentences can be made in en, zh, not in 'tlh'"):
        stream(language="tlh")


def test_voices_differ_and_more_voices_begin_with_the_same() -> None:
    voices = make_voices(60)
    assert len({voice.name for voice in voices}) == 60
    assert len({(v.voice, v.pitch, v.range, v.rate) for v in voices}) == 60
    assert make_voices(5) == voices[:5]
    assert make_voices(5, seed=1) != voices[:5]
    with pytest.raises(InputError, match="0 voices cannot speak"):
        make_voices(0)
    with pytest.raises(InputError, match="in the languages en, zh; 'tlh' was given"):
        make_voices(2, languages=["en", "tlh"])
    with pytest.raises(InputError, match="none was given"):
        make_voices(2, languages=[])


def test_voices_of_two_languages_are_women_and_men_of_both() -> None:
    voices = make_voices(8, languages=["en", "zh"])
    assert [voice.language for voice in voices] == ["en", "en", "zh", "zh"] * 2
    assert {voice.voice.partition("+")[0] for voice in voices if voice.language == "zh"} == {"cmn"}
    assert [voice.voice.partition("+")[2][0] for voice in voices] == ["f", "m"] * 4


@pytest.fixture
def espeak() -> None:
    pytest.importorskip("espeakng_loader", reason="the extra cosytune[synth] is not installed")


@pytest.mark.usefixtures("espeak")
def test_a_synthesised_corpus_is_a_folder_that_the_importer_reads(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    folder = tmp_path / "corpus"
    made = synthesise_corpus(
        folder, voices=2, sentences_per_voice=4, sample_rate=24000, progress=lambda done, of: told.append((done, of))
    )
    assert told == [(1, 2), (2, 2)]
    assert import_recordings(folder).utterances == tuple(made)
    (folder / "manifest.jsonl").unlink()
    plain = import_recordings(folder)
    assert plain.layout == "plain"
    assert {(i.id, i.text, i.speaker, i.seconds) for i in plain.utterances} == {
        (i.id, i.text, i.speaker, i.seconds) for i in made
    }
    assert [item.kind for item in made[:4]] == ["statement", "question", "exclamation", "list"]
    assert all(item.id.endswith(f"-{item.kind}") for item in made)
    wave, rate = read_wave(Path(made[0].audio))
    assert rate == 24000
    assert np.abs(wave[:2000]).max() < 0.02 < np.abs(wave).max()


@pytest.mark.usefixtures("espeak")
def test_a_voice_says_the_same_whoever_spoke_before(tmp_path: Path) -> None:
    two = synthesise_corpus(tmp_path / "two", voices=2, sentences_per_voice=3, format="wav")
    voice = make_voices(2)[1]
    one = synthesise_corpus(tmp_path / "one", voices=[voice], sentences_per_voice=2, format="wav")
    for mine, theirs in zip(one, [item for item in two if item.speaker == voice.name], strict=False):
        assert mine.text == theirs.text
        assert Path(mine.audio).read_bytes() == Path(theirs.audio).read_bytes()


@pytest.mark.usefixtures("espeak")
def test_pitch_rate_and_voice_are_heard() -> None:
    def spoken(**settings: int | str) -> np.ndarray:
        return next(synthesise_texts(SynthVoice("x", **{"voice": "en-us+f3", **settings}), ["The river was quiet."]))  # type: ignore[arg-type]

    usual = spoken()
    assert 0.8 * len(usual) > len(spoken(rate=260))
    for other in (spoken(pitch=90), spoken(range=99), spoken(voice="en-us+m3")):
        size = min(len(other), len(usual))
        assert np.abs(other[:size] - usual[:size]).max() > 0.05


@pytest.mark.usefixtures("espeak")
def test_mandarin_is_spoken(tmp_path: Path) -> None:
    made = synthesise_corpus(tmp_path / "c", voices=make_voices(1, languages=["zh"]), sentences_per_voice=2)
    assert {item.language for item in made} == {"zh"}
    for item in made:
        # A synthesiser that does not know the script spells each character's name and takes seconds for it.
        assert item.text is not None
        assert 0.12 < item.seconds / len(item.text) < 0.6


@pytest.mark.usefixtures("espeak")
def test_minutes_are_an_amount_too(tmp_path: Path) -> None:
    made = synthesise_corpus(tmp_path / "c", voices=1, minutes_per_voice=0.2)
    total = sum(wave_info(Path(item.audio)).seconds for item in made)
    assert total - made[-1].seconds < 12 <= total
    assert total == pytest.approx(sum(item.seconds for item in made), abs=1e-4)


@pytest.mark.usefixtures("espeak")
def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="either sentences_per_voice or minutes_per_voice"):
        synthesise_corpus(tmp_path / "c", voices=1)
    with pytest.raises(InputError, match="flac or wav, not 'mp3'"):
        synthesise_corpus(tmp_path / "c", voices=1, sentences_per_voice=1, format="mp3")
    for voice in ("atlantean", "en-us+nobody"):
        with pytest.raises(InputError, match="has no voice"):
            synthesise_corpus(tmp_path / "c", voices=[SynthVoice("k", voice)], sentences_per_voice=1)
    assert not list(tmp_path.iterdir())
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(DataError, match="not an empty folder"):
        synthesise_corpus(tmp_path, voices=1, sentences_per_voice=1)


def test_the_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(MissingPackageError, match=r'pip install "cosytune\[synth\]"'):
        next(synthesise_texts(make_voices(1)[0], ["Hello."]))


@pytest.mark.usefixtures("espeak")
def test_data_that_espeak_does_not_find_are_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import espeakng_loader

    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(tmp_path / ("x" * 200)))
    with pytest.raises(InputError, match="160 characters"):
        next(synthesise_texts(make_voices(1)[0], ["Hello."]))
