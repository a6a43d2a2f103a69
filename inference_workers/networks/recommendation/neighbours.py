"""Item neighbours: what users did after an item and around it, and the sums of it over a user's history (item-kNN; Sarwar et al. 2001).

Two lists of each item: `after`, weighted by how soon the other item follows, and `beside`, in either order. Both are counts divided
by the items' numbers of events, so that popular items do not win everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
FEATURES = (
    "follows the newest item",
    "follows recent items",
    "follows the history",
    "seen with the newest item",
    "seen with recent items",
    "seen with the history",
)
OFTEN = 4.0  # the sums are multiplied by it before their logarithm
MOST_EVENTS = 64  # of a history


@dataclass(frozen=True, slots=True)
class Neighbours:
    """after, beside: rows of neighbours, int32 (items, k), -1 where there are fewer; and their weights, float16 (items, k)."""

    after: npt.NDArray[np.int32]
    after_weights: npt.NDArray[np.float16]
    beside: npt.NDArray[np.int32]
    beside_weights: npt.NDArray[np.float16]

    def scores(self, history: npt.NDArray[np.int64], candidates: npt.NDArray[np.integer]) -> Floats:
        """float32 (candidates, 6), columns as FEATURES. history: rows, newest last; rows past the table have no neighbours."""
        found = np.zeros((len(candidates), len(FEATURES)), np.float32)
        newest = history[history >= 0][::-1][:MOST_EVENTS]
        steps = np.arange(len(newest))[newest < len(self.after)]
        newest = newest[newest < len(self.after)]
        if len(newest) == 0 or len(candidates) == 0:
            return found
        order = np.argsort(candidates, kind="stable")
        ordered = np.asarray(candidates)[order]
        decays = ((steps == 0).astype(np.float64), 2.0 / (steps + 2.0), 0.5 ** (steps / 20.0))
        for at, (rows, weights) in enumerate(((self.after, self.after_weights), (self.beside, self.beside_weights))):
            near, weight = rows[newest], weights[newest].astype(np.float32)
            place = np.minimum(np.searchsorted(ordered, near), len(ordered) - 1)
            hit = (ordered[place] == near) & (near >= 0)
            for column, decay in enumerate(decays):
                sums = np.bincount(place[hit], (weight * decay[:, None].astype(np.float32))[hit], len(ordered))
                found[order, len(decays) * at + column] = np.log1p(OFTEN * sums)
        return found
