"""Counts which items follow others and lie beside them in users' histories, and keeps the strongest of each item."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sparse

from inference_workers.networks.recommendation.neighbours import Neighbours
from training_triggers.trainers.recommending.interactions import Interactions

SHRINK = 5.0  # rare items: so many events more are assumed
WINDOW = 400  # distance of a pair in a history, at most
AT_ONCE = 5_000_000  # pairs that are added up together


def count(data: Interactions, keep: int) -> Neighbours:
    """keep: neighbours of each item, at most."""
    items = len(data.items.ids)
    keep = min(keep, items - 1)
    after = _pairs(data)
    scale = sparse.diags((np.bincount(data.item, minlength=items) + SHRINK) ** -0.5)
    follow = (scale @ after @ scale).tocsr()
    return Neighbours(*_strongest(follow, keep), *_strongest((follow + follow.T).tocsr(), keep))


def _pairs(data: Interactions) -> sparse.csr_matrix:
    """How often the second item came after the first, each pair weighted by one over the root of its distance."""
    shape = (len(data.items.ids),) * 2
    total = sparse.csr_matrix(shape, dtype=np.float32)
    found: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]] = []
    for distance in range(1, min(WINDOW, len(data.user) - 1) + 1):
        same = np.flatnonzero(data.user[distance:] == data.user[:-distance])
        found.append((data.item[same], data.item[same + distance], np.full(len(same), distance**-0.5, np.float32)))
        if distance == WINDOW or len(same) == 0 or sum(len(one[0]) for one in found) > AT_ONCE:
            first, second, weight = (np.concatenate(part) for part in zip(*found, strict=True))
            total, found = total + sparse.coo_matrix((weight, (first, second)), shape).tocsr(), []
            if len(same) == 0:
                break
    total.setdiag(0)
    total.eliminate_zeros()
    return total


def _strongest(matrix: sparse.csr_matrix, keep: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float16]]:
    rows = np.full((matrix.shape[0], keep), -1, np.int32)
    weights = np.zeros((matrix.shape[0], keep), np.float16)
    for i in range(matrix.shape[0]):
        inside = slice(matrix.indptr[i], matrix.indptr[i + 1])
        values, columns = matrix.data[inside], matrix.indices[inside]
        best = np.argsort(-values, kind="stable")[:keep]
        rows[i, : len(best)], weights[i, : len(best)] = columns[best], values[best]
    return rows, weights
