"""The two-tower retrieval network: items from id and attributes, users from recent items and features (Covington et al. 2016; Yi et al. 2019).

The user tower is one block of attention whose query is the newest item, with learned biases by place and age (Kang and McAuley 2018,
SASRec; Zhai et al. 2024, HSTU). Both towers end in unit vectors, so that the inner product is a cosine, which any index finds.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as f

from inference_workers.networks.recommendation.histories import AGES, KINDS, PLACES

HEADS = 4
FAR = -1e9


class ItemTower(nn.Module):
    """items, tokens: how many; token 0 is padding. `forward` gives unit vectors of all items, float32 (items, width)."""

    def __init__(self, items: int, tokens: int, width: int) -> None:
        super().__init__()
        self.ids = nn.Embedding(items, width)
        self.tokens = nn.Embedding(tokens + 1, width, padding_idx=0)
        nn.init.normal_(self.ids.weight, std=0.05)
        with torch.no_grad():
            self.tokens.weight[1:].normal_(std=0.05)

    def parts(self, rows: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors of ids, and of attributes. rows: (n,). tokens: (n, MAX_TOKENS)."""
        count = (tokens != 0).sum(dim=1, keepdim=True).clamp(min=1)
        return self.ids(rows), self.tokens(tokens).sum(dim=1) / count.sqrt()

    def forward(self, rows: Tensor, tokens: Tensor, without_id: float = 0.0) -> Tensor:
        """without_id: share of items that are embedded from attributes alone while training, so that new items can be."""
        ids, attributes = self.parts(rows, tokens)
        if self.training and without_id:
            ids = ids * (torch.rand(len(ids), 1) >= without_id)
        return f.normalize(ids + attributes, dim=-1)


class UserTower(nn.Module):
    """features: columns of the users' features."""

    def __init__(self, width: int, features: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.width = width
        self.item, self.kind = nn.Linear(width, width), nn.Embedding(len(KINDS), width)
        self.features, self.nobody = nn.Linear(features, width), nn.Parameter(torch.zeros(width))
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.place, self.age = nn.Embedding(PLACES, HEADS), nn.Embedding(AGES, HEADS)
        self.newest, self.attended = nn.Linear(width, width), nn.Linear(width, width)
        self.norm, self.last_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.deep = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width))
        self.head, self.dropout = nn.Linear(width, width), nn.Dropout(dropout)
        for embedding in (self.kind, self.place, self.age):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, history: Tensor, kinds: Tensor, ages: Tensor, places: Tensor, features: Tensor) -> Tensor:
        """Unit vectors, float32 (n, width). history: float32 (n, length, width), newest last. kinds, ages, places: int64 (n, length)."""
        at = torch.full((1, 1), history.shape[1] - 1)
        return self.at(history, kinds, ages[:, None], places[:, None], features, at.expand(history.shape[0], 1))[:, 0]

    def at(self, history: Tensor, kinds: Tensor, ages: Tensor, places: Tensor, features: Tensor, at: Tensor) -> Tensor:
        """The user after each of several events of one history: (n, p, width). ages, places: (n, p, length), seen from that event;
        place 0 hides an event. at: (n, p), the columns of the events. features: (n, columns), or of each event (n, p or 1, columns)."""
        n, width = history.shape[0], history.shape[2]
        steps = at.shape[1]
        there = (kinds > 0)[..., None]
        events = self.dropout((self.item(history) * math.sqrt(width) + self.kind(kinds)) * there)
        newest = events.gather(1, at[..., None].expand(n, steps, width))
        profile = self.features(features if features.dim() == 3 else features[:, None]) + self.nobody
        query = self._heads(self.query(newest) + profile)
        key, value = self._heads(self.key(events)), self._heads(self.value(events))
        bias = (self.place(places) + self.age(ages)).permute(0, 3, 1, 2)
        weight = query @ key.transpose(-1, -2) / math.sqrt(width // HEADS) + bias
        seen = (places > 0)[:, None]
        weight = weight.masked_fill(~seen, FAR).softmax(dim=-1) * seen
        pooled = (self.dropout(weight) @ value).transpose(1, 2).reshape(n, steps, width)
        user = self.newest(newest) + self.attended(pooled) + profile
        user = user + self.dropout(self.deep(self.norm(user)))
        return f.normalize(self.head(self.last_norm(user)), dim=-1)

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], -1, HEADS, self.width // HEADS).transpose(1, 2)
