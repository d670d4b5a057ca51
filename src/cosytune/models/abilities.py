"""What a model can do and what it cannot, with the reason: from its parts, voices and kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cosytune.models.identify import Identity, Kind, begun_here
from cosytune.models.model import FRONT_ENDS, Model

__all__ = ["Ability", "abilities_of", "has_front_end"]

WHISPER_TOKENS = 51_866
"""Text tokens of the tokenizer that released models read with (specification, 2.5)."""


@dataclass(frozen=True)
class Ability:
    """One thing to ask of a model.

    Attributes:
        what: in words.
        possible: None where nobody can tell.
        why: what it rests on, or what is missing.
    """

    what: str
    possible: bool | None
    why: str


def has_front_end(model: Model, name: str) -> bool:
    """Is this front end there, as a network of ours or as a released ONNX file?"""
    return name in model.parts or (name in model.onnx and model.onnx[name].is_file())


def abilities_of(model: Model, identity: Identity) -> tuple[Ability, ...]:
    """Everything a person may want to do with a model, and whether this one can."""
    mute = ", ".join(_missing_to_speak(model))
    deaf = ", ".join(_missing_to_listen(model))
    voices = _named_voices(model, identity.kind, mute)
    clone = Ability("zero-shot cloning (recording and its text)", not (mute or deaf), _why(mute, deaf))
    cross = Ability("cross-lingual cloning (recording only)", not (mute or deaf), _why(mute, deaf))
    dumb = ", ".join(name for name in ("flow", "vocoder") if name not in model.parts)
    convert = Ability("voice conversion (speech in, another voice out)", not (dumb or deaf), _why(dumb, deaf))
    train = Ability("fine-tuning", not (mute or deaf), _why(mute, deaf))
    return (voices, clone, cross, convert, _instructions(model, identity, mute), train)


def _why(*missing: str) -> str:
    lacking = ", ".join(words for words in missing if words)
    return f"missing: {lacking}" if lacking else "all it needs is there"


def _missing_to_speak(model: Model) -> Iterator[str]:
    yield from (name for name in ("lm", "flow", "vocoder") if name not in model.parts)
    known = model.text_vocabulary() or 0
    if model.tokenizer.kind == "whisper" and known > WHISPER_TOKENS:
        yield f"the text tokenizer of its {known:,} text tokens, which cosytune does not have"


def _missing_to_listen(model: Model) -> Iterator[str]:
    for name in FRONT_ENDS:
        if not has_front_end(model, name):
            yield model.onnx[name].name if name in model.onnx else name


def _named_voices(model: Model, kind: Kind, mute: str) -> Ability:
    what = "speaking with named voices"
    if mute or not model.voices:
        return Ability(
            what, False, _why(mute, "" if model.voices else "voices; clone one from a recording, or tune one")
        )
    listed = sum(voice.prompt is None for voice in model.voices.values())
    cloned = len(model.voices) - listed
    why = f"{listed} by their vector, {cloned} cloned from a recording"
    if kind == "untrained":
        why += "; its weights are random, so it will speak no words"
    elif listed and kind in ("base", "unknown"):
        why += "; a voice by its vector sounds right only if the weights were fine-tuned on it"
    return Ability(what, True, why)


def _instructions(model: Model, identity: Identity, mute: str) -> Ability:
    """Released Instruct models and what was tuned on clips with instructions follow them; a guess decides nothing."""
    what = "following instructions"
    if mute:
        return Ability(what, False, _why(mute))
    if any(entry.get("instructions") for entry in model.lineage):
        return Ability(what, True, "its record says that its LM learned from clips with instructions")
    if identity.confidence == "proven":
        instruct = identity.kind == "instruct"
        return Ability(what, instruct, f"it is {'an' if instruct else 'no'} Instruct model")
    if identity.confidence == "recorded" and (identity.kind == "untrained" or begun_here(model.lineage)):
        return Ability(what, False, "no stage on its record had clips with instructions")
    return Ability(what, None, "whether it comes from an Instruct model, which is trained to, is not known")
