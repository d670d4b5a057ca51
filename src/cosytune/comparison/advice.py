"""Which start for which goal: rules in words, and a measured comparison that goes before them where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from cosytune.comparison.results import PairVerdict, Verdict
from cosytune.errors import DataError, InputError
from cosytune.training.plan_results import DataFacts, StartAdvice

__all__ = [
    "Goal",
    "Keep",
    "Measured",
    "StartFacts",
    "advise",
    "cautions",
    "check_goal",
    "named_goal",
    "named_keep",
]

Goal = Literal["voice", "voices", "language", "style"]
GOALS: tuple[Goal, ...] = get_args(Goal)

Keep = Literal["voices", "cloning", "instructions"]
KEEPABLE: tuple[Keep, ...] = get_args(Keep)

LOWEST_RATE = 16_000
FEW_MINUTES = 15.0
"""Below this a start that has learned to speak from speaker-level vectors has less left to learn."""

LEAST_MINUTES: Mapping[Goal, float] = {"voice": 5.0, "voices": 10.0, "language": 600.0, "style": 5.0}
"""What people report to have worked, at the least; nobody has published a measured table."""

UNKNOWN_LETTERS = 0.5
"""Share of a corpus's letters that a tokenizer may have to spell in pieces."""

UNTRANSCRIBED = 0.1

_ORDER: Mapping[Goal, tuple[str, ...]] = {
    "voice": ("base", "sft", "unknown", "fine-tuned", "instruct"),
    "voices": ("base", "sft", "unknown", "fine-tuned", "instruct"),
    "language": ("base", "unknown", "sft", "fine-tuned", "instruct"),
    "style": ("sft", "base", "fine-tuned", "instruct", "unknown"),
}
_WHY: Mapping[str, str] = {
    "base": "base: the widest training and the least to unlearn, which is what the maintainers advise",
    "sft": "SFT: it speaks from speaker-level vectors already, as a tuned voice will; its own voices may fade",
    "fine-tuned": "fine-tuned already: people report poor results from tuning on top of another task",
    "instruct": "Instruct: it was trained without speaker vectors, and training here gives them to clips without an "
    "instruction; expect it to follow instructions less",
    "unknown": "nobody knows what it was trained on, so it is moved carefully",
}


@dataclass(frozen=True)
class StartFacts:
    """What is known of a start before anything is run.

    Attributes:
        kind: see `models.identify.Kind`.
        identity: kind and how sure that is, in words.
        voices: its named voices.
        missing: why it cannot be fine-tuned; empty if it can.
        unknown_letters: share of the corpus's letters that its tokenizer spells in pieces.
        dense: share of the clips with more text tokens than speech tokens.
        hash: of all it holds; None where nobody asked.
    """

    name: str
    path: str
    kind: str
    identity: str
    voices: tuple[str, ...]
    sample_rate: int
    missing: str
    unknown_letters: float
    dense: float
    hash: str | None = None


@dataclass(frozen=True)
class Measured:
    """An earlier comparison of starts.

    Attributes:
        verdict: as `compare` gave it.
        hashes: of each start, by its name there.
        corpus: its corpus in words.
        corpus_hash: and by hash.
    """

    verdict: Verdict
    hashes: Mapping[str, str]
    corpus: str
    corpus_hash: str

    @classmethod
    def from_json(cls, value: Any, where: str) -> Measured:
        """From the `result.json` of a comparison.

        Raises:
            InputError: it is something else.
        """
        try:
            hashes = {arm["start"]: arm["result"]["start_hash"] for arm in value["arms"]}
            return cls(Verdict.from_json(value["verdict"]), hashes, value["corpus"], value["corpus_hash"])
        except (KeyError, TypeError, InputError) as error:
            raise InputError(
                f"{where} is no result of a comparison ({error}); give the folder that cosytune compare wrote"
            ) from error


def named_goal(text: str) -> Goal:
    """A goal by its name.

    Raises:
        InputError: there is no such goal.
    """
    found = next((goal for goal in GOALS if goal == text), None)
    if found is None:
        raise InputError(f"--goal {text!r} is not known; goals are {', '.join(GOALS)}")
    return found


def named_keep(texts: Sequence[str]) -> tuple[Keep, ...]:
    """What must not be lost, by its names.

    Raises:
        InputError: one of them is not known.
    """
    if unknown := [text for text in texts if text not in KEEPABLE]:
        raise InputError(f"--keep {unknown[0]!r} is not known; what can be kept is {', '.join(KEEPABLE)}")
    return tuple(keep for keep in KEEPABLE if keep in texts)


