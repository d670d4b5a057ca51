"""Text tokens and a speaker vector in, speech tokens out."""

from cosytune.models.lm.config import LMConfig
from cosytune.models.lm.convert import config_from_released, from_released, to_released
from cosytune.models.lm.generate import Decoder, Decoding, Generated, Job, decode_all, generate, token_limits
from cosytune.models.lm.loss import LMLoss, lm_loss
from cosytune.models.lm.model import LM, LMOutput
from cosytune.models.lm.sampling import GREEDY, REFERENCE_SAMPLING, SamplingConfig, sample

__all__ = [
    "GREEDY",
    "LM",
    "REFERENCE_SAMPLING",
    "Decoder",
    "Decoding",
    "Generated",
    "Job",
    "LMConfig",
    "LMLoss",
    "LMOutput",
    "SamplingConfig",
    "config_from_released",
    "decode_all",
    "from_released",
    "generate",
    "lm_loss",
    "sample",
    "to_released",
    "token_limits",
]
