"""How letters sound is learned from a recording, and tells where its text is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from cosytune.data.cutting import CutSettings, cut_recording
from cosytune.data.letters import Line, Run, Sound, align, hear_letters, letters_of, read_sound, score_runs
from cosytune.data.manifest import Utterance
from cosytune.data.placing import LetterEar

RATE = 16_000
ALPHABET = "abdefgiklmno"


def speak(text: str, random: np.random.Generator) -> np.ndarray:
    """Each letter is a chord of its own for some 80 ms."""
    parts = []
    for letter in filter(str.isalpha, text.lower()):
        time = np.arange(round(random.uniform(0.06, 0.1) * RATE)) / RATE
        tones = np.random.default_rng(ord(letter)).uniform(200, 4000, 3)
        parts.append(sum(np.sin(2 * np.pi * tone * time) for tone in tones) / 8)
    return np.concatenate(parts)


def sentence(random: np.random.Generator) -> str:
    letters = random.choice(list(ALPHABET), (random.integers(5, 8), 4))
    return " ".join("".join(word) for word in letters).capitalize() + "."


def talk(path: Path, said: list[str]) -> list[tuple[float, float]]:
    """A recording of sentences with pauses of half a second, and when each is said."""
    random = np.random.default_rng(1)
    parts, spans, position = [np.zeros(RATE // 2)], [], 0.5
    for text in said:
        parts += [speak(text, random), np.zeros(RATE // 2)]
        spans.append((position, position + len(parts[-2]) / RATE))
        position = spans[-1][1] + 0.5
    wave = np.concatenate(parts)
    soundfile.write(path, wave + 1e-4 * random.standard_normal(len(wave)), RATE)
    return spans


def clips_of(path: Path, text: str) -> list[Utterance]:
    cut = cut_recording(Utterance("talk", str(path), text, "s", "en"), CutSettings(detector="energy"))
    held = sum(entry.seconds or 0.0 for entry in cut) + cut.between
    assert held == pytest.approx(soundfile.info(path).duration, abs=2e-3)
    return [entry for entry in cut if isinstance(entry, Utterance)]


def test_a_transcript_with_gaps_loses_what_is_missing_and_no_more(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    said = [sentence(random) for _ in range(36)]
    written = [*said[:12], *said[13:16], sentence(random), *said[16:]]
    spans = talk(tmp_path / "talk.wav", said)
    clips = clips_of(tmp_path / "talk.wav", " ".join(written))
    for clip in clips:
        inside = [text for text, (begin, end) in zip(said, spans, strict=True) if clip.start <= begin < end <= clip.end]
        assert clip.text == " ".join(inside)
    assert sum(clip.text.count(".") for clip in clips if clip.text) == 35


def test_a_text_of_something_else_teaches_nothing(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    said = [sentence(random) for _ in range(24)]
    spans = talk(tmp_path / "talk.wav", said)
    sound = read_sound(tmp_path / "talk.wav", 0.0, spans[-1][1] + 0.5, np.array(spans))
    assert sound.frames.shape == (sound.begins[-1], 26)
    seconds = sum(end - begin for begin, end in spans)
    assert len(sound.frames) == pytest.approx(50 * seconds, abs=len(said))

    def lines(texts: list[str]) -> tuple[list[Line], int]:
        letters, alphabet = letters_of(texts, "en")
        edges = zip(sound.begins[:-1], sound.begins[1:], letters, strict=True)
        return [Line(int(first), int(last), own) for first, last, own in edges], alphabet

    right = hear_letters(sound, *lines(said))
    assert right is not None and right.usual > 1
    assert hear_letters(sound, *lines([sentence(random) for _ in said])) is None
    assert hear_letters(sound, lines(said)[0][:8], len(ALPHABET)) is None, "too little to be sure"
    with pytest.raises(ValueError, match="nothing was learned"):
        LetterEar([], "en", sound).fit(*2 * [None])  # type: ignore[arg-type]


def test_runs_have_the_score_of_the_best_path() -> None:
    random = np.random.default_rng(0)
    table = random.normal(size=(40, 5)).astype(np.float32)
    letters = random.integers(0, 5, 9)
    run = Run(3, np.array([7, 20, 30]), letters, np.array([1, 4, 9]))
    (scores,) = score_runs(table, [run])
    for row, size in enumerate(run.sizes):
        for column, frames in enumerate(run.frames):
            line = Line(3, 3 + int(frames), letters[:size])
            (path,) = align(table, [line])
            steps = np.diff(np.concatenate([[-1], path, [size]]))
            skipped = int((steps == 2).sum())
            best = table[np.arange(3, 3 + frames), line.letters[path]].sum() - 4.0 * skipped
            assert scores[row, column] == pytest.approx(best, abs=1e-3)


def test_letters_are_what_is_said() -> None:
    (first, second), alphabet = letters_of(["Ab, 2.", "TWO b!"], "en")
    assert alphabet == 5 and list(first[-3:]) == list(second[:3])


def test_a_recording_without_a_whole_frame_has_no_sound(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(4000, 0.1), 8000)
    sound = read_sound(tmp_path / "a.wav", 0.0, 0.5, np.array([[0.0, 0.499]]))
    assert isinstance(sound, Sound) and np.isfinite(sound.frames).all()
