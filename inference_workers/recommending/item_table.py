"""The items of one model version: ids, titles, attributes, popularity, embeddings. An item's row is its number everywhere.

The version's own arrays are mapped and never change; items that came or changed since lie beside them, up to MAX_FRESH of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from inference_workers.networks.recommendation import item_tokens
from inference_workers.networks.recommendation.item_tokens import Attributes
from inference_workers.networks.recommendation.neighbours import Neighbours
from inference_workers.networks.recommendation.ranking_features import popularity_scores
from inference_workers.recommending.fresh_items import MAX_FRESH, FreshItems
from schemas.errors import ModelRefused

Floats = npt.NDArray[np.float32]
ARRAYS = ("embeddings", "popularity", "lengths", "token_vectors", "after", "after_weights", "beside", "beside_weights")


class ItemTable:
    """ids, titles, attributes: by row; removed items keep theirs. rows: the row of each id that is not removed. popularity: weighted
    events by row, and its standard score; longer than the table, with zeros for items to come. popular: rows of the version, most
    popular first. hidden: bool, rows of the version that its index must not return. Not safe against changes in other threads."""

    def __init__(self, names: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Raises ModelRefused if they do not fit together."""
        if missing := [name for name in ARRAYS if name not in arrays]:
            raise ModelRefused(f"the item table lacks {', '.join(missing)}")
        self.ids: list[str] = list(names["ids"])
        self.titles: list[str] = list(names["titles"])
        self.attributes: list[Attributes] = list(names["attributes"])
        self.rows = {item: row for row, item in enumerate(self.ids)}
        self.embeddings, self._lengths = arrays["embeddings"], arrays["lengths"]
        n = self.versioned = len(self.ids)
        sizes = {
            len(self.titles),
            len(self.attributes),
            len(self.rows),
            *(len(arrays[a]) for a in ARRAYS if a != "token_vectors"),
        }
        if not n or sizes != {n}:
            raise ModelRefused(f"an item table with {n} ids does not fit its arrays, or repeats an id")
        self.width: int = self.embeddings.shape[1]
        self.neighbours = Neighbours(*(arrays[name] for name in ARRAYS[4:]))
        self._token_vectors = np.asarray(arrays["token_vectors"], np.float32)
        self._vocabulary = {token: number for number, token in enumerate(names["tokens"], 1)}
        if self._token_vectors.shape != (len(self._vocabulary) + 1, self.width):
            raise ModelRefused(f"{len(self._vocabulary)} tokens have vectors of shape {self._token_vectors.shape}")
        self.popularity, self.popularity_scores = (np.zeros(n + MAX_FRESH, np.float32) for _ in range(2))
        self.popularity[:n] = arrays["popularity"]
        self.popularity_scores[:n] = popularity_scores(self.popularity[:n])
        self.popularity_scores[n:] = self.popularity_scores[:n].min()
        self.popular = np.argsort(-self.popularity[:n], kind="stable").astype(np.int32)
        self.hidden = np.zeros(n, np.bool_)
        self.fresh = FreshItems(n, self.width)
        self._every_row = dict(self.rows)  # of removed items too
        self._id_parts: dict[int, Floats] = {}  # of changed items: their vectors without the attributes

    def __len__(self) -> int:
        """Rows, with those of removed items."""
        return len(self.ids)

    def vectors(self, rows: npt.NDArray[np.integer]) -> Floats:
        """float32 (*rows.shape, width), unit length; zeros at rows below 0."""
        found: Floats = self.embeddings.take(rows, axis=0, mode="clip").astype(np.float32)
        if (padded := rows < 0).any():
            found[padded] = 0
        self.fresh.overlay(rows, found)
        return found

    def is_there(self, rows: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """Whether each row is that of an item that was not removed."""
        return np.fromiter((self.rows.get(self.ids[row]) == row for row in rows), np.bool_, len(rows))

    def put(self, item_id: str, title: str, attributes: Attributes) -> int:
        """A new item, a removed one again, or new attributes of a known one; embedded from its attributes, and from what was learned of
        its id. Returns its row. Raises RecordTooLarge if MAX_FRESH others came or changed before."""
        row = self._every_row.get(item_id, len(self.ids))
        if row < len(self.ids) and self._is_like_before(row, title, attributes):
            self.titles[row], self.attributes[row], self.rows[item_id] = title, attributes, row
            if row < self.versioned and row not in self._id_parts:
                self.hidden[row] = False  # it is as in its version: the index finds it again
            return row
        self.fresh.check_room(row)
        vector = self._embedded(row, title, attributes)
        if row == len(self.ids):
            self.ids.append(item_id)
            self.titles.append(title)
            self.attributes.append(attributes)
        elif row < self.versioned:
            self.hidden[row] = True
        self.titles[row], self.attributes[row] = title, attributes
        self.rows[item_id] = self._every_row[item_id] = row
        self.fresh.put(row, vector)
        return row

    def _is_like_before(self, row: int, title: str, attributes: Attributes) -> bool:
        """Whether the row's vector is that of these attributes."""
        if item_tokens.tokens(title, attributes) != item_tokens.tokens(self.titles[row], self.attributes[row]):
            return False
        return self.ids[row] in self.rows or (row < self.versioned and row not in self._id_parts)

    def _embedded(self, row: int, title: str, attributes: Attributes) -> Floats:
        vector = self._of_tokens(title, attributes)
        if row < self.versioned:
            if row not in self._id_parts:
                learned = self.embeddings[row].astype(np.float32) * np.float32(self._lengths[row])
                self._id_parts[row] = learned - self._of_tokens(self.titles[row], self.attributes[row])
            vector = vector + self._id_parts[row]
        made: Floats = item_tokens.unit(vector[None])[0]
        return made

    def _of_tokens(self, title: str, attributes: Attributes) -> Floats:
        numbers = item_tokens.numbered([item_tokens.tokens(title, attributes)], self._vocabulary)
        made: Floats = item_tokens.summed(numbers, self._token_vectors)[0]
        return made

    def take_away(self, item_id: str) -> bool:
        """False if there is no such item."""
        row = self.rows.pop(item_id, None)
        if row is None:
            return False
        if row < self.versioned:
            self.hidden[row] = True
        self.fresh.take_away(row)
        return True
