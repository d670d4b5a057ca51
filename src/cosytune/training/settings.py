"""The numbers that steer one part's loop, and the defaults each stage gives them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from cosytune.errors import InputError

__all__ = [
    "PARTS",
    "LoopSettings",
    "PartName",
    "StageName",
    "default_settings",
    "is_large",
    "learning_rate",
    "override",
    "read_overrides",
    "takes",
    "vector_kind",
]

PartName = Literal["speech_tokenizer", "speaker_encoder", "vocoder", "lm", "flow"]
StageName = Literal["pretrain", "sft", "tune"]
PARTS: tuple[PartName, ...] = get_args(PartName)


class LoopSettings(BaseModel):
    """Everything that one part's training loop is told; written into the run folder as it was resolved.

    Attributes:
        steps: optimizer updates.
        batch_seconds: seconds of speech per update, padding counted; the last clip of a batch may pass it by a little,
            a longer clip comes alone, and what `concatenate` adds is not counted.
        learning_rate: peak rate of AdamW.
        warmup_steps: updates over which the rate rises linearly from zero; never more than half of `steps`.
        final_rate: the rate falls along a half cosine to this share of the peak; 1.0 keeps it constant.
        clip_norm: largest global gradient norm.
        weight_decay: AdamW's decoupled decay.
        crop_seconds: training of vocoder and speaker encoder cuts random pieces this long (a shorter one would not fill
            the windows of the spectral losses).
        adversarial_share: share of the vocoder's updates, the last ones, that add the discriminators; what comes before
            is the warm-up by spectral losses alone (0: nothing else follows it).
        concatenate: share of the LM's training items that a second utterance of the same voice is added to, so that it
            learns to go on from a prompt.
        continuous: the tokenizer's quantiser stays continuous for this share of the steps before it rounds.
        prior_weight: weight of the flow's auxiliary prior loss on the regulated tokens.
        average: decay of the running average of the weights that is validated and kept; 0 keeps the last weights.
            Statistics that a network counts itself (batch normalisation) are kept as they are.
        freeze: modules whose weights do not move, by dotted name, wildcards allowed (see `movement.freeze`).
        layer_decay: each layer towards the input moves at this share of the rate of the one above it; 1.0: all alike.
        anchor: what holds the network to its start: "l2sp" pulls the weights back, "kl" (LM only) keeps the predicted
            distributions near those of the start, at the price of a second forward pass and a copy of the weights.
        anchor_weight: strength of the anchor: for "l2sp" the share of the way back per update and unit of rate, for
            "kl" the weight of the divergence (nats per token) beside the cross-entropy.
        smoothing: label smoothing of the LM's cross-entropy.
        lora_rank: rank of LoRA adapters, the only weights that then move; 0: no adapters.
        lora_alpha: adapters are added times alpha / rank.
        lora_dropout: on the adapters' input.
        replay: share of the updates that rehearse what the start could do instead of learning what is new.
        accumulate: an update's batch is worked through in so many pieces, to save memory.
        score_every: updates between times that a checkpoint is heard, where somebody listens (see `selection`).
        keep_best: checkpoints kept by what was heard; the best of them is the result.
        patience: scores in a row without a new best that end the run; 0: none do.
        obey_stops: whether a stop (patience, an alarm) ends the run, or is only recorded, as comparisons need it.
        validate_every, checkpoint_every: updates between validations and between checkpoints.
        precision: "float32", or "bfloat16" for autocast; a run without one gets `precision.default_precision`.
        seed: of data order, crops, dropout and noise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: int = Field(ge=1)
    batch_seconds: float = Field(gt=0)
    learning_rate: float = Field(gt=0, lt=1)
    warmup_steps: int = Field(default=20, ge=0)
    final_rate: float = Field(default=0.05, ge=0, le=1)
    clip_norm: float = Field(default=1.0, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    crop_seconds: float = Field(default=1.0, ge=0.1)
    adversarial_share: float = Field(default=0.0, ge=0, le=1)
    concatenate: float = Field(default=0.0, ge=0, le=1)
    continuous: float = Field(default=0.5, ge=0, le=1)
    prior_weight: float = Field(default=0.0, ge=0)
    average: float = Field(default=0.0, ge=0, lt=1)
    freeze: tuple[str, ...] = ()
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    anchor: Literal["none", "l2sp", "kl"] = "none"
    anchor_weight: float = Field(default=0.0, ge=0)
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    lora_rank: int = Field(default=0, ge=0)
    lora_alpha: int = Field(default=32, ge=1)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    replay: float = Field(default=0.0, ge=0, le=0.9)
    accumulate: int = Field(default=1, ge=1)
    score_every: int = Field(default=200, ge=1)
    keep_best: int = Field(default=3, ge=1)
    patience: int = Field(default=0, ge=0)
    obey_stops: bool = True
    validate_every: int = Field(default=200, ge=1)
    checkpoint_every: int = Field(default=200, ge=1)
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _switches_that_belong_together(self) -> Self:
        if (self.anchor == "none") != (self.anchor_weight == 0):
            raise ValueError(
                f"anchor {self.anchor!r} and anchor_weight {self.anchor_weight} do not go together: an anchor needs a "
                "weight above 0, and without an anchor there is nothing to weigh"
            )
        if self.lora_rank and self.anchor == "l2sp":
            raise ValueError("LoRA leaves the start's weights as they are, so anchor 'l2sp' has nothing to pull back")
        return self


# What only some parts know how to use: given to another part it is refused, not ignored.
_USED_BY: dict[str, tuple[PartName, ...]] = {
    "crop_seconds": ("vocoder", "speaker_encoder"),
    "adversarial_share": ("vocoder",),
    "concatenate": ("lm",),
    "continuous": ("speech_tokenizer",),
    "prior_weight": ("flow",),
    "smoothing": ("lm",),
    "lora_rank": ("lm", "flow"),
    "lora_alpha": ("lm", "flow"),
    "lora_dropout": ("lm", "flow"),
    "replay": ("lm", "flow"),
    # The other parts' losses look at a whole batch: statistics of a batch, an adversary's turn.
    "accumulate": ("lm", "flow"),
}


def takes(part: str, setting: str) -> bool:
    """Whether a part uses a setting."""
    return part in _USED_BY.get(setting, (part,))


def learning_rate(settings: LoopSettings, step: int) -> float:
    """Rate of update number `step` (from 0): linear warm-up, then half a cosine down to `final_rate` of the peak."""
    warmup = min(settings.warmup_steps, settings.steps // 2)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / (settings.steps - warmup))
    low = settings.final_rate
    return settings.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress)))


