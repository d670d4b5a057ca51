"""Long recordings cut into clips: how many clips carry exactly the words that are said in them, and where the cuts lie.

    python benchmarks/cutting.py ../shared/speech/kathleen ../shared/speech/kerstin [--sentences 150] [--json]

Clips of a folder in LJSpeech layout are joined to a long recording with pauses of varied length, so that the truth is
known. Where pocketsphinx's forced alignment can be made (English), the truth is known for every word; elsewhere for
every sentence, and clips that begin or end inside a sentence are counted as not checkable.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cosytune.audio.files import read_wave, write_wave
from cosytune.audio.silence import speech_bounds
from cosytune.data.cutting import CutSettings, cut_recording
from cosytune.data.hearing import words_of
from cosytune.data.manifest import Utterance
from cosytune.data.transcripts import open_recogniser

RATE = 16_000
ROOM = 3e-4
"""RMS of the noise that lies under everything, pauses too."""


@dataclass(frozen=True)
class Sentence:
    """A clip of the folder: its wave, trimmed, and begin and end of each word in seconds, if they are known."""

    text: str
    wave: np.ndarray
    words: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Long:
    """A made-up long recording: begin of each sentence in seconds."""

    path: Path
    sentences: list[Sentence]
    begins: list[float]


def read_sentences(folder: Path, count: int, language: str, seed: int) -> list[Sentence]:
    """Different sentences of a folder, chosen by a seed; English ones that cannot be aligned are left out."""
    rows = [row.split("|") for row in (folder / "metadata.csv").read_text(encoding="utf-8").splitlines()]
    by_text = {row[-1].strip(): row[0] for row in rows}
    order = np.random.default_rng(seed).permutation(len(by_text))
    chosen: list[Sentence] = []
    for index in order:
        text, name = list(by_text.items())[index]
        wave, _ = read_wave(next(folder.rglob(f"{name}.flac")), RATE)
        begin, end = speech_bounds(wave, RATE)
        wave = wave[max(0, begin - RATE // 50) : end + RATE // 50]
        words = word_times(text, wave) if language == "en" else ()
        if words is not None:
            chosen.append(Sentence(text, wave, words))
        if len(chosen) == count:
            break
    return chosen


def word_times(text: str, wave: np.ndarray) -> tuple[tuple[float, float], ...] | None:
    """Begin and end of each word by forced alignment, or None where a word is not in the dictionary."""
    from pocketsphinx import Decoder

    words = " ".join(re.sub(r"[^a-z']", " ", text.lower().replace("’", "'")).split())
    decoder = Decoder(samprate=float(RATE), loglevel="FATAL")
    try:
        decoder.set_align_text(words)
        decoder.start_utt()
        decoder.process_raw(np.round(wave * 32767).astype("<i2").tobytes(), full_utt=True)
        decoder.end_utt()
        found = [(seg.word, seg.start_frame / 100, (seg.end_frame + 1) / 100) for seg in decoder.seg()]
    except (RuntimeError, TypeError):
        return None
    spoken = [(begin, end) for word, begin, end in found if not word.startswith(("<", "["))]
    return tuple(spoken) if len(spoken) == len(words_of(text, "en")) else None


def join(sentences: list[Sentence], path: Path, pause: float, spread: float, seed: int) -> Long:
    """One recording with lognormal pauses (median `pause` s) and sentences of slightly different loudness."""
    random = np.random.default_rng(seed)
    position, begins, parts = 0.5, [], [np.zeros(RATE // 2)]
    for sentence in sentences:
        silence = np.zeros(round(float(np.clip(random.lognormal(np.log(pause), spread), 0.12, 3.0)) * RATE))
        parts += [sentence.wave * 10 ** (random.normal(0, 1.5) / 20), silence]
        begins.append(position)
        position += (len(sentence.wave) + len(silence)) / RATE
    wave = np.concatenate(parts)
    write_wave(path, (wave + ROOM * random.standard_normal(len(wave))).astype(np.float32), RATE)
    return Long(path, sentences, begins)


def subtitles_of(long: Long, seed: int) -> str:
    """An .srt as people make them: 0.7 s late, jittered, two sentences in some cues, long sentences in two."""
    random = np.random.default_rng(seed)
    cues: list[tuple[float, float, str]] = []
    for sentence, begin in zip(long.sentences, long.begins, strict=True):
        end = begin + len(sentence.wave) / RATE
        words = sentence.text.split()
        half = len(words) // 2 if len(words) > 11 else 0
        middle = begin + (end - begin) * len(" ".join(words[:half])) / len(sentence.text)
        if half:
            cues += [(begin, middle, " ".join(words[:half])), (middle, end, " ".join(words[half:]))]
        elif cues and random.random() < 0.2:
            cues[-1] = (cues[-1][0], end, f"{cues[-1][2]} {sentence.text}")
        else:
            cues.append((begin, end, sentence.text))
    moved = [(*(np.array(cue[:2]) + 0.7 + random.normal(0, 0.15, 2)), cue[2]) for cue in cues]
    return "\n".join(
        f"{number}\n{stamp(begin)} --> {stamp(max(end, begin + 0.3))}\n{text}\n"
        for number, (begin, end, text) in enumerate(moved, start=1)
    )


def stamp(seconds: float) -> str:
    """A time as SubRip writes it."""
    milliseconds = max(0, round(seconds * 1000))
    return (
        f"{milliseconds // 3_600_000:02d}:{milliseconds // 60_000 % 60:02d}:{milliseconds // 1000 % 60:02d},"
        f"{milliseconds % 1000:03d}"
    )


def judge(long: Long, clips: list[Utterance], language: str) -> dict[str, Any]:
    """Compare each clip's text with the words that lie in it."""
    known = bool(long.sentences[0].words)
    words, borders = timeline(long, language)
    exact = wrong = unknown = 0
    errors: list[float] = []
    for clip in clips:
        start, end = clip.start or 0.0, clip.end or 0.0
        inside = [word for word, begin, stop in words if start < (begin + stop) / 2 < end]
        off = [
            max(0.0, float(np.min(np.maximum(0, np.maximum(borders[:, 0] - t, t - borders[:, 1])))))
            for t in (start, end)
        ]
        if not known and max(off) > 0.1:
            unknown += 1
            continue
        errors += off
        right = words_of(clip.text or "", language) == inside
        exact += right
        wrong += not right
    seconds = sum(clip.seconds for clip in clips)
    said = sum(len(sentence.wave) / RATE for sentence in long.sentences)
    return {
        "clips": len(clips),
        "exact": exact,
        "wrong": wrong,
        "not checkable": unknown,
        "of the speech, %": round(100 * min(1.0, seconds / said), 1),
        "seconds, median": round(float(np.median([clip.seconds for clip in clips])), 1) if clips else 0,
        "cut beside its pause, ms, 95 %": round(1000 * float(np.percentile(errors, 95))) if errors else 0,
        "cut beside its pause, ms, worst": round(1000 * max(errors)) if errors else 0,
    }


