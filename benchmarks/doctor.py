"""How many planted defects the data doctor finds, and how often it cries wolf on clips that nobody touched.

Each defect is planted in a few clips of a clean corpus, one defect at a time, among all the untouched others:

    python benchmarks/doctor.py --source ../shared/speech/kathleen --others ../shared/speech/kerstin --clips 120

What the judges hear of a sound is kept in --work, so that a run that was stopped goes on and one that is repeated after
a change of the doctor is fast; measures are always taken anew. --defects 0:10 makes the first ten rows only.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
from measuring import machine

from cosytune.audio.files import encode_wave, read_wave, write_wave
from cosytune.audio.resample import resample
from cosytune.comparison.compose.checking import make_advisers
from cosytune.data.doctor.checking import Advisers, conclude, make_listener
from cosytune.data.doctor.levels import measure_levels
from cosytune.data.doctor.listening import Heard, Listener
from cosytune.data.doctor.settings import Limits
from cosytune.data.importers import open_source
from cosytune.data.languages import with_languages
from cosytune.data.manifest import Utterance

Change = Callable[[np.ndarray, int, np.random.Generator], tuple[np.ndarray, int]]

GERMAN = "Das ist nicht der Text, der hier auf Englisch gesprochen wird, und er ist auch nicht für sie."
CYRILLIC = "Это совсем не тот текст"
ENGLISH = "This is not the text that was spoken here, and it was written in the language of the others."


@dataclass(frozen=True)
class Plant:
    """A defect to plant: `change` alters the sound, `text` the transcript; `expect` are the findings that count."""

    name: str
    expect: tuple[str, ...]
    change: Change | None = None
    text: Callable[[int, Sequence[Utterance]], str] | None = None
    extra: bool = False
    """The planted clip stands beside its original instead of in its place."""


def plants(others: Sequence[Utterance], language: str) -> list[Plant]:
    """All defects; `others` are clips of another speaker."""
    found = [
        Plant(f"clipped {depth} dB below the peak", ("clipping", "limiter"), _clipped(depth)) for depth in (1, 3, 6, 12)
    ]
    found += [
        Plant("clipped 6 dB, then 6 dB softer", ("clipping",), _chain(_clipped(6), _gain(-6))),
        Plant("clipped 6 dB, then resampled", ("clipping", "limiter"), _chain(_clipped(6), _narrowed(16_000))),
        Plant("8 kHz converted up", ("narrow band",), _narrowed(8000)),
        Plant("11 kHz converted up", ("narrow band",), _narrowed(11_025)),
        Plant("16 kHz converted up", ("narrower band", "narrow band"), _narrowed(16_000)),
        Plant("8 kHz converted up, hiss at 25 dB", ("narrow band",), _chain(_narrowed(8000), _noisy("white", 25))),
        Plant("8 kHz file", ("narrow band",), _at_rate(8000)),
        Plant("40 dB softer", ("too quiet",), _gain(-40)),
        Plant("20 dB softer", ("too quiet", "odd level"), _gain(-20)),
        Plant("12 dB louder", ("odd level", "clipping"), _gain(12)),
    ]
    for kind in ("white", "pink"):
        found += [Plant(f"{kind} noise at {snr} dB", ("noise",), _noisy(kind, snr)) for snr in (25, 20, 15, 10, 5, 0)]
    found += [Plant(f"music at {snr} dB", ("music", "noise"), _musical(snr)) for snr in (25, 20, 15, 10, 5)]
    found += [Plant(f"music at {snr} dB, named as such", ("music",), _musical(snr)) for snr in (20, 10)]
    found += [
        Plant("mains hum at 20 dB", ("hum",), _hum(20)),
        Plant("mains hum at 30 dB", ("hum",), _hum(30)),
        Plant("2 s of digital silence at both ends", ("edge silence",), _padded(2.0, 0.0)),
        Plant("2 s of room noise at both ends", ("edge silence",), _padded(2.0, 1e-3)),
        Plant("2 s of silence inside", ("long pause", "pace"), _split(2.0)),
        Plant("last word cut off inside", ("cut end", "pace", "transcript"), _cut(0.75)),
        Plant("last 10 % cut off", ("cut end", "pace", "transcript"), _cut(0.9)),
        Plant("first 10 % cut off", ("cut start", "pace", "transcript"), _cut_start(0.1)),
        Plant("offset of 5 %", ("offset",), lambda wave, rate, rng: (wave + 0.05, rate)),
        Plant("silence only", ("silent",), lambda wave, rate, rng: (np.zeros_like(wave), rate)),
        Plant("noise only", ("noise", "silent", "transcript"), _only_noise),
        Plant("0.1 s long", ("too short",), lambda wave, rate, rng: (_middle(wave, round(0.1 * rate)), rate)),
        Plant("exact copy", ("copy",), lambda wave, rate, rng: (wave, rate), extra=True),
        Plant("copy 10 dB softer", ("copy",), _gain(-10), extra=True),
        Plant("copy as MP3", ("copy",), _as_mp3, extra=True),
        Plant("copy with 0.7 s more silence", ("copy",), _padded(0.7, 0.0), extra=True),
        Plant("copy of 70 % of it", ("copy",), _cut(0.7), extra=True),
        Plant("copy with another text", ("same sound, other text",), lambda w, r, g: (w, r), _other_text, extra=True),
        Plant("another clip's text", ("transcript", "pace"), None, _other_text),
        Plant("another clip's text, found by ear", ("transcript",), None, _other_text),
        Plant("half of the text", ("pace", "transcript"), None, _half_text),
        Plant("one word more (six letters)", ("pace", "transcript"), None, _longer_text),
        Plant("text in another language", ("wrong language",), None, _foreign_text(language)),
        Plant(
            "text in Cyrillic letters", ("wrong script", "wrong language"), None, lambda n, c: "Это совсем не тот текст"
        ),
        Plant("one look-alike letter", ("mixed alphabets",), None, lambda n, c: (c[n].text or "").replace("a", "а", 1)),
        Plant("figures", ("figures",), None, lambda n, c: f"{c[n].text} It cost $25 in 1998."),
        Plant("empty text", ("empty transcript",), None, lambda n, c: "..."),
    ]
    if others:
        found.append(Plant("another speaker", ("speaker",), _spoken_by(others)))
        found.append(Plant("another speaker, by any finding", (), _spoken_by(others)))
    return found


def _chain(*changes: Change) -> Change:
    def change(wave: np.ndarray, rate: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        for step in changes:
            wave, rate = step(wave, rate, rng)
        return wave, rate

    return change


def _clipped(depth: float) -> Change:
    def change(wave: np.ndarray, rate: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        limit = np.abs(wave).max() * 10 ** (-depth / 20)
        return np.clip(wave, -limit, limit), rate

    return change


def _gain(decibels: float) -> Change:
    return lambda wave, rate, rng: (np.clip(wave * 10 ** (decibels / 20), -1, 1), rate)


def _narrowed(hertz: int) -> Change:
    return lambda wave, rate, rng: (resample(resample(wave, rate, hertz), hertz, rate)[: len(wave)], rate)


def _at_rate(hertz: int) -> Change:
    return lambda wave, rate, rng: (resample(wave, rate, hertz), hertz)


def _added(wave: np.ndarray, rate: int, background: np.ndarray, snr: float) -> np.ndarray:
    """A wave with a background so many dB below its speech."""
    speech = 10 ** (measure_levels(wave - wave.mean(), rate).level / 20)
    return wave + background * speech * 10 ** (-snr / 20) / np.sqrt(np.square(background).mean())


def _noise(samples: int, kind: str, rng: np.random.Generator) -> np.ndarray:
    wave = rng.normal(size=samples)
    if kind == "pink":
        spectrum = np.fft.rfft(wave)
        wave = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), samples)
    return wave


def _noisy(kind: str, snr: float) -> Change:
    return lambda wave, rate, rng: (_added(wave, rate, _noise(len(wave), kind, rng), snr), rate)


def _only_noise(wave: np.ndarray, rate: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    return 0.05 * _noise(len(wave), "pink", rng) / 3, rate


def _music(samples: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Chords of plucked tones with five partials, a new one every 0.4 to 0.8 s."""
    wave = np.zeros(samples)
    begin = 0
    while begin < samples:
        length = min(samples - begin, round(rng.uniform(0.4, 0.8) * rate))
        seconds = np.arange(length) / rate
        root = 110 * 2 ** (rng.integers(0, 24) / 12)
        for interval in (0, rng.choice([3, 4]), 7):
            for partial in range(1, 6):
                pitch = root * 2 ** (interval / 12) * partial
                shape = np.minimum(1, seconds / 0.02) * np.exp(-seconds / 0.8) / partial
                wave[begin : begin + length] += shape * np.sin(2 * np.pi * pitch * seconds)
        begin += length
    return wave


