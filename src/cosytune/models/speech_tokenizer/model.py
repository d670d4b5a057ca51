"""The speech tokenizer: a speech recogniser with a bottleneck of integers in its middle."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cosytune.errors import InputError
from cosytune.models.layers.dropout import Dropout
from cosytune.models.layers.masks import length_mask
from cosytune.models.speech_tokenizer.config import SpeechTokenizerConfig
from cosytune.models.speech_tokenizer.quantiser import build_quantiser

__all__ = ["SpeechTokenizer", "Tokenized"]

ROTARY_BASE = 10_000.0
"""Theta of the rotary positions (Su et al., arXiv 2104.09864)."""


class Tokenized(NamedTuple):
    """What a training pass returns.

    Attributes:
        codes: [B, T] int64, 0 in the padding.
        lengths: [B] tokens per utterance.
        ctc_logits: [B, T, C + 1]; the last symbol is the blank.
        quantiser_loss: scalar; zero for FSQ.
    """

    codes: Tensor
    lengths: Tensor
    ctc_logits: Tensor
    quantiser_loss: Tensor


class FrontEnd(nn.Module):
    """Convolutions over log-mel frames, Whisper's front end with strides as data: [B, M, F] -> [B, T, D]."""

    def __init__(self, config: SpeechTokenizerConfig) -> None:
        super().__init__()
        self.strides = config.strides
        sizes = [config.bins] + [config.width] * len(config.strides)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(size, config.width, 3, stride=stride, padding=1)
            for size, stride in zip(sizes[:-1], config.strides, strict=True)
        )

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Frames and lengths [B] at the feature rate to frames and lengths at the token rate, rounded up."""
        for convolution, stride in zip(self.convolutions, self.strides, strict=True):
            # Each convolution must see zeros after the last frame, as it does when the utterance comes alone.
            x = x.masked_fill(~length_mask(lengths, x.shape[-1])[:, None], 0.0)
            x = F.gelu(convolution(x))
            lengths = -(-lengths // stride)
        return x.transpose(1, 2), lengths


class MemoryAttention(nn.Module):
    """Self-attention with rotary positions, and beside it a depthwise convolution over the values (FSMN memory).

    The memory is values + convolution(values), added to the attention's output: it gives each block a local view with
    few parameters (Gao et al., SAN-M, arXiv 2006.01713).
    """

    def __init__(self, config: SpeechTokenizerConfig) -> None:
        super().__init__()
        width, kernel = config.width, config.memory_kernel
        self.heads = config.heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.memory = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)

    def forward(self, x: Tensor, mask: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """Attend over [B, T, D]; `mask` [B, T]."""
        B, T, D = x.shape
        value = self.value(x).masked_fill(~mask[..., None], 0.0)
        memory = value + self.memory(value.transpose(1, 2)).transpose(1, 2)
        query, key, heads = (
            y.view(B, T, self.heads, D // self.heads).transpose(1, 2) for y in (self.query(x), self.key(x), value)
        )
        query, key = rotate(query, rotation), rotate(key, rotation)
        # Plain products: under bfloat16 on a processor the fused kernel makes a training step 1.3 times slower with a
        # mask; in float32 the two are about equal.
        scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-1, -2))
        weights = scores.masked_fill(~mask[:, None, None], torch.finfo(scores.dtype).min).softmax(-1)
        attended = torch.matmul(weights.to(heads.dtype), heads).transpose(1, 2).reshape(B, T, D)
        return self.out(attended) + memory


class Block(nn.Module):
    """Pre-norm attention with memory and feed-forward, each added to its input."""

    def __init__(self, config: SpeechTokenizerConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention = MemoryAttention(config)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(config.width),
            nn.Linear(config.width, config.feed_forward),
            nn.GELU(),
            nn.Linear(config.feed_forward, config.width),
        )
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), mask, rotation))
        return x + self.dropout(self.feed_forward(x))


class SpeechTokenizer(nn.Module):
    """Log-mel frames to speech tokens, trained by making the tokens spell the transcript.

    Blocks, quantiser, blocks, CTC head: the supervised semantic tokenizer of CosyVoice (arXiv 2407.05407), with the
    rotary positions and the memory of the second version (arXiv 2412.10117). Built for utterances up to 30 s.
    """

    def __init__(self, config: SpeechTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.front = FrontEnd(config)
        self.before = nn.ModuleList(Block(config) for _ in range(config.layers_before))
        self.quantiser_norm = nn.LayerNorm(config.width)
        self.quantiser = build_quantiser(config.quantiser, config.width)
        self.after = nn.ModuleList(Block(config) for _ in range(config.layers_after))
        self.head = nn.Sequential(nn.LayerNorm(config.width), nn.Linear(config.width, config.symbols + 1))

    @property
    def codebook_size(self) -> int:
        """Number of different codes."""
        return self.quantiser.codebook_size

    def forward(self, features: Tensor, lengths: Tensor, round: bool = True) -> Tokenized:
        """One training pass.

        Args:
            features: [B, bins, F] Whisper log-mel at 100 Hz; the padding may hold anything.
            lengths: [B] valid frames, each from 1 to F.
            round: False lets unrounded vectors through the quantiser, for the first steps of training.

        Raises:
            InputError: wrong shapes or lengths.
        """
        x, mask, token_lengths = self._analyse(features, lengths)
        # The bottleneck stays in float32: in bfloat16 neighbouring codes would flip.
        with torch.autocast(x.device.type, enabled=False):
            quantised = self.quantiser(x.float(), mask, round=round)
        x = quantised.vectors
        rotation = rotary_table(x.shape[1], self.config.width // self.config.heads, x.device)
        for block in self.after:
            x = block(x, mask, rotation)
        return Tokenized(quantised.codes, token_lengths, self.head(x), quantised.loss)

    @torch.no_grad()
    def encode(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Codes [B, T], 0 in the padding, and lengths [B]; arguments and errors as in `forward`.

        Call `eval()` first and leave autocast off: dropout and bfloat16 would move codes near a rounding boundary.
        """
        x, mask, token_lengths = self._analyse(features, lengths)
        with torch.autocast(x.device.type, enabled=False):
            return self.quantiser(x.float(), mask).codes, token_lengths

    @torch.no_grad()
    def revive_codes(self, features: Tensor, lengths: Tensor, generator: torch.Generator) -> int:
        """Move codes that training left unused onto vectors of this batch; returns how many (always 0 for FSQ).

        Call it before the first training step, which starts the table from data, and then every hundred steps or so.
        In data-parallel training all processes must pass the same batch and the same generator state.
        """
        x, mask, _ = self._analyse(features, lengths)
        with torch.autocast(x.device.type, enabled=False):
            return self.quantiser.revive(x.float(), mask, generator)

    def _analyse(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Everything before the quantiser: vectors [B, T, D], mask [B, T], lengths [B]."""
        self._check(features, lengths)
        x, token_lengths = self.front(features, lengths)
        mask = length_mask(token_lengths, x.shape[1])
        rotation = rotary_table(x.shape[1], self.config.width // self.config.heads, x.device)
        for block in self.before:
            x = block(x, mask, rotation)
        return self.quantiser_norm(x), mask, token_lengths

    def _check(self, features: Tensor, lengths: Tensor) -> None:
        bins = self.config.bins
        if features.dim() != 3 or features.shape[1] != bins:
            raise InputError(
                f"the speech tokenizer got features of shape {list(features.shape)}; give [batch, {bins}, frames]"
            )
        if lengths.shape != features.shape[:1]:
            raise InputError(
                f"lengths has shape {list(lengths.shape)} for {features.shape[0]} utterances; give one length each"
            )
        if bool(((lengths < 1) | (lengths > features.shape[2])).any()):
            raise InputError(
                f"lengths {lengths.tolist()} must lie between 1 and the {features.shape[2]} frames given; "
                "leave empty utterances out"
            )


def rotary_table(size: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines [size, width] of the rotary angles, in float32."""
    frequency = ROTARY_BASE ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    angles = torch.arange(size, device=device, dtype=torch.float32)[:, None] * frequency
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn pairs (i, i + width / 2) of [B, H, T, width] by their position's angles."""
    cosine, sine = (table.to(x.dtype) for table in rotation)
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat([-second, first], dim=-1) * sine
