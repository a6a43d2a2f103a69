"""Requests with the answers that they should get, and a count of the results that answer them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tests.benchmarks.network import Floats

TOLERANCE = 1e-3  # logits of a row depend a little on the rows beside it


@dataclass(frozen=True)
class Requests:
    """ids in the order of their topic. logits: float32 of shape (n, 2), what the network makes of each."""

    ids: Sequence[str]
    logits: Floats

    def first(self, count: int) -> Requests:
        return Requests(self.ids[:count], self.logits[:count])


class Tally:
    """Counts the results of some requests; those of others only where results are counted by their place."""

    def __init__(self, requests: Requests) -> None:
        self._rows = {request_id: row for row, request_id in enumerate(requests.ids)}
        self._expected = requests.logits
        self._answered: list[int] = []  # row of each result
        self._logits: list[bytes] = []
        self._offsets: list[int] = []

    def take(self, request_id: str, logits: bytes, offset: int) -> None:
        """logits: two float32, little-endian."""
        self._offsets.append(offset)
        row = self._rows.get(request_id)
        if row is not None:
            self._answered.append(row)
            self._logits.append(logits)

    @property
    def lost(self) -> int:
        """Requests without a result."""
        return len(self._rows) - len(set(self._answered))

    @property
    def doubled(self) -> int:
        """Results beyond the first of a request."""
        return sum(n - 1 for n in Counter(self._answered).values())

    @property
    def wrong(self) -> int:
        """Results whose logits are not those of the network."""
        found = np.frombuffer(b"".join(self._logits), "<f4").reshape(-1, 2)
        return int((np.abs(found - self._expected[self._answered]) > TOLERANCE).any(axis=1).sum())

    def between(self, first_end: int, last_end: int) -> int:
        """Results from one offset up to another, which is excluded. Offsets alone do not tell: markers of transactions have
        some."""
        return sum(first_end <= offset < last_end for offset in self._offsets)
