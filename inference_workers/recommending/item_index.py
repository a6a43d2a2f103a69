"""The index of item embeddings: nearest by inner product, exact or approximate, behind this one module (Douze et al. 2024, FAISS).

Its kind follows the number of items. Approximate kinds are tuned when they are built: the effort of a search is raised until the
recall against exact search reaches the bound; an index that cannot reach it is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import ModelRefused

with suppress(ImportError):  # processes that only know of the task do without: `./millrace setup recommendation`
    import faiss

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
LEAST_RECALL = 0.95
AT = 1000  # the recall is that of so many nearest items
QUERIES = 200  # that the recall is measured with
MAX_EFFORT = 1024
MAX_RERANK = 16
SEED = 7
NONE = -1  # what FAISS returns where it found fewer items


class IndexKind(StrEnum):
    FLAT = "flat"
    HNSW = "hnsw"
    IVF_FLAT = "ivf-flat"
    IVF_PQ = "ivf-pq"


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """effort: cells searched by an IVF, the queue's length of HNSW; 0 for a flat one. rerank: IVF-PQ compares so many times the limit
    of candidates with their exact embeddings. recall: the measured share of the exact nearest that a search finds."""

    kind: IndexKind
    items: int
    effort: int = 0
    rerank: int = 1
    recall: float = 1.0
    bound: float = LEAST_RECALL

    def as_config(self) -> dict[str, Any]:
        return {**asdict(self), "kind": str(self.kind)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> IndexPlan:
        """Raises ModelRefused."""
        try:
            plan = cls(**{**config, "kind": IndexKind(config["kind"])})
        except (KeyError, TypeError, ValueError) as error:
            raise ModelRefused(f"the config does not describe an index: {error!r}") from error
        plan.check()
        return plan

    def check(self) -> None:
        """Raises ModelRefused if the recall is under the bound."""
        if not self.recall >= self.bound:
            raise ModelRefused(
                f"the index of kind {self.kind} has recall {self.recall:.3f} at {AT}; at least {self.bound} is needed"
            )


def kind_for(items: int) -> IndexKind:
    """Flat while a scan takes about a millisecond; HNSW while its links are small beside the embeddings' use; then cells; and codes
    once embeddings no longer fit into memory."""
    if items <= 30_000:
        return IndexKind.FLAT
    if items <= 300_000:
        return IndexKind.HNSW
    return IndexKind.IVF_FLAT if items <= 3_000_000 else IndexKind.IVF_PQ


def cells_for(kind: IndexKind, items: int) -> int:
    """Of an IVF: a power of two near a multiple of the root of the number of items."""
    return 1 << round(math.log2((4 if kind is IndexKind.IVF_FLAT else 2) * math.sqrt(items)))


class ItemIndex:
    """embeddings: float32 or float16 (items, width), unit length, as in the item table; an IVF-PQ reads a few thousand rows of them a
    search. Searches may run in several threads at a time."""

    def __init__(self, index: Any, plan: IndexPlan, embeddings: npt.NDArray[Any]) -> None:
        self._index, self.plan, self._embeddings = index, plan, embeddings

    def search(self, queries: Floats, limit: int, removed: npt.NDArray[np.bool_] | None = None) -> tuple[Rows, Floats]:
        """Rows, nearest first, and their inner products: (n, limit) each; NONE and minus infinity where fewer are found. removed: bool
        (items,), rows that are never returned."""
        limit = min(limit, self.plan.items)
        if limit < 1 or len(queries) == 0:
            return np.full((len(queries), 0), NONE, np.int64), np.zeros((len(queries), 0), np.float32)
        wanted = min(limit * self.plan.rerank, self.plan.items)
        scores, rows = self._index.search(
            np.ascontiguousarray(queries, np.float32), wanted, params=self._parameters(wanted, removed)
        )
        if self.plan.kind is IndexKind.IVF_PQ:
            return self._exact(queries, rows, limit)
        return rows, np.where(rows == NONE, -np.inf, scores).astype(np.float32)

    def _parameters(self, wanted: int, removed: npt.NDArray[np.bool_] | None) -> Any:
        allowed = None
        if removed is not None and removed.any():
            allowed = faiss.IDSelectorNot(faiss.IDSelectorBitmap(np.packbits(removed, bitorder="little")))
        if self.plan.kind is IndexKind.FLAT:
            return faiss.SearchParameters(sel=allowed)
        if self.plan.kind is IndexKind.HNSW:
            return faiss.SearchParametersHNSW(efSearch=max(self.plan.effort, wanted), sel=allowed)
        return faiss.SearchParametersIVF(nprobe=self.plan.effort, sel=allowed)

    def _exact(self, queries: Floats, rows: Rows, limit: int) -> tuple[Rows, Floats]:
        """The candidates of codes, ordered by their exact inner products."""
        kept, products = np.full((len(rows), limit), NONE, np.int64), np.full((len(rows), limit), -np.inf, np.float32)
        for query, candidates, best, score in zip(queries, rows, kept, products, strict=True):
            found = np.sort(candidates[candidates != NONE])  # in the order of the file
            exact = self._embeddings[found].astype(np.float32) @ query
            order = np.argsort(-exact, kind="stable")[:limit]
            best[: len(order)], score[: len(order)] = found[order], exact[order]
        return kept, products

    def save(self, file: Path) -> None:
        faiss.write_index(self._index, str(file))


def build(
    embeddings: npt.NDArray[Any],
    queries: Floats | None = None,
    kind: IndexKind | None = None,
    bound: float = LEAST_RECALL,
    threads: int = 1,
) -> ItemIndex:
    """queries: float32 (m, width), embeddings of users to measure the recall with; by default, items at random. Raises ModelRefused if
    no effort reaches the bound."""
    faiss.omp_set_num_threads(threads)
    items = len(embeddings)
    kind = kind or kind_for(items)
    if kind is not IndexKind.FLAT and items < 1_000:
        raise ModelRefused(f"an index of kind {kind} needs at least 1000 items, not {items}")
    index = _filled(embeddings, kind)
    plan = IndexPlan(kind, items, bound=bound)
    if kind is not IndexKind.FLAT:
        plan = _tuned(index, plan, embeddings, _sample(embeddings, QUERIES) if queries is None else queries[:QUERIES])
    plan.check()
    return ItemIndex(index, plan, embeddings)


def load(file: Path | None, plan: IndexPlan, embeddings: npt.NDArray[Any]) -> ItemIndex:
    """embeddings: (items, width), as in the item table. Maps the file into memory instead of reading it. A flat index has no file: it is the embeddings. Raises ModelRefused."""
    faiss.omp_set_num_threads(1)
    if file is None:
        index = _filled(embeddings, IndexKind.FLAT)
    else:
        flag = faiss.IO_FLAG_MMAP_IFC if plan.kind is IndexKind.HNSW else faiss.IO_FLAG_MMAP
        try:
            index = faiss.read_index(str(file), flag | faiss.IO_FLAG_READ_ONLY)
        except RuntimeError as error:
            raise ModelRefused(f"{file} is not an index: {str(error)[-200:]}") from error
        _read_by_the_searcher_alone(index)
    if index.ntotal != plan.items or index.d != embeddings.shape[1] or plan.items != len(embeddings):
        raise ModelRefused(f"{file} holds {index.ntotal} items of width {index.d}; the item table, {embeddings.shape}")
    return ItemIndex(index, plan, embeddings)


def _read_by_the_searcher_alone(index: Any) -> None:
    """Of a mapped IVF, FAISS reads all cells of a search in 32 new threads beside it, so that a disk reads many at once. Cells that
    are in memory are only read twice, and the threads take the processor from the worker: more than half of a search's time."""
    ivf = faiss.try_extract_index_ivf(index)
    lists = None if ivf is None else faiss.downcast_InvertedLists(ivf.invlists)
    if isinstance(lists, faiss.OnDiskInvertedLists):
        lists.prefetch_nthread = 0


