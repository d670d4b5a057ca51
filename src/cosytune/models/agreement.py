"""Do the parts of a model fit together? Every number that two of them share must be the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cosytune.errors import ModelError

if TYPE_CHECKING:
    from cosytune.models.folder import Model

__all__ = ["check_agreement", "check_text_tokens"]

_SHARED = {
    "speech codes": {"lm": "speech_codebook", "flow": "speech_codebook"},
    "numbers in a speaker vector": dict.fromkeys(("lm", "flow", "speaker_encoder"), "speaker_width"),
    "mel bands": {"flow": "mel_bins", "vocoder": "mel_bins"},
    "samples a second": {"vocoder": "sample_rate"},
    "samples per mel frame": {"vocoder": "hop"},
}
"""What is shared, and the name of it in the configuration of each part."""


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
        return {f"voice {name!r}": vector.numel() for name, vector in model.voices.items()}
    if what == "mel bands":
        return {"mel": model.mel.bins}
    if what == "samples a second":
        return {"clock": model.clock.sample_rate, "mel": model.mel.sample_rate}
    return {"clock": model.clock.hop, "mel": model.mel.hop}
