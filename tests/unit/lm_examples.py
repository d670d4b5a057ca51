"""Small language models that the tests of several files share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cosytune.models.layers.encoder import EncoderConfig
from cosytune.models.lm import LM, Job, LMConfig, SamplingConfig, config_from_released, from_released, sample


def encoder_section(width: int, heads: int, units: int, layers: int, **more: Any) -> dict[str, Any]:
    """The keys that both encoder sections of a released configuration share."""
    return {
        "output_size": width,
        "attention_heads": heads,
        "linear_units": units,
        "num_blocks": layers,
        "dropout_rate": 0.1,
        "positional_dropout_rate": 0.1,
        "attention_dropout_rate": 0.0,
        "pos_enc_layer_type": "rel_pos_espnet",
        "selfattention_layer_type": "rel_selfattn",
        "static_chunk_size": 1,
    } | more


NANO_SECTION: dict[str, Any] = {
    "text_encoder_input_size": 32,
    "llm_input_size": 64,
    "llm_output_size": 64,
    "text_token_size": 120,
    "speech_token_size": 64,
    "spk_embed_dim": 24,
    "text_encoder": encoder_section(64, 4, 128, 2, input_size=32, input_layer="linear", use_cnn_module=False),
    "llm": encoder_section(64, 4, 128, 2, input_size=64, input_layer="linear_legacy"),
}

FULL_SECTION: dict[str, Any] = {
    "text_token_size": 51866,
    "speech_token_size": 4096,
    "spk_embed_dim": 192,
    "text_encoder": encoder_section(1024, 16, 4096, 6, input_size=512, input_layer="linear"),
    "llm": encoder_section(1024, 16, 4096, 14, input_size=1024, input_layer="linear_legacy"),
}


def nano_lm(golden: Path) -> LM:
    """The recorded model with random weights, in eval mode."""
    lm = LM(config_from_released(NANO_SECTION))
    released = torch.load(golden / "nano" / "llm.pt", weights_only=True)
    lm.load_state_dict(from_released(released), strict=True)
    return lm.eval()


def small_lm(seed: int = 0) -> LM:
    """A model of two times one layer in eval mode."""
    torch.manual_seed(seed)
    shape: dict[str, Any] = {"width": 16, "heads": 2, "feed_forward": 24, "layers": 1, "chunk": 1}
    config = LMConfig(
        text_vocabulary=30,
        speech_codebook=20,
        speaker_width=6,
        text_encoder=EncoderConfig(input=8, activation="silu", **shape),
        decoder=EncoderConfig(input=12, activation="relu", input_relu=True, **shape),
    )
    return LM(config).eval()


NOTHING = torch.zeros(0, dtype=torch.int64)
"""A prompt that is not there."""


def make_job(text: torch.Tensor, speaker: torch.Tensor | None = None, **more: Any) -> Job:
    """A job without a prompt, unless `more` has one."""
    given: dict[str, Any] = {"prompt_text": NOTHING, "prompt_speech": NOTHING, "shortest": 0, "longest": 12}
    return Job(text=text, speaker=speaker, **(given | more))


@torch.no_grad()
def recomputed(lm: LM, job: Job, sampling: SamplingConfig) -> tuple[list[int], list[torch.Tensor]]:
    """Tokens of a job and the logits behind each, the end's included: everything is computed anew for every token."""
    speaker = None if job.speaker is None else job.speaker[None]
    encoded = lm.encode_text(torch.cat((job.prompt_text, job.text))[None])
    generator = torch.Generator().manual_seed(job.seed)
    tokens: list[int] = []
    logits: list[torch.Tensor] = []
    while len(tokens) < job.longest:
        speech = torch.cat((job.prompt_speech, torch.tensor(tokens, dtype=torch.int64)))
        logits.append(lm.head(lm.decoder(lm.prefix(encoded, speaker, speech[None]))[0, -1]))
        forbid_end = len(tokens) < job.shortest
        token = sample(logits[-1][None], [tokens], sampling, [generator], [forbid_end])[0]
        if token == lm.end_token:
            break
        tokens.append(token)
    return tokens, logits
