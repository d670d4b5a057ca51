"""The reference's way of decoding (specification, 4.3, 4.5 and 10.5): the baseline of `lm.py`, with our weights.

Float32, one request at a time. Every step projects the sinusoids of all 2 T - 1 offsets anew in every layer, appends
keys and values by concatenation in every layer and concatenates those of all layers once more; the nucleus is gathered
by a loop over the sorted vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cosytune.models.layers.attention import sinusoid_table
from cosytune.models.lm.model import LM

__all__ = ["ReferenceDecoding"]

TOP_P, TOP_K, WINDOW, TAU = 0.8, 25, 10, 0.1


class ReferenceDecoding:
    """One run: `advance` says one token."""

    def __init__(self, lm: LM, text: Tensor, speaker: Tensor, seed: int, greedy: bool = False) -> None:
        self._lm, self._greedy = lm, greedy
        self._generator = torch.Generator().manual_seed(seed)
        self._cache: Tensor | None = None
        self.tokens: list[int] = []
        with torch.no_grad():
            prefix = lm.prefix(lm.encode_text(text[None]), speaker[None], torch.zeros(1, 0, dtype=torch.int64))
            self._logits = self._forward(prefix)

    @torch.no_grad()
    def advance(self) -> int:
        """Draw a token (never the end) and feed it."""
        scores = self._logits.log_softmax(dim=-1)
        scores[-1] = -torch.inf
        token = int(scores.argmax()) if self._greedy else self._draw(scores)
        self.tokens.append(token)
        self._logits = self._forward(self._lm.embed_speech(torch.tensor([[token]])))
        return token

    def _draw(self, scores: Tensor) -> int:
        probabilities, order = scores.softmax(dim=0).sort(descending=True, stable=True)
        taken: list[Tensor] = []
        ids: list[Tensor] = []
        mass = 0.0
        for index in range(len(order)):
            if mass >= TOP_P or len(ids) >= TOP_K:
                break
            mass += probabilities[index].item()
            taken.append(probabilities[index])
            ids.append(order[index])
        token = int(ids[int(torch.stack(taken).multinomial(1, generator=self._generator))])
        if self.tokens[-WINDOW:].count(token) >= WINDOW * TAU:
            scores[token] = -torch.inf
            token = int(scores.softmax(dim=0).multinomial(1, generator=self._generator))
        return token

    def _forward(self, x: Tensor) -> Tensor:
        decoder = self._lm.decoder
        new = x.shape[1]
        past = 0 if self._cache is None else self._cache.shape[2]
        size = past + new
        x = decoder.input(x)
        table = sinusoid_table(size - 1, -(size - 1), decoder.config.width, x)
        visible = torch.ones(new, size, dtype=torch.bool).tril(past)[None, None]
        caches = []
        for index, layer in enumerate(decoder.layers):
            past_layer = None if self._cache is None else self._cache[index : index + 1]
            attended, cache = self._attend(layer.attention, layer.attention_norm(x), table, visible, past_layer)
            x = x + attended
            x = x + layer.feed_forward(layer.feed_forward_norm(x))
            caches.append(cache)
        self._cache = torch.cat(caches)
        return self._lm.head(decoder.norm(x)[:, -1])[0]

    @staticmethod
    def _attend(
        attention: torch.nn.Module, x: Tensor, table: Tensor, visible: Tensor, past: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        query, key, value = attention.project(x)
        if past is not None:
            past_key, past_value = past.chunk(2, dim=-1)
            key, value = torch.cat((past_key, key), dim=2), torch.cat((past_value, value), dim=2)
        cache = torch.cat((key, value), dim=-1)
        positions = attention.project_positions(table)[None]  # all 2 T - 1 of them
        content = (query + attention.content_bias[:, None]) @ key.transpose(-2, -1)
        by_offset = _shifted((query + attention.position_bias[:, None]) @ positions.transpose(-2, -1), key.shape[2])
        scores = (content + by_offset) / query.shape[-1] ** 0.5
        scores = scores.masked_fill(~visible, -torch.inf)
        weights = F.softmax(scores, dim=-1).masked_fill(~visible, 0.0)
        return attention.output((weights @ value).transpose(1, 2).flatten(2)), cache


def _shifted(scores: Tensor, keys: int) -> Tensor:
    """Scores per offset [..., Q, 2 T - 1] to scores per key [..., Q, T]; the last query stands at the last key."""
    queries, offsets = scores.shape[-2:]
    padded = F.pad(scores, (1, 0)).flatten(-2)
    return padded[..., queries:].unflatten(-1, (queries, offsets))[..., :keys]
