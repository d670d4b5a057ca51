"""One hour in one file: seconds and memory of finding its pauses and of cutting it, with and without a transcript.

python benchmarks/long_file.py ../shared/speech/kathleen [--hours 1] [--detector energy]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
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
        before = peak_mib()
        for name, said in (("without text", None), ("with its transcript", text)):
            began = time.perf_counter()
            cut = cut_recording(Utterance("h", str(path), said, "s", "en"), CutSettings(detector=arguments.detector))
            clips = [entry for entry in cut if isinstance(entry, Utterance)]
            print(
                f"{arguments.hours:g} h, {arguments.detector}, {name}: {time.perf_counter() - began:.1f} s, "
                f"{len(clips)} clips of {np.sum([clip.seconds for clip in clips]) / 60:.1f} min, "
                f"{len(cut.entries) - len(clips)} dropped, peak memory {peak_mib() - before:+.0f} MiB"
            )


if __name__ == "__main__":
    main()
