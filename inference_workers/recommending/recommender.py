"""Two towers, an index and a ranker, loaded from one model folder: what a task asks for recommendations.

Every method may be called from several threads; one lock makes them take turns, as ONNX Runtime has one thread here anyway.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from threading import RLock
from typing import Any

import numpy as np
import numpy.typing as npt

from inference_workers.backends.onnx import OnnxNetwork
from inference_workers.models.folder import ModelFolder
from inference_workers.networks.recommendation import histories, ranking_features
from inference_workers.networks.recommendation.histories import KIND_NUMBERS, VIEW, FeatureColumns, HistoryArrays
from inference_workers.networks.recommendation.item_tokens import Attributes
from inference_workers.recommending import item_index
from inference_workers.recommending.candidate_search import nearest
from inference_workers.recommending.item_table import ItemTable
from inference_workers.recommending.mapped_tensors import mapped
from schemas.errors import ModelRefused

MAX_HISTORY = 200
NETWORK = "two-tower"
ITEM_NAMES, ITEM_ARRAYS, INDEX_FILE = "items.json", "items.safetensors", "items.faiss"
USER_TOWER, RANKER = "user_tower.onnx", "ranker.onnx"
Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int32]


class Basis(StrEnum):
    """What the answer to a user rests on: items of the user that the model knows; the profile alone; or neither."""

    HISTORY = "history"
    PROFILE = "profile"
    POPULAR = "popular"


@dataclass(frozen=True, slots=True)
class UserHistory:
    """A user of a micro-batch. items: newest last, at most MAX_HISTORY; longer ones are cut to the newest; items that the model does
    not know are passed over. kinds: of the events ("view", "cart", "purchase", "rating" …), of the same length; an unknown kind
    counts as a view. ages_s: seconds before the request. features: online features of the user that were read; missing ones
    absent."""

    items: Sequence[str] = ()
    kinds: Sequence[str] = ()
    ages_s: Sequence[float] = ()
    features: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ranked:
    """For one user. items: rows of the item table, best first. scores: the ranker's, falling. retrieval: the retrieval scores of the
    same items."""

    items: Rows
    scores: Floats
    retrieval: Floats


@dataclass(frozen=True, slots=True)
class Reasons:
    """Why an item was ranked for a user. liked: ids of items of the history nearest to it, nearest first, with their cosine
    similarity. features: the ranker's inputs that raised the score most, with how much the score falls without them."""

    liked: Sequence[tuple[str, float]]
    features: Sequence[tuple[str, float]]


