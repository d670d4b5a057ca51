"""One hour in one file: seconds and memory of finding its pauses and of cutting it, with and without a transcript.

python benchmarks/long_file.py ../shared/speech/kathleen [--hours 1] [--detector energy]
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import soundfile
from cutting import RATE, Long, Sentence, join, transcript
from measuring import peak_mib

from cosytune.audio.files import read_wave
from cosytune.audio.silence import speech_bounds
from cosytune.data.cutting import CutSettings, cut_recording
from cosytune.data.manifest import Utterance


def write_hours(folder: Path, hours: float, path: Path) -> str:
    """Clips of an LJSpeech folder in a row until the file is long enough, and their texts."""
    rows = [row.split("|") for row in (folder / "metadata.csv").read_text(encoding="utf-8").splitlines()]
    texts: list[str] = []
    number = 0
    with soundfile.SoundFile(path, "w", RATE, 1) as out:
        while out.frames < hours * 3600 * RATE:
            sentences = []
            for name, *_, text in (rows[index % len(rows)] for index in range(number, number + 50)):
                wave, _ = read_wave(next(folder.rglob(f"{name}.flac")), RATE)
                begin, end = speech_bounds(wave, RATE)
                sentences.append(Sentence(text.strip(), wave[begin:end], ()))
            number += 50
            part: Long = join(sentences, path.with_suffix(".part.wav"), 0.6, 0.5, seed=number)
            out.write(read_wave(part.path)[0])
            texts.append(transcript(part, None))
    return " ".join(texts)


def cut(path: Path, text: str | None, detector: Any) -> tuple[float, int, float, int, float]:
    """Seconds that cutting took, clips and their minutes, dropped pieces, peak memory in MiB."""
    began = time.perf_counter()
    done = cut_recording(Utterance("h", str(path), text, "s", "en"), CutSettings(detector=detector))
    seconds = time.perf_counter() - began
    clips = [entry.seconds for entry in done if isinstance(entry, Utterance)]
    return seconds, len(clips), sum(clips) / 60, len(done.entries) - len(clips), peak_mib()


def main() -> None:
    """Print one line a way of cutting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--detector", choices=("energy", "silero"), default="energy")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "hours.wav"
        text = write_hours(arguments.folder, arguments.hours, path)
        for name, said in (("without text", None), ("with its transcript", text)):
            # A process of its own, for a peak of its own.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                seconds, clips, minutes, dropped, peak = process.submit(cut, path, said, arguments.detector).result()
            print(
                f"{arguments.hours:g} h, {arguments.detector}, {name}: {seconds:.1f} s, {clips} clips of {minutes:.1f} "
                f"min, {dropped} dropped, peak memory {peak:.0f} MiB, imports included"
            )


if __name__ == "__main__":
    main()
