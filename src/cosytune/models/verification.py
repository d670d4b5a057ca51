"""Is everything in a model folder sound? All files are read, all weights looked at, the front ends tried."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cosytune.errors import ModelError
from cosytune.models.abilities import has_front_end
from cosytune.models.extractors import FrontEnds
from cosytune.models.folder import read_model
from cosytune.models.model import FRONT_ENDS, Model
from cosytune.models.native import DESCRIPTION
from cosytune.models.onnx_front_ends import OnnxSpeakerEncoder, OnnxSpeechTokenizer
from cosytune.units import FEATURE_SAMPLE_RATE

__all__ = ["Check", "verify_model"]

_NAMES_LISTED = 3


@dataclass(frozen=True)
class Check:
    """One thing that was verified.

    Attributes:
        what: was looked at.
        passed: whether it is sound.
        detail: what was found.
    """

    what: str
    passed: bool
    detail: str


def verify_model(path: Path) -> tuple[Check, ...]:
    """Read all of a folder and try its front ends.

    Raises:
        ModelError: it cannot be read at all (a file is damaged, tensors do not match, parts do not fit together).
    """
    model = read_model(path)
    tensors = sum(len(part.state_dict()) for part in model.parts.values())
    checks = [
        Check("tensors", True, f"{tensors} of {tensors} matched"),
        Check("agreement", True, "parts, voices, clock and spectrogram fit together"),
    ]
    if (path / DESCRIPTION).is_file():
        checks.append(Check("hashes", True, f"all files are those that {DESCRIPTION} lists"))
    checks += [_finite(name, part) for name, part in model.parts.items()]
    return (*checks, *_front_ends(model))


def _finite(name: str, part: nn.Module) -> Check:
    wrong = [
        key
        for key, value in part.state_dict().items()
        if value.is_floating_point() and not bool(torch.isfinite(value).all())
    ]
    if not wrong:
        return Check(f"weights of {name}", True, "all finite")
    listed = ", ".join(wrong[:_NAMES_LISTED]) + (" ..." if len(wrong) > _NAMES_LISTED else "")
    return Check(f"weights of {name}", False, f"NaN or infinite numbers in {len(wrong)} tensors: {listed}")


def _front_ends(model: Model) -> Iterator[Check]:
    """Each file opened, then both at work on a second of noise: counts, codes and widths must be the model's."""
    missing = [name for name in FRONT_ENDS if not has_front_end(model, name)]
    sound = True
    for name, file in model.onnx.items():
        if name not in missing:
            check = _opened(name, file)
            sound = sound and check.passed
            yield check
    if sound and not missing:
        yield _at_work(model)


def _opened(name: str, file: Path) -> Check:
    kind = OnnxSpeechTokenizer if name == "speech_tokenizer" else OnnxSpeakerEncoder
    try:
        kind(file)
    except ModelError as error:
        return Check(file.name, False, str(error))
    return Check(file.name, True, f"opens and takes what a {name.replace('_', ' ')} takes")


def _at_work(model: Model) -> Check:
    noise = np.random.default_rng(0).standard_normal(FEATURE_SAMPLE_RATE).astype(np.float32) / 10
    try:
        ends = FrontEnds(model)
        tokens, vector = ends.tokens([noise])[0], ends.embedding([noise])[0]
    except ModelError as error:
        return Check("front ends", False, str(error))
    if not np.isfinite(vector).all():
        return Check("front ends", False, "the speaker vector of a second of noise is not of finite numbers")
    return Check("front ends", True, f"a second of noise gave {len(tokens)} tokens and {len(vector)} numbers of voice")
