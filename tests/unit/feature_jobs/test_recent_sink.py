"""A user's recent events in the online store: the last 200 in order, whatever the group, the store and senders do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from feature_jobs.feature_loops import RECENT_EVENTS
from feature_jobs.online.feature_sink import FeatureSink
from processors.features.feature_blob import Freshness, unpack
from processors.features.online_store import MemoryStore
from processors.features.recent_events import MAX_TEXT_BYTES, from_text, to_text
from schemas import avro
from schemas.codec import Encoder
from schemas.durations import DAY_MS
from schemas.errors import RetryLater
from schemas.features import MAX_RECENT, RECENT, View
from schemas.generated import UserEvent
from schemas.topics import USER_EVENTS_VALID
from streams.broker import Commit
from streams.clock import ManualClock
from streams.metrics import Metrics
from streams.rows import Place, Polled
from streams.schema_registry import MemoryRegistry
from tests.support.rows import rows_at

PLACE = (USER_EVENTS_VALID.name, 0)


class RecentSink:
    """log: the events' topic, partition 0, whose first `dropped` records are gone."""

    def __init__(
        self, store: MemoryStore | None = None, log: list[bytes] | None = None, dropped: int = 0, most: int = 1_000
    ) -> None:
        self.clock, self.store, self.log, self.dropped = (
            ManualClock(),
            store or MemoryStore(),
            log if log is not None else [],
            dropped,
        )
        self.ids = MemoryRegistry()
        self.ids.register(USER_EVENTS_VALID.subject, avro.schema("user-event"))
        self.sink = FeatureSink(
            RECENT,
            self.ids,
            self.store,
            None,
            self.read_back,
            self.clock,
            Metrics(),
            "topic-1",
            replace(RECENT_EVENTS, most=most),
        )

    def read_back(self, ends: Mapping[Place, int]) -> Iterator[Polled]:
        offsets = list(range(self.dropped, ends.get(PLACE, 0)))
        n = len(offsets)
        yield Polled([PLACE] * n, offsets, [b"u"] * n, [self.log[at] for at in offsets], [None] * n, [self.clock.now_ms()] * n)

    def own(self, offset: int = 0) -> RecentSink:
        self.sink.restore({PLACE: Commit(offset)})
        self.sink.tick()
        return self

    def event(self, item: str | None, at_ms: int, kind: str = "view", user: str = "u") -> None:
        event = UserEvent(event_id=f"e-{len(self.log)}", user_id=user, kind=kind, item_id=item, event_ms=at_ms)
        self.log.append(Encoder.of(USER_EVENTS_VALID, self.ids).encode_one(event))
        self.again(len(self.log) - 1)
        self.sink.tick()

    def again(self, at: int) -> None:
        self.sink.process(rows_at(PLACE, [self.log[at]], at, keys=[b"u"], timestamps_ms=[self.clock.now_ms()]))

    def read(self, user: str = "u") -> list[tuple[Any, ...]]:
        served = unpack(RECENT, self.store.read(RECENT, [user]), ("events",), self.clock.now_ms(), 0)
        if served.state[0] == Freshness.MISSING:
            return []
        assert served.state[0] == Freshness.FRESH
        return [(item, kind) for _, item, kind in from_text(served.values["events"][0])]


def test_events_are_kept_in_the_order_of_their_own_times_and_those_without_an_item_are_not() -> None:
    world = RecentSink().own()
    world.event("i-1", 10)
    world.event("i-2", 30, "purchase")
    world.event(None, 40, "search")
    world.event("i-3", 20)
    world.event("i-9", 5, user="other")
    assert world.read() == [("i-1", "view"), ("i-3", "view"), ("i-2", "purchase")]
    assert world.read("other") == [("i-9", "view")]


def test_an_event_that_is_read_again_counts_once() -> None:
    world = RecentSink().own()
    world.event("i-1", 10)
    world.again(0)
    world.sink.tick()
    assert world.read() == [("i-1", "view")]


def test_only_the_newest_are_kept() -> None:
    world = RecentSink().own()
    for at in range(MAX_RECENT + 7):
        world.event(f"i-{at}", at)
    world.event("late", 1)
    assert world.read() == [(f"i-{at}", "view") for at in range(7, MAX_RECENT + 7)]