def _filled(embeddings: npt.NDArray[Any], kind: IndexKind) -> Any:
    items, width = embeddings.shape
    if kind is IndexKind.FLAT:
        index = faiss.IndexFlatIP(width)
    elif kind is IndexKind.HNSW:
        index = faiss.IndexHNSWFlat(width, 24, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 100
    else:
        cells = cells_for(kind, items)
        coarse = faiss.IndexFlatIP(width)
        if kind is IndexKind.IVF_FLAT:  # in float16, as the item table has them
            half = faiss.ScalarQuantizer.QT_fp16
            index = faiss.IndexIVFScalarQuantizer(coarse, width, cells, half, faiss.METRIC_INNER_PRODUCT, False)
        else:
            index = faiss.IndexIVFPQ(coarse, width, cells, _parts(width), 8, faiss.METRIC_INNER_PRODUCT)
        index.own_fields = True
        coarse.this.disown()
        index.cp.seed, index.cp.niter = SEED, 8
        index.train(_sample(embeddings, 40 * cells))
    for part in _parts_of(embeddings):
        index.add(part)
    return index


def _parts(width: int) -> int:
    """Bytes of a code: one for each four dimensions, if they divide."""
    return next(parts for parts in range(max(1, width // 4), 0, -1) if width % parts == 0)


def _parts_of(embeddings: npt.NDArray[Any], at_once: int = 100_000) -> Iterator[Floats]:
    for start in range(0, len(embeddings), at_once):
        yield np.ascontiguousarray(embeddings[start : start + at_once], np.float32)


def _sample(embeddings: npt.NDArray[Any], n: int) -> Floats:
    rows = np.sort(np.random.default_rng(SEED).permutation(len(embeddings))[:n])
    return np.ascontiguousarray(embeddings[rows], np.float32)


def _tuned(index: Any, plan: IndexPlan, embeddings: npt.NDArray[Any], queries: Floats) -> IndexPlan:
    """The least effort that reaches the bound, or the greatest where none does."""
    limit = min(AT, plan.items)
    exact = _exact_rows(embeddings, queries, limit)
    for step in _steps(index, plan.kind, limit):
        plan = IndexPlan(plan.kind, plan.items, **step, bound=plan.bound)
        found, _ = ItemIndex(index, plan, embeddings).search(queries, limit)
        hits = [len(np.intersect1d(ours, theirs)) for ours, theirs in zip(found, exact, strict=True)]
        plan = IndexPlan(plan.kind, plan.items, plan.effort, plan.rerank, float(np.mean(hits) / limit), plan.bound)
        if plan.recall >= plan.bound:
            return plan
    return plan


def _steps(index: Any, kind: IndexKind, limit: int) -> Iterator[dict[str, int]]:
    effort = limit if kind is IndexKind.HNSW else 8
    reranks, step = ((2, 4, 8), 2.0) if kind is IndexKind.IVF_PQ else ((1,), 1.25)
    most = 8 * limit if kind is IndexKind.HNSW else min(MAX_EFFORT, index.nlist)
    while effort <= most:
        for rerank in reranks:
            yield {"effort": effort, "rerank": rerank}
        effort = math.ceil(effort * step)


def _exact_rows(embeddings: npt.NDArray[Any], queries: Floats, limit: int) -> Rows:
    best = faiss.ResultHeap(nq=len(queries), k=limit, keep_max=True)
    start = 0
    for part in _parts_of(embeddings):
        products, rows = faiss.knn(queries, part, min(limit, len(part)), metric=faiss.METRIC_INNER_PRODUCT)
        best.add_result(D=products, I=rows + start)
        start += len(part)
    best.finalize()
    found: Rows = best.I
    return found
