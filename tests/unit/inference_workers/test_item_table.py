"""Items that come, change and go between two versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from inference_workers.recommending import fresh_items, item_index
from inference_workers.recommending.candidate_search import _best, nearest
from inference_workers.recommending.item_table import ItemTable
from inference_workers.recommending.mapped_tensors import mapped
from schemas.errors import ModelRefused, RecordTooLarge

WIDTH = 8
TOKENS = ("category=books", "category=garden")


def parts(n: int = 6) -> tuple[dict[str, Any], dict[str, Any]]:
    """Items of both categories in turn; a vector is that of its category, and a little of its own."""
    random = np.random.default_rng(0)
    tokens = np.zeros((3, WIDTH), np.float32)
    tokens[1, 0], tokens[2, 1] = 1.0, 1.0
    own = 0.3 * random.normal(size=(n, WIDTH)).astype(np.float32)
    vectors = tokens[1 + np.arange(n) % 2] + own
    lengths = np.linalg.norm(vectors, axis=1)
    names = {
        "ids": [f"i{row}" for row in range(n)],
        "titles": [""] * n,
        "attributes": [{"category": ("books", "garden")[row % 2]} for row in range(n)],
        "tokens": list(TOKENS),
    }
    arrays = {
        "embeddings": (vectors / lengths[:, None]).astype(np.float16),
        "lengths": lengths,
        "popularity": np.arange(n, 0, -1).astype(np.float32),
        "token_vectors": tokens,
        **{name: np.full((n, 2), -1, np.int32) for name in ("after", "beside")},
        **{name: np.zeros((n, 2), np.float16) for name in ("after_weights", "beside_weights")},
    }
    return names, arrays


@pytest.fixture
def table() -> ItemTable:
    return ItemTable(*parts())


def found(table: ItemTable, user: np.ndarray[Any, Any], limit: int = 20, without: tuple[str, ...] = ()) -> list[str]:
    index = item_index.load(None, item_index.IndexPlan(item_index.IndexKind.FLAT, table.versioned), table.embeddings)
    return [table.ids[row] for row in nearest(table, index, user[None].astype(np.float32), limit, [without])[0]]


BOOKS = np.eye(WIDTH)[0]


def test_a_new_item_is_found_at_once_by_its_attributes(table: ItemTable) -> None:
    row = table.put("new", "", {"category": "books"})
    assert row == 6 and table.ids[row] == "new"
    assert np.allclose(table.vectors(np.array([row]))[0], BOOKS, atol=1e-3)
    assert found(table, BOOKS)[0] == "new"
    assert len(found(table, BOOKS)) == 7


def test_an_item_of_which_nothing_is_known_has_no_direction(table: ItemTable) -> None:
    assert not table.vectors(np.array([table.put("new", "never heard", {"colour": "red"})])).any()


def test_a_changed_item_keeps_what_was_learned_of_its_id(table: ItemTable) -> None:
    before = table.vectors(np.array([1]))[0]
    assert table.put("i1", "", {"category": "garden"}) == 1
    assert np.allclose(table.vectors(np.array([1]))[0], before, atol=2e-3)
    table.put("i1", "", {"category": "books"})
    moved = table.vectors(np.array([1]))[0]
    assert moved[0] > before[0] + 0.3 and moved[1] < before[1] - 0.3
    table.put("i1", "", {"category": "garden"})
    assert np.allclose(table.vectors(np.array([1]))[0], before, atol=2e-3)
    assert found(table, BOOKS).count("i1") == 1


def test_a_removed_item_is_never_found_and_comes_back_as_it_was(table: ItemTable) -> None:
    before = found(table, BOOKS)
    assert table.take_away("i0") and not table.take_away("i0") and not table.take_away("nobody")
    assert "i0" not in found(table, BOOKS) and "i0" not in found(table, 0 * BOOKS)
    assert table.put("i0", "", {"category": "books"}) == 0
    assert found(table, BOOKS) == before


def test_what_changes_no_vector_takes_no_place_among_the_fresh_items(table: ItemTable) -> None:
    table.put("new", "A kettle", {"category": "books", "price_cents": 2_000.0})
    assert len(table.fresh) == 1
    table.put("i0", "", {"category": "books"})
    table.put("i1", "", {"category": "garden", "price_cents": 999.0})
    assert len(table.fresh) == 2, "the price is new: it may be in the vocabulary"
    table.put("i1", "", {"category": "garden", "price_cents": 1_001.0})
    table.put("new", "a KETTLE!", {"category": "books", "price_cents": 2_001.0})
    assert len(table.fresh) == 2 and not table.hidden[0]
    assert (table.titles[6], table.attributes[6]["price_cents"]) == ("a KETTLE!", 2_001.0)
    table.take_away("i0")
    table.put("i0", "", {"category": "books"})
    assert len(table.fresh) == 2 and not table.hidden[0], "it is in the version's index again"


def test_the_nearest_are_those_of_a_whole_sort() -> None:
    near = np.random.default_rng(1).permutation(5_000).astype(np.float32)
    for limit in (0, 1, 40, 4_999, 5_000, 6_000):
        assert _best(near, limit).tolist() == np.argsort(-near)[:limit].tolist()


def test_an_item_that_came_and_went_leaves_the_others(table: ItemTable) -> None:
    for name in ("a", "b", "c"):
        table.put(name, "", {"category": "books"})
    table.take_away("a")
    assert {"b", "c"} < set(found(table, BOOKS)) and "a" not in found(table, BOOKS)
    assert np.allclose(table.vectors(np.array([table.rows["c"]]))[0], BOOKS, atol=1e-3)


def test_excluded_items_leave_their_places_to_others(table: ItemTable) -> None:
    every = found(table, BOOKS)
    assert found(table, BOOKS, 2, tuple(every[:3])) == every[3:5]
    assert found(table, BOOKS, 0) == [] and found(table, BOOKS, 5, tuple(every)) == []
    assert found(table, BOOKS, 10**6, ("unknown",)) == every


def test_a_user_of_zeros_gets_the_popular_items(table: ItemTable) -> None:
    table.put("new", "", {"category": "books"})
    table.take_away("i1")
    assert found(table, 0 * BOOKS, without=("i0",)) == ["i2", "i3", "i4", "i5", "new"]


def test_so_many_new_items_and_no_more(table: ItemTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_items, "MAX_FRESH", 70)
    small = ItemTable(*parts())
    for number in range(70):
        small.put(f"n{number}", "", {"category": "books"})
    with pytest.raises(RecordTooLarge, match="70 items"):
        small.put("one too many", "", {"category": "books"})
    small.put("n3", "", {"category": "garden"})  # known already
    assert len(small.fresh) == 70


@pytest.mark.parametrize("name", ["embeddings", "popularity", "after", "token_vectors"])
def test_arrays_that_do_not_fit_are_refused(name: str) -> None:
    names, arrays = parts()
    with pytest.raises(ModelRefused):
        ItemTable(names, {**arrays, name: arrays[name][:-1]})
    with pytest.raises(ModelRefused, match=name):
        ItemTable(names, {key: value for key, value in arrays.items() if key != name})


def test_repeated_ids_and_empty_tables_are_refused() -> None:
    names, arrays = parts()
    with pytest.raises(ModelRefused):
        ItemTable({**names, "ids": ["i0"] * 6}, arrays)
    with pytest.raises(ModelRefused):
        ItemTable(
            {**names, "ids": [], "titles": [], "attributes": []},
            {k: v[:0] if k != "token_vectors" else v for k, v in arrays.items()},
        )


def test_mapped_arrays_are_those_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "items.safetensors"
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.arange(4, dtype=np.int32),
        "none": np.zeros((0, 3), np.float16),
    }
    file.write_bytes(safetensors.numpy.save(arrays))
    read = mapped(file)
    assert all(np.array_equal(read[name], value) and read[name].dtype == value.dtype for name, value in arrays.items())
    whole = file.read_bytes()
    for broken in (whole[:20], whole[:-4], b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[]", b""):
        file.write_bytes(broken)
        with pytest.raises(ModelRefused):
            mapped(file)
