"""From token frames to mel frames: linear interpolation by segments, then a small convolution stack."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cosytune.models.flow.norm import FrameGroupNorm

__all__ = ["EDGE_TOKENS", "LengthRegulator", "Segments", "interpolate", "speech_segments"]

EDGE_TOKENS = 20
"""Tokens at each end of the spoken part that keep their natural length when the part is stretched."""


@dataclass(frozen=True)
class Segments:
    """Consecutive pieces of each utterance, every piece stretched by itself.

    Attributes:
        tokens: [B, K] int64, token frames of each piece; pieces follow each other from token 0.
        frames: [B, K] int64, mel frames that each piece becomes; 0 leaves the piece out.
    """

    tokens: Tensor
    frames: Tensor

    @classmethod
    def whole(cls, tokens: Tensor, frames: Tensor) -> Segments:
        """One piece per utterance: tokens [B] becomes frames [B]."""
        return cls(tokens[:, None], frames[:, None])

    @property
    def frame_lengths(self) -> Tensor:
        """Mel frames of each utterance, [B]."""
        return self.frames.sum(dim=1)


def speech_segments(
    prompt_tokens: Tensor, prompt_frames: Tensor, tokens: Tensor, frames: Tensor, frames_per_token: float
) -> Segments:
    """Cut prompt + speech the way synthesis stretches them (all lengths [B] int64).

    The prompt is one piece. Speech of more than 2 * EDGE_TOKENS tokens is cut into head, middle and tail; head and tail
    become int(EDGE_TOKENS * frames_per_token) frames each (34 at 1.7227) and the middle takes the rest. Shorter speech,
    and speech asked to be so fast that nothing would be left for the middle, is one piece.
    """
    edge = torch.full_like(tokens, EDGE_TOKENS)
    edge_frames = torch.full_like(frames, int(EDGE_TOKENS * frames_per_token))
    cut = (tokens > 2 * EDGE_TOKENS) & (frames > 2 * edge_frames)
    edge, edge_frames = edge * cut, edge_frames * cut
    return Segments(
        torch.stack([prompt_tokens, edge, tokens - 2 * edge, edge], dim=1),
        torch.stack([prompt_frames, edge_frames, frames - 2 * edge_frames, edge_frames], dim=1),
    )


def interpolate(x: Tensor, segments: Segments, size: int) -> Tensor:
    """Stretch x [B, T, C] piece by piece to [B, size, C]; frames after an utterance's end are zero.

    Frame f of a piece of n tokens and m frames reads position (f + 0.5) n / m - 0.5, held inside the piece, linearly
    between its two neighbours (PyTorch's `linear` without corner alignment).
    """
    frame_ends, token_ends = segments.frames.cumsum(1), segments.tokens.cumsum(1)
    frame = torch.arange(size, device=x.device).expand(x.shape[0], size)
    # right=True steps over pieces of zero frames; frames after the end stay in the last piece and are zeroed below.
    piece = torch.searchsorted(frame_ends, frame.contiguous(), right=True).clamp(max=frame_ends.shape[1] - 1)
    n, m = segments.tokens.gather(1, piece), segments.frames.gather(1, piece)
    within = frame - (frame_ends - segments.frames).gather(1, piece)
    first = (token_ends - segments.tokens).gather(1, piece)
    ratio = n.float() / m.clamp(min=1).float()
    position = ((within.float() + 0.5) * ratio - 0.5).clamp(min=0.0)
    position = torch.minimum(position, (n - 1).clamp(min=0).float())
    lower = position.long()
    upper = torch.minimum(lower + 1, (n - 1).clamp(min=0))
    weight = (position - lower)[..., None].to(x.dtype)
    stretched = _take(x, first + lower) * (1 - weight) + _take(x, first + upper) * weight
    return stretched * (frame < segments.frame_lengths[:, None])[..., None]


def _take(x: Tensor, index: Tensor) -> Tensor:
    index = index.clamp(max=x.shape[1] - 1)[..., None].expand(-1, -1, x.shape[2])
    return x.gather(1, index)


class LengthRegulator(nn.Module):
    """Interpolation, `layers` times [Conv1d(3), GroupNorm(1 group), Mish], Conv1d(1)."""

    def __init__(self, channels: int, layers: int, reference_padding: bool = False) -> None:
        super().__init__()
        self.reference_padding = reference_padding
        stack: list[nn.Module] = []
        for _ in range(layers):
            norm = FrameGroupNorm(1, channels, reference_padding)
            stack += [nn.Conv1d(channels, channels, 3, padding=1), norm, nn.Mish()]
        # One flat list, because released checkpoints number the layers this way.
        self.stack = nn.ModuleList([*stack, nn.Conv1d(channels, channels, 1)])

    def forward(self, encoded: Tensor, segments: Segments, mask: Tensor) -> Tensor:
        """Stretch and smooth.

        Args:
            encoded: [B, T, M].
            segments: how tokens become frames.
            mask: [B, F] bool, True = valid frame.

        Returns:
            mu [B, M, F], zero in padded frames.
        """
        frames = mask[:, None]  # [B, 1, F]
        x = interpolate(encoded, segments, mask.shape[1]).transpose(1, 2)
        *layers, output = self.stack
        for conv, norm, activation in zip(layers[0::3], layers[1::3], layers[2::3], strict=True):
            # Zeroing the padding before a convolution shows it the same zeros that an utterance alone would see.
            x = activation(norm(conv(x if self.reference_padding else x * frames), frames))
        return output(x) * frames