def timeline(long: Long, language: str) -> tuple[list[tuple[str, float, float]], np.ndarray]:
    """Words with their times (shares of the sentence where they are not known), and the gaps between words [., 2]."""
    words, spans = [], []
    for sentence, offset in zip(long.sentences, long.begins, strict=True):
        said, length = words_of(sentence.text, language), len(sentence.wave) / RATE
        if sentence.words:
            times = [(offset + begin, offset + end) for begin, end in sentence.words]
            spans += times
        else:
            times = [(offset + n / len(said) * length, offset + (n + 1) / len(said) * length) for n in range(len(said))]
            spans.append((offset, offset + length))
        words += [(word, *time) for word, time in zip(said, times, strict=True)]
    edges = np.array(spans)
    # Forced alignment is right to about 50 ms.
    return words, np.stack([np.append(0.0, edges[:, 1]) - 0.05, np.append(edges[:, 0], np.inf) + 0.05], axis=1)


def transcript(long: Long, seed: int | None) -> str:
    """The sentences in a row; with a seed some were read that are not in the text, and some are in it and not read."""
    if seed is None:
        return " ".join(sentence.text for sentence in long.sentences)
    random = np.random.default_rng(seed)
    texts = []
    for sentence in long.sentences:
        if random.random() < 0.05:
            texts.append("This sentence stands in the book, and nobody read it.")
        if random.random() >= 0.05:
            texts.append(sentence.text)
    return " ".join(texts)


def measure(folder: Path, count: int, detector: Any, with_recogniser: bool, seed: int) -> dict[str, dict[str, Any]]:
    """Every way to cut one folder's recording; the seed chooses sentences, pauses, gaps and times of subtitles."""
    language = "de" if "kerstin" in folder.name else "en"
    sentences = read_sentences(folder, count, language, seed)
    settings = CutSettings(detector=detector)
    hear = open_recogniser("pocketsphinx").transcribe if with_recogniser else None
    results: dict[str, dict[str, Any]] = {}

    def run(name: str, long: Long, text: str | None, transcribe: Callable[[np.ndarray], str] | None = None) -> None:
        item = Utterance("long", str(long.path), text, "speaker", language)
        began = time.perf_counter()
        cut = cut_recording(item, settings, transcribe)
        spent = time.perf_counter() - began
        clips = [entry for entry in cut if isinstance(entry, Utterance)]
        results[name] = {
            **judge(long, clips, language),
            "seconds kept": round(sum(clip.seconds for clip in clips)),
            "of": round(sum(entry.seconds for entry in cut)),
            "minutes": round(length(long) / 60, 1),
            "took, s": round(spent, 1),
        }

    with tempfile.TemporaryDirectory() as place:
        for name, pause in (("pauses of 0.6 s", 0.6), ("pauses of 0.3 s", 0.3)):
            long = join(sentences, Path(place) / f"{pause}.wav", pause, 0.5, seed=seed + 1)
            run(f"transcript, {name}", long, transcript(long, None))
            run(f"transcript with gaps, {name}", long, transcript(long, seed + 2))
            if hear is not None:
                run(f"transcript with gaps and recogniser, {name}", long, transcript(long, seed + 2), hear)
            long.path.with_suffix(".srt").write_text(subtitles_of(long, seed + 3), encoding="utf-8")
            run(f"subtitles, {name}", long, None)
    return results


def length(long: Long) -> float:
    """Seconds of the recording."""
    return long.begins[-1] + len(long.sentences[-1].wave) / RATE


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--sentences", type=int, default=150)
    parser.add_argument("--detector", choices=("energy", "silero"), nargs="+", default=["energy", "silero"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recogniser", action="store_true", help="also let pocketsphinx help to place the transcript")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = {
        f"{folder.name}, {detector}": measure(
            folder, arguments.sentences, detector, arguments.recogniser and "kerstin" not in folder.name, arguments.seed
        )
        for folder in arguments.folders
        for detector in arguments.detector
    }
    if arguments.json:
        print(json.dumps(results, indent=1, ensure_ascii=False))
        return
    for title, ways in results.items():
        for way, figures in ways.items():
            print(f"{title} | {way} | " + " | ".join(f"{name} {value}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
