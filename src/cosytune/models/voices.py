"""Named voices: a speaker vector, and for cloned ones the recording that they go on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from cosytune.errors import InputError, ModelError

__all__ = ["Voice", "VoicePrompt", "check_name", "tensors_of", "voice_tensors", "voices_of"]

LONGEST_NAME = 200
_PROMPT = ("prompt_text", "prompt_tokens", "prompt_mel")


@dataclass(frozen=True)
class VoicePrompt:
    """A recording as LM and flow see it.

    Attributes:
        text: int64 [S], text tokens of what is said in it; empty where only its sound is to be taken (cross-lingual).
        tokens: int64 [T], its speech tokens.
        mel: float32 [M, F], its spectrogram.
    """

    text: Tensor
    tokens: Tensor
    mel: Tensor


@dataclass(frozen=True)
class Voice:
    """Whom a model speaks as.

    Attributes:
        vector: float32 [E], the speaker vector of LM and flow.
        prompt: the recording of a cloned voice; None for a voice that the weights know (SFT).
    """

    vector: Tensor
    prompt: VoicePrompt | None = None


def check_name(name: str) -> None:
    """Is this a name to save a voice under? Anything a person can type; it never becomes a path.

    Raises:
        InputError: it is empty, very long, or holds characters that cannot be seen.
    """
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise InputError(
            f"{name[:40]!r} cannot be the name of a voice; give 1 to {LONGEST_NAME} visible characters of any script"
        )


def voice_tensors(voice: Voice) -> dict[str, Tensor]:
    """All tensors of one voice by what they are: `vector`, and of a cloned one `prompt_text`, `_tokens`, `_mel`."""
    prompt = voice.prompt
    kept = {} if prompt is None else dict(zip(_PROMPT, (prompt.text, prompt.tokens, prompt.mel), strict=True))
    return {"vector": voice.vector, **kept}


def tensors_of(voices: Mapping[str, Voice]) -> dict[str, Tensor]:
    """All tensors of a table of voices, called `<name>/vector` and so on; each has memory of its own."""
    return {
        f"{name}/{kind}": value.detach().cpu().clone().contiguous()
        for name, voice in voices.items()
        for kind, value in voice_tensors(voice).items()
    }


def voices_of(tensors: Mapping[str, Tensor], source: str) -> dict[str, Voice]:
    """The table that `tensors_of` took apart. The last slash ends the name, so a name may hold slashes.

    Raises:
        ModelError: a voice has no vector, half a prompt or something unknown.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, kind = key.rpartition("/")
        found.setdefault(name, {})[kind] = value
    return {name: _voice_of(name, entry, source) for name, entry in found.items()}


def _voice_of(name: str, entry: Mapping[str, Tensor], source: str) -> Voice:
    if set(entry) == {"vector"}:
        return Voice(entry["vector"])
    if set(entry) == {"vector", *_PROMPT}:
        text, tokens, mel = (entry[kind] for kind in _PROMPT)
        return Voice(entry["vector"], VoicePrompt(text, tokens, mel))
    raise ModelError(
        f"{source}: voice {name!r} holds {', '.join(sorted(entry))}; a voice is a vector, or a vector with "
        f"{', '.join(_PROMPT)}: get the file again"
    )
