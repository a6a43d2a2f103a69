"""Records of a compacted topic that are followed: which of them counts, what is forgotten, and what is not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from schemas import avro
from schemas.codec import Encoder
from schemas.errors import BrokerUnavailable, RetryLater
from schemas.generated import Item
from schemas.topics import ITEMS
from streams import newest_records
from streams.clock import ManualClock
from streams.memory.cluster import MemoryBroker
from streams.memory.endpoints import MemoryBroadcast
from streams.newest_records import NewestRecords
from streams.rows import OutRecords
from streams.schema_registry import MemoryRegistry


class Silent(MemoryRegistry):
    silent = False

    def schema_of(self, schema_id: int) -> Any:
        if self.silent:
            raise RetryLater("the registry does not answer")
        return super().schema_of(schema_id)


class Catalogue:
    def __init__(self) -> None:
        self.clock, self.ids = ManualClock(), Silent()
        self.ids.register(ITEMS.subject, avro.schema("item"))
        self.broker = MemoryBroker(self.clock)
        self.broker.create(ITEMS.name, 2)

    def followed(self) -> NewestRecords[Mapping[str, Any]]:
        topic = MemoryBroadcast(self.broker, ITEMS.name)
        return NewestRecords(ITEMS, topic, self.ids, lambda record: (record["item_id"], {"title": record["title"]}))

    def put(self, item: str, title: str | None, partition: int = 0) -> None:
        record = None if title is None else Item(item_id=item, title=title, category="c", updated_ms=1)
        value = None if record is None else Encoder.of(ITEMS, self.ids).encode_one(record)
        self.broker.append(OutRecords(ITEMS.name, [item.encode()], [value], [[]], [partition]), None)
        self.clock.sleep(0.01)


def test_the_newest_record_counts_whichever_partition_it_lies_in() -> None:
    world = Catalogue()
    world.put("a", "first", 1)
    world.put("a", "second", 0)
    world.put("b", "other", 1)
    made = world.followed()  # partition 1 is read after partition 0
    assert made.everything() == {"a": {"title": "second"}, "b": {"title": "other"}} and len(made) == 2
    assert sorted(made.known(1)) == ["b"]
    world.put("a", "third", 1)
    assert made.poll() == [(1, "a")] and sorted(made.known(1)) == ["a", "b"]
    world.put("a", "third", 1)
    assert made.poll() == [], "nothing changed"


def test_changes_since_a_number_are_those_alone() -> None:
    world = Catalogue()
    made = world.followed()
    assert made.since(0) == [] and made.number == 0
    for item in "abc":
        world.put(item, item)
    made.poll()
    seen = made.number
    world.put("b", "new")
    world.put("a", None)
    made.poll()
    assert made.since(seen) == [("b", {"title": "new"}), ("a", None)]
    assert [key for key, _ in made.since(0)] == ["c", "b", "a"] and made.of("a") is None


def test_deletions_are_remembered_up_to_a_bound_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newest_records, "MAX_REMOVED", 3)
    world = Catalogue()
    made = world.followed()
    for number in range(6):
        world.put(f"i-{number}", "t")
    for number in range(5):
        world.put(f"i-{number}", None)
    made.poll()
    assert [key for key, _ in made.since(0)] == ["i-5", "i-2", "i-3", "i-4"]
    assert 6 < made.forgotten < made.number and len(made) == 1
    world.put("i-3", "back")
    made.poll()
    assert made.everything().keys() == {"i-5", "i-3"} and len(made) == 2


def test_a_topic_that_cannot_be_read_is_an_error_and_not_an_empty_one() -> None:
    world = Catalogue()
    world.put("a", "t")
    world.ids.silent = True
    with pytest.raises(BrokerUnavailable, match=r"1 records of items-v1 were not read"):
        world.followed()


def test_while_the_registry_is_silent_nothing_is_lost_and_nothing_more_is_read() -> None:
    world = Catalogue()
    made = world.followed()
    world.put("a", "t")
    world.ids.silent = True
    assert made.poll() == []
    world.put("b", "t")
    assert made.poll() == [] and len(made._waiting) == 1
    world.ids.silent = False
    assert [key for _, key in made.poll() + made.poll()] == ["a", "b"]


def test_what_cannot_be_read_is_passed_over() -> None:
    world = Catalogue()
    made = world.followed()
    world.broker.append(OutRecords(ITEMS.name, [b"junk"], [b"junk"], [[]], [0]), None)
    world.put("a", "t")
    assert made.poll() == [(0, "a")]
