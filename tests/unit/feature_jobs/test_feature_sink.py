"""The feature sink: one blob an entity, rewritten when a tile leaves a window, whatever the store and the group do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from feature_jobs.online.attributes import attributes_of
from feature_jobs.online.feature_sink import FeatureSink
from processors.features.feature_blob import Freshness, unpack
from processors.features.online_store import MemoryStore
from schemas import avro
from schemas.codec import Encoder
from schemas.durations import DAY_MS, HOUR_MS
from schemas.encoding import Constant
from schemas.errors import RetryLater
from schemas.features import TILE_MS, USER, View
from schemas.topics import USER_FEATURES, USER_PROFILES
from streams.broker import Commit
from streams.clock import ManualClock
from streams.loop.outcome import Emit, Outcome, Reject
from streams.metrics import Metrics
from streams.rows import Place, Polled
from streams.schema_registry import MemoryRegistry
from tests.support.rows import rows_at

TILE = {
    "user_id": "u",
    "session_id": "s",
    "viewed": 1,
    "carted": 0,
    "bought": 0,
    "units": 0,
    "revenue_cents": 0,
    "rated": 0,
    "stars": 0,
    "item_id": "i",
}
PLACE = (USER_FEATURES.name, 0)


class Profiles:
    def __init__(self) -> None:
        self.next = Polled()

    def read_to_end(self, limit_s: float) -> Polled:
        return self.poll()

    def poll(self) -> Polled:
        polled, self.next = self.next, Polled()
        return polled

    def close(self) -> None:
        return


class Shaky(MemoryStore):
    down = False

    def write(self, view: View, blobs: Mapping[str, bytes]) -> list[str]:
        if self.down:
            raise RetryLater("down")
        return super().write(view, blobs)

    def lose_everything(self) -> None:
        self._blobs.clear()
        self._marks.clear()


class SinkUnderTest:
    def __init__(self, store: Shaky | None = None, log: list[bytes] | None = None, source: str = "topic-1") -> None:
        self.clock, self.store = ManualClock(), store or Shaky()
        self.ids = MemoryRegistry()
        for topic, record in ((USER_FEATURES, "user-tile"), (USER_PROFILES, "user-profile")):
            self.ids.register(topic.subject, avro.schema(record))
        self.profiles, self.log = Profiles(), [] if log is None else log  # log: the tiles' topic, partition 0
        self.metrics = Metrics()
        attributes = attributes_of(USER, self.profiles, self.ids)
        self.sink = FeatureSink(USER, self.ids, self.store, attributes, self.read_back, self.clock, self.metrics, source)

    def read_back(self, ends: Mapping[Place, int]) -> Iterator[Polled]:
        n = ends.get(PLACE, 0)
        yield Polled([PLACE] * n, list(range(n)), [b"u"] * n, list(self.log[:n]), [None] * n, [self.clock.now_ms()] * n)

    def own(self, offset: int = 0) -> SinkUnderTest:
        self.sink.restore({PLACE: Commit(offset)})
        self.sink.tick()
        return self

    def tile(self, n: int, start_ms: int, *, late_ms: int = 0, **fields: Any) -> None:
        assert isinstance(self.took(n, start_ms, late_ms=late_ms, **fields), Emit)

    def took(self, n: int, start_ms: int, *, late_ms: int = 0, **fields: Any) -> Outcome:
        record = {**TILE, "tile_start_ms": start_ms, "n": n, "first_ms": start_ms, "last_ms": start_ms + n, **fields}
        encoder = Encoder.of(USER_FEATURES, self.ids)
        self.log.append(encoder.encode({name: Constant(value) for name, value in record.items()}, 1)[0])
        at = len(self.log) - 1
        rows = rows_at(PLACE, [self.log[at]], at, keys=[b"u"], timestamps_ms=[self.clock.now_ms() - late_ms])
        (outcome,) = self.sink.process(rows)
        return outcome

    def profile(self, user: str, age: int, partition: int = 0, at_ms: int = 0) -> None:
        encoder = Encoder.of(USER_PROFILES, self.ids)
        columns = {"user_id": user, "age": age, "country": "FR", "updated_ms": 1}
        value = encoder.encode({name: Constant(value) for name, value in columns.items()}, 1)[0]
        self.profiles.next = Polled([(USER_PROFILES.name, partition)], [0], [user.encode()], [value], [None], [at_ms])

    def read(self, *names: str, user: str = "u") -> dict[str, Any]:
        served = unpack(USER, self.store.read(USER, [user]), names, self.clock.now_ms(), 0)
        return {"state": Freshness(int(served.state[0])).name, **{name: served.values[name][0] for name in names}}


def start_of(clock: ManualClock) -> int:
    return clock.now_ms() - clock.now_ms() % TILE_MS


def test_a_tile_becomes_a_blob_and_a_newer_version_of_it_replaces() -> None:
    world = SinkUnderTest().own()
    start_ms = start_of(world.clock)
    world.tile(1, start_ms)
    world.sink.tick()
    assert world.read("events_5m", "viewed_7d", "distinct_items_1h") == {
        "state": "FRESH",
        "events_5m": 1,
        "viewed_7d": 1,
        "distinct_items_1h": 1,
    }
    world.tile(3, start_ms, viewed=3)
    world.tile(1, start_ms, item_id="j")
    world.tile(1, start_ms, item_id="")
    world.tile(2, start_ms, viewed=2)  # Flink came back from a checkpoint
    world.sink.tick()
    assert world.read("events_5m", "distinct_items_1h") == {"state": "FRESH", "events_5m": 5, "distinct_items_1h": 2}


def test_a_quiet_users_counts_fall_to_zero_on_time() -> None:
    world = SinkUnderTest().own()
    start_ms = start_of(world.clock)
    world.tile(4, start_ms)
    world.sink.tick()
    world.clock.sleep((start_ms + TILE_MS - world.clock.now_ms()) / 1000 - 0.001)
    world.sink.tick()
    assert world.read("events_5m")["events_5m"] == 4
    world.clock.sleep(0.001)
    assert world.read("events_5m")["state"] == "STALE", "until the sink's next round"
    world.sink.tick()
    assert world.read("events_5m", "events_1h") == {"state": "FRESH", "events_5m": 0, "events_1h": 4}
    world.clock.sleep((HOUR_MS - TILE_MS) / 1000)
    world.sink.tick()
    assert world.read("events_1h", "events_24h") == {"state": "FRESH", "events_1h": 0, "events_24h": 4}


@pytest.mark.parametrize("days", [2.5, 4, 6, 9])
def test_values_that_stay_the_same_stay_fresh_as_long_as_the_sink_runs(days: float) -> None:
    world = SinkUnderTest().own()
    world.profile("u", 33)
    world.tile(2, start_of(world.clock), bought=1)
    for _ in range(int(days * 8)):
        world.sink.tick()
        world.clock.sleep(3 * 3600)
    assert world.read("age", "bought_7d", "total_purchases") == {
        "state": "FRESH",
        "age": 33,
        "bought_7d": int(days < 7),
        "total_purchases": 1,
    }
    written = world.metrics.total("blobs_written")
    assert written <= 4 * days + 5, "looked at a few times a day, not written all the time"
    assert len(world.sink._due) <= 4
    world.clock.sleep(USER.ttl_ms / 1000)
    assert world.read()["state"] == "STALE", "the sink stood still"


def test_an_entity_that_changes_often_does_not_fill_the_queue() -> None:
    world = SinkUnderTest().own()
    for n in range(1, 200):
        world.tile(n, start_of(world.clock))
        world.sink.tick()
        world.clock.sleep(0.01)
    assert len(world.sink._due) <= 3


@pytest.mark.parametrize(
    "fields",
    [
        {"start_ms": 2**63 - 1 - (2**63 - 1) % TILE_MS, "first_ms": 0, "last_ms": 0},
        {"start_ms": -(2**63), "first_ms": 0, "last_ms": 0},
        {"start_ms": 10 * 365 * DAY_MS + 1_795_000_200_000},
        {"start_ms": 7},
        {"first_ms": -(2**63)},
        {"last_ms": 2**63 - 1},
        {"n": 0},
        {"bought": -1},
        {"revenue_cents": -(2**63)},
    ],
    ids=str,
)
def test_a_tile_that_no_valid_event_makes_is_set_aside_and_other_entities_go_on(fields: dict[str, int]) -> None:
    world = SinkUnderTest().own()
    start_ms = start_of(world.clock)
    outcome = world.took(**{"n": 1, "start_ms": start_ms, "user_id": "poison", **fields})  # type: ignore[arg-type]
    assert isinstance(outcome, Reject)
    assert outcome.error.code == "impossible"
    world.tile(1, start_ms)
    world.sink.tick()
    assert world.read("events_5m") == {"state": "FRESH", "events_5m": 1}
    second = SinkUnderTest(log=world.log).own(2)  # the tile stays on the topic: who reads it anew passes over it
    assert second.read("events_5m") == {"state": "FRESH", "events_5m": 1}
    assert second.sink.entities == 1


def test_an_entity_whose_values_cannot_be_stored_does_not_hold_up_others() -> None:
    world = SinkUnderTest().own()
    start_ms = start_of(world.clock)
    for item in "ij":
        world.tile(1, start_ms, user_id="rich", revenue_cents=2**63 - 1, item_id=item)
    world.tile(1, start_ms)
    world.sink.tick()
    assert world.read("events_5m")["events_5m"] == 1
    assert world.read(user="rich")["state"] == "MISSING"
    assert (world.metrics.total("blobs_impossible"), world.metrics.total("blobs_waiting")) == (1, 0)


def test_what_the_store_did_not_take_is_written_when_it_is_back() -> None:
    world = SinkUnderTest().own()
    world.store.down = True
    world.tile(1, start_of(world.clock))
    world.sink.tick()
    assert world.read()["state"] == "MISSING"
    assert world.metrics.total("blobs_waiting") == 1
    world.store.down = False
    world.sink.tick()
    assert world.read("events_5m")["events_5m"] == 1


@pytest.mark.parametrize(("late_ms", "rounds"), [(900, 24), (8_000, 3), (3_600_000, 2)])
def test_the_later_records_come_the_longer_their_writes_are_held_but_never_long(late_ms: int, rounds: int) -> None:
    world = SinkUnderTest().own()
    start_ms = start_of(world.clock)
    for n in range(1, 25):  # six seconds of them
        world.tile(n, start_ms, late_ms=late_ms)
        world.sink.tick()
        world.clock.sleep(0.25)
    assert world.metrics.total("blobs_written") == rounds
    world.sink.tick()  # nothing came since: nothing is waited for
    assert world.read("events_5m") == {"state": "FRESH", "events_5m": 24}
    assert world.metrics.total("blobs_waiting") == 0


def test_a_held_round_is_written_to_its_end_and_what_changed_meanwhile_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feature_jobs.online.feature_sink.BLOBS_AT_ONCE", 2)
    world = SinkUnderTest().own()
    start_ms = start_of(world.clock)

    def tick(*users: str) -> dict[str, int]:
        for user in users:
            world.tile(1, start_ms, user_id=user, item_id=str(len(world.log)), late_ms=60_000)
        world.sink.tick()
        return {user: int(world.read("events_5m", user=user)["events_5m"]) for user in "abcde"}

    assert tick("a", "b", "c") == {"a": 1, "b": 1, "c": 0, "d": 0, "e": 0}
    assert tick("a", "d", "e") == {"a": 1, "b": 1, "c": 1, "d": 0, "e": 0}
    assert tick("b") == {"a": 1, "b": 1, "c": 1, "d": 0, "e": 0}
    world.clock.sleep(5)
    assert tick("b") == {"a": 2, "b": 1, "c": 1, "d": 1, "e": 0}
    assert tick() == {"a": 2, "b": 3, "c": 1, "d": 1, "e": 1}


def test_a_window_that_ends_while_records_come_late_is_not_held() -> None:
    world = SinkUnderTest().own()
    start_ms = start_of(world.clock)
    world.tile(4, start_ms)
    world.sink.tick()
    world.clock.sleep((start_ms + TILE_MS - world.clock.now_ms()) / 1000 - 0.5)
    world.tile(1, start_ms, user_id="v", late_ms=60_000)
    world.sink.tick()
    assert world.read("events_5m", user="v")["events_5m"] == 1, "a round began"
    for _ in range(3):
        world.clock.sleep(0.4)
        world.tile(1, start_ms, user_id="w", item_id=str(len(world.log)), late_ms=60_000)
        world.sink.tick()
    assert world.read("events_5m", "events_1h") == {"state": "FRESH", "events_5m": 0, "events_1h": 4}
    assert world.metrics.total("blobs_waiting") == 1, "what came after that round waits for the next"


def test_so_many_entities_are_held_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feature_jobs.online.feature_sink.HELD_ENTITIES", 3)
    world = SinkUnderTest().own()
    waiting = []
    for number in range(8):
        world.tile(1, start_of(world.clock), user_id=str(number), late_ms=60_000)
        world.sink.tick()
        waiting.append(world.metrics.total("blobs_waiting"))
    assert waiting == [0, 1, 2, 0, 1, 2, 0, 1]


def test_a_store_that_lost_everything_gets_everything() -> None:
    world = SinkUnderTest().own()
    world.tile(1, start_of(world.clock))
    world.sink.tick()
    world.store.lose_everything()
    world.clock.sleep(1.1)
    world.sink.tick()
    assert world.read("events_5m") == {"state": "FRESH", "events_5m": 1}


def test_a_new_owner_rebuilds_from_the_topic_and_writes_what_the_last_one_did_not() -> None:
    first = SinkUnderTest().own()
    start_ms = start_of(first.clock)
    first.tile(1, start_ms)
    first.tile(2, start_ms)  # never written: it dies here, with both committed
    second = SinkUnderTest(first.store, first.log).own(2)
    assert second.read("events_5m") == {"state": "FRESH", "events_5m": 2}
    assert second.sink.entities == 1


def test_a_late_writer_does_not_undo_its_successor() -> None:
    first = SinkUnderTest().own()
    start_ms = start_of(first.clock)
    first.tile(1, start_ms)
    second = SinkUnderTest(first.store, first.log).own(1)
    second.tile(2, start_ms)
    second.sink.tick()
    first.sink.tick()  # it was stopped for a while, and still holds what it had not written
    assert second.read("events_5m")["events_5m"] == 2
    assert first.metrics.total("blobs_refused") == 1


def test_a_topic_that_was_begun_anew_beside_a_store_that_stays_is_written() -> None:
    first = SinkUnderTest().own()
    start_ms = start_of(first.clock)
    for n in range(1, 9):
        first.tile(n, start_ms)
    first.sink.tick()
    anew = SinkUnderTest(first.store, source="topic-2").own()
    anew.tile(1, start_ms)
    anew.sink.tick()
    assert anew.read("events_5m") == {"state": "FRESH", "events_5m": 1}
    assert anew.metrics.total("blobs_refused") == 0
    first.tile(9, start_ms)
    first.sink.tick()
    assert (first.read("events_5m")["events_5m"], first.metrics.total("blobs_refused")) == (1, 1)


def test_what_is_refused_is_counted_so_and_written_again_once_the_clock_allows_it() -> None:
    first = SinkUnderTest()
    first.clock.sleep(60)  # its clock is ahead
    first.own().tile(1, start_of(first.clock))
    first.sink.tick()
    second = SinkUnderTest(first.store, first.log).own(1)
    assert (second.metrics.total("blobs_written"), second.metrics.total("blobs_refused")) == (0, 1)
    second.profile("u", 33)
    second.sink.tick()
    assert second.read("age")["age"] == -1
    for _ in range(70):
        second.clock.sleep(1)
        second.sink.tick()
    assert second.read("age")["age"] == 33


def test_a_view_that_was_cleared_is_written_anew() -> None:
    world = SinkUnderTest().own()
    world.tile(1, start_of(world.clock))
    world.sink.tick()
    assert world.store.clear(USER) == 1
    world.clock.sleep(1.1)
    world.sink.tick()
    assert world.read("events_5m") == {"state": "FRESH", "events_5m": 1}


@pytest.mark.parametrize("first", ["profile", "tile"])
def test_a_profile_is_found_whichever_partition_it_lies_in(first: str) -> None:
    """Other clients part keys by other rules: the profile lies in another partition than the user's tiles, here one of ours."""
    world = SinkUnderTest()
    world.sink.restore({PLACE: Commit(0), (USER_FEATURES.name, 3): Commit(0)})
    for step in ("profile", "tile") if first == "profile" else ("tile", "profile"):
        if step == "profile":
            world.profile("u", 33, partition=3)
        else:
            world.tile(1, start_of(world.clock))
        world.sink.tick()
        world.clock.sleep(0.01)
    world.sink.tick()
    assert world.read("age", "country", "events_7d") == {"state": "FRESH", "age": 33, "country": "FR", "events_7d": 1}
    world.profile("u", 34, partition=1, at_ms=5)  # by a client of a third rule
    world.sink.tick()
    world.profile("u", 32, partition=3, at_ms=4)
    world.sink.tick()
    assert world.read("age", "events_7d") == {"state": "FRESH", "age": 34, "events_7d": 1}, "the newest counts"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_sinks_of_a_users_tiles_and_of_its_profile_end_with_both(order: tuple[int, int]) -> None:
    tiles = SinkUnderTest()
    profiles = SinkUnderTest(tiles.store)
    tiles.own()
    profiles.sink.restore({(USER_FEATURES.name, 3): Commit(0)})
    tiles.tile(1, start_of(tiles.clock))
    for _ in range(2):
        for which in order:
            world = (tiles, profiles)[which]
            world.profile("u", 33, partition=3)
            world.sink.tick()
            world.clock.sleep(0.01)
    assert tiles.read("age", "events_7d") == {"state": "FRESH", "age": 33, "events_7d": 1}
    assert profiles.metrics.total("blobs_refused") == 0, "it is as it should be"