def check_goal(goal: Goal, data: DataFacts, *, lm: bool, force: bool) -> None:
    """Refuse recordings that cannot lead to the goal.

    Args:
        goal: what is to be learned.
        data: the training side.
        lm: whether the LM is trained.
        force: allow what is only unwise (a low sample rate).

    Raises:
        InputError: the goal does not fit the speakers.
        DataError: transcripts are missing, or the recordings lack the upper half of speech.
    """
    count, listed = len(data.speakers), ", ".join(data.speakers[:5]) + (", ..." if len(data.speakers) > 5 else "")
    if goal == "voices" and count < 2:
        raise InputError(f"--goal voices with one speaker ({listed}); give --goal voice, or add speakers")
    if goal == "voice" and count > 1:
        raise InputError(
            f"--goal voice with {count} speakers ({listed}): all of them would be learned; give --goal voices, or a "
            "folder of one speaker"
        )
    if lm and not data.transcribed:
        raise DataError(
            f"no training clip of {data.name} has a transcript, and an LM tuned on them forgets to read; add "
            "transcripts (cosytune data prepare --transcribe), or give --parts flow, which needs none"
        )
    if lm and goal == "language" and data.transcribed < 1 - UNTRANSCRIBED:
        raise DataError(
            f"{1 - data.transcribed:.0%} of the audio of {data.name} has no transcript, and a language is learned from "
            f"them; at most {UNTRANSCRIBED:.0%} may lack one: add transcripts, or leave these clips out"
        )
    if data.sample_rate < LOWEST_RATE and not force:
        raise DataError(
            f"recordings of {data.name} have {data.sample_rate} Hz: what lies above {data.sample_rate // 2} Hz was "
            f"never recorded, and the model would learn to sound like a telephone; give recordings of {LOWEST_RATE} Hz "
            "and more, or --force"
        )


def advise(
    goal: Goal,
    data: DataFacts,
    starts: Sequence[StartFacts],
    *,
    keep: Sequence[Keep] = (),
    measured: Measured | None = None,
) -> tuple[tuple[StartAdvice, ...], str, str]:
    """Starts with the recommended one first, why it is, and what was measured about it.

    Raises:
        InputError: no start can be used; the message says why for each.
    """
    judged = [_judged(start, goal, data, keep) for start in starts]
    usable = [start for start, advice in zip(starts, judged, strict=True) if not advice.refusals]
    if not usable:
        reasons = "; ".join(f"{advice.name}: {advice.refusals[0]}" for advice in judged)
        raise InputError(f"none of the starts can be used for goal {goal}: {reasons}")
    order = _order(goal, data.minutes, keep)
    ranked = sorted(usable, key=lambda start: (not _speaks(start, data, goal), order.index(start.kind)))
    why = _why(ranked[0], ranked, goal, data, keep)
    winner, said = _verdict(usable, measured, data)
    if winner is not None:
        ranked = [winner, *(start for start in ranked if start is not winner)]
        why = f"{winner.name}: it did best when it was measured; the rules alone would say {why}"
    places = {start.path: place for place, start in enumerate(ranked, start=1)}
    placed = [replace(advice, place=places.get(advice.path, 0)) for advice in judged]
    return tuple(sorted(placed, key=lambda advice: advice.place or len(placed) + 1)), why, said


def _judged(start: StartFacts, goal: Goal, data: DataFacts, keep: Sequence[Keep]) -> StartAdvice:
    refusals = list(_refusals(start, data, keep))
    reasons = [_WHY[start.kind]] if start.kind in _WHY else []
    if known := sorted(set(start.voices) & set(data.speakers)):
        reasons.append(f"it has a voice {known[0]!r} already, which tuning would move")
    if start.kind in ("base", "unknown") and start.voices:
        reasons.append("its named voices are a table beside the weights, which proves nothing of what they can do")
    if data.sample_rate < start.sample_rate:
        reasons.append(
            f"it speaks at {start.sample_rate} Hz, some recordings have {data.sample_rate}: they will sound dull"
        )
    if start.dense:
        reasons.append(f"{start.dense:.0%} of the clips have more text tokens than speech tokens to say them with")
    return StartAdvice(start.name, start.path, start.kind, start.identity, tuple(refusals), tuple(reasons))


def _refusals(start: StartFacts, data: DataFacts, keep: Sequence[Keep]) -> list[str]:
    found = []
    if start.missing:
        found.append(f"it cannot be fine-tuned ({start.missing})")
    if start.kind == "untrained":
        found.append("its weights are random: run cosytune pretrain first")
    if start.unknown_letters > UNKNOWN_LETTERS:
        found.append(
            f"its text tokenizer has no token for {start.unknown_letters:.0%} of the letters in the transcripts "
            f"({', '.join(data.languages)}); take a start that reads this language"
        )
    if "voices" in keep and (not start.voices or start.kind == "base"):
        found.append("named voices are to be kept and it has learned none: take an SFT or fine-tuned start")
    if "instructions" in keep and start.kind in ("base", "sft"):
        found.append("instructions are to be kept and it follows none: take an Instruct start")
    return found


