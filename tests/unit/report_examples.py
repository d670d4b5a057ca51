"""A comparison as it could have been: two starts, three seeds, six sentences, short clips, curves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile

from cosytune.comparison.plan import COPY, RECORDINGS, Arm, ComparisonResult, Sample
from cosytune.comparison.verdict import give_verdict
from cosytune.evaluation.results import (
    COUNTED,
    ERROR_RATE,
    OPINION,
    SIMILARITY,
    Evaluation,
    JudgeInfo,
    MetricInfo,
    Score,
    Vote,
)
from cosytune.training.results import MetricPoint, PartResult, StageResult

EVIL = "<script>alert('x')</script>"

METRICS = (
    MetricInfo("spoken", "yes=1", True, COUNTED, "whether there is anything to hear at all"),
    MetricInfo("seconds", "s", None, COUNTED, "length of the clip"),
    MetricInfo("f0_median", "Hz", None, COUNTED, "middle of the pitch"),
    MetricInfo("cer", ERROR_RATE, False, "pocketsphinx", "characters misheard, of all characters of the text"),
    MetricInfo("wer", ERROR_RATE, False, "pocketsphinx", "words misheard, of all words of the text"),
    MetricInfo("sim", SIMILARITY, True, "resemblyzer", "similarity of the voice to recordings of the speaker"),
    MetricInfo("dnsmos_ovrl", OPINION, True, "dnsmos", "overall quality (P.835)"),
)
VOTES = (
    Vote("spoken", True, "it is counted from the wave, no judge is involved"),
    Vote("seconds", False, "it describes: more is neither better nor worse"),
    Vote("f0_median", False, "it describes: more is neither better nor worse"),
    Vote("cer", True, "pocketsphinx gets 12% wrong on the recordings themselves"),
    Vote("wer", False, "pocketsphinx gets 44% wrong on the recordings themselves; above 40% it measures itself"),
    Vote("sim", True, "recordings of the voice have 0.86; no other speakers were given to compare"),
    Vote("dnsmos_ovrl", True, "it hears graded noise: 3.10 clean, 2.60 at 20 dB, 1.90 at 10 dB, 1.20 at 0 dB"),
)
JUDGES = (
    JudgeInfo("pocketsphinx", "pocketsphinx 5.0.4 en-us, jiwer 4.0.0, normaliser 1"),
    JudgeInfo("dnsmos", "speechmos 0.0.1.1, onnxruntime 1.23.2"),
    JudgeInfo("resemblyzer", "resemblyzer (own copy), webrtcvad-wheels 2.0.14"),
)
TYPICAL = {"spoken": 1.0, "seconds": 3.2, "f0_median": 182.0, "cer": 0.12, "wer": 0.44, "sim": 0.86, "dnsmos_ovrl": 3.1}
TEXTS = (
    "The harbour was quiet before the storm came in.",
    "Please bring the second box up to the attic.",
    "It costs three pounds & forty pence, doesn't it?",
    f"Never read {EVIL} aloud.",
    "Why would anyone leave so early?",
    "他今天不来了。",
)


def make_result(
    folder: Path,
    *,
    starts: Sequence[str] = ("base", "sft"),
    seeds: Sequence[int] = (0, 1, 2),
    clip_seconds: float = 0.3,
    clips: bool = True,
    curves: bool = True,
) -> ComparisonResult:
    """Scores in which the first start, once tuned, is clearly the better one; clips and curves lie in `folder`."""
    random = np.random.default_rng(7)
    sentences = {f"anna{EVIL if number == 3 else ''}-{number:02d}": text for number, text in enumerate(TEXTS)}
    systems = _systems(starts, seeds)
    ease = {sentence: random.normal() for sentence in sentences}
    scores = [
        Score(system, sentence, info.name, _value(info.name, level, ease[sentence], random), seed)
        for system, (level, own) in systems.items()
        for sentence in sentences
        for seed in own
        for info in METRICS
    ]
    evaluation = Evaluation(tuple(systems), tuple(scores), METRICS, VOTES, JUDGES)
    tuned = {f"{start} tuned": f"{start} untouched" for start in starts}
    samples = []
    for system, (level, own) in systems.items():
        for sentence, text in sentences.items():
            for seed in own:
                path = folder / "systems" / f"{system}-{seed}" / f"{list(sentences).index(sentence)}.flac"
                if clips:
                    _write_clip(path, clip_seconds, 140 + 40 * level, random)
                samples.append(Sample(system, sentence, text, seed, str(path)))
    arms = [_arm(folder, start, place, seed, curves) for seed in seeds for place, start in enumerate(starts)]
    return ComparisonResult(
        corpus="anna: 120 clips in = 112 kept + 8 dropped (5 too short, 3 without text), 9.4 min",
        corpus_hash="c0" * 32,
        arms=arms,
        evaluation=evaluation,
        verdict=give_verdict(evaluation, list(tuned), starts=tuned, samples=500),
        samples=samples,
        failures=[f"{starts[-1]} untouched: the text {EVIL!r} has nothing to say"],
        environment={"cosytune": "0.1.0", "python": "3.11.9", "machine": "Linux-6.1", "torch": "2.13.0"},
    )


def _systems(starts: Sequence[str], seeds: Sequence[int]) -> dict[str, tuple[float, tuple[int, ...]]]:
    """Systems with how far each is from the recordings, and its seeds."""
    found: dict[str, tuple[float, tuple[int, ...]]] = {RECORDINGS: (0.0, (0,))}
    for place, start in enumerate(starts):
        found[f"{COPY} {start}"] = (0.3, (0,))
        found[f"{start} untouched"] = (3.0 - place, tuple(seeds))
        found[f"{start} tuned"] = (0.7 + 0.8 * place, tuple(seeds))
    return found


def _value(metric: str, level: float, ease: float, random: np.random.Generator) -> float:
    slope = {"spoken": 0.0, "seconds": 0.1, "f0_median": 4, "cer": 0.08, "wer": 0.1, "sim": -0.06, "dnsmos_ovrl": -0.2}
    spread = {"spoken": 0.0, "seconds": 0.3, "f0_median": 5, "cer": 0.02, "wer": 0.1, "sim": 0.015, "dnsmos_ovrl": 0.2}
    value = TYPICAL[metric] + slope[metric] * level + spread[metric] * (ease + 0.5 * random.normal())
    return max(0.0, float(value)) if metric in ("cer", "wer") else float(value)


def _write_clip(path: Path, seconds: float, hertz: float, random: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * 22050)) / 22050
    soundfile.write(path, 0.2 * np.sin(2 * np.pi * hertz * time) + 0.01 * random.normal(size=time.size), 22050)


def _arm(folder: Path, start: str, place: int, seed: int, curves: bool) -> Arm:
    model = folder / "arms" / f"{start}-seed{seed}"
    parts = [
        _part(model, "lm", {"cross_entropy": (4.4 + 0.3 * place, 3.3), "accuracy": (0.12, 0.24)}, seed, curves),
        _part(model, "flow", {"velocity": (0.9 + 0.1 * place, 0.62), "prior": (0.8, 0.7)}, seed, curves),
    ]
    result = StageResult("tune", f"models/{start}", f"{place}a" * 32, "c0" * 32, seed, parts)
    return Arm(start, seed, str(model), result)


BASELINES = {
    "lm": ({"cross_entropy": 5.1}, "unigram of the training tokens"),
    "flow": ({"velocity": 3.4}, "mean and variance of each band"),
}


def _part(model: Path, part: str, metrics: dict[str, tuple[float, float]], seed: int, curves: bool) -> PartResult:
    random = np.random.default_rng(seed)
    steps, points, ends = 600, list[MetricPoint](), dict[str, float]()
    for name, (first, last) in metrics.items():
        for step in range(0, steps + 1, 10):
            value = last + (first - last) * float(np.exp(-step / 150))
            if step % 100 == 0:
                ends[name] = value + (0.02 * float(random.normal()) * first if step else 0.0)
                points.append(MetricPoint(part, step, "validation", name, ends[name], step * 12.0))
            if step:
                noisy = value * (0.97 + 0.03 * float(random.normal()))
                points.append(MetricPoint(part, step, "train", name, noisy, step * 12.0))
    if curves:
        path = model.with_name(f"{model.name}.run") / part / "metrics.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(asdict(point)) + "\n" for point in points), encoding="utf-8")
    settings = {"steps": steps, "batch_seconds": 16.0, "learning_rate": 1e-4, "seed": seed}
    baseline, words = BASELINES[part]
    starts = {name: first for name, (first, _) in metrics.items()}
    return PartResult(part, steps, steps * 12.0, starts, ends, baseline, words, [], settings)