def test_a_new_owner_writes_what_the_last_one_did_not() -> None:
    first = RecentSink().own()
    first.event("i-1", 10)
    first.store = MemoryStore()  # what it wrote is gone, and so is the process
    second = RecentSink(first.store, first.log).own(1)
    assert second.read() == [("i-1", "view")]
    second.event("i-2", 20)
    assert second.read() == [("i-1", "view"), ("i-2", "view")]


def test_a_history_that_is_longer_than_the_topic_is_read_from_the_store() -> None:
    first = RecentSink().own()
    for at, item in enumerate("abc"):
        first.event(item, at)
    second = RecentSink(first.store, first.log, dropped=2).own(3)
    second.event("d", 9)
    assert [item for item, _ in second.read()] == ["a", "b", "c", "d"]


def test_a_user_who_does_nothing_for_long_is_forgotten() -> None:
    assert RECENT.kept_ms is not None
    world = RecentSink().own()
    world.event("i-1", 10)
    world.event("i-2", 10, user="other")
    for _ in range(RECENT.kept_ms // DAY_MS):
        world.clock.sleep(DAY_MS / 1000)
        world.event("i-3", 20, user="other")
    assert world.sink.entities == 2
    for _ in range(2):
        world.clock.sleep(DAY_MS / 1000)
        world.event("i-4", 20, user="other")
    assert world.sink.entities == 1, "and no longer written: the store forgets it too"
    world.event("i-5", 30)
    assert world.read() == [("i-1", "view"), ("i-5", "view")], "the store has not, yet"


def test_so_many_users_are_held_and_the_others_left_to_the_store() -> None:
    world = RecentSink(most=3).own()
    for number in range(5):
        world.event(f"i-{number}", number, user=f"u-{number}")
        world.event(f"i-{number}", 100 + number, user="u-0")
    assert world.sink.entities == 3 and len(world.read("u-0")) == 6
    assert [len(world.read(f"u-{number}")) for number in range(1, 5)] == [1, 1, 1, 1]
    world.event("i-9", 200, user="u-1")
    assert world.read("u-1") == [("i-1", "view"), ("i-9", "view")] and world.sink.entities == 3
    again = RecentSink(world.store, world.log, most=3).own(len(world.log))
    assert again.sink.entities == 3 and len(again.read("u-0")) == 6


def test_a_late_owner_does_not_undo_its_successor() -> None:
    first = RecentSink().own()
    first.event("i-1", 10)
    second = RecentSink(first.store, first.log).own(1)
    second.event("i-2", 20)
    first.sink.process(rows_at(PLACE, [first.log[0]], 0, keys=[b"u"]))
    first.sink._dirty[0, "u"] = None
    first.sink.tick()
    assert [item for item, _ in second.read()] == ["i-1", "i-2"]


def test_long_and_hostile_ids_fit_in_a_blob_by_leaving_out_the_oldest() -> None:
    events = [(at, '\x00"\n\U0001f642' * 50, "view") for at in range(MAX_RECENT)]
    text = to_text(events)
    kept = from_text(text)
    assert len(text.encode()) <= MAX_TEXT_BYTES
    assert 20 < len(kept) < MAX_RECENT
    assert kept == events[-len(kept) :]
    for broken in ("", "x", "[1]", '[["i"]]', '{"a": 1}', json.dumps([["i", "view", "no"]]), text[:-5]):
        assert from_text(broken) == []


def test_new_partitions_push_out_no_user_that_is_not_in_the_store_yet() -> None:
    class Down(MemoryStore):
        down = False

        def write(self, view: View, blobs: Mapping[str, bytes]) -> list[str]:
            if self.down:
                raise RetryLater("it does not answer")
            return super().write(view, blobs)

    store = Down()
    world = RecentSink(store, most=2).own()
    store.down = True
    for user in ("a", "b"):
        world.event("i-1", 1_000, user=user)
    other = (USER_EVENTS_VALID.name, 1)
    values = [
        Encoder.of(USER_EVENTS_VALID, world.ids).encode_one(
            UserEvent(event_id=user, user_id=user, kind="view", item_id="i-2", event_ms=1_000)
        )
        for user in ("c", "d", "e")
    ]
    world.sink._read_back = lambda ends: iter(
        [Polled([other] * 3, [0, 1, 2], [b"u"] * 3, list(values), [None] * 3, [world.clock.now_ms()] * 3)]
    )
    world.sink.restore({other: Commit(3)})
    store.down = False
    for _ in range(5):
        world.clock.sleep(1.0)
        world.sink.tick()
    assert all(blob is not None for blob in store.read(RECENT, ["a", "b"]))
