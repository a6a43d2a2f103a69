"""The nearest vectors of one space: those of its index, and those that were written to files since, compared one by one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from inference_workers.vectors import index_files
from inference_workers.vectors.index_files import INDEXES, KEY_COLUMNS
from inference_workers.vectors.vector_table import Floats, files_since, keys_of, last_rows, vectors_of

AT_ONCE = 50_000


@dataclass(frozen=True, slots=True)
class Near:
    """cosine: from -1 to 1. The others: of the record that has the key."""

    key: str
    cosine: float
    request_id: str
    version: str


@dataclass(frozen=True, slots=True)
class Found:
    """near: nearest first. searched: number of keys. indexed: how many of them the index holds; recall: of its search, as measured when
    it was made."""

    near: list[Near]
    searched: int
    indexed: int
    recall: float


def nearest(folder: Path, space: str, query: Floats, limit: int) -> Found:
    """query: float32 (width,), of any length but 0. folder: of the task's files. space: with its width, as its folder is named."""
    base = index_files.newest(folder / INDEXES / space)
    ends = base.ends if base is not None else {}
    files, _ = files_since(folder, space, ends)
    everything = pa.concat_tables([*([base.keys] if base is not None else []), *keys_of(files, ends)] or [_NOTHING])
    there = np.zeros(len(everything), np.bool_)
    there[last_rows(everything)] = True
    wide = query.astype(np.float64)  # the square of a small or a large float32 may be none
    query = (wide / np.linalg.norm(wide)).astype(np.float32)
    at = 0
    found: list[tuple[float, int]] = []
    if base is not None:
        at = len(base.vectors)
        if base.index is None:
            found += scan(base.vectors, query, limit, there[:at], 0)
        else:
            (rows,), (cosines,) = base.index.search(query[None], limit, ~there[:at])
            found += [(float(cosine), int(row)) for row, cosine in zip(rows, cosines, strict=True) if row >= 0]
    for vectors in vectors_of(files, ends):
        found += scan(vectors, query, limit, there[at : at + len(vectors)], at)
        at += len(vectors)
    found.sort(key=lambda pair: (-pair[0], pair[1]))
    rows = everything.take(pa.array([row for _, row in found[:limit]], pa.int64())).to_pylist()
    near = [Near(row["key"], cosine, row["request_id"], row["version"]) for row, (cosine, _) in zip(rows, found, strict=False)]
    indexed = 0 if base is None else len(base.vectors)
    return Found(near, int(there.sum()), indexed, 1.0 if base is None else base.plan.recall)


def scan(vectors: Floats, query: Floats, limit: int, there: npt.NDArray[np.bool_], first: int) -> list[tuple[float, int]]:
    """Inner product and row of the nearest, by comparing each. vectors: (n, width). there: bool (n,), the rows that count. first: the
    number of the first row."""
    best: list[tuple[float, int]] = []
    for start in range(0, len(vectors), AT_ONCE):
        rows = np.flatnonzero(there[start : start + AT_ONCE])
        products: Any = vectors[start : start + AT_ONCE][rows] @ query
        for i in np.argsort(-products, kind="stable")[:limit].tolist():
            best.append((float(products[i]), first + start + int(rows[i])))
    return sorted(best, key=lambda pair: (-pair[0], pair[1]))[:limit]


_NOTHING = pa.table(
    {name: pa.array([], pa.string()) for name in KEY_COLUMNS[:4]} | {name: pa.array([], pa.int64()) for name in KEY_COLUMNS[4:]}
)
