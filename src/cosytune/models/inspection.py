"""Everything there is to say about a model folder, gathered without reading its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from cosytune.models.abilities import Ability, abilities_of
from cosytune.models.folder import read_model
from cosytune.models.identify import Clues, Identity, KnownFile, identify
from cosytune.models.known_files import known_files, recognised_files
from cosytune.models.memory import HOW, MemoryEstimate, estimate_memory
from cosytune.models.model import Model
from cosytune.models.native import DESCRIPTION
from cosytune.models.released import training_leftovers
from cosytune.models.verification import Check, verify_model

__all__ = ["Inspection", "inspect_model"]


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        model: its outline: sizes, rates, voices and lineage are real, weights are not there.
        layout: "native" or "released".
        identity: what kind of model it is, with the evidence.
        precision: types that the weights are stored in, by part.
        memory: what it takes to run and to fine-tune.
        abilities: what it can and cannot do.
        checks: what was verified; none if that was not asked for.
    """

    model: Model
    layout: str
    identity: Identity
    precision: dict[str, list[str]]
    memory: MemoryEstimate
    abilities: tuple[Ability, ...]
    checks: tuple[Check, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether everything that was verified is in order."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        model = self.model
        return {
            "name": model.name,
            "stage": model.stage,
            "layout": self.layout,
            "identity": asdict(self.identity),
            "clock": vars(model.clock),
            "mel": vars(model.mel),
            "parts": model.parameters(),
            "precision": self.precision,
            "onnx": {part: {"file": str(file), "present": file.is_file()} for part, file in model.onnx.items()},
            "text_tokenizer": model.tokenizer.kind,
            "text_tokens": model.text_vocabulary(),
            "speech_codebook": model.speech_codebook(),
            "speaker_width": model.speaker_width(),
            "voices": sorted(model.voices),
            "cloned_voices": sorted(name for name, voice in model.voices.items() if voice.prompt is not None),
            "lineage": model.lineage,
            "memory": {**asdict(self.memory), "how": HOW},
            "abilities": [asdict(ability) for ability in self.abilities],
            "checks": [asdict(check) for check in self.checks],
            "sound": self.sound if self.checks else None,
        }


def inspect_model(path: Path | str, *, verify: bool = False, known: Sequence[KnownFile] | None = None) -> Inspection:
    """Look at a model folder of either layout.

    Args:
        path: of the folder.
        verify: also read every file, look at every weight and try the front ends; takes as long as loading the model.
        known: released files with their hashes; those of the package if not given.

    Raises:
        ModelError: there is no model, or it cannot be read (see `read_model`).
    """
    path = Path(path)
    model = read_model(path, weights=False)
    layout = "native" if (path / DESCRIPTION).is_file() else "released"
    precision = {name: _stored_types(part) for name, part in model.parts.items()}
    clues = Clues(
        name=path.resolve().name,
        stage=model.stage,
        lineage=model.lineage,
        voices=tuple(model.voices),
        lm_parameters=model.parameters().get("lm"),
        matches=recognised_files(path, known_files() if known is None else known) if layout == "released" else {},
        leftovers=training_leftovers(path) if layout == "released" else {},
        precision={name for types in precision.values() for name in types},
    )
    identity = identify(clues)
    return Inspection(
        model=model,
        layout=layout,
        identity=identity,
        precision=precision,
        memory=estimate_memory(model),
        abilities=abilities_of(model, identity),
        checks=verify_model(path) if verify else (),
    )


def _stored_types(part: nn.Module) -> list[str]:
    """Floating types in the file; integers are counters of training and have no precision."""
    values = part.state_dict().values()
    return sorted({str(value.dtype).removeprefix("torch.") for value in values if value.is_floating_point()})
