"""From numbers and texts to findings in words, and what only the other clips can tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cosytune.data.doctor.clips import Clip, main_languages
from cosytune.data.doctor.comparing import compare_bands, compare_levels, compare_paces, find_copies, find_repeats
from cosytune.data.doctor.deciding import decide, describe, spare_common
from cosytune.data.doctor.judges import compare_transcripts, compare_voices
from cosytune.data.doctor.listening import Heard, Recogniser
from cosytune.data.doctor.settings import Limits
from cosytune.data.doctor.sound_findings import sound_findings, trimmed
from cosytune.data.doctor.text_findings import text_findings
from cosytune.data.doctor.texts import unknown_characters
from cosytune.data.doctor_results import Finding, Measures
from cosytune.data.manifest import Utterance
from cosytune.errors import InputError
from cosytune.text.small_tokenizer import SmallTokenizer
from tests.unit.doctor_examples import TEXTS, good

LIMITS = Limits()


def actions(measures: Measures) -> dict[str, str]:
    return {finding.defect: finding.action for finding in sound_findings(measures, LIMITS)}


def clip(name: str, *, text: str | None = "Hello there.", speaker: str = "anna", **changes: Any) -> Clip:
    heard = {key: changes.pop(key) for key in ("vector", "words", "sound", "prints") if key in changes}
    return Clip(Utterance(name, f"{name}.wav", text, speaker, "en"), Heard(good(**changes), **{"sound": name, **heard}))


def defects(clips: list[Clip]) -> dict[str, list[str]]:
    return {own.utterance.id: [finding.defect for finding in own.findings] for own in clips if own.findings}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, {}),
        ({"seconds": 0.1, "measured_seconds": 0.1, "leading": 0.0, "trailing": 0.0}, {"too short": "drop"}),
        ({"seconds": 31.0, "measured_seconds": 31.0}, {"too long": "fix"}),
        ({"seconds": 4000.0, "measured_seconds": 60.0, "trailing": 0.7, "tail": 0.0}, {"too long": "fix"}),
        ({"bandwidth": 4000.0, "edge": 60.0}, {"narrow band": "drop"}),
        ({"bandwidth": 4000.0, "edge": 5.0}, {}),
        ({"bandwidth": 2500.0, "sample_rate": 8000}, {"narrow band": "drop"}),
        ({"clipped": 0.001, "crowding": 0.5}, {"clipping": "keep"}),
        ({"clipped": 0.01, "peak": 1.0}, {"clipping": "drop"}),
        ({"crowding": 0.3}, {"limiter": "keep"}),
        ({"level": -45.0}, {"too quiet": "keep"}),
        ({"level": -60.0}, {"too quiet": "drop"}),
        ({"snr": 15.0}, {"noise": "keep"}),
        ({"snr": 5.0, "noise": -30.0}, {"noise": "drop"}),
        ({"snr": None}, {}),
        ({"snr": 5.0, "head": -5.0, "tail": -5.0}, {"noise": "drop"}),
        ({"steady": 3.0, "snr": 20.0}, {"music": "drop"}),
        ({"steady": 3.0, "snr": 50.0}, {}),
        ({"hum": 50.0, "hum_level": -50.0}, {"hum": "keep"}),
        ({"hum": 50.0, "hum_level": -70.0}, {}),
        ({"offset": 0.1}, {"offset": "keep"}),
        ({"leading": 1.0}, {"edge silence": "fix"}),
        ({"pause": 2.0}, {"long pause": "keep"}),
        ({"head": -3.0}, {"cut start": "drop"}),
        ({"tail": -3.0}, {"cut end": "drop"}),
        ({"leading": 2.0, "trailing": 2.0}, {"silent": "drop"}),
        ({"channels": 2, "channel_gap": 40.0, "channel_likeness": 0.1}, {"channels": "keep"}),
        ({"channels": 2, "channel_gap": 1.0, "channel_likeness": 0.1}, {"channels": "keep"}),
        ({"channels": 2, "channel_gap": 1.0, "channel_likeness": -0.9}, {"channels": "drop"}),
        ({"channels": 2, "channel_gap": 0.0, "channel_likeness": 1.0}, {}),
    ],
)  # fmt: skip
def test_each_measure_has_its_finding(changes: dict[str, Any], found: dict[str, str]) -> None:
    assert actions(good(**changes)) == found


def test_every_finding_says_how_bad_it_is() -> None:
    mild, bad = (sound_findings(good(snr=snr), LIMITS)[0].severity for snr in (16.0, 2.0))
    assert 1 <= mild < bad


def test_trimming_leaves_a_margin_and_cuts_only_what_is_long() -> None:
    assert trimmed(good(leading=1.0, trailing=0.3), LIMITS) == (0.8, 4.0)
    assert trimmed(good(trailing=2.0), LIMITS) == (0.0, 2.2)
    assert trimmed(good(), LIMITS) == (0.0, 4.0)
    first_minute = good(seconds=100.0, measured_seconds=60.0, trailing=5.0)
    assert trimmed(first_minute, LIMITS) == (0.0, 100.0)


@pytest.mark.parametrize("values", [{"snr": float("nan")}, {"pace": -1.0}])
def test_limits_that_are_none_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(InputError, match="give a number, 0 or more"):
        Limits(**values)
    with pytest.raises(InputError, match="the shortest must be above 0 s"):
        Limits(shortest=40.0)


def found_in(text: str | None, language: str = "en", own: tuple[str, ...] = ("en",)) -> dict[str, Finding]:
    script = {"en": "LATIN", "de": "LATIN", "zh": "CJK", "ja": "CJK"}[language]
    return {finding.defect: finding for finding in text_findings(text, language, own, script, None)}


def test_texts() -> None:
    assert found_in("A plain sentence, with nothing in it.") == {}
    assert set(found_in(None)) == {"no transcript"}
    assert found_in(" ... ")["empty transcript"].action == "drop"
    figures = found_in("It cost $25.")["figures"]
    assert (figures.before, figures.after) == ("It cost $25.", "It cost twenty-five dollars.")
    unread = found_in("Er kam um 17 Uhr.", "de", ("de",))["figures"]
    assert "'de'" in unread.words and unread.after == unread.before
    assert "pаrt" in found_in("The second pаrt.")["mixed alphabets"].words
    assert found_in("Это другой текст.")["wrong script"].action == "drop"
    assert found_in("Das ist nicht der Text und auch nicht das Ende.")["wrong language"].action == "drop"
    assert found_in("Er kam mit dem Hund und der Katze nach Haus.", "de", ("de",)) == {}
    assert "wrong language" not in found_in("Die Hard is in the house.")
    assert found_in("你好，世界。", "zh", ("en",))["wrong language"].action == "drop"
    assert found_in("これは日本語のテキストです。", "ja", ("ja",)) == {}


def test_characters_that_a_tokenizer_spells_byte_by_byte() -> None:
    encode = SmallTokenizer.train(TEXTS, 200).encode
    assert unknown_characters("The boat", encode) == []
    assert unknown_characters("The böat № 1 and ö", encode) == ["ö", "№", "1"]
    (finding,) = text_findings("The boat №.", "en", ("en",), "LATIN", encode)
    assert finding.defect == "unknown characters" and "№" in finding.words


def test_rare_languages_are_not_the_speakers_own() -> None:
    many = [Utterance(str(n), "a.wav", "x", "k", "de") for n in range(9)] + [Utterance("9", "a.wav", "x", "k", "en")]
    assert main_languages(many) == {"k": frozenset({"de"})}


def test_pace_of_many_and_of_few() -> None:
    many = [clip(str(n), text=TEXTS[n % 12], seconds=0.2 + 2.3 * (len(TEXTS[n % 12]) / 40)) for n in range(30)]
    for own in many:
        own.heard = replace(own.heard, measures=replace(own.heard.measures, measured_seconds=own.measures.seconds))
    many[3].utterance = replace(many[3].utterance, text=TEXTS[3] * 3)
    many[4].utterance = replace(many[4].utterance, text=TEXTS[4][:8])
    compare_paces(many, LIMITS)
    assert set(defects(many)) == {"3", "4"}
    assert "the text has too many" in many[3].findings[0].words
    assert "it says more than its text" in many[4].findings[0].words
    second = {"seconds": 1.0, "measured_seconds": 1.0}
    few = [clip("a", text="x" * 300, **second), clip("b", **second), clip("c", text=None, **second)]
    compare_paces(few, LIMITS)
    assert defects(few) == {"a": ["pace"]}
    # A second, without 0.1 s of silence at each end and half of a pause of 0.2 s.
    assert few[1].characters_per_second == pytest.approx(10 / 0.7, abs=1e-3)
    pauses = clip("d", text=TEXTS[0], seconds=6.0, measured_seconds=6.0, pause=3.5)
    compare_paces([*many[:3], *many[5:], pauses], LIMITS)
    assert pauses.findings == []


def test_odd_levels_and_narrower_bands() -> None:
    clips = [clip(str(n), level=-25 + 0.1 * (n % 5)) for n in range(25)]
    clips[7] = clip("7", level=-38.0)
    clips[8] = clip("8", bandwidth=7800.0, edge=50.0)
    compare_levels(clips, LIMITS)
    compare_bands(clips, LIMITS)
    assert defects(clips) == {"7": ["odd level"], "8": ["narrower band"]}


def prints_of(clips: list[Clip]) -> list[np.ndarray]:
    return [np.zeros(0, np.uint32) if own.heard.prints is None else own.heard.prints for own in clips]


def test_copies_and_repeats() -> None:
    clips = [clip("a"), clip("b", sound="a"), clip("c", sound="c"), clip("d", sound="c", text="Something else.")]
    find_copies(clips, prints_of(clips))
    find_repeats(clips)
    assert defects(clips) == {
        "b": ["copy", "repeated text"],
        "c": ["same sound, other text", "repeated text"],
        "d": ["same sound, other text"],
    }
    near = np.arange(1, 200, dtype=np.uint32) * np.uint32(2_654_435_761)
    chain = [
        clip("x", prints=near),
        clip("y", prints=near[20:]),
        clip("z", prints=near[:-20]),
        clip("w", text="Other."),
    ]
    find_copies(chain, prints_of(chain))
    assert defects(chain) == {"y": ["copy"], "z": ["copy"]}
    assert "coded again" in chain[1].findings[0].words


def voices(count: int, centre: int, rng: np.random.Generator) -> list[np.ndarray]:
    found = np.eye(32)[centre] + 0.08 * rng.normal(size=(count, 32))
    return list(found / np.linalg.norm(found, axis=1, keepdims=True))


def test_a_clip_of_somebody_else() -> None:
    rng = np.random.default_rng(0)
    clips = [clip(f"a{n}", vector=vector) for n, vector in enumerate(voices(20, 0, rng))]
    clips += [clip(f"b{n}", speaker="bob", vector=vector) for n, vector in enumerate(voices(20, 1, rng))]
    clips[5].heard = replace(clips[5].heard, vector=voices(1, 1, rng)[0])
    clips[6].heard = replace(clips[6].heard, vector=voices(1, 2, rng)[0])
    clips += [clip("c", speaker="carl", vector=voices(1, 3, rng)[0])]
    vectors = [np.zeros(0) if own.heard.vector is None else own.heard.vector for own in clips]
    (skipped,) = compare_voices(clips, vectors, LIMITS)
    assert "carl" in skipped.reason
    assert defects(clips) == {"a5": ["speaker"], "a6": ["speaker"]}
    assert "rather like bob" in clips[5].findings[0].words
    assert "listen to it" in clips[6].findings[0].words
    assert clips[0].likeness is not None and clips[0].likeness > 0.8


def recogniser() -> Recogniser:
    return Recogniser("ears", frozenset({"en"}), lambda wave, rate: "", str.lower)


def test_transcripts_that_are_not_what_is_said() -> None:
    clips = [clip(str(n), text=text, words=text[:-1]) for n, text in enumerate(TEXTS)]
    clips[2].heard = replace(clips[2].heard, words=TEXTS[5])
    clips[3].heard = replace(clips[3].heard, words="")
    assert compare_transcripts(clips, recogniser(), LIMITS) == []
    assert defects(clips) == {"2": ["transcript"], "3": ["transcript"]}
    assert "sounds like the text of 5" in clips[2].findings[0].words
    assert "hears 'nothing'" in clips[3].findings[0].words
    assert clips[0].error_rate == pytest.approx(1 / len(TEXTS[0].replace(" ", "")), abs=0.01)


def test_a_deaf_recogniser_accuses_nobody() -> None:
    clips = [clip(str(n), text=text, words="mumble") for n, text in enumerate(TEXTS)]
    (skipped,) = compare_transcripts(clips, recogniser(), LIMITS)
    assert "mishears most" in skipped.reason and defects(clips) == {}
    (skipped,) = compare_transcripts(clips[:3], recogniser(), LIMITS)
    assert "only 3 clips" in skipped.reason
    assert compare_transcripts([clip("a")], recogniser(), LIMITS) == []


def test_what_most_clips_have_is_said_of_the_corpus_and_drops_none() -> None:
    clips = [clip(str(n), snr=5.0) for n in range(6)] + [clip("7"), clip("8", clipped=0.01)]
    for own in clips:
        assert own.measures is not None
        own.findings += sound_findings(own.measures, LIMITS)
    (said,) = spare_common(clips, LIMITS)
    assert said.kind == "noise" and said.serious and said.words.startswith("6 of 8 clips")
    decisions = [decide(own, LIMITS).decision for own in clips]
    assert decisions == ["kept"] * 7 + ["dropped"]


def test_decisions() -> None:
    fixed = clip("a", leading=1.0)
    fixed.utterance = replace(fixed.utterance, start=10.0, end=14.0)
    fixed.findings += sound_findings(good(leading=1.0), LIMITS)
    check = decide(fixed, LIMITS)
    assert (check.decision, check.start, check.end, check.began) == ("fixed", 10.8, 14.0, 10.0)
    assert check.seconds == pytest.approx(3.2)
    assert check.reason.startswith("edge silence: 1.0 s of silence before")
    bad = clip("b", clipped=0.01, snr=3.0, leading=1.0)
    assert bad.measures is not None
    bad.findings += sound_findings(bad.measures, LIMITS)
    check = decide(bad, LIMITS)
    assert (check.decision, check.start) == ("dropped", None)
    assert check.reason.endswith("; also noise")
    kept = decide(clip("c"), LIMITS)
    assert (kept.decision, kept.reason, kept.findings, kept.severity) == ("kept", "", (), (-1, 0.0))


def test_the_whole_is_described() -> None:
    checks = [decide(clip(str(n), speaker="ab"[n % 2], seconds=1.0, text=None), LIMITS) for n in range(6)]
    checks.append(decide(clip("x", sample_rate=48_000), LIMITS))
    said = {finding.kind: finding for finding in describe(checks, LIMITS)}
    assert set(said) == {"too little", "too little per speaker", "no transcript", "single words", "sample rates"}
    assert said["no transcript"].words.startswith("6 of 7 clips")
    assert not said["no transcript"].serious and said["too little"].serious
    assert describe([], LIMITS) == []
    dull = [decide(clip(str(n), bandwidth=7300.0, edge=30.0), LIMITS) for n in range(6)]
    said = {finding.kind: finding.words for finding in describe(dull, LIMITS)}
    assert "ends at about 7.3 kHz, although files with 24000 Hz could hold 12.0 kHz" in said["converted up"]
