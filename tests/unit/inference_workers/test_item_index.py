"""The index of items: every kind finds what exact search finds, and refuses to serve where it does not."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import faiss
import numpy as np
import pytest

from inference_workers.recommending import item_index
from inference_workers.recommending.item_index import Floats, IndexKind, IndexPlan, ItemIndex
from schemas.errors import ModelRefused

ITEMS, WIDTH, LIMIT = 3_000, 16, 100


def made(items: int = ITEMS) -> Floats:
    random = np.random.default_rng(1)
    centres = random.normal(size=(30, WIDTH))
    vectors = centres[random.integers(30, size=items)] + 0.7 * random.normal(size=(items, WIDTH))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    rounded: Floats = unit.astype(np.float16).astype(np.float32)  # as an item table has them
    return rounded


EMBEDDINGS = made()


@cache
def built(kind: IndexKind) -> ItemIndex:
    return item_index.build(EMBEDDINGS, kind=kind)


@pytest.fixture(params=list(IndexKind))
def kind(request: pytest.FixtureRequest) -> IndexKind:
    return IndexKind(request.param)


def test_a_search_finds_almost_what_exact_search_finds(kind: IndexKind) -> None:
    queries = EMBEDDINGS[:40]
    exact = np.argsort(-(queries @ EMBEDDINGS.T), axis=1)[:, :LIMIT]
    rows, products = built(kind).search(queries, LIMIT)
    assert np.mean([len(np.intersect1d(a, b)) / LIMIT for a, b in zip(rows, exact, strict=True)]) > 0.93
    assert built(kind).plan.recall >= item_index.LEAST_RECALL
    assert np.allclose(products, np.take_along_axis(queries @ EMBEDDINGS.T, rows, 1), atol=1e-5)
    assert (np.diff(products, axis=1) <= 1e-6).all()


def test_removed_rows_are_never_found(kind: IndexKind) -> None:
    removed = np.zeros(ITEMS, np.bool_)
    removed[built(kind).search(EMBEDDINGS[:1], 10)[0]] = True
    rows, _ = built(kind).search(EMBEDDINGS[:1], LIMIT, removed)
    assert not removed[rows[rows >= 0]].any() and (rows >= 0).sum() >= 0.9 * LIMIT


def test_a_mapped_file_answers_as_the_index_did(kind: IndexKind, tmp_path: Path) -> None:
    file = None if kind is IndexKind.FLAT else tmp_path / "items.faiss"
    if file is not None:
        built(kind).save(file)
    opened = item_index.load(file, IndexPlan.from_config(built(kind).plan.as_config()), EMBEDDINGS.astype(np.float16))
    assert np.mean(opened.search(EMBEDDINGS[:5], LIMIT)[0] == built(kind).search(EMBEDDINGS[:5], LIMIT)[0]) > 0.9


@pytest.mark.parametrize("kind", [IndexKind.IVF_FLAT, IndexKind.IVF_PQ])
def test_a_search_of_a_mapped_file_starts_no_threads(kind: IndexKind, tmp_path: Path) -> None:
    built(kind).save(tmp_path / "items.faiss")
    opened = item_index.load(tmp_path / "items.faiss", built(kind).plan, EMBEDDINGS)
    lists = faiss.downcast_InvertedLists(faiss.extract_index_ivf(opened._index).invlists)
    assert isinstance(lists, faiss.OnDiskInvertedLists), "the file is mapped"
    assert lists.prefetch_nthread == 0


@pytest.mark.parametrize("kind", [IndexKind.HNSW, IndexKind.IVF_FLAT, IndexKind.IVF_PQ])
def test_a_bound_that_no_effort_reaches_refuses_the_index(kind: IndexKind) -> None:
    with pytest.raises(ModelRefused, match="recall"):
        item_index.build(EMBEDDINGS[:1_000], kind=kind, bound=1.01)


def test_a_version_whose_index_was_measured_under_its_bound_is_refused() -> None:
    with pytest.raises(ModelRefused, match=r"0\.900"):
        IndexPlan.from_config({"kind": "hnsw", "items": 10, "effort": 10, "recall": 0.9, "bound": 0.95})


@pytest.mark.parametrize("config", [{}, {"kind": "tree", "items": 1}, {"kind": "flat", "items": 1, "shape": 3}])
def test_a_config_of_no_index_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ModelRefused):
        IndexPlan.from_config(config)


def test_a_file_that_is_not_an_index_or_of_other_items_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "items.faiss"
    file.write_bytes(b"not an index")
    with pytest.raises(ModelRefused):
        item_index.load(file, built(IndexKind.HNSW).plan, EMBEDDINGS)
    built(IndexKind.HNSW).save(file)
    with pytest.raises(ModelRefused, match="item table"):
        item_index.load(file, built(IndexKind.HNSW).plan, EMBEDDINGS[:10])


def test_the_limit_may_be_nothing_or_more_than_there_is() -> None:
    flat = built(IndexKind.FLAT)
    assert flat.search(EMBEDDINGS[:2], 0)[0].shape == (2, 0)
    assert flat.search(EMBEDDINGS[:2], 10**6)[0].shape == (2, ITEMS)


def test_the_kind_follows_the_size() -> None:
    kinds = [item_index.kind_for(n) for n in (1_000, 100_000, 1_000_000, 100_000_000)]
    assert kinds == [IndexKind.FLAT, IndexKind.HNSW, IndexKind.IVF_FLAT, IndexKind.IVF_PQ]
