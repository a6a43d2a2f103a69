"""Vectors of embedding tasks: each result in one file, the last of each key in the index, and never two spaces together."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference_workers.kinds.text_embedding import space_of
from inference_workers.vectors import index_builder, index_files
from inference_workers.vectors.index_builder import IndexBuilder, refresh
from inference_workers.vectors.index_files import INDEXES, generations
from inference_workers.vectors.result_vectors import SCHEMA, ResultVectors, folder_of, space_folder
from inference_workers.vectors.vector_search import Found, nearest
from schemas import avro
from schemas.codec import Encoder
from schemas.declared.declarations import Declaration
from schemas.declared.task_kinds import TaskKind
from schemas.encoding import Constant
from schemas.generated import EmbeddingResult, ModelUse
from streams.archived import manifests
from streams.archived.parquet_step import ParquetStep
from streams.broker import Commit
from streams.clock import ManualClock
from streams.loop.outcome import Emit, Reject
from streams.metrics import Metrics
from streams.rows import Rows
from streams.schema_registry import MemoryRegistry
from tests.support.background import AtOnce
from tests.support.rows import rows_of

TASK = Declaration(name="sentences", kind=TaskKind.EMBEDDING, model="hf:x", options={"sink": "faiss"})
TOPIC = TASK.sink_consumption().topic
IDS = MemoryRegistry()
IDS.register(TOPIC.subject, avro.schema("embedding-result"))
ENCODER = Encoder.of(TOPIC, IDS)
FIRST, SECOND = "a" * 16, "b" * 16
WIDTH = 8
SPACE = space_folder(FIRST, WIDTH)


def vector(number: int) -> list[float]:
    found: list[float] = np.random.default_rng(number).standard_normal(WIDTH).astype(np.float32).tolist()
    return found


def value(vector: list[float], **fields: Any) -> bytes:
    result = EmbeddingResult(
        request_id="r",
        status="ok",
        origin_topic="t",
        origin_partition=0,
        origin_offset=0,
        models=(ModelUse(name="sentences", version="1", arm="live", compute_ms=1.0),),
        embedding=tuple(vector),
        space=FIRST,
    )
    return ENCODER.encode({name: Constant(held) for name, held in {**asdict(result), **fields}.items()}, 1)[0]


def rows(first: int, keys: list[bytes | None], values: list[bytes | None], partition: int = 0, at_ms: int = 1_000) -> Rows:
    read = [((TOPIC.name, partition), first + i) for i in range(len(keys))]
    return rows_of(read, keys=keys, values=values, timestamps_ms=[at_ms] * len(keys))


def step(folder: Path, metrics: Metrics | None = None) -> ParquetStep:
    reader = ResultVectors(TOPIC, IDS, metrics or Metrics())
    made = ParquetStep(folder, SCHEMA, reader.read, ManualClock(), age_s=0)
    made.restore({(TOPIC.name, partition): Commit(0) for partition in range(2)})
    return made


def write(folder: Path, first: int, numbers: dict[str, int], partition: int = 0, at_ms: int = 1_000, **fields: Any) -> None:
    """A file of one vector for each key, made of the number."""
    made = step(folder)
    made.submit(
        rows(first, [k.encode() for k in numbers], [value(vector(n), **fields) for n in numbers.values()], partition, at_ms)
    )
    made.completed(0)


def keys(found: Found) -> list[str]:
    return [near.key for near in found.near]


def search(folder: Path, number: int, limit: int = 3, space: str = SPACE) -> Found:
    return nearest(folder, space, np.array(vector(number), np.float32), limit)


def test_a_topic_that_is_made_again_has_a_folder_of_its_own(tmp_path: Path) -> None:
    assert folder_of(tmp_path, "sentences", "a/b+c") == tmp_path / "sentences" / "a_b+c"
    assert folder_of(tmp_path, "sentences", "a/b+c") != folder_of(tmp_path, "sentences", "d")


def test_what_has_no_vector_is_counted_and_what_cannot_be_one_is_refused(tmp_path: Path) -> None:
    metrics = Metrics()
    made = step(tmp_path, metrics)
    given: list[tuple[bytes | None, bytes | None]] = [
        (b"good", value(vector(1))),
        (b"k", value([], status="refused", error_code="invalid")),
        (b"k", value([], status="whatever a sender writes")),
        (None, value(vector(2))),
        (b"k", value(vector(2), space="")),
        (b"k", value([], space=FIRST)),
        (b"k", value([0.0] * WIDTH)),
        (b"k", value([float("nan")] * WIDTH)),
        (b"k", value(vector(2), space="../../outside")),
        (b"\xff\xfe", value(vector(2))),
        (b"k", b"junk"),
        (b"k", None),
        ("ключ\x00".encode(), value(vector(3), models=[])),
    ]
    made.submit(rows(0, [k for k, _ in given], [v for _, v in given]))
    outcomes = made.completed(0)
    assert sorted(at for one in outcomes if isinstance(one, Emit) for at in one.rows.offsets) == [0, 1, 2, 3, 4, 12]
    assert sorted(at for one in outcomes if isinstance(one, Reject) for at in one.rows.offsets) == [5, 6, 7, 8, 9, 10, 11]
    assert metrics.total("no_vector") == 4
    assert sorted(keys(search(tmp_path, 1))) == ["good", "ключ\x00"]
    assert {folder.name for folder in tmp_path.iterdir()} == {"_manifests", SPACE}


def test_a_result_that_comes_again_after_a_crash_is_in_one_file(tmp_path: Path) -> None:
    write(tmp_path, 0, {"a": 1, "b": 2})
    write(tmp_path, 0, {"a": 1, "b": 2})  # the group's offsets were not committed
    write(tmp_path, 2, {"c": 3})
    found = search(tmp_path, 3)
    assert (keys(found)[0], found.searched) == ("c", 3)


@pytest.mark.parametrize("exact_rows", [1_500, 100], ids=["exact", "cells"])
def test_the_last_vector_of_a_key_counts_in_the_index_and_behind_it(tmp_path: Path, exact_rows: int) -> None:
    many = {f"k{n}": n for n in range(1_500)}
    write(tmp_path, 0, many)
    assert refresh(tmp_path, SPACE, force=False, exact_rows=exact_rows) == 1_500
    base = index_files.newest(tmp_path / INDEXES / SPACE)
    assert base is not None
    assert base.index is not None
    assert base.plan.kind == ("flat" if exact_rows == 1_500 else "ivf-pq")
    assert keys(search(tmp_path, 7))[0] == "k7"
    write(tmp_path, 1_500, {"k7": 2_000, "new": 2_001})
    found = search(tmp_path, 7)
    assert "k7" not in keys(found), "its vector is another now"
    assert keys(search(tmp_path, 2_000))[0] == "k7"
    assert (found.searched, found.indexed) == (1_501, 1_500)
    assert refresh(tmp_path, SPACE, force=False, exact_rows=exact_rows) == 0, "too few beside those that are there"
    assert refresh(tmp_path, SPACE, force=True, exact_rows=exact_rows) == 1_501
    assert refresh(tmp_path, SPACE, force=True, exact_rows=exact_rows) == 0, "nothing came"
    assert (keys(search(tmp_path, 2_000))[0], keys(search(tmp_path, 2_001))[0]) == ("k7", "new")
    assert len(generations(tmp_path / INDEXES / SPACE)) == 2
    np.testing.assert_allclose([near.cosine for near in search(tmp_path, 2_001, 1).near], [1.0], atol=1e-5)


def test_of_a_key_that_comes_twice_in_a_file_the_last_vector_is_in_the_index(tmp_path: Path) -> None:
    made = step(tmp_path)
    made.submit(rows(0, [b"a", b"a", b"b"], [value(vector(1)), value(vector(2)), value(vector(3))]))
    made.completed(0)
    assert refresh(tmp_path, SPACE, force=True) == 2
    for key, number in (("a", 2), ("b", 3)):
        (first, *_) = search(tmp_path, number).near
        assert (first.key, round(first.cosine, 4)) == (key, 1.0)


def test_vectors_of_another_version_are_never_found(tmp_path: Path) -> None:
    write(tmp_path, 0, {"a": 1, "b": 2})
    write(tmp_path, 2, {"a": 3}, space=SECOND)
    write(tmp_path, 3, {"a": 4, "c": 5}, space=FIRST)
    for space in (SPACE, space_folder(SECOND, WIDTH)):
        refresh(tmp_path, space, force=True)
    assert sorted(keys(search(tmp_path, 1, 9))) == ["a", "b", "c"]
    assert keys(search(tmp_path, 1, 9, space_folder(SECOND, WIDTH))) == ["a"]
    assert len({space_of("digest", {}), space_of("other", {}), space_of("digest", {"pooling": "cls"})}) == 3


def test_a_key_that_moved_when_the_topic_grew_has_its_newest_vector(tmp_path: Path) -> None:
    write(tmp_path, 100, {"a": 1}, partition=0, at_ms=1_000)
    write(tmp_path, 0, {"a": 2}, partition=1, at_ms=2_000)
    refresh(tmp_path, SPACE, force=True)
    (near,) = search(tmp_path, 2).near
    assert near.cosine == pytest.approx(1.0)


def test_an_index_that_was_cut_or_half_made_is_passed_over_and_made_again(tmp_path: Path) -> None:
    write(tmp_path, 0, {"a": 1, "b": 2})
    assert refresh(tmp_path, SPACE, force=True) == 2
    place = tmp_path / INDEXES / SPACE
    (newest, *_) = generations(place)
    with (newest / index_files.VECTORS).open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\0")
    (place / ".part-1234").mkdir()
    found = search(tmp_path, 1)
    assert (keys(found), found.indexed) == (["a", "b"], 0)
    builder = IndexBuilder(tmp_path, ManualClock(), 1.0, AtOnce())
    assert not list(place.glob(".part-*"))
    builder.tick()
    assert search(tmp_path, 1).indexed == 2
    shutil.rmtree(place)
    assert keys(search(tmp_path, 1)) == ["a", "b"]


def test_what_keeps_an_index_from_being_made_is_in_the_status_until_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 0, {"a": 1})
    clock = ManualClock()
    builder = IndexBuilder(tmp_path, clock, 1.0, AtOnce())

    def full(*given: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(index_builder, "write", full)
        builder.tick()
        clock.sleep(2.0)
        builder.tick()
        assert "No space left" in builder.report().notes[0]
    clock.sleep(2.0)
    builder.tick()
    builder.tick()
    assert builder.report().notes == []
    assert search(tmp_path, 1).indexed == 1


def test_of_two_processes_that_make_an_index_one_wins(tmp_path: Path) -> None:
    write(tmp_path, 0, {"a": 1})
    assert refresh(tmp_path, SPACE, force=True) == 1
    place = tmp_path / INDEXES / SPACE
    assert index_files.add(place, 1, {}, lambda part: index_builder.write(part, index_files.newest(place), [], {}, 10)[0]) is None
    assert [folder.name for folder in place.iterdir()] == ["00000001"]


def test_an_index_is_not_read_again_while_nothing_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 0, {"a": 1, "b": 2})
    clock, read = ManualClock(), list[Path]()
    builder, opened = IndexBuilder(tmp_path, clock, 1.0, AtOnce()), index_files.opened

    def counted(folder: Path) -> index_files.Generation:
        read.append(folder)
        return opened(folder)

    monkeypatch.setattr(index_files, "opened", counted)
    for _ in range(9):
        builder.tick()
        clock.sleep(2.0)
    assert len(read) == 1
    write(tmp_path, 2, {"c": 3})
    for _ in range(4):
        builder.tick()
        clock.sleep(2.0)
    assert search(tmp_path, 3).indexed == 3


def test_a_merge_of_files_makes_no_index_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 0, {"a": 1})
    assert refresh(tmp_path, SPACE, force=True) == 1
    write(tmp_path, 1, {"a": 2}, space=SECOND)
    monkeypatch.setattr(manifests, "MERGE_FROM", 2)
    assert manifests.merge(tmp_path, SCHEMA, 0, time.time() + manifests.MERGE_AFTER_S + 1) == 2
    assert refresh(tmp_path, SPACE, force=True) == 0
    assert keys(search(tmp_path, 1)) == ["a"]


def test_a_space_whose_files_are_damaged_keeps_no_other_from_its_index(tmp_path: Path) -> None:
    write(tmp_path, 0, {"a": 1})
    write(tmp_path, 1, {"b": 2}, space=SECOND)
    (file,) = (tmp_path / SPACE).glob("*.parquet")
    file.write_bytes(b"cut")
    clock = ManualClock()
    builder = IndexBuilder(tmp_path, clock, 1.0, AtOnce())
    builder.tick()
    clock.sleep(2.0)
    builder.tick()
    assert search(tmp_path, 2, space=space_folder(SECOND, WIDTH)).indexed == 1
    assert "no new index" in builder.report().notes[0]


def test_a_very_small_query_has_a_direction(tmp_path: Path) -> None:
    write(tmp_path, 0, {"a": 1, "b": 2})
    small = np.array(vector(2), np.float32) * np.float32(1e-30)
    (first, *_) = nearest(tmp_path, SPACE, small, 2).near
    assert (first.key, round(first.cosine, 4)) == ("b", 1.0)