# Rates for networks of a few million parameters; the steps are what two cores do in about twenty minutes. Small batches
# learn faster per second on a processor: the LM reached 3.83 nats in 147 s with 12 s a step and in 280 s with 32 s, the
# vocoder 0.63 of speaker similarity in 80 s with 3 s a step and 0.49 in 72 s with 6 s.
_SMALL: dict[tuple[str, str], dict[str, Any]] = {
    ("pretrain", "speech_tokenizer"): {"steps": 2500, "batch_seconds": 24, "learning_rate": 1.5e-3,
                                       "warmup_steps": 100},
    ("pretrain", "speaker_encoder"): {"steps": 500, "batch_seconds": 48, "learning_rate": 2e-3, "crop_seconds": 2.0},
    ("pretrain", "vocoder"): {"steps": 3000, "batch_seconds": 3, "learning_rate": 2e-3, "crop_seconds": 0.32},
    ("pretrain", "lm"): {"steps": 3000, "batch_seconds": 12, "learning_rate": 2e-3, "warmup_steps": 100,
                         "concatenate": 0.1},
    ("pretrain", "flow"): {"steps": 2500, "batch_seconds": 12, "learning_rate": 1e-3, "warmup_steps": 100,
                           "prior_weight": 0.5, "average": 0.995},
    ("sft", "lm"): {"steps": 300, "batch_seconds": 24, "learning_rate": 3e-4},
    ("sft", "flow"): {"steps": 300, "batch_seconds": 20, "learning_rate": 3e-4, "prior_weight": 0.5, "average": 0.98},
    ("sft", "vocoder"): {"steps": 400, "batch_seconds": 3, "learning_rate": 1e-3, "crop_seconds": 0.32},
    ("tune", "lm"): {"steps": 150, "batch_seconds": 16, "learning_rate": 1e-4},
    ("tune", "flow"): {"steps": 150, "batch_seconds": 16, "learning_rate": 2e-4, "prior_weight": 0.5, "average": 0.98},
    ("tune", "vocoder"): {"steps": 400, "batch_seconds": 3, "learning_rate": 1e-3, "crop_seconds": 0.32},
}  # fmt: skip

