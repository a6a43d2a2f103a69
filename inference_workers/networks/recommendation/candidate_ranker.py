"""The ranker: all candidates of all users of a micro-batch in one pass.

Each candidate attends to the user's recent items (Zhou et al. 2018, DIN); its vectors, their products and its dense features go
through cross layers of low rank (Wang et al. 2021, DCN-v2) beside a deep part and a linear one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from inference_workers.networks.recommendation.histories import AGES, KINDS, PLACES

HEADS = 2
SMALL = 16  # width of projected vectors
RANK = 16  # of a cross layer
FAR = -1e9


class CrossLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, RANK, bias=False), nn.Linear(RANK, width)

    def forward(self, first: Tensor, x: Tensor) -> Tensor:
        crossed: Tensor = first * self.up(self.down(x)) + x
        return crossed


class CandidateRanker(nn.Module):
    """width: of embeddings. dense: features of a user and a candidate. features: columns of the users' features."""

    def __init__(self, width: int, dense: int, features: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.candidate, self.user, self.features = nn.Linear(width, SMALL), nn.Linear(width, SMALL), nn.Linear(features, SMALL)
        self.query, self.key, self.value = nn.Linear(width, SMALL), nn.Linear(width, SMALL), nn.Linear(width, SMALL)
        self.kind, self.place, self.age = nn.Embedding(len(KINDS), SMALL), nn.Embedding(PLACES, HEADS), nn.Embedding(AGES, HEADS)
        for embedding in (self.kind, self.place, self.age):
            nn.init.normal_(embedding.weight, std=0.02)
        total = 6 * SMALL + dense
        self.cross = nn.ModuleList(CrossLayer(total) for _ in range(2))
        self.deep = nn.Sequential(
            nn.Linear(total, 64), nn.GELU(), nn.Dropout(dropout), nn.Linear(64, 32), nn.GELU(), nn.Dropout(dropout)
        )
        self.linear, self.out = nn.Linear(dense, 1), nn.Linear(total + 32, 1)
        nn.init.zeros_(self.out.weight)

    def forward(
        self,
        user: Tensor,
        history: Tensor,
        kinds: Tensor,
        ages: Tensor,
        places: Tensor,
        features: Tensor,
        candidates: Tensor,
        dense: Tensor,
    ) -> Tensor:
        """Scores, float32 (n, c). user: (n, width). history, kinds, ages, places, features: as for the user tower. candidates:
        (n, c, width). dense: (n, c, dense)."""
        item, person = self.candidate(candidates), self.user(user)[:, None]
        pooled = self._attended(history, kinds, ages, places, candidates)
        person = person.expand_as(item)
        profile = self.features(features)[:, None].expand_as(item)
        first = torch.cat([item, person, pooled, profile, item * person, item * pooled, dense], dim=-1)
        crossed = first
        for layer in self.cross:
            crossed = layer(first, crossed)
        scores: Tensor = self.linear(dense) + self.out(torch.cat([crossed, self.deep(first)], dim=-1))
        return scores[..., 0]

    def _attended(self, history: Tensor, kinds: Tensor, ages: Tensor, places: Tensor, candidates: Tensor) -> Tensor:
        query = self._heads(self.query(candidates))
        key, value = self._heads(self.key(history) + self.kind(kinds)), self._heads(self.value(history) + self.kind(kinds))
        bias = (self.place(places) + self.age(ages)).transpose(1, 2)[:, :, None]
        seen = (places > 0)[:, None, None]
        weight = query @ key.transpose(-1, -2) / math.sqrt(SMALL // HEADS) + bias
        weight = weight.masked_fill(~seen, FAR).softmax(dim=-1) * seen
        pooled: Tensor = weight @ value
        return pooled.transpose(1, 2).reshape(candidates.shape[0], -1, SMALL)

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], -1, HEADS, SMALL // HEADS).transpose(1, 2)
