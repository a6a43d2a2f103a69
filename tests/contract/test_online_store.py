"""The online stores, Redis and the one in memory, under one contract: newer versions only, absent is absent, loss is seen."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra.local import processes, redis
from processors.features.feature_blob import EntityValues, pack
from processors.features.online_store import MemoryStore, OnlineStore, RedisStore
from schemas.errors import RetryLater
from schemas.features import ITEM, RECENT, USER
from tests.support.waiting import until

VALUES = {f.name: f.default for f in ITEM.features}


def blob(offset: int, now_ms: int, bought: int = 0, epoch: int = 0) -> bytes:
    return pack(ITEM, EntityValues((offset, now_ms), now_ms, None, 0, {**VALUES, "bought_7d": bought}, epoch))


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.real)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OnlineStore]:
    if request.param == "memory":
        yield MemoryStore()
        return
    started = redis.start_redis(tmp_path, tmp_path / "redis.log")
    try:
        processes.wait_until(lambda: redis.answers(started.address), started, redis.START_LIMIT_S)
        made = RedisStore(started.address)
        yield made
        made.close()
    finally:
        processes.stop(started)


def test_what_is_written_is_read_in_order_and_absent_is_none(store: OnlineStore) -> None:
    assert store.write(ITEM, {"a": blob(1, 5), "b": blob(2, 5)}) == []
    assert store.read(ITEM, ["b", "nobody", "a"]) == [blob(2, 5), None, blob(1, 5)]
    assert store.read(ITEM, []) == []
    assert store.read(USER, ["a"]) == [None]
    store.write(USER, {"b": blob(3, 5)})
    assert store.read_views([(ITEM, ["b", "a"]), (USER, []), (USER, ["a", "b"])]) == [
        [blob(2, 5), blob(1, 5)],
        [],
        [None, blob(3, 5)],
    ]


def test_only_a_newer_version_replaces(store: OnlineStore) -> None:
    store.write(ITEM, {"a": blob(10, 5, 1)})
    for offset, now_ms in ((9, 99), (10, 5), (10, 4), (2, 10**13)):
        assert store.write(ITEM, {"b": blob(offset, now_ms), "a": blob(offset, now_ms, 7)})[-1:] == ["a"]
    assert store.read(ITEM, ["a"]) == [blob(10, 5, 1)]
    for offset, now_ms in ((10, 6), (11, 1), (1_000_000_000_000, 0)):
        assert store.write(ITEM, {"a": blob(offset, now_ms, 7)}) == []
        assert store.read(ITEM, ["a"]) == [blob(offset, now_ms, 7)]


def test_writers_side_by_side_end_with_the_newest(store: OnlineStore) -> None:
    threads = [
        threading.Thread(target=lambda n=n: [store.write(ITEM, {"a": blob(i, n)}) for i in range(n, 400, 4)]) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.read(ITEM, ["a"]) == [blob(399, 3)]


@pytest.mark.real
def test_a_blob_of_a_view_that_forgets_goes_by_itself_and_others_stay(tmp_path: Path) -> None:
    started = redis.start_redis(tmp_path, tmp_path / "redis.log")
    try:
        processes.wait_until(lambda: redis.answers(started.address), started, redis.START_LIMIT_S)
        store = RedisStore(started.address)
        brief = replace(ITEM, kept_ms=300)
        store.write(brief, {"a": blob(1, 5)})
        assert store.read(brief, ["a"]) == [blob(1, 5)]
        until(lambda: store.read(brief, ["a"]) == [None], 10)
        store.write(ITEM, {"a": blob(1, 5)})
        assert store._client.pttl("item_features:a") == -1
        store.write(RECENT, {"a": blob(1, 5)})
        assert RECENT.kept_ms is not None and 0 < store._client.pttl("user_recent:a") <= RECENT.kept_ms
        store.close()
    finally:
        processes.stop(started)


def test_many_at_once(store: OnlineStore) -> None:
    blobs = {f"i-{i}": blob(i, 1) for i in range(1_234)}
    store.write(ITEM, {"i-7": blob(9_999, 9), "i-1233": blob(9_999, 9)})
    assert store.write(ITEM, blobs) == ["i-7", "i-1233"]
    blobs |= {"i-7": blob(9_999, 9), "i-1233": blob(9_999, 9)}
    assert store.read(ITEM, list(blobs)) == list(blobs.values())


def test_a_mark_is_there_until_the_store_is_emptied(store: OnlineStore) -> None:
    assert not store.marked("m")
    assert store.marked("m")
    assert not store.marked("other")


def test_clearing_a_view_leaves_the_others_and_tells_its_writers(store: OnlineStore) -> None:
    for view in (ITEM, USER):
        store.write(view, {"a": blob(1, 1)})
        store.marked(f"{view.name}:sink")
    assert store.clear(ITEM) == 1
    assert (store.read(ITEM, ["a"]), store.read(USER, ["a"])) == ([None], [blob(1, 1)])
    assert (store.marked(f"{ITEM.name}:sink"), store.marked(f"{USER.name}:sink")) == (False, True)


def test_a_topic_that_was_begun_anew_has_a_higher_epoch_and_its_blobs_replace(store: OnlineStore) -> None:
    assert [store.epoch(ITEM, "first"), store.epoch(ITEM, "first"), store.epoch(USER, "first")] == [1, 1, 1]
    assert store.write(ITEM, {"a": blob(10**6, 10**13, epoch=1)}) == []
    assert [store.epoch(ITEM, "second"), store.epoch(ITEM, "first"), store.epoch(ITEM, "second")] == [2, 1, 2]
    assert store.write(ITEM, {"a": blob(1, 5, epoch=2)}) == []
    assert store.write(ITEM, {"a": blob(10**6, 10**13, epoch=1)}) == ["a"]


@pytest.mark.real
def test_a_dead_or_frozen_redis_is_said_within_the_limit_and_comes_back(tmp_path: Path) -> None:
    started = redis.start_redis(tmp_path, tmp_path / "redis.log")
    try:
        processes.wait_until(lambda: redis.answers(started.address), started, redis.START_LIMIT_S)
        store = RedisStore(started.address, 0.3)
        store.write(ITEM, {"a": blob(1, 1)})
        os.kill(started.pid, signal.SIGSTOP)
        with pytest.raises(RetryLater, match="does not answer"):
            store.read(ITEM, ["a"])
        os.kill(started.pid, signal.SIGCONT)
        assert store.read(ITEM, ["a"]) == [blob(1, 1)]
        os.kill(started.pid, signal.SIGKILL)
        with pytest.raises(RetryLater):
            store.write(ITEM, {"a": blob(2, 2)})
    finally:
        processes.stop(started)
