"""What kind of model is this, and how do we know? Clues in, one answer with its evidence out; nothing is read here."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Clues", "Confidence", "Identity", "Kind", "KnownFile", "begun_here", "identify"]

Kind = Literal["untrained", "base", "sft", "instruct", "fine-tuned", "unknown"]
Confidence = Literal["recorded", "proven", "likely", "weak", "none"]

SFT_VOICES = frozenset({"中文女", "中文男", "日语男", "粤语女", "英文女", "英文男", "韩语女"})
"""The voices that the released SFT and Instruct models come with (specification, 1.2)."""

RELEASED_LM = {310_718_465: "CosyVoice-300M", 310_718_465 + (60_515 - 51_866) * 512: "CosyVoice-300M-25Hz"}
"""Parameters of a released LM (specification, section 0); the 25 Hz one has more text tokens, each 512 wide."""

_OF_STAGE: dict[str, tuple[Kind, str]] = {
    "pretrain": ("base", "a base model, pre-trained by cosytune"),
    "sft": ("sft", "an SFT model, fine-tuned by cosytune on labelled speakers"),
    "tune": ("fine-tuned", "a model that cosytune fine-tuned to one task"),
}
_WORDS: dict[Kind, str] = {
    "untrained": "random weights, never trained",
    "base": "a released base model",
    "sft": "a released SFT model",
    "instruct": "a released Instruct model",
    "fine-tuned": "a model of a released size that somebody trained",
    "unknown": "cannot tell",
}
_HOW_SURE: dict[Confidence, str] = {
    "recorded": "recorded in the folder",
    "proven": "proven by the bytes of its llm.pt",
    "likely": "likely",
    "weak": "a weak guess",
    "none": "nothing decides it",
}


@dataclass(frozen=True)
class KnownFile:
    """One released file whose hash somebody has taken.

    Attributes:
        model: name of the release.
        kind: "base", "sft" or "instruct".
        file: its name in the folder.
        bytes: its size.
        sha256: of its bytes, in hexadecimal.
        source: who took the hash, of what, when.
    """

    model: str
    kind: Kind
    file: str
    bytes: int
    sha256: str
    source: str


@dataclass(frozen=True)
class Clues:
    """Everything that may tell what a model is.

    Attributes:
        name: of the folder.
        stage: that the folder says it is in.
        lineage: the stages it went through, oldest first.
        voices: names of its voices.
        lm_parameters: weights of its LM; None without one.
        matches: files whose bytes are those of listed released files, with the entries that list them.
        leftovers: what training left in a checkpoint, by file.
        precision: types that the weights are stored in.
    """

    name: str
    stage: str
    lineage: Sequence[Mapping[str, Any]] = ()
    voices: Collection[str] = ()
    lm_parameters: int | None = None
    matches: Mapping[str, Sequence[KnownFile]] = field(default_factory=dict)
    leftovers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    precision: Collection[str] = ()


@dataclass(frozen=True)
class Identity:
    """An answer.

    Attributes:
        kind: what it is; "unknown" is an answer too.
        confidence: how we know.
        words: kind and confidence for people.
        evidence: what speaks for it, against it, or proves nothing, a line each.
    """

    kind: Kind
    confidence: Confidence
    words: str
    evidence: tuple[str, ...]


def identify(clues: Clues) -> Identity:
    """Say what a model is by the strongest clue there is: its own record, bytes, leftovers, sizes, and last names."""
    if clues.lineage or clues.stage == "initial":
        return _from_record(clues)
    kind, confidence, reasons = _from_files(clues)
    evidence = (*reasons, *_asides(clues))
    return Identity(kind, confidence, f"{_WORDS[kind]} ({_HOW_SURE[confidence]})", evidence)


def _from_record(clues: Clues) -> Identity:
    # The first entry of what began here says how the random weights were drawn: no stage of training.
    begun = bool(clues.lineage) and clues.lineage[0].get("stage") == "initial"
    lineage = clues.lineage[1:] if begun else clues.lineage
    if not lineage:
        return Identity("untrained", "recorded", _WORDS["untrained"], ("no stage of training is on record",))
    last = str(lineage[-1].get("stage"))
    kind, words = _OF_STAGE.get(last, ("unknown", _WORDS["unknown"]))
    first = lineage[0]
    evidence = [f"lineage: {_told(entry)}" for entry in lineage]
    if not begun_here(clues.lineage):
        evidence.append(f"what {first.get('start', '?')} was before its first stage here is not on record")
    confidence: Confidence = "none" if kind == "unknown" else "recorded"
    return Identity(kind, confidence, f"{words} ({_HOW_SURE[confidence]})", tuple(evidence))


def begun_here(lineage: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a record goes back to random weights: of any other first start nobody knows what it was."""
    if not lineage:
        return False
    stage, start = lineage[0].get("stage"), str(lineage[0].get("start"))
    return stage == "initial" or (stage == "pretrain" and start.endswith("-initial"))


