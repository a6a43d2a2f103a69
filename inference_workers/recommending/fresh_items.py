"""Embeddings of items that came or changed since the version was made, few enough to be compared one by one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.errors import RecordTooLarge

Floats = npt.NDArray[np.float32]
MAX_FRESH = 50_000
NOT_FRESH = -1


class FreshItems:
    """versioned: rows that the version has. Not safe against changes in other threads."""

    def __init__(self, versioned: int, width: int) -> None:
        self._place = np.full(versioned + MAX_FRESH, NOT_FRESH, np.int32)  # of each row, among the vectors
        self._rows, self._vectors, self._count = np.zeros(64, np.int32), np.zeros((64, width), np.float32), 0

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> npt.NDArray[np.int32]:
        """int32 (count,), in the order of the vectors."""
        return self._rows[: self._count]

    @property
    def vectors(self) -> Floats:
        """float32 (count, width)."""
        return self._vectors[: self._count]

    def check_room(self, row: int) -> None:
        """Raises RecordTooLarge."""
        if row >= len(self._place) or (self._place[row] == NOT_FRESH and self._count == MAX_FRESH):
            raise RecordTooLarge(f"{MAX_FRESH} items came or changed since this version was made: train or build a new one")

    def put(self, row: int, vector: Floats) -> None:
        """vector: float32 (width,)."""
        if self._place[row] == NOT_FRESH:
            if self._count == len(self._rows):
                self._rows, self._vectors = (
                    np.resize(self._rows, 2 * self._count),
                    np.resize(self._vectors, (2 * self._count, len(vector))),
                )
            self._place[row], self._rows[self._count] = self._count, row
            self._count += 1
        self._vectors[self._place[row]] = vector

    def take_away(self, row: int) -> None:
        """The last one moves to its place."""
        at = self._place[row]
        if at == NOT_FRESH:
            return
        last = self._count - 1
        self._rows[at], self._vectors[at] = self._rows[last], self._vectors[last]
        self._place[self._rows[at]], self._place[row] = at, NOT_FRESH
        self._count = last

    def overlay(self, rows: npt.NDArray[np.integer], vectors: Floats) -> None:
        """Put the fresh vectors of these rows over those of the version, in place. rows: any shape; below 0, none."""
        if self._count:
            place = np.where(rows >= 0, self._place[rows], NOT_FRESH)
            fresh = place != NOT_FRESH
            vectors[fresh] = self._vectors[place[fresh]]
