"""The feature sink: one blob an entity, rewritten when a tile leaves a window, whatever the store and the group do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from feature_jobs.attributes import Attributes
from feature_jobs.sink import FeatureSink
from processors.blobs import State, unpack
from processors.online_features import MemoryStore
from schemas import avro
from schemas.codec import Encoder
from schemas.encoding import Constant
from schemas.errors import RetryLater
from schemas.features import HOUR_MS, TILE_MS, USER, View
from schemas.topics import USER_FEATURES, USER_PROFILES
from streams.broker import Commit
from streams.clock import ManualClock
from streams.metrics import Metrics
from streams.outcome import Emit, Reject
from streams.registry import MemoryRegistry
from streams.rows import Place, Polled, Rows

TILE = {
    "user_id": "u", "session_id": "s", "viewed": 1, "carted": 0, "bought": 0, "units": 0, "revenue_cents": 0, "rated": 0,
    "stars": 0, "item_id": "i",
}  # fmt: skip
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

    def write(self, view: View, blobs: Mapping[str, bytes]) -> int:
        if self.down:
            raise RetryLater("down")
        return super().write(view, blobs)


class World:
    def __init__(self, store: Shaky | None = None, log: list[bytes] | None = None) -> None:
        self.clock, self.store = ManualClock(), store or Shaky()
        self.ids = MemoryRegistry()
        for topic, record in ((USER_FEATURES, "user-tile"), (USER_PROFILES, "user-profile")):
            self.ids.register(topic.subject, avro.schema(record))
        self.profiles, self.log = Profiles(), [] if log is None else log  # log: the tiles' topic, partition 0
        self.metrics = Metrics()
        attributes = Attributes(USER, self.profiles, self.ids)
        self.sink = FeatureSink(USER, self.ids, self.store, attributes, self.read_back, self.clock, self.metrics)

    def read_back(self, ends: Mapping[Place, int]) -> Iterator[Polled]:
        n = ends.get(PLACE, 0)
        yield Polled([PLACE] * n, list(range(n)), [b"u"] * n, list(self.log[:n]), [None] * n, [self.clock.now_ms()] * n)

    def own(self, offset: int = 0) -> World:
        self.sink.restore({PLACE: Commit(offset)})
        self.sink.follow()
        return self

    def tile(self, n: int, start_ms: int, **fields: Any) -> None:
        record = {**TILE, "tile_start_ms": start_ms, "n": n, "first_ms": start_ms, "last_ms": start_ms + n, **fields}
        encoder = Encoder("user-tile", USER_FEATURES.subject, self.ids)
        self.log.append(encoder.encode({name: Constant(value) for name, value in record.items()}, 1)[0])
        at = len(self.log) - 1
        rows = Rows(
            [PLACE], [at], [b"u"], [self.log[at]], [{}], [self.clock.now_ms()], ["r"], [0], [4], [(*PLACE, at)], [0], [0], 0
        )
        (outcome,) = self.sink.process(rows)
        assert isinstance(outcome, Emit)

    def profile(self, user: str, age: int) -> None:
        encoder = Encoder("user-profile", USER_PROFILES.subject, self.ids)
        columns = {"user_id": user, "age": age, "country": "FR", "updated_ms": 1}
        value = encoder.encode({name: Constant(value) for name, value in columns.items()}, 1)[0]
        self.profiles.next = Polled([(USER_PROFILES.name, 0)], [0], [user.encode()], [value], [None], [0])

    def read(self, *names: str, user: str = "u") -> dict[str, Any]:
        served = unpack(USER, self.store.read(USER, [user]), names, self.clock.now_ms(), 0)
        return {"state": State(int(served.state[0])).name, **{name: served.values[name][0] for name in names}}


def start_of(clock: ManualClock) -> int:
    return clock.now_ms() - clock.now_ms() % TILE_MS


def test_a_tile_becomes_a_blob_and_a_newer_version_of_it_replaces() -> None:
    world = World().own()
    start_ms = start_of(world.clock)
    world.tile(1, start_ms)
    world.sink.follow()
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
    world.sink.follow()
    assert world.read("events_5m", "distinct_items_1h") == {"state": "FRESH", "events_5m": 5, "distinct_items_1h": 2}


def test_a_quiet_users_counts_fall_to_zero_on_time() -> None:
    world = World().own()
    start_ms = start_of(world.clock)
    world.tile(4, start_ms)
    world.sink.follow()
    world.clock.sleep((start_ms + TILE_MS - world.clock.now_ms()) / 1000 - 0.001)
    world.sink.follow()
    assert world.read("events_5m")["events_5m"] == 4
    world.clock.sleep(0.001)
    assert world.read("events_5m")["state"] == "STALE", "until the sink's next round"
    world.sink.follow()
    assert world.read("events_5m", "events_1h") == {"state": "FRESH", "events_5m": 0, "events_1h": 4}
    world.clock.sleep((HOUR_MS - TILE_MS) / 1000)
    world.sink.follow()
    assert world.read("events_1h", "events_24h") == {"state": "FRESH", "events_1h": 0, "events_24h": 4}


def test_what_the_store_did_not_take_is_written_when_it_is_back() -> None:
    world = World().own()
    world.store.down = True
    world.tile(1, start_of(world.clock))
    world.sink.follow()
    assert world.read()["state"] == "MISSING"
    assert world.metrics.total("blobs_waiting") == 1
    world.store.down = False
    world.sink.follow()
    assert world.read("events_5m")["events_5m"] == 1


def test_a_store_that_lost_everything_gets_everything() -> None:
    world = World().own()
    world.tile(1, start_of(world.clock))
    world.sink.follow()
    world.store._blobs.clear()
    world.store._marks.clear()
    world.clock.sleep(1.1)
    world.sink.follow()
    assert world.read("events_5m") == {"state": "FRESH", "events_5m": 1}


def test_a_new_owner_rebuilds_from_the_topic_and_writes_what_the_last_one_did_not() -> None:
    first = World().own()
    start_ms = start_of(first.clock)
    first.tile(1, start_ms)
    first.tile(2, start_ms)  # never written: it dies here, with both committed
    second = World(first.store, first.log).own(2)
    assert second.read("events_5m") == {"state": "FRESH", "events_5m": 2}
    assert second.sink.entities == 1


def test_a_late_writer_does_not_undo_its_successor() -> None:
    first = World().own()
    start_ms = start_of(first.clock)
    first.tile(1, start_ms)
    second = World(first.store, first.log).own(1)
    second.tile(2, start_ms)
    second.sink.follow()
    first.sink.follow()  # it was stopped for a while, and still holds what it had not written
    assert second.read("events_5m")["events_5m"] == 2
    assert first.metrics.total("blobs_refused") == 1


def test_a_profile_is_written_with_and_without_events() -> None:
    world = World().own()
    world.profile("u", 33)
    world.sink.follow()
    assert world.read("age", "country", "events_7d") == {"state": "FRESH", "age": 33, "country": "FR", "events_7d": 0}
    world.tile(1, start_of(world.clock))
    world.clock.sleep(0.01)
    world.sink.follow()
    assert world.read("age", "events_7d") == {"state": "FRESH", "age": 33, "events_7d": 1}


def test_partitions_that_went_are_not_written_any_more() -> None:
    world = World().own()
    world.tile(1, start_of(world.clock))
    world.sink.forget([PLACE])
    world.sink.follow()
    assert world.read()["state"] == "MISSING"
    assert world.sink.entities == 0


def test_a_tile_that_does_not_decode_is_set_aside() -> None:
    world = World().own()
    rows = Rows([PLACE], [0], [b"u"], [b"\x00\x00"], [{}], [0], ["r"], [0], [4], [(*PLACE, 0)], [0], [0], 0)
    (outcome,) = world.sink.process(rows)
    assert isinstance(outcome, Reject)