def test_records_of_attributes_that_do_not_decode_or_wait_for_the_registry() -> None:
    world = SinkUnderTest().own()
    world.profiles.next = Polled(
        [(USER_PROFILES.name, 0)] * 3, [0, 1, 2], [b"u", b"v", None], [b"", b"\x00junk", None], [None] * 3, [0] * 3
    )
    world.sink.tick()
    schema_of, asked = world.ids.schema_of, list[int]()

    def silent(schema_id: int) -> dict[str, Any]:
        asked.append(schema_id)
        raise RetryLater("the registry is away")

    world.ids.schema_of = silent  # type: ignore[method-assign]
    world.profile("u", 33)
    world.sink.tick()
    assert asked
    world.ids.schema_of = schema_of  # type: ignore[method-assign]
    world.sink.tick()
    assert world.read("age")["age"] == 33, "what could not be decoded yet is not passed over"


def test_a_profile_is_written_with_and_without_events() -> None:
    world = SinkUnderTest().own()
    world.profile("u", 33)
    world.sink.tick()
    assert world.read("age", "country", "events_7d") == {"state": "FRESH", "age": 33, "country": "FR", "events_7d": 0}
    world.tile(1, start_of(world.clock))
    world.clock.sleep(0.01)
    world.sink.tick()
    assert world.read("age", "events_7d") == {"state": "FRESH", "age": 33, "events_7d": 1}


def test_partitions_that_went_are_not_written_any_more() -> None:
    world = SinkUnderTest().own()
    world.tile(1, start_of(world.clock))
    world.sink.forget([PLACE])
    world.sink.tick()
    assert world.read()["state"] == "MISSING"
    assert world.sink.entities == 0


def test_a_tile_that_does_not_decode_is_set_aside() -> None:
    world = SinkUnderTest().own()
    rows = rows_at(PLACE, [b"\x00\x00"], keys=[b"u"])
    (outcome,) = world.sink.process(rows)
    assert isinstance(outcome, Reject)
