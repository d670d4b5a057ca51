"""`spk2info.pt`, the table of voices of a released folder: both layouts read, one that serves both modes written."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cosytune.errors import ModelError
from cosytune.files import write_bytes
from cosytune.models.checkpoints import read_checkpoint
from cosytune.models.voices import Voice, VoicePrompt

__all__ = ["read_table", "write_entry"]

_VECTORS = ("embedding", "llm_embedding", "flow_embedding")
_TOKENS = ("flow_prompt_speech_token", "llm_prompt_speech_token")
_LONGEST_PROMPT = 1_000_000
"""Numbers in one tensor of an entry at most; 30 s of mel are 200,000."""


def read_table(path: Path) -> dict[str, Voice]:
    """The voices of a `spk2info.pt`; none if there is no such file.

    An entry of the SFT layout holds an `embedding` (older files a `speech_feat` and `speech_token` beside it, which are
    not a prompt: the text is missing). An entry saved from a recording holds a prompt (specification, 1.2).

    Raises:
        ModelError: the file is damaged, or an entry is no voice.
    """
    if not path.is_file():
        return {}
    return {str(name): _voice_of(f"{path}: voice {name!r}", entry) for name, entry in read_checkpoint(path).items()}


def _voice_of(where: str, entry: object) -> Voice:
    values = entry if isinstance(entry, dict) else {}
    vector = _first(where, values, _VECTORS)
    if vector is None:
        raise ModelError(f"{where} has no embedding; remove that voice, or get the file again")
    return Voice(vector.float().reshape(-1).clone(), _prompt_of(where, values))


def _prompt_of(where: str, values: Mapping[Any, Any]) -> VoicePrompt | None:
    """The recording that a cloned voice goes on from; without a text it was saved for its sound only."""
    tokens, mel = _first(where, values, _TOKENS), _first(where, values, ("prompt_speech_feat",))
    if tokens is None or mel is None:
        return None
    if mel.dim() != 3 or len(mel) != 1:
        raise ModelError(f"{where}: prompt_speech_feat has shape {tuple(mel.shape)}, should be [1, frames, bins]")
    text = _first(where, values, ("prompt_text",))
    return VoicePrompt(
        torch.zeros(0, dtype=torch.int64) if text is None else text.reshape(-1).to(torch.int64, copy=True),
        tokens.reshape(-1).to(torch.int64, copy=True),
        mel[0].float().T.clone(memory_format=torch.contiguous_format),
    )


def _first(where: str, values: Mapping[Any, Any], keys: tuple[str, ...]) -> Tensor | None:
    """The first of these that is there, if it is a tensor whose numbers exist (see `read_flat_checkpoint`)."""
    for key in keys:
        value = values.get(key)
        if not isinstance(value, Tensor):
            continue
        if value.layout != torch.strided or value.device.type != "cpu" or value.numel() > _LONGEST_PROMPT:
            raise ModelError(f"{where}: {key} is no plain tensor of a recording's size; get the file again")
        return value.detach()
    return None


def write_entry(path: Path, name: str, voice: Voice) -> None:
    """Put one voice into a `spk2info.pt`; the other entries stay as they are, also what cosytune does not know.

    The upstream runtime reads `embedding` in its SFT mode and the other names in its zero-shot mode.

    Raises:
        ModelError: the file that is there is damaged.
        OSError: the disk is full or the file cannot be written.
    """
    table = read_checkpoint(path) if path.is_file() else {}
    buffer = io.BytesIO()
    torch.save({**table, name: _entry_of(voice)}, buffer)
    write_bytes(path, buffer.getvalue())


def _entry_of(voice: Voice) -> dict[str, Tensor]:
    """Names, shapes and types of the specification, section 1.2."""
    vector = _own(voice.vector, torch.float32)
    if voice.prompt is None:
        return {"embedding": vector}
    text, tokens = _own(voice.prompt.text, torch.int32), _own(voice.prompt.tokens, torch.int32)
    mel = voice.prompt.mel.detach().cpu().float().T.clone(memory_format=torch.contiguous_format)[None]
    return {
        "embedding": vector,
        "llm_embedding": vector,
        "flow_embedding": vector,
        "prompt_text": text,
        "prompt_text_len": _length(text),
        "llm_prompt_speech_token": tokens,
        "llm_prompt_speech_token_len": _length(tokens),
        "flow_prompt_speech_token": tokens,
        "flow_prompt_speech_token_len": _length(tokens),
        "prompt_speech_feat": mel,
        "prompt_speech_feat_len": _length(mel),
    }


def _own(value: Tensor, dtype: torch.dtype) -> Tensor:
    """[1, N] with memory of its own: a view would drag all of its storage into the file."""
    return value.detach().cpu().to(dtype, copy=True).reshape(1, -1)


def _length(value: Tensor) -> Tensor:
    return torch.tensor([value.shape[1]], dtype=torch.int32)
