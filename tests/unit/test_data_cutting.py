"""Long recordings: every second is accounted for, cuts lie in pauses, texts go with their speech."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.audio.pauses import Activity
from cosytune.data.cutting import Cut, CutSettings, cut_recording
from cosytune.data.manifest import Utterance
from cosytune.data.pieces import Joint, choose_pieces, joints_of_speech
from cosytune.data.results import LedgerLine
from cosytune.data.subtitles import Cue
from cosytune.errors import InputError
from tests.unit.long_audio import recording, write_recording

ENERGY = CutSettings(detector="energy")
# Six "sentences" of different length with long pauses, and a comma in the second.
SPOKEN = [(0.5, 4.0), (5.0, 7.0), (7.3, 9.0), (10.0, 13.5), (14.5, 20.0), (21.0, 23.0), (24.0, 29.0)]
TEXTS = [
    "The first of these sentences is here.",
    "Then comes another one, with half of it later.",
    "Thirdly something else is said by me.",
    "The fourth of them is really rather long, longer than the others here are.",
    "Short number five is it.",
    "And at the end there is a last sentence, that goes on to the end.",
]
TRUTH = [(0.5, 4.0), (5.0, 9.0), (10.0, 13.5), (14.5, 20.0), (21.0, 23.0), (24.0, 29.0)]
SECONDS = 30.0


def clips_of(cut: Cut) -> list[Utterance]:
    return [entry for entry in cut if isinstance(entry, Utterance)]


def dropped_of(cut: Cut) -> list[LedgerLine]:
    return [entry for entry in cut if isinstance(entry, LedgerLine)]


def assert_adds_up(cut: Cut, seconds: float) -> None:
    """Clips, dropped pieces and pauses are the recording; clips do not overlap and have names of their own."""
    clips, lines = clips_of(cut), dropped_of(cut)
    held = sum(clip.seconds for clip in clips) + sum(line.seconds or 0.0 for line in lines)
    assert held + cut.between == pytest.approx(seconds, abs=2e-3)
    assert len({entry.id for entry in cut}) == len(cut.entries)
    assert set(cut.changes) == {clip.id for clip in clips}
    for before, after in itertools.pairwise(clips):
        assert before.end is not None and after.start is not None and before.end <= after.start
    assert all(clip.seconds == pytest.approx((clip.end or 0) - (clip.start or 0)) for clip in clips)


def test_a_long_recording_is_cut_in_its_pauses(tmp_path: Path) -> None:
    item = write_recording(tmp_path / "talk.wav", SPOKEN, SECONDS)
    cut = cut_recording(item, ENERGY)
    assert_adds_up(cut, SECONDS)
    clips = clips_of(cut)
    assert len(clips) > 2 and not dropped_of(cut)
    for clip in clips:
        assert 2 <= clip.seconds <= 20 and clip.audio == item.audio and clip.text is None
        assert not any(begin < edge < end for begin, end in SPOKEN for edge in (clip.start or 0, clip.end or 0))
    assert clips[0].start == pytest.approx(0.3, abs=0.03)  # 0.2 s of silence are kept
    assert clips[0].id == f"talk/{round((clips[0].start or 0) * 1000):09d}"
    assert set(cut.changes.values()) == {"cut out of a longer recording: of 30.0 s, cut at its pauses"}
    assert cut_recording(item, ENERGY) == cut and pickle.loads(pickle.dumps(cut)) == cut  # noqa: S301


def test_a_part_of_a_file_keeps_the_files_times(tmp_path: Path) -> None:
    item = write_recording(tmp_path / "talk.wav", SPOKEN, SECONDS)
    part = Utterance("part", item.audio, None, "someone", "en", None, 4.5, 29.5)
    cut = cut_recording(part, ENERGY)
    assert_adds_up(cut, 25.0)
    assert clips_of(cut)[0].start == pytest.approx(4.8, abs=0.03)
    assert clips_of(cut)[0].id == f"part/{round((clips_of(cut)[0].start or 0) * 1000):09d}"


@pytest.mark.parametrize("text", [None, "Some words."])
def test_what_is_short_enough_stays_whole(tmp_path: Path, text: str | None) -> None:
    item = write_recording(tmp_path / "a.wav", [(1, 10)], 12)
    item = Utterance(item.id, item.audio, text, "s", "en")
    assert cut_recording(item, ENERGY) == Cut((item,))


def test_what_cannot_be_opened_is_left_to_the_measuring_step(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"no audio")
    for name in ("a.wav", "absent.wav"):
        item = Utterance("a", str(tmp_path / name), None, "s", "en")
        assert cut_recording(item, ENERGY) == Cut((item,))
    item = write_recording(tmp_path / "b.wav", [(1, 10)], 12)
    outside = Utterance("b", item.audio, None, "s", "en", None, 40.0, 80.0)
    assert cut_recording(outside, ENERGY) == Cut((outside,))


def test_a_recording_that_breaks_off_inside_is_dropped_with_the_reason(tmp_path: Path) -> None:
    wave = recording(SPOKEN, SECONDS, 8_000)
    wave[-1] = np.nan
    soundfile.write(tmp_path / "a.wav", wave, 8_000, "FLOAT")
    (line,) = dropped_of(cut_recording(Utterance("a", str(tmp_path / "a.wav"), None, "s", "en"), ENERGY))
    assert line.reason.startswith("unreadable: ") and line.seconds == SECONDS


@pytest.mark.parametrize("level", [0.0, 0.1], ids=["silence", "noise"])
def test_ten_minutes_without_speech_are_dropped(tmp_path: Path, level: float) -> None:
    rate = 8_000
    minute = (level * np.random.default_rng(0).standard_normal((60 * rate, 2))).astype(np.float32)
    with soundfile.SoundFile(tmp_path / "long.wav", "w", rate, 2) as out:
        for _ in range(10):
            out.write(minute)
    item = Utterance("long", str(tmp_path / "long.wav"), "A text nobody reads.", "s", "en")
    (line,) = dropped_of(cut_recording(item, ENERGY))
    assert line.reason == "no speech: nothing stands out of its noise or silence" and line.seconds == 600


def test_endless_speech_is_cut_at_quiet_spots_where_it_has_no_text(tmp_path: Path) -> None:
    item = write_recording(tmp_path / "talk.wav", [(1, 46)], 47)
    cut = cut_recording(item, ENERGY)
    assert_adds_up(cut, 47)
    assert len(clips_of(cut)) >= 3 and not dropped_of(cut)
    assert all("because nobody pauses" in change for change in cut.changes.values())
    # With a text, a clip that begins in the middle of a word would teach a wrong one.
    (line,) = dropped_of(cut_recording(Utterance("talk", item.audio, "Words. " * 90, "s", "en"), ENERGY))
    assert line.reason.startswith("no certain place to cut: 45.4 s without a pause at a border of the text: “Words.")


def test_a_word_between_long_silences_is_dropped_with_the_reason(tmp_path: Path) -> None:
    cut = cut_recording(write_recording(tmp_path / "a.wav", [(5, 5.6), (15, 25)], 26), ENERGY)
    assert_adds_up(cut, 26)
    (line,) = dropped_of(cut)
    assert line.reason.startswith("shorter than 2 s: 1.0") and line.id == "a/000004780"


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0.06, 45), st.floats(0.1, 6)), min_size=1, max_size=25),
    st.floats(0, 3),
    st.floats(0, 0.5),
    st.sampled_from([(2.0, 20.0), (0.5, 5.0), (5.0, 30.0)]),
)
def test_pieces_and_pauses_are_the_recording(
    runs: list[tuple[float, float]], lead: float, keep: float, lengths: tuple[float, float]
) -> None:
    spans, position = [], lead
    for said, pause in runs:
        spans.append((position, position + said))
        position += said + pause
    levels = np.random.default_rng(0).uniform(-60, -20, round(position * 100)).astype(np.float32)
    activity = Activity(position, np.array(spans), levels, "energy")
    limits = CutSettings(*lengths, keep_silence=keep)
    pieces = choose_pieces(joints_of_speech(activity, limits), limits)
    edges = [edge for piece in pieces for edge in (piece.start, piece.end)]
    assert edges == sorted(edges) and edges[0] >= 0 and edges[-1] <= position + 1e-3
    # All speech lies in pieces: rounding to milliseconds is all that may be lost.
    held = sum(
        max(0.0, min(piece.end, end) - max(piece.start, begin)) for piece in pieces for begin, end in activity.speech
    )
    assert held == pytest.approx(sum(said for said, _ in runs), abs=1e-3 * (len(pieces) + 1))
    assert all(piece.seconds <= limits.longest + 1e-9 for piece in pieces)


def test_cuts_prefer_long_pauses_and_clips_of_comfortable_length() -> None:
    limits = CutSettings()
    pauses = [0.3, 1.0, 0.3, 0.3, 0.9, 0.3]
    joints, position = [Joint(0.0, 0.5, is_end=True)], 0.5
    for pause in pauses:
        position += 3.0
        joints.append(Joint(position, position + pause, 2.0 * max(0.0, 1.0 - pause / 0.8)))
        position += pause
    joints.append(Joint(position + 3.0, position + 3.5, is_end=True))
    pieces = choose_pieces(joints, limits)
    assert [round(piece.seconds, 1) for piece in pieces] == [6.7, 10.0, 6.7]


# --- with text ------------------------------------------------------------------------------------------------------


def srt(cues: list[Cue]) -> str:
    def stamp(seconds: float) -> str:
        return f"{int(seconds // 3600):02d}:{int(seconds // 60 % 60):02d}:{seconds % 60:06.3f}".replace(".", ",")

    return "\n".join(f"{stamp(cue.start)} --> {stamp(cue.end)}\n{cue.text}\n" for cue in cues)


def with_subtitles(folder: Path, cues: list[Cue], name: str = "talk.srt", spoken: object = SPOKEN) -> Cut:
    item = write_recording(folder / "talk.wav", spoken, SECONDS)  # type: ignore[arg-type]
    (folder / name).write_text(srt(cues), encoding="utf-8")
    cut = cut_recording(item, ENERGY)
    assert_adds_up(cut, SECONDS)
    return cut


def said_in(clip: Utterance) -> str:
    """The sentences whose middle lies in a clip."""
    return " ".join(
        text
        for text, (begin, end) in zip(TEXTS, TRUTH, strict=True)
        if (clip.start or 0) < (begin + end) / 2 < (clip.end or 0)
    )


@pytest.mark.parametrize("late", [0.0, 0.8, -1.5])
def test_subtitles_go_with_their_speech_even_if_all_come_late(tmp_path: Path, late: float) -> None:
    cues = [Cue(b + max(late, -b), e + late, text) for text, (b, e) in zip(TEXTS, TRUTH, strict=True)]
    cut = with_subtitles(tmp_path, cues, "talk.en.srt")
    assert not dropped_of(cut) and len(clips_of(cut)) >= 3
    assert [clip.text for clip in clips_of(cut)] == [said_in(clip) for clip in clips_of(cut)]
    (change,) = set(cut.changes.values())
    assert change.startswith("cut out of a longer recording: of 30.0 s, text of talk.en.srt")
    assert ("moved by" in change) == bool(late)
    if late:
        assert float(change.split()[-2]) == pytest.approx(-late, abs=0.1)


def test_sentences_run_on_over_cues_and_two_share_one(tmp_path: Path) -> None:
    first, second = TEXTS[1].split(", ")
    cues = [
        Cue(0.5, 4.1, TEXTS[0]),
        Cue(4.9, 7.2, f"{first},"),
        Cue(7.2, 9.0, second),
        Cue(10.0, 20.1, f"{TEXTS[2]} {TEXTS[3]}"),
        Cue(21.0, 29.0, f"{TEXTS[4]} {TEXTS[5]}"),
    ]
    cut = with_subtitles(tmp_path, cues)
    assert [clip.text for clip in clips_of(cut)] == [said_in(clip) for clip in clips_of(cut)]
    assert " ".join(clip.text or "" for clip in clips_of(cut)) == " ".join(TEXTS)


def test_what_has_no_match_is_dropped_and_the_rest_is_kept(tmp_path: Path) -> None:
    cues = [Cue(b, e, text) for text, (b, e) in zip(TEXTS, TRUTH, strict=True)]
    music = Cue(10.0, 13.5, "♪ la la ♪")
    unheard = Cue(20.2, 20.8, "Nobody says this.")
    cut = with_subtitles(tmp_path, [*cues[:2], music, cues[3], *cues[5:], unheard])
    reasons = [line.reason for line in dropped_of(cut)]
    assert reasons == [
        "subtitle unusable: it is sung: “♪ la la ♪”",
        "text without speech: “Nobody says this.”",
        "speech without text",
    ]
    assert [clip.text for clip in clips_of(cut)] == [said_in(clip) for clip in clips_of(cut)]
    assert [line.seconds for line in dropped_of(cut)][1] == 0.0


def test_several_subtitles_in_one_silence_have_names_of_their_own(tmp_path: Path) -> None:
    cues = [Cue(b, e, text) for text, (b, e) in zip(TEXTS, TRUTH, strict=True)]
    late = [Cue(31.0 + n, 31.5 + n, f"Nobody says number {n}.") for n in range(3)]
    cut = with_subtitles(tmp_path, [*cues, Cue(29.3, 29.5, "Nor this."), Cue(29.6, 29.8, "Nor that."), *late])
    assert [clip.text for clip in clips_of(cut)] == [said_in(clip) for clip in clips_of(cut)]
    assert sum(line.seconds or 0 for line in dropped_of(cut)) == 0
    told = " ".join(line.reason for line in dropped_of(cut))
    assert all(words in told for words in ("Nor this.", "Nor that.", "Nobody says number"))


def test_a_subtitle_of_another_film_is_dropped(tmp_path: Path) -> None:
    cues = [Cue(b, e, text) for text, (b, e) in zip(TEXTS, TRUTH, strict=True)]
    cues[2] = Cue(10.0, 13.5, TEXTS[3] * 3)
    (line,) = dropped_of(with_subtitles(tmp_path, cues))
    assert (
        line.reason.startswith("text does not fit the speech here or around: ")
        and "are usual: “The fourth" in line.reason
    )


def test_speakers_of_voice_tags_part_clips(tmp_path: Path) -> None:
    item = write_recording(tmp_path / "talk.wav", SPOKEN, SECONDS)
    lines = [
        f"00:{b:06.3f} --> 00:{e:06.3f}\n<v {'Ann' if n < 3 else 'Bob'}>{text}\n"
        for n, (text, (b, e)) in enumerate(zip(TEXTS, TRUTH, strict=True))
    ]
    (tmp_path / "talk.vtt").write_text("WEBVTT\n\n" + "\n".join(lines))
    clips = clips_of(cut_recording(item, ENERGY))
    assert {clip.speaker for clip in clips} == {"Ann", "Bob"}
    assert all((clip.speaker == "Ann") == ((clip.end or 0) < 14.4) for clip in clips)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "subtitles empty: talk.srt holds no cue"),
        ("00:00:01,000 --> 00:00:02,000\n[Music]\n", "subtitles without speech: no cue of talk.srt holds words"),
        ("01:00:01,000 --> 01:00:02,000\nBeyond.\n", "subtitle unusable: it comes after the end: “Beyond.”"),
    ],
)
def test_subtitles_of_nothing_are_no_text(tmp_path: Path, content: str, reason: str) -> None:
    item = write_recording(tmp_path / "talk.wav", SPOKEN, SECONDS)
    (tmp_path / "talk.srt").write_text(content)
    cut = cut_recording(item, ENERGY)
    assert not clips_of(cut)
    assert any(line.reason.startswith(reason) for line in dropped_of(cut))
    assert sum(line.seconds or 0 for line in dropped_of(cut)) + cut.between == pytest.approx(SECONDS, abs=2e-3)


def test_short_recordings_have_subtitles_too(tmp_path: Path) -> None:
    item = write_recording(tmp_path / "talk.wav", [(0.5, 4.0)], 5)
    (tmp_path / "talk.srt").write_text(srt([Cue(0.5, 4.0, TEXTS[0])]))
    (clip,) = clips_of(cut_recording(item, ENERGY))
    assert clip.text == TEXTS[0] and clip.language == "en"
    known = Utterance("talk", item.audio, "Another text.", "s", "en")
    assert cut_recording(known, ENERGY) == Cut((known,))


def test_a_transcript_of_the_whole_is_laid_along_the_pauses(tmp_path: Path) -> None:
    item = write_recording(tmp_path / "talk.wav", SPOKEN, SECONDS)
    cut = cut_recording(Utterance("talk", item.audio, " ".join(TEXTS), "s", "en"), ENERGY)
    assert_adds_up(cut, SECONDS)
    assert not dropped_of(cut) and len(clips_of(cut)) >= 3
    assert [clip.text for clip in clips_of(cut)] == [said_in(clip) for clip in clips_of(cut)]
    assert all("its transcript placed by pauses" in change for change in cut.changes.values())


def test_a_recogniser_helps_to_place_it(tmp_path: Path) -> None:
    """Sentences of equal length, one of which was not read: only their words tell which."""
    said = [f"{word} {word} {word} {word} {word} {word}." for word in ("alpha", "bravo", "gamma", "delta", "omega")]
    spoken = [(1.0 + 4 * n, 3.5 + 4 * n) for n in range(6)]
    item = write_recording(tmp_path / "talk.wav", spoken, 25.0)
    whole = Utterance(
        "talk",
        item.audio,
        " ".join([*said[:2], "other other other other other other.", *said[2:], "final " * 6]),
        "s",
        "en",
    )
    heard = iter([*(text.rstrip(".") for text in said), "final " * 6])
    alone = clips_of(cut_recording(whole, ENERGY))
    helped = clips_of(cut_recording(whole, CutSettings(longest=5.0, detector="energy"), lambda wave: next(heard)))
    assert len(alone) < len(spoken)
    assert {clip.text for clip in helped} <= {*said, ("final " * 6).strip()} and len(helped) >= 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shortest": 20.0}, "give 0 < shortest < longest"),
        ({"longest": float("nan")}, "give 0 < shortest < longest"),
        ({"keep_silence": 6.0}, r"give 0 to a quarter of the longest clip \(5 s\)"),
        ({"confidence": 0.4}, "give a probability above 0.5"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CutSettings(**values)  # type: ignore[arg-type]
