"""A recommender without weights: items of one category are alike, a user is the mean of the recent items, the ranker scores by cosine."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from inference_workers.networks.recommendation.item_tokens import Attributes
from inference_workers.recommending.recommender import Basis, Floats, Ranked, Reasons, Recommender, Rows, UserHistory

WIDTH = 16


def vector(item_id: str, category: str) -> Floats:
    """float32 (WIDTH,), unit length."""
    made = np.random.default_rng(list(category.encode())).normal(size=WIDTH)
    made += 0.5 * np.random.default_rng(list(item_id.encode())).normal(size=WIDTH)
    return (made / np.linalg.norm(made)).astype(np.float32)


class PlainTable:
    def __init__(self) -> None:
        self.ids: list[str] = []
        self.titles: list[str] = []
        self.attributes: list[Attributes] = []
        self.rows: dict[str, int] = {}
        self.popularity, self.embeddings = np.zeros(0, np.float32), np.zeros((0, WIDTH), np.float32)

    def vectors(self, rows: Any) -> Floats:
        found: Floats = self.embeddings[rows]
        return found


class PlainRecommender(Recommender):
    index_version = "plain-1"
    items: Any

    def __init__(self, items: Sequence[tuple[str, str]]) -> None:
        """items: id and category, most popular first."""
        self.items = PlainTable()
        for item_id, category in items:
            self.add(item_id, f"Title of {item_id}", {"category": category})
        self.items.popularity = np.arange(len(items), 0, -1).astype(np.float32)

    def basis(self, user: UserHistory) -> Basis:
        if any(item in self.items.rows for item in user.items):
            return Basis.HISTORY
        return Basis.PROFILE if user.features else Basis.POPULAR

    def embed(self, users: Sequence[UserHistory]) -> Floats:
        means = np.zeros((len(users), WIDTH), np.float32)
        for row, user in enumerate(users):
            known = [self.items.rows[item] for item in user.items if item in self.items.rows]
            if known:
                mean = self.items.embeddings[known].mean(axis=0)
                means[row] = mean / np.linalg.norm(mean)
        return means

    def candidates(self, embeddings: Floats, limit: int, excluded: Sequence[Collection[str]]) -> list[Rows]:
        live = np.array(sorted(self.items.rows.values()), np.int32)
        found = []
        for one, out in zip(embeddings, excluded, strict=True):
            scores = self.items.embeddings[live] @ one if one.any() else self.items.popularity[live]
            order = live[np.argsort(-scores, kind="stable")]
            found.append(np.array([row for row in order.tolist() if self.items.ids[row] not in out][:limit], np.int32))
        return found

    def rank(self, users: Sequence[UserHistory], embeddings: Floats, candidates: Sequence[Rows]) -> list[Ranked]:
        found = []
        for one, rows in zip(embeddings, candidates, strict=True):
            cosines = self.items.embeddings[rows] @ one
            scores = cosines if one.any() else self.items.popularity[rows] / 1e6
            order = np.argsort(-scores, kind="stable")
            found.append(Ranked(rows[order], scores[order].astype(np.float32), cosines[order].astype(np.float32)))
        return found

    def reasons(self, user: UserHistory, rows: Rows, limit: int = 3) -> list[Reasons]:
        return [Reasons([(item, 0.9) for item in user.items[:1]], [("age", 0.1)])] * len(rows)

    def add(self, item_id: str, title: str, attributes: Attributes) -> int:
        if item_id == "broken":
            raise ValueError("cannot be embedded")
        self.remove(item_id)
        table, row = self.items, len(self.items.ids)
        table.ids.append(item_id)
        table.titles.append(title)
        table.attributes.append(attributes)
        table.popularity = np.append(table.popularity, np.float32(0))
        table.embeddings = np.concatenate([table.embeddings, vector(item_id, str(attributes["category"]))[None]])
        table.rows[item_id] = row
        return row

    def remove(self, item_id: str) -> bool:
        row = self.items.rows.pop(item_id, None)
        if row is not None:
            self.items.ids[row] = ""
        return row is not None

    def keep_only(self, catalogue: Collection[str]) -> int:
        return sum(map(self.remove, [item for item in self.items.rows if item not in catalogue]))

    def close(self) -> None: ...
