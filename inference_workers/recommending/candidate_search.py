"""Candidates of users: the index of the version, and what came since, without what is removed or excluded."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from inference_workers.recommending.item_index import ItemIndex
from inference_workers.recommending.item_table import ItemTable

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int32]
MOST = 10_000  # candidates of a user


def nearest(table: ItemTable, index: ItemIndex, users: Floats, limit: int, excluded: Sequence[Collection[str]]) -> list[Rows]:
    """For each user int32 (at most `limit`,), rows, nearest first. users: float32 (n, width); one of zeros gets the most popular."""
    limit = max(0, min(limit, MOST))
    without = [_rows(table, some) for some in excluded]
    wanted = limit + max((len(some) for some in without), default=0)
    rows, scores = index.search(users, wanted, table.hidden)
    fresh, fresh_scores = table.fresh.rows, users @ table.fresh.vectors.T
    found = []
    for i, user in enumerate(users):
        if not user.any():
            found.append(_popular(table, limit, without[i]))
            continue
        ours = np.concatenate([rows[i][rows[i] >= 0], fresh]).astype(np.int32)
        near = np.concatenate([scores[i][rows[i] >= 0], fresh_scores[i]])
        allowed = ~np.isin(ours, without[i])
        ours, near = ours[allowed], near[allowed]
        found.append(ours[_best(near, limit)])
    return found


def _best(near: Floats, limit: int) -> npt.NDArray[np.intp]:
    """Places of the `limit` highest, highest first; only these are sorted."""
    if len(near) <= limit:
        return np.argsort(-near, kind="stable")
    best = np.sort(np.argpartition(-near, limit - 1)[:limit]) if limit else np.zeros(0, np.intp)
    return best[np.argsort(-near[best], kind="stable")]


def _rows(table: ItemTable, ids: Collection[str]) -> Rows:
    return np.array([table.rows[item] for item in ids if item in table.rows], np.int32)


def _popular(table: ItemTable, limit: int, without: Rows) -> Rows:
    """Of the version; then what came since, newest first."""
    first = table.popular[: limit + len(without) + int(table.hidden.sum())]
    shown = np.concatenate([first[~table.hidden[first]], table.fresh.rows[::-1]])
    return shown[~np.isin(shown, without)][:limit]