def _order(goal: Goal, minutes: float, keep: Sequence[Keep]) -> list[str]:
    order = list(_ORDER[goal])
    first: list[str] = []
    if "instructions" in keep:
        first = ["instruct"]
    elif "voices" in keep:
        first = ["sft", "fine-tuned"]
    elif "cloning" in keep:
        first = ["base"]
    elif goal == "voice" and minutes < FEW_MINUTES:
        first = ["sft"]
    return [*first, *(kind for kind in order if kind not in first), "untrained"]


def _speaks(start: StartFacts, data: DataFacts, goal: Goal) -> bool:
    """A style is taught to a voice: a start that was fine-tuned to it has that behind it."""
    return goal == "style" and start.kind in ("sft", "fine-tuned") and bool(set(start.voices) & set(data.speakers))


def _why(best: StartFacts, ranked: Sequence[StartFacts], goal: Goal, data: DataFacts, keep: Sequence[Keep]) -> str:
    if len(ranked) == 1:
        return f"{best.name}: the only one that can be used"
    asked = f"goal {goal}, {data.minutes:.0f} minutes" + (f", {' and '.join(keep)} to be kept" if keep else "")
    if _speaks(best, data, goal):
        return f"{best.name} ({asked}): it speaks in that voice already, so only the style is left to learn"
    if goal == "voice" and best.kind == "sft" and not keep:
        reason = f"below {FEW_MINUTES:.0f} minutes a start that speaks from speaker-level vectors has less to learn"
    else:
        reason = _WHY[best.kind].split(": ", 1)[-1]
    same = [start.name for start in ranked[1:] if start.kind == best.kind]
    tie = f"; {', '.join(same)} is of the same kind, and only a comparison can tell" if same else ""
    return f"{best.name} ({asked}): {reason}{tie}"


def _verdict(usable: Sequence[StartFacts], measured: Measured | None, data: DataFacts) -> tuple[StartFacts | None, str]:
    """The start that measured best, if a comparison of these starts says so, and what it says."""
    if measured is None:
        return None, (
            "nothing: no comparison of these starts was given, so these are rules of thumb; "
            "cosytune compare measures them, and --measured FOLDER puts its verdict first"
        )
    names = {digest: name for name, digest in measured.hashes.items()}
    known = {f"{names[start.hash]} tuned": start for start in usable if start.hash in names}
    if len(known) < 2:
        return None, (
            f"nothing of use: that comparison tuned {', '.join(measured.hashes)}, and fewer than two of the starts "
            "given here are among them, by hash"
        )
    where = "on these very recordings" if measured.corpus_hash == data.hash else f"on {measured.corpus}"
    pairs = [pair for pair in measured.verdict.candidates if {pair.first, pair.second} <= known.keys()]
    said = f"{where}: " + " ".join(pair.words for pair in pairs)
    beaten = [start for name, start in known.items() if _beats_all(name, pairs, len(known))]
    return (beaten[0] if beaten else None), said


def _beats_all(name: str, pairs: Sequence[PairVerdict], count: int) -> bool:
    """Whether it won against every other known start, in more than one run each: one run speaks for itself only."""
    own = [pair for pair in pairs if name in (pair.first, pair.second)]
    return len(own) == count - 1 and all(pair.winner == name and pair.seeds > 1 for pair in own)


def cautions(goal: Goal, data: DataFacts, keep: Sequence[Keep], strategy: str, replay: bool) -> tuple[str, ...]:
    """What a person should know before running, each with the way out."""
    found = []
    if data.minutes < LEAST_MINUTES[goal]:
        found.append(
            f"{int(10 * data.minutes) / 10} minutes are little for goal {goal}: {LEAST_MINUTES[goal]:.0f} and more is "
            "what people report to have worked; nobody has published a measured table"
        )
    if 0 < data.transcribed < 1:
        found.append(f"{1 - data.transcribed:.0%} of the audio has no transcript: there the LM only learns to go on")
    if goal in ("voice", "style") and len(data.languages) > 1:
        found.append(f"the clips are in {' and '.join(data.languages)}: check that none is labelled wrongly")
    if goal == "language":
        found.append(
            "a new language pushes out the old ones; rehearse them (--replay 0.2) and compare before and after"
        )
    if data.instructed:
        found.append(
            f"{data.instructed:.0%} of the clips have instructions: the LM learns to follow these, and is not told who "
            "speaks where there is one, as the released Instruct model was not; without them a style is learned as the "
            "way the recordings are spoken"
        )
    if keep and strategy == "full" and not replay:
        found.append(f"{' and '.join(keep)} are to be kept: take strategy conservative or lora, or --replay 0.2")
    if not data.test_clips:
        found.append("no clip is held out for a test: prepare the corpus with a larger --test to compare afterwards")
    return tuple(found)