def _told(entry: Mapping[str, Any]) -> str:
    """One entry of a lineage in words."""
    start = f"{entry.get('start', '?')} ({_short(entry.get('start_hash'))})"
    if "dial" in entry:
        return f"{start} at {entry['dial']} of its way from {_listed_hashes(entry.get('mixed_with'))}"
    if "average_of" in entry:
        return f"mean of {entry['average_of']} models, the last one {start}"
    if "average_of_steps" in entry:
        return f"{start} with the mean of the best checkpoints of its {_listed(entry.get('parts'))}"
    made = f"{entry.get('stage', '?')} of {_listed(entry.get('parts'))}"
    return f"{made} from {start} on corpus {_short(entry.get('corpus_hash'))}"


def _listed(parts: object) -> str:
    return ", ".join(map(str, parts)) if isinstance(parts, list) and parts else "unnamed parts"


def _listed_hashes(digests: object) -> str:
    return ", ".join(map(_short, digests)) if isinstance(digests, list) and digests else "?"


def _short(digest: object) -> str:
    return str(digest or "?")[:12]


def _from_files(clues: Clues) -> tuple[Kind, Confidence, list[str]]:
    reasons = [
        f"{file} holds {_counters(counts)}, which training runs write; from which start it does not say"
        for file, counts in clues.leftovers.items()
    ]
    if clues.matches and not reasons:
        return _from_bytes(clues.matches)
    if clues.lm_parameters not in RELEASED_LM:
        size = "it has no LM" if clues.lm_parameters is None else f"its LM has {clues.lm_parameters:,} parameters"
        sizes = " or ".join(f"{count:,} ({name})" for count, name in RELEASED_LM.items())
        return "unknown", "none", [*reasons, f"{size}, those of the released models have {sizes}"]
    if reasons:
        return "fine-tuned", "likely", [*_recognised(clues.matches), *reasons]
    return _from_name(clues.name)


def _from_bytes(matches: Mapping[str, Sequence[KnownFile]]) -> tuple[Kind, Confidence, list[str]]:
    """The kind that all recognised files may belong to; releases share some of their files."""
    reasons = _recognised(matches)
    possible = set.intersection(*({entry.kind for entry in entries} for entries in matches.values()))
    if len(possible) == 1:
        # The releases differ in llm.pt (specification, 1.1): without it, only a relative is recognised.
        others = [name for name in ("llm.pt", "flow.pt", "hift.pt") if name not in matches]
        reasons += [f"{name} is not among the listed files: it may have been trained or exchanged" for name in others]
        return possible.pop(), "proven" if "llm.pt" in matches else "weak", reasons
    return "unknown", "none", [*reasons, "which does not decide it" if possible else "so it is a mixture of releases"]


def _recognised(matches: Mapping[str, Sequence[KnownFile]]) -> list[str]:
    return [
        f"{file} is, byte for byte, that of {' or '.join(sorted({entry.model for entry in entries}))} "
        f"({entries[0].source})"
        for file, entries in matches.items()
    ]


def _counters(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in counts.items()) or "counters"


def _from_name(name: str) -> tuple[Kind, Confidence, list[str]]:
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    named: list[Kind] = [kind for kind in ("sft", "instruct") if kind in words]
    if not named and "300m" in words:
        named = ["base"]
    if len(named) != 1:
        return "unknown", "none", [f"the folder's name {name!r} does not say"]
    return named[0], "weak", [f"the folder is called {name!r}, which anybody can write"]


def _asides(clues: Clues) -> Iterator[str]:
    """What is worth knowing and decides nothing."""
    if clues.lm_parameters in RELEASED_LM:
        yield f"its LM has the size of {RELEASED_LM[clues.lm_parameters]}, which training does not change"
    if clues.stage != "released":
        yield f"its description says stage {clues.stage!r}; without a lineage that proves nothing"
    if set(clues.voices) >= SFT_VOICES:
        yield (
            "it has the seven voices that come with SFT and Instruct; their table is often copied beside other models, "
            "so it proves nothing"
        )
    elif clues.voices:
        yield f"named voices: {len(clues.voices)}; a table of voices proves nothing, it is often copied"
    else:
        yield "it has no named voices, like the base model; their table may have been left out, so it proves nothing"
    if converted := sorted(set(clues.precision) - {"float32"}):
        yield f"weights are stored as {', '.join(converted)}; released ones are float32, so somebody converted them"
