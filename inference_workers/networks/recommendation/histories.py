"""Users' recent events as arrays, for the user tower and the ranker: newest last, padded in front.

Places count back from the newest event, and ages are measured from it, not from the request: a user who comes back after a month
looks like one who comes back after an hour, which is what was trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

KINDS = ("", "view", "click", "cart", "purchase", "rating", "search")  # the first: padding; an unknown kind counts as a view
KIND_NUMBERS = {kind: number for number, kind in enumerate(KINDS)}
VIEW = KIND_NUMBERS["view"]
PLACES, AGES = 32, 64  # buckets; place 0 is padding
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


def place_buckets(steps_back: npt.NDArray[np.int64]) -> Ints:
    """int64, of any shape: 1 for the newest event, then by thirds of powers of two."""
    found: Ints = np.minimum(PLACES - 1, 1 + np.floor(3 * np.log2(steps_back + 1.0))).astype(np.int64)
    return found


def age_buckets(seconds: npt.NDArray[np.float64]) -> Ints:
    """int64, of any shape: by halves of powers of two."""
    found: Ints = np.minimum(AGES - 1, np.floor(2 * np.log2(np.maximum(seconds, 0.0) + 1.0))).astype(np.int64)
    return found


@dataclass(frozen=True, slots=True)
class HistoryArrays:
    """rows: of the item table, -1 where padded. kinds, ages, places: buckets. Each int64 (n, length)."""

    rows: Ints
    kinds: Ints
    ages: Ints
    places: Ints


def arrays(rows: Sequence[Ints], kinds: Sequence[Ints], ages_s: Sequence[npt.NDArray[np.float64]], most: int) -> HistoryArrays:
    """Of each user the newest `most` events. rows, kinds, ages_s: of each user (events,), newest last. At least one column, so that
    shapes are never empty."""
    length = max(1, min(most, max((len(row) for row in rows), default=0)))
    shape = (len(rows), length)
    made = HistoryArrays(np.full(shape, -1, np.int64), *(np.zeros(shape, np.int64) for _ in range(3)))
    for i, (row, kind, age) in enumerate(zip(rows, kinds, ages_s, strict=True)):
        n = min(length, len(row))
        if n == 0:
            continue
        made.rows[i, -n:], made.kinds[i, -n:] = row[-n:], kind[-n:]
        made.ages[i, -n:] = age_buckets(age[-n:] - age[-1])
        made.places[i, -n:] = place_buckets(np.arange(n)[::-1])
    return made


def last_of_each(items: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """bool (n,): the last of each run of events with one item. A view, a cart and a purchase of it are one choice."""
    return np.append(items[1:] != items[:-1], True)[: len(items)]


@dataclass(frozen=True, slots=True)
class FeatureColumns:
    """How a user's features become numbers. numbers: name to mean and standard deviation; each gives its standard score, and whether
    it is there. texts: name to known values, each of which gives a column."""

    numbers: Mapping[str, tuple[float, float]]
    texts: Mapping[str, tuple[str, ...]]

    @property
    def width(self) -> int:
        return max(1, 2 * len(self.numbers) + sum(map(len, self.texts.values())))

    def encode(self, users: Sequence[Mapping[str, float | str]]) -> Floats:
        """float32 (n, width). What is missing, below zero, not finite or of another type gives zeros."""
        made = np.zeros((len(users), self.width), np.float32)
        for row, user in zip(made, users, strict=True):
            at = 0
            for name, (mean, deviation) in self.numbers.items():
                value = user.get(name)
                if isinstance(value, int | float) and 0 <= value < np.inf:
                    row[at : at + 2] = np.clip((value - mean) / deviation, -4, 4), 1
                at += 2
            for name, values in self.texts.items():
                if (value := user.get(name)) in values:
                    row[at + values.index(str(value))] = 1
                at += len(values)
        return made

    def as_config(self) -> dict[str, Any]:
        return {"numbers": dict(self.numbers), "texts": dict(self.texts)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> FeatureColumns:
        """Raises KeyError, TypeError or ValueError if it is not one."""
        numbers = {str(name): (float(mean), float(deviation)) for name, (mean, deviation) in config["numbers"].items()}
        return cls(numbers, {str(name): tuple(map(str, values)) for name, values in config["texts"].items()})

    def known(self, user: Mapping[str, float | str]) -> bool:
        return bool(self.encode([user]).any())
