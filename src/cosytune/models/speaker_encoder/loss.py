"""The loss that pulls the vectors of one speaker together: softmax with an additive angular margin."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cosytune.errors import InputError, ModelError

__all__ = ["MarginSoftmax"]


class MarginSoftmax(nn.Module):
    """Additive angular margin softmax, "ArcFace" or AAM (Deng et al., arXiv 1801.07698, equation 3).

    With t the angle between a vector and a speaker's weight row, the true speaker's logit is scale * cos(t + margin)
    and the others' scale * cos(t), so a vector must be nearer to its own speaker by `margin` radians. Beyond
    t = pi - margin the cosine would rise again; there the logit goes on falling as cos(t) - margin * sin(margin).

    The weight belongs to the training speakers, not to the encoder: throw it away after training.
    """

    def __init__(self, width: int, speakers: int, margin: float = 0.2, scale: float = 32.0) -> None:
        """Build the table of speaker directions.

        Args:
            width: numbers in a speaker vector (E).
            speakers: training speakers.
            margin: radians, from 0 (plain normalised softmax) to below pi / 2.
            scale: inverse temperature of the cosines.

        Raises:
            ModelError: a size that is not positive, a margin or a scale outside its range.
        """
        super().__init__()
        if width < 1 or speakers < 2:
            raise ModelError(
                f"a speaker loss of width {width} for {speakers} speakers separates nothing; "
                "give a positive width and at least 2 speakers"
            )
        if not 0.0 <= margin < math.pi / 2:
            raise ModelError(f"margin {margin} is outside 0 to 1.57 radians; 0.2 is usual")
        if scale <= 0.0:
            raise ModelError(f"scale {scale} must be positive; 32 is usual")
        self.margin = margin
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(speakers, width))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, vectors: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss and the share of vectors nearest to their own speaker (computed without the margin).

        Args:
            vectors: [B, E], of any length; only their direction counts.
            labels: [B] speaker numbers from 0.

        Raises:
            InputError: shapes that do not fit, or a label that is no training speaker.
        """
        speakers, width = self.weight.shape
        if vectors.dim() != 2 or vectors.shape[1] != width or labels.shape != vectors.shape[:1]:
            raise InputError(
                f"the speaker loss got vectors {list(vectors.shape)} and labels {list(labels.shape)}; "
                f"give [batch, {width}] and [batch]"
            )
        if bool(((labels < 0) | (labels >= speakers)).any()):
            raise InputError(f"labels {labels.tolist()} must lie between 0 and {speakers - 1}, the training speakers")
        # bfloat16 cannot tell cosines near one apart.
        with torch.autocast(vectors.device.type, enabled=False):
            cosine = F.linear(F.normalize(vectors.float()), F.normalize(self.weight.float()))
            logits = cosine.scatter(1, labels[:, None], self._with_margin(cosine.gather(1, labels[:, None])))
            loss = F.cross_entropy(self.scale * logits, labels)
        accuracy = (cosine.detach().argmax(1) == labels).float().mean()
        return loss, accuracy

    def _with_margin(self, cosine: Tensor) -> Tensor:
        # The floor keeps the gradient of the root finite where a vector meets its speaker's direction exactly.
        sine = (1.0 - cosine.square()).clamp_min(1e-6).sqrt()
        shifted = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        falling = cosine - self.margin * math.sin(self.margin)
        return torch.where(cosine > -math.cos(self.margin), shifted, falling)
