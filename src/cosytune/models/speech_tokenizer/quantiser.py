"""From vectors to integers and back, with a gradient: finite scalar and vector quantisation."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cosytune.models.speech_tokenizer.config import FSQConfig, VQConfig

__all__ = ["FiniteScalarQuantiser", "Quantised", "Quantiser", "VectorQuantiser", "build_quantiser"]

BOUND = 0.999
"""Keeps a saturated tanh strictly inside the outermost rounding interval (the released tokenizers' number)."""


class Quantised(NamedTuple):
    """What a quantiser returns.

    Attributes:
        vectors: [B, T, D] the input as far as the codes know it.
        codes: [B, T] int64.
        loss: scalar to add to the training loss; zero for FSQ.
    """

    vectors: Tensor
    codes: Tensor
    loss: Tensor


class Quantiser(nn.Module):
    """What both quantisers offer."""

    codebook_size: int

    def forward(self, x: Tensor, mask: Tensor, round: bool = True) -> Quantised:
        """Quantise `x` [B, T, D]; `mask` [B, T] is True at valid positions.

        With `round` False the vectors pass the bottleneck's width but are not rounded, which lets the first steps of
        training shape the encoder; the codes are the rounded ones all the same.
        """
        raise NotImplementedError(f"{type(self).__name__} must say how it quantises")

    def revive(self, x: Tensor, mask: Tensor, generator: torch.Generator) -> int:
        """Move codes that nothing uses to vectors of `x`; returns how many. Without a table there are none."""
        return 0


class FiniteScalarQuantiser(Quantiser):
    """Project to a few numbers, bound them by tanh, round each to its levels (Mentzer et al., arXiv 2309.15505).

    With level counts L_i and h_i = (L_i - 1) / 2: digit_i = round(0.999 * h_i * tanh(z_i)) + h_i and
    code = sum over i of digit_i * product of L_j for j < i. For L_i = 3 this is the released second version's rule.
    """

    reach: Tensor
    place: Tensor

    def __init__(self, config: FSQConfig, width: int) -> None:
        super().__init__()
        self.codebook_size = config.codebook_size
        reach = [(level - 1) // 2 for level in config.levels]
        place = [math.prod(config.levels[:digit]) for digit in range(len(config.levels))]
        self.register_buffer("reach", torch.tensor(reach), persistent=False)
        self.register_buffer("place", torch.tensor(place), persistent=False)
        self.down = nn.Linear(width, len(config.levels))
        self.up = nn.Linear(len(config.levels), width)
        # Inputs are layer-normalised: a unit variance before tanh uses all levels from the first step on.
        nn.init.normal_(self.down.weight, std=width**-0.5)

    def forward(self, x: Tensor, mask: Tensor, round: bool = True) -> Quantised:
        """See `Quantiser.forward`."""
        bounded = self.bounded(self.down(x))
        rounded = bounded.round()
        codes = self.codes_of(rounded) * mask
        passed = bounded + (rounded - bounded).detach() if round else bounded
        return Quantised(self.up(passed / self.reach), codes, x.new_zeros(()))

    def bounded(self, z: Tensor) -> Tensor:
        """Squeeze [..., n] into (-h_i, h_i)."""
        return torch.tanh(z) * BOUND * self.reach

    def codes_of(self, rounded: Tensor) -> Tensor:
        """Mixed-radix code of whole numbers [..., n] from -h_i to h_i."""
        return ((rounded.long() + self.reach) * self.place).sum(-1)


class VectorQuantiser(Quantiser):
    """Nearest row of a table by cosine, learned by gradient (van den Oord et al., arXiv 1711.00937, section 3.2).

    Input and rows are normalised to length one (Yu et al., arXiv 2110.04627). The straight-through gradient trains the
    encoder; the loss |sg(x) - e|^2 + commitment * |x - sg(e)|^2 trains the table and holds the encoder to it. The table
    is a parameter, so that data-parallel training, weight averaging and freezing treat it like any other.
    """

    usage: Tensor

    def __init__(self, config: VQConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.codebook_size = config.codes
        self.down = nn.Linear(width, config.code_width)
        self.up = nn.Linear(config.code_width, width)
        self.codebook = nn.Parameter(F.normalize(torch.randn(config.codes, config.code_width), dim=-1))
        # Running usage of each code in units of the fair share: zero at first, so that the first revival takes the
        # whole table from data.
        self.register_buffer("usage", torch.zeros(config.codes))

    def forward(self, x: Tensor, mask: Tensor, round: bool = True) -> Quantised:
        """See `Quantiser.forward`; in training mode the usage of the codes is counted."""
        unit = F.normalize(self.down(x), dim=-1)
        table = F.normalize(self.codebook, dim=-1)
        codes = torch.matmul(unit, table.t()).argmax(-1)
        if self.training:
            self._count(codes[mask])
        chosen = F.embedding(codes, table)
        loss = (unit.detach() - chosen).square().sum(-1)[mask].mean()
        if round:
            # While nothing is rounded the table follows the encoder, but does not yet hold it back.
            loss = loss + self.config.commitment * (unit - chosen.detach()).square().sum(-1)[mask].mean()
        passed = unit + (chosen - unit).detach() if round else unit
        return Quantised(self.up(passed), codes * mask, loss)

    @torch.no_grad()
    def _count(self, codes: Tensor) -> None:
        share = torch.bincount(codes, minlength=self.codebook_size) * (self.codebook_size / codes.numel())
        self.usage.lerp_(share.to(self.usage.dtype), 1.0 - self.config.usage_decay)

    @torch.no_grad()
    def revive(self, x: Tensor, mask: Tensor, generator: torch.Generator) -> int:
        """Put dead codes on vectors drawn without replacement from the valid positions of `x`; returns how many."""
        vectors = F.normalize(self.down(x[mask]), dim=-1)
        dead = (self.usage < self.config.dead_below).nonzero()[:, 0]
        order = torch.randperm(len(vectors), generator=generator, device=generator.device)[: len(dead)]
        dead = dead[: len(order)]
        self.codebook[dead] = vectors[order.to(vectors.device)].to(self.codebook.dtype)
        # A fair share of credit: a revived code has some hundred steps to find its work before it is moved again.
        self.usage[dead] = 1.0
        return len(dead)


def build_quantiser(config: FSQConfig | VQConfig, width: int) -> Quantiser:
    """The quantiser that `config` describes, for vectors of `width`."""
    return FiniteScalarQuantiser(config, width) if isinstance(config, FSQConfig) else VectorQuantiser(config, width)