# Rates for the released sizes: the recipe's 1e-3 to pre-train and its advice of 1e-5 to adapt (specification, 9.4), and
# its 2e-4 for the vocoder, which is trained against discriminators there. In the small family they cost three times as
# much a step and did not pay in the minutes it has.
_LARGE_RATES = {"pretrain": 1e-3, "sft": 1e-5, "tune": 1e-5}
_LARGE_VOCODER_RATE = 2e-4
_LARGE_VOCODER_ADVERSARY = 0.9

# Up to the first number of weights a part is small, from the second on it is of a released size (LM 311, flow 105,
# vocoder 21 million). Weights stand for width here: twice as wide is about four times as many.
_SIZES = (30e6, 100e6)
_VOCODER_SIZES = (5e6, 20e6)


def is_large(part: PartName, parameters: int) -> bool:
    """Whether a part of so many weights is larger than those of the small family."""
    return parameters > (_VOCODER_SIZES if part == "vocoder" else _SIZES)[0]


def default_settings(stage: StageName, part: PartName, parameters: int) -> LoopSettings:
    """Loop settings for one part of `parameters` weights; between the small and the released sizes rates fall evenly.

    Raises:
        InputError: this stage does not train that part.
    """
    if (stage, part) not in _SMALL:
        allowed = ", ".join(p for s, p in _SMALL if s == stage)
        raise InputError(f"stage {stage} does not train the {part}; it trains {allowed}")
    values = dict(_SMALL[stage, part])
    small, large = _VOCODER_SIZES if part == "vocoder" else _SIZES
    if parameters > small:
        share = min(1.0, math.log(parameters / small) / math.log(large / small))
        rate = _LARGE_VOCODER_RATE if part == "vocoder" else _LARGE_RATES[stage]
        values["learning_rate"] = values["learning_rate"] ** (1 - share) * rate**share
        values["prior_weight"] = 0.0
        values["adversarial_share"] = _LARGE_VOCODER_ADVERSARY if part == "vocoder" else 0.0
    return LoopSettings(**values)


def read_overrides(path: Path) -> dict[PartName, dict[str, Any]]:
    """Settings that replace defaults, from a JSON file `{"lm": {"steps": 600}, ...}`; values are checked when used.

    Raises:
        InputError: no such file, not JSON, an unknown part or an unknown setting, or a seed (runs have their own).
    """
    if not path.is_file():
        raise InputError(f"there is no settings file {path}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict) or not all(isinstance(entry, dict) for entry in value.values()):
        raise InputError(f'{path} must hold one object per part, such as {{"lm": {{"steps": 600}}}}')
    for part, settings in value.items():
        if part not in PARTS:
            raise InputError(f"{path} names a part {part!r}; parts are {', '.join(PARTS)}")
        known = [name for name in LoopSettings.model_fields if name != "seed"]
        if "seed" in settings:
            raise InputError(f"{path}, part {part}: the seed is no setting of a part; give --seed (compare: --seeds)")
        if unknown := sorted(set(settings) - set(known)):
            raise InputError(f"{path}, part {part}: unknown setting {unknown[0]!r}; known are {', '.join(known)}")
    return value


def override(settings: LoopSettings, part: PartName, changes: Mapping[str, Any]) -> LoopSettings:
    """`settings` with some values replaced and everything checked again.

    Raises:
        InputError: an unknown setting, one that this part does not use, or a value outside its range.
    """
    for name in changes:
        if name not in LoopSettings.model_fields:
            raise InputError(f"{part} has no setting {name!r}; settings are {', '.join(LoopSettings.model_fields)}")
        if not takes(part, name):
            raise InputError(f"setting {part}.{name} would do nothing; it is for {', '.join(_USED_BY[name])}")
    if changes.get("anchor") == "kl" and part != "lm":
        raise InputError(f"setting {part}.anchor = 'kl' is for the lm, which predicts distributions; give 'l2sp'")
    try:
        return LoopSettings(**{**settings.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        why = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:  # each is allowed, but not all together
            raise InputError(f"settings of the {part}: {why}; change one of them") from error
        what = f"{first['loc'][0]} = {first['input']!r}"
        raise InputError(f"setting {part}.{what}: {why}; change it in the settings") from error


def vector_kind(stage: StageName) -> Literal["speaker", "utterance"]:
    """Which speaker vector a stage learns with: each clip's own in pre-training, the speaker's mean afterwards.

    Specification, section 4.7: utterance-level vectors teach to clone, speaker-level ones make named voices.
    """
    return "utterance" if stage == "pretrain" else "speaker"