def _musical(snr: float) -> Change:
    return lambda wave, rate, rng: (_added(wave, rate, _music(len(wave), rate, rng), snr), rate)


def _hum(snr: float) -> Change:
    def change(wave: np.ndarray, rate: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        seconds = np.arange(len(wave)) / rate
        tones = sum(np.sin(2 * np.pi * 50 * order * seconds) / order for order in (1, 2, 3))
        return _added(wave, rate, np.asarray(tones), snr), rate

    return change


def _padded(seconds: float, level: float) -> Change:
    def change(wave: np.ndarray, rate: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        ends = [level * rng.normal(size=round(seconds * rate)) for _ in range(2)]
        return np.concatenate([ends[0], wave, ends[1]]), rate

    return change


def _split(seconds: float) -> Change:
    def change(wave: np.ndarray, rate: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        half = len(wave) // 2
        return np.concatenate([wave[:half], np.zeros(round(seconds * rate)), wave[half:]]), rate

    return change


def _middle(wave: np.ndarray, samples: int) -> np.ndarray:
    begin = len(wave) // 2
    return wave[begin : begin + samples]


def _cut(share: float) -> Change:
    return lambda wave, rate, rng: (wave[: round(share * len(wave))], rate)


def _cut_start(share: float) -> Change:
    return lambda wave, rate, rng: (wave[round(share * len(wave)) :], rate)


def _as_mp3(wave: np.ndarray, rate: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    decoded, _ = soundfile.read(io.BytesIO(encode_wave(np.clip(wave, -1, 1), rate, "mp3")), dtype="float32")
    return decoded, rate


def _spoken_by(others: Sequence[Utterance]) -> Change:
    def change(wave: np.ndarray, rate: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        other = others[int(rng.integers(len(others)))]
        return read_wave(Path(other.audio), rate, other.start or 0.0, other.end)

    return change


def _other_text(place: int, clips: Sequence[Utterance]) -> str:
    """The text of the next clip that says something else."""
    own = clips[place].text
    return next(clip.text for clip in (*clips[place + 1 :], *clips) if clip.text and clip.text != own)


def _half_text(place: int, clips: Sequence[Utterance]) -> str:
    words = (clips[place].text or "").split()
    return " ".join(words[: max(1, len(words) // 2)])


def _longer_text(place: int, clips: Sequence[Utterance]) -> str:
    return f"Really, {clips[place].text}"


def _foreign_text(language: str) -> Callable[[int, Sequence[Utterance]], str]:
    return lambda place, clips: GERMAN if language == "en" else ENGLISH


@dataclass
class Bench:
    """The clean clips, what was heard of them, and where planted clips are written and remembered."""

    clips: list[Utterance]
    heard: list[Heard]
    advisers: Advisers
    folder: Path
    cache: Path
    seed: int

    def hear(self, item: Utterance) -> Heard:
        """What the listener keeps of a clip; the judges' part is from the cache if they heard the sound before."""
        sound = hashlib.sha256(Path(item.audio).read_bytes()).hexdigest()[:24]
        asked = f"{item.language}-{bool(item.text)}-{self.advisers.recogniser is None}-{self.advisers.embed is None}"
        known = self.cache / f"{sound}-{asked}.json"
        if known.is_file():
            words, vector = json.loads(known.read_text("utf-8"))
            heard = Listener()(item)
            return replace(heard, words=words, vector=None if vector is None else np.array(vector, np.float32))
        heard = make_listener([item], self.advisers)(item)
        vector = None if heard.vector is None else heard.vector.tolist()
        known.parent.mkdir(parents=True, exist_ok=True)
        known.write_text(json.dumps([heard.words, vector]), "utf-8")
        return heard

    def plant(self, plant: Plant, count: int) -> tuple[list[Utterance], list[Heard], set[str]]:
        """The corpus with a defect planted in `count` clips; also the ids of those."""
        rng = np.random.default_rng([self.seed, *plant.name.encode()])
        places = sorted(rng.choice(len(self.clips), count, replace=False).tolist())
        items, heard = list(self.clips), list(self.heard)
        planted = set()
        for place in places:
            item, own = self.clips[place], self.heard[place]
            if plant.text is not None:
                item = replace(item, text=plant.text(place, self.clips))
            if plant.change is not None:
                item = self._written(plant, item, rng)
                own = self.hear(item)
            if plant.extra:
                item = replace(item, id=f"{item.id}-planted")
                items.append(item)
                heard.append(own)
            else:
                items[place], heard[place] = item, own
            planted.add(item.id)
        return items, heard, planted

    def _written(self, plant: Plant, item: Utterance, rng: np.random.Generator) -> Utterance:
        assert plant.change is not None
        wave, rate = read_wave(Path(item.audio))
        changed, rate = plant.change(wave, rate, rng)
        digest = hashlib.sha256(f"{plant.name} {item.id}".encode()).hexdigest()[:16]
        path = self.folder / f"{digest}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_wave(path, np.asarray(changed, np.float32), rate)
        return replace(item, audio=str(path))


def rows(bench: Bench, found: Sequence[Plant], count: int, limits: Limits) -> Iterator[dict[str, object]]:
    """One line per planted defect."""
    for plant in found:
        items, heard, planted = bench.plant(plant, count)
        result = conclude(items, heard, (), limits, bench.advisers)
        hits = caught = wolf = untouched_clips = 0
        for clip in result.clips:
            named = {finding.defect for finding in clip.findings} - {"repeated text"}
            right = bool(named & set(plant.expect)) if plant.expect else bool(named)
            if clip.id in planted:
                hits += right
                caught += clip.decision != "kept"
            elif f"{clip.id}-planted" not in planted:
                untouched_clips += 1
                wolf += right and bool(plant.expect)
        yield {
            "planted": plant.name, "counts as found": ", ".join(plant.expect) or "any", "clips": len(planted),
            "found": hits, "not kept": caught, "false alarms": wolf, "of": untouched_clips,
        }  # fmt: skip


def untouched(bench: Bench, limits: Limits) -> tuple[int, dict[str, dict[str, int]]]:
    """Findings of the clean corpus."""
    result = conclude(bench.clips, bench.heard, (), limits, bench.advisers)
    return result.decisions()["dropped"], result.defects()


def main() -> None:
    """Plant, check, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="clean recordings")
    parser.add_argument("--others", type=Path, help="recordings of another speaker")
    parser.add_argument("--clips", type=int, default=120, help="clips of the source, spread over it")
    parser.add_argument("--planted", type=int, default=12, help="clips with a defect, at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recogniser", default="pocketsphinx", help="pocketsphinx or none")
    parser.add_argument("--no-voices", action="store_true")
    parser.add_argument("--defects", default=":", help="FROM:TO, rows of the table; all without it")
    parser.add_argument("--work", type=Path, default=Path("doctor-benchmark"), help="folder of planted clips and cache")
    arguments = parser.parse_args()
    advisers, _ = make_advisers(None, arguments.recogniser, not arguments.no_voices)
    clips = spread(arguments.source, arguments.clips)
    others = spread(arguments.others, 40) if arguments.others is not None else []
    bench = Bench(clips, [], advisers, arguments.work / "planted", arguments.work / "cache", arguments.seed)
    bench.heard = [bench.hear(item) for item in clips]
    dropped, defects = untouched(bench, Limits())
    print(json.dumps(machine()))
    print(f"untouched: {len(clips)} clips, {dropped} dropped, findings {json.dumps(defects)}\n")
    names = ("planted", "counts as found", "clips", "found", "not kept", "false alarms", "of")
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    first, _, last = arguments.defects.partition(":")
    wanted = plants(others, clips[0].language)[int(first or 0) : int(last) if last else None]
    for row in rows(bench, wanted, arguments.planted, Limits()):
        print(f"| {' | '.join(str(row[name]) for name in names)} |")
        sys.stdout.flush()


def spread(folder: Path, count: int) -> list[Utterance]:
    """So many clips of a folder, evenly spread, with their languages."""
    found = [entry for entry in open_source(folder).entries if isinstance(entry, Utterance)]
    count = min(count, len(found))
    return with_languages([found[place * len(found) // count] for place in range(count)], None)


if __name__ == "__main__":
    main()
