"""An inspection for people: short lines, nothing in them that a hostile folder could do to a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from cosytune.models.inspection import Inspection
from cosytune.models.memory import HOW

__all__ = ["in_words"]

_GB = 1e9


def in_words(found: Inspection) -> str:
    """All of it, one fact a line; characters that cannot be seen are shown as escapes."""
    lines = [*_identity(found), *_parts(found), *_voices(found), *_memory(found), *_abilities(found), *_checks(found)]
    return "\n".join(_visible(line) for line in lines)


def _visible(line: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)


def _identity(found: Inspection) -> Iterator[str]:
    yield f"{found.model.name} (stage: {found.model.stage})"
    yield f"  what it is: {found.identity.words}"
    for line in found.identity.evidence:
        yield f"    - {line}"


def _parts(found: Inspection) -> Iterator[str]:
    model = found.model
    yield f"  layout: {found.layout}"
    yield (
        f"  {model.clock.sample_rate} Hz, {model.clock.token_rate} speech tokens/s, {model.mel.bins} mel bins, "
        f"hop {model.mel.hop}"
    )
    for part, count in model.parameters().items():
        yield f"  {part}: {count:,} parameters, stored as {' and '.join(found.precision[part]) or 'nothing'}"
    for part, file in model.onnx.items():
        yield f"  {part}: {file.name}{'' if file.is_file() else ' (missing)'}"
    yield f"  text tokenizer: {model.tokenizer.kind}, the LM knows {_number(model.text_vocabulary())} text tokens"
    yield (
        f"  speech codebook: {_number(model.speech_codebook())} tokens; speaker vectors: "
        f"{_number(model.speaker_width())} numbers"
    )


def _number(value: int | None) -> str:
    return "no" if value is None else f"{value:,}"


def _voices(found: Inspection) -> Iterator[str]:
    named = [f"{name}{' (cloned)' if voice.prompt else ''}" for name, voice in sorted(found.model.voices.items())]
    yield f"  voices: {', '.join(named) or 'none'}"


def _memory(found: Inspection) -> Iterator[str]:
    tune = ", ".join(f"{part} {size / _GB:.1f} GB" for part, size in found.memory.tune.items())
    yield f"  memory: about {found.memory.run / _GB:.1f} GB to run{f'; to fine-tune: {tune}' if tune else ''}"
    yield f"    ({HOW})"


def _abilities(found: Inspection) -> Iterator[str]:
    for ability in found.abilities:
        answer = {True: "can", False: "cannot", None: "cannot tell"}[ability.possible]
        yield f"  {answer}: {ability.what} ({ability.why})"


def _checks(found: Inspection) -> Iterator[str]:
    for check in found.checks:
        yield f"  {'sound' if check.passed else 'WRONG'}: {check.what}: {check.detail}"