class Recommender:
    """index_version: kind, size and recall of the index, and the version's digest."""

    def __init__(self, folder: ModelFolder) -> None:
        """Raises ModelRefused if files do not fit together, or if the index's measured recall is under its bound."""
        if folder.config.get("network") != NETWORK:
            raise ModelRefused(f"{folder.path} has a network of kind {folder.config.get('network')!r}, not {NETWORK!r}")
        try:
            names = json.loads((folder.path / ITEM_NAMES).read_bytes())
            self._columns = FeatureColumns.from_config(folder.config["user_features"])
            self._length = int(folder.config["history"])
            plan = item_index.IndexPlan.from_config(folder.config["index"])
            self.items = ItemTable(names, mapped(folder.path / ITEM_ARRAYS))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelRefused(f"{folder.path} does not describe a recommender: {error!r}") from error
        file = None if plan.kind is item_index.IndexKind.FLAT else folder.path / INDEX_FILE
        self._index = item_index.load(file, plan, self.items.embeddings)
        self._tower, self._ranker = OnnxNetwork(folder, USER_TOWER), OnnxNetwork(folder, RANKER)
        self.index_version = f"{plan.kind} of {plan.items} items, recall {plan.recall:.3f}, {folder.digest[:12]}"
        self._lock = RLock()

    @classmethod
    def load(cls, folder: ModelFolder) -> Recommender:
        """Raises ModelRefused, as the constructor."""
        return cls(folder)

    def close(self) -> None:
        self._tower.close()
        self._ranker.close()

    def basis(self, user: UserHistory) -> Basis:
        with self._lock:
            if any(item in self.items.rows for item in user.items):
                return Basis.HISTORY
        return Basis.PROFILE if self._columns.known(user.features) else Basis.POPULAR

    def embed(self, users: Sequence[UserHistory]) -> Floats:
        """float32 (n, width), unit length, one forward pass. Of a user without a known item: from the features alone; a row of zeros
        where the basis is POPULAR."""
        if not users:
            return np.zeros((0, self.items.width), np.float32)
        with self._lock:
            found: Floats = self._tower.run(self._inputs(self._arrays(users), users))["user"]
            found[[self.basis(user) is Basis.POPULAR for user in users]] = 0
            return found

    def candidates(self, embeddings: Floats, limit: int, excluded: Sequence[Collection[str]]) -> list[Rows]:
        """For each user int32 (at most `limit`,), at most 10,000 rows, nearest first, without the excluded item ids and without removed items.
        Where an embedding is all zeros: the most popular."""
        with self._lock:
            return nearest(self.items, self._index, embeddings, limit, excluded)

    def rank(self, users: Sequence[UserHistory], embeddings: Floats, candidates: Sequence[Rows]) -> list[Ranked]:
        """All candidates of all users in one forward pass. embeddings: float32 (n, width). candidates: of each user int32 (c,). A user without candidates gets empty arrays; one of whom nothing is known,
        the order of popularity."""
        most = max(map(len, candidates), default=0)
        if most == 0:
            return [_nothing() for _ in users]
        with self._lock:
            arrays = self._arrays(users)
            rows = np.full((len(users), most), -1, np.int32)
            for row, some in zip(rows, candidates, strict=True):
                row[: len(some)] = some
            vectors = self.items.vectors(rows)
            retrieval = np.einsum("nw,ncw->nc", embeddings, vectors)
            dense = self._dense(arrays, rows, retrieval)
            inputs = {**self._inputs(arrays, users), "user": embeddings, "candidates": vectors, "dense": dense}
            scores = self._ranker.run(inputs)["scores"]
            for i, embedding in enumerate(embeddings):
                if not embedding.any():
                    scores[i] = self.items.popularity[rows[i]]
        return [_ordered(rows[i, : len(some)], scores[i], retrieval[i]) for i, some in enumerate(candidates)]

    def reasons(self, user: UserHistory, rows: Rows, limit: int = 3) -> list[Reasons]:
        """Of each item in rows, int32 (k,), in one forward pass: each as it is, and again without each dense feature."""
        if not len(rows):
            return []
        with self._lock:
            arrays, embedding = self._arrays([user]), self.embed([user])
            vectors = self.items.vectors(rows)
            dense = self._dense(arrays, rows[None], vectors[None] @ embedding[0])[0]
            width = dense.shape[1]
            without = np.repeat(dense[:, None], width + 1, axis=1)
            without[:, np.arange(width), np.arange(width)] = 0  # the last one of each item keeps them all
            candidates = vectors.repeat(width + 1, axis=0)[None]
            inputs = {**self._inputs(arrays, [user]), "user": embedding, "candidates": candidates}
            scores = self._ranker.run({**inputs, "dense": without.reshape(1, -1, width)})["scores"].reshape(len(rows), width + 1)
            history = np.unique(arrays.rows[arrays.rows >= 0])
            near = vectors @ self.items.vectors(history).T
            near[rows[:, None] == history] = -np.inf  # an item is no reason for itself
            liked = [[(self.items.ids[history[at]], float(one[at])) for at in _highest(one, limit)] for one in near]
        raised = [
            [(ranking_features.NAMES[at], float(one[at])) for at in _highest(one, limit)]
            for one in scores[:, -1:] - scores[:, :-1]
        ]
        return [Reasons(*one) for one in zip(liked, raised, strict=True)]

    def add(self, item_id: str, title: str, attributes: Attributes) -> int:
        """A new item, or new attributes of a known one: embedded from its attributes, found by the next search. Returns its row. Raises
        RecordTooLarge if too many came since the version was made."""
        with self._lock:
            return self.items.put(item_id, title, attributes)

    def remove(self, item_id: str) -> bool:
        """Never a candidate from now on. False if it is unknown."""
        with self._lock:
            return self.items.take_away(item_id)

    def keep_only(self, catalogue: Collection[str]) -> int:
        """Remove all items that are not in the catalogue. Returns how many."""
        with self._lock:
            gone = [item for item in self.items.rows if item not in catalogue]
            return sum(map(self.items.take_away, gone))

    def _arrays(self, users: Sequence[UserHistory]) -> HistoryArrays:
        rows, kinds, ages = [], [], []
        for user in users:
            events = [
                (self.items.rows[item], KIND_NUMBERS.get(kind) or VIEW, age)
                for item, kind, age in zip(user.items, user.kinds, user.ages_s, strict=True)
                if item in self.items.rows
            ]
            found = np.array(events[-MAX_HISTORY:], np.float64).reshape(-1, 3)
            keep = histories.last_of_each(found[:, 0])
            rows.append(found[keep, 0].astype(np.int64))
            kinds.append(found[keep, 1].astype(np.int64))
            ages.append(np.nan_to_num(found[keep, 2]))
        return histories.arrays(rows, kinds, ages, self._length)

    def _inputs(self, arrays: HistoryArrays, users: Sequence[UserHistory]) -> dict[str, npt.NDArray[Any]]:
        return {
            "history": self.items.vectors(arrays.rows),
            "kinds": arrays.kinds,
            "ages": arrays.ages,
            "places": arrays.places,
            "features": self._columns.encode([user.features for user in users]),
        }

    def _dense(self, arrays: HistoryArrays, rows: Rows, retrieval: Floats) -> Floats:
        return np.stack(
            [
                ranking_features.dense(near, self.items.neighbours.scores(history, some), self.items.popularity_scores[some])
                for history, some, near in zip(arrays.rows, rows, retrieval, strict=True)
            ]
        )


def _highest(values: Floats, limit: int) -> list[int]:
    """Places of the highest values above 0, highest first."""
    return [at for at in np.argsort(-values, kind="stable")[:limit].tolist() if values[at] > 0]


def _nothing() -> Ranked:
    return Ranked(np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.float32))


def _ordered(rows: Rows, scores: Floats, retrieval: Floats) -> Ranked:
    order = np.argsort(-scores[: len(rows)], kind="stable")
    return Ranked(rows[order], scores[order], retrieval[order])
