"""Do the parts of a model fit together? Every number that two of them share must be the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cosytune.errors import ModelError
from cosytune.models.voices import Voice, VoicePrompt

if TYPE_CHECKING:
    from cosytune.models.model import Model

__all__ = ["check_agreement", "check_text_tokens", "check_voice"]

_SHARED = {
    "speech codes": {"lm": "speech_codebook", "flow": "speech_codebook"},
    "numbers in a speaker vector": dict.fromkeys(("lm", "flow", "speaker_encoder"), "speaker_width"),
    "mel bands": {"flow": "mel_bins", "vocoder": "mel_bins"},
    "samples a second": {"vocoder": "sample_rate"},
    "samples per mel frame": {"vocoder": "hop"},
}
"""What is shared, and the name of it in the configuration of each part."""

_LARGEST_TRANSFORM = 1 << 16
"""Samples of a mel's Fourier transform at most; models have 1024 or 1920."""


def check_agreement(model: Model) -> None:
    """Compare what the parts, the clock, the spectrogram and the voices of a model say about the same thing.

    Raises:
        ModelError: two of them contradict each other.
    """
    for what, places in _SHARED.items():
        said = {part: int(getattr(_config(model, part), name)) for part, name in places.items() if part in model.parts}
        said |= _said_elsewhere(model, what)
        if len(set(said.values())) > 1:
            listed = ", ".join(f"{place} {number}" for place, number in said.items())
            raise ModelError(
                f"the parts of model {model.name} do not fit together, they differ in {what} ({listed}); "
                "put parts of one and the same model into the folder"
            )
    if model.mel.n_fft > _LARGEST_TRANSFORM:
        raise ModelError(f"the mel of model {model.name} has windows of {model.mel.n_fft:,} samples; get it again")
    for name, voice in model.voices.items():
        check_voice(model, name, voice)


def check_voice(model: Model, name: str, voice: Voice) -> None:
    """Can the networks of a model speak as this voice?

    Raises:
        ModelError: the vector has another width or is not of finite numbers; or the prompt is empty, or holds tokens or
            mel bands that the networks do not know.
    """
    where = f"voice {name!r} of model {model.name}"
    width = model.speaker_width()
    if voice.vector.dim() != 1 or width not in (None, len(voice.vector)):
        raise ModelError(
            f"the speaker vector of {where} has shape {tuple(voice.vector.shape)}, its networks take {width} numbers; "
            "use a voice made with this model"
        )
    _check_numbers(f"the speaker vector of {where}", voice.vector)
    if voice.prompt is not None:
        _check_prompt(model, where, voice.prompt)


def _check_prompt(model: Model, where: str, prompt: VoicePrompt) -> None:
    if prompt.mel.dim() != 2 or len(prompt.mel) != model.mel.bins or not prompt.mel.shape[1]:
        raise ModelError(
            f"the prompt's mel of {where} has shape {tuple(prompt.mel.shape)}, should be [{model.mel.bins}, frames] "
            "with at least one frame; use a voice made with this model"
        )
    _check_numbers(f"the prompt's mel of {where}", prompt.mel)
    if not prompt.tokens.numel():
        raise ModelError(f"the prompt of {where} has no speech tokens; save it again from a recording with speech")
    _check_ids(f"speech tokens of {where}", prompt.tokens, model.speech_codebook())
    _check_ids(f"text tokens of {where}", prompt.text, model.text_vocabulary())


def _check_numbers(what: str, values: Tensor) -> None:
    if not values.is_floating_point() or not torch.isfinite(values).all():
        raise ModelError(f"{what} is not of finite numbers; it is damaged, save the voice again")


def _check_ids(what: str, ids: Tensor, known: int | None) -> None:
    if ids.dim() != 1 or ids.dtype != torch.int64:
        raise ModelError(f"the prompt's {what} are {ids.dtype} {tuple(ids.shape)}, should be a row of int64")
    if ids.numel() and known is not None and not 0 <= int(ids.min()) <= int(ids.max()) < known:
        raise ModelError(
            f"the prompt's {what} go from {int(ids.min())} to {int(ids.max())}, its networks know 0 to {known - 1}; "
            "use a voice made with this model"
        )


def check_text_tokens(model: Model, made: int) -> None:
    """Compare the text tokens that the LM knows with the number that its text tokenizer makes.

    Raises:
        ModelError: the LM was trained with a larger tokenizer.
    """
    known = int(_config(model, "lm").text_vocabulary)
    if known > made:
        raise ModelError(
            f"the LM of {model.name} knows {known} text tokens, the {model.tokenizer.kind} tokenizer makes {made}: "
            "it was trained with another text tokenizer (as CosyVoice-300M-25Hz was), which cosytune does not have"
        )


def _config(model: Model, part: str) -> Any:
    return model.parts[part].config


def _said_elsewhere(model: Model, what: str) -> dict[str, int]:
    if what == "speech codes":
        tokenizer: Any = model.parts.get("speech_tokenizer")
        return {} if tokenizer is None else {"speech_tokenizer": tokenizer.codebook_size}
    if what == "numbers in a speaker vector":
        return {f"voice {name!r}": voice.vector.numel() for name, voice in model.voices.items()}
    if what == "mel bands":
        return {"mel": model.mel.bins}
    if what == "samples a second":
        return {"clock": model.clock.sample_rate, "mel": model.mel.sample_rate}
    return {"clock": model.clock.hop, "mel": model.mel.hop}
