"""The feature sink: reads a view's topic and writes one blob per entity to the online store, corrected when a tile leaves a window.

Most views are sums of tiles (`rollup.py`); `recent.py` holds a user's last events. The sink keeps the state of the entities whose partitions it owns in memory, rebuilt from the topic when partitions are assigned. It
writes each entity whose values changed, and every other entity before its view's ttl has passed: unchanged values stay fresh as
long as a sink renews them. A write is repeated until the store accepts it, guarded by a rising version, so that a restart, a
second sink or a store that lost everything leads to the same values. At least once throughout.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import structlog

from feature_jobs.online.attributes import Attributes
from feature_jobs.online.rollup import Entity, tile_of
from processors.features.feature_blob import GRACE_MS, EntityValues, Freshness, pack, unpack
from processors.features.online_store import OnlineStore
from schemas.codec import Decoder, SchemaIds
from schemas.errors import RecordError, RetryLater
from schemas.features import Value, View
from streams.broker import Commit
from streams.clock import Clock
from streams.ids import uuid7
from streams.loop.outcome import Emit, Outcome, rejects
from streams.loop.processor import Processor
from streams.metrics import Metrics
from streams.rows import Place, Polled, Rows

BLOBS_AT_ONCE = 2_000  # then the group is served again
CHECK_EVERY_S = 1.0
# While records come late, an entity likely changes again before a reader could have had its values in time. Then all writes wait
# together, for a quarter of that delay, while they are few: an entity that changed several times meanwhile is written once.
LATE_MS, HELD_AT_MOST_MS, HELD_ENTITIES = 1_000, 5_000, 20_000
# When to repeat a refused write. The store then holds a newer version: from another sink, which will leave, or from a clock
# that was ahead, which will pass.
REFUSED_AGAIN_MS = 5_000

ReadBack = Callable[[Mapping[Place, int]], Iterator[Polled]]  # committed records of some places up to these offsets


class EntityState(Protocol):
    """What a sink holds of one entity: `rollup.Entity`, `recent.RecentEvents`."""

    @property
    def last_ms(self) -> int:
        """Time of the last event; 0 without any."""
        ...

    def put(self, update: Any, came_ms: int) -> bool:
        """Take what a record says; whether anything changed. came_ms: the broker's time of the record."""
        ...

    def advance(self, now_ms: int) -> bool: ...

    def next_change_ms(self) -> int | None:
        """When values change without a record; None if they do not."""
        ...

    def values(self, view: View, attributes: Mapping[str, Any] | None) -> dict[str, Value]: ...


@dataclass(frozen=True, slots=True)
class StateKind:
    """read: a record, its offset and the broker's time to an update of the entity's state; None if it changes nothing. Raises
    RecordError. new: an empty state. take_stored: adds the values that the store has, if the topic may begin later than the state.
    most: entities that a sink holds of a kind with take_stored; beyond that, those whose last record is the oldest are left to the
    store."""

    read: Callable[[Mapping[str, Any], int, int], Any]
    new: Callable[[], EntityState]
    take_stored: Callable[[Any, Mapping[str, Value]], None] | None = None
    most: int | None = None


TILES = StateKind(tile_of, Entity)


@dataclass(slots=True)
class _Owned:
    """One entity of ours. offset: the one after its last record; 0 if it has attributes only. last_came_ms: when that came. came_ms: when the oldest unwritten
    record arrived. written_ms: the second part of its last version. due_ms: when it must be written next. queued_ms: its entry in
    the queue, never later than due_ms."""

    entity: EntityState
    offset: int = 0
    last_came_ms: int = 0
    came_ms: int | None = None
    written_ms: int = 0
    due_ms: int = 0
    queued_ms: int | None = None


Who = tuple[int, str]  # partition and entity


class FeatureSink(Processor):
    """Step, state and follower of one loop, for one view."""

    def __init__(
        self,
        view: View,
        ids: SchemaIds,
        store: OnlineStore,
        attributes: Attributes | None,
        read_back: ReadBack,
        clock: Clock,
        metrics: Metrics,
        source: str = "",
        kind: StateKind = TILES,
    ) -> None:
        """source: id of the view's topic, which distinguishes it from an earlier topic of the same name."""
        self._view, self._store, self._attributes, self._read_back = view, store, attributes, read_back
        self._clock, self._metrics, self._source, self._kind = clock, metrics, source, kind
        self._key = f"{view.entity}_id"
        self._decoder = Decoder.of(view.source, ids)
        self._owned: dict[int, dict[str, _Owned]] = {}
        self._dirty: dict[Who, None] = {}  # in the order in which they changed
        self._due: list[tuple[int, int, str]] = []
        self._mark = f"{view.name}:{uuid7(clock.now_ms())}"
        self._checked_s = float("-inf")
        self._delay_ms: int | None = None  # of the newest record that came since the last tick
        self._round_ms = 0  # when the last round of writes began
        self._left = 0  # of `_dirty`: the first ones, which belong to this round
        self._has_moved = False  # whether a window ended for an entity that waits for the next round: it is stale to readers
        self._epoch: int | None = None
        self._failing = self._refusing = False
        self._log = structlog.get_logger().bind(view=view.name)

    # --- state beside the offsets --------------------------------------------------------------------------------------

    def restore(self, positions: Mapping[Place, Commit]) -> None:
        """Read the records of newly assigned partitions, up to the committed offsets; then write all of them once, because the last
        owner's final writes are unknown. Partitions that this sink already holds need nothing: a record that comes again changes nothing."""
        wanted = {place: commit.offset for place, commit in positions.items() if place[1] not in self._owned}
        for _, partition in wanted:
            self._owned[partition] = {}
        for part in self._read_back(wanted):
            for row, error in self._take(part.places, part.offsets, part.values, part.timestamps_ms).items():
                self._log.warning("record not read", place=part.places[row], offset=part.offsets[row], cause=str(error))
            self._leave_to_the_store({partition for _, partition in wanted})
        for _, partition in wanted:
            self._dirty.update(dict.fromkeys(self._all_of(partition)))
        if wanted:
            self._log.info("features restored", partitions=sorted(p for _, p in wanted), entities=self.entities)

    def forget(self, places: Iterable[Place]) -> None:
        gone = {partition for _, partition in places}
        for partition in gone:
            self._owned.pop(partition, None)
        self._dirty = {who: None for who in self._dirty if who[0] not in gone}

    @property
    def entities(self) -> int:
        return sum(map(len, self._owned.values()))

    # --- the step -----------------------------------------------------------------------------------------------

    def process(self, rows: Rows) -> list[Outcome]:
        errors = self._take(rows.places, rows.offsets, rows.values, rows.timestamps_ms)
        self._delay_ms = self._clock.now_ms() - max(rows.timestamps_ms)
        outcomes = rejects(rows, errors, "decode")
        done = rows.without(errors)
        return [*outcomes, Emit(done)] if len(done) else outcomes

    def _take(
        self, places: list[Place], offsets: list[int], values: list[bytes | None], times_ms: list[int]
    ) -> dict[int, RecordError]:
        """Take rows of the view's topic; the error of each row that was not taken."""
        columns, undecodable = self._decoder.decode(values)
        errors: dict[int, RecordError] = {**undecodable}
        good = [row for row in range(len(values)) if row not in errors]
        for row, record in zip(good, columns.records(), strict=True):
            partition, entity = places[row][1], record[self._key]
            try:
                update = self._kind.read(record, offsets[row], times_ms[row])
            except RecordError as error:
                errors[row] = error
                continue
            if update is None:
                continue
            owned = self._owned.setdefault(partition, {}).get(entity)
            if owned is None:
                owned = self._owned[partition][entity] = _Owned(self._kind.new())
            owned.offset = max(owned.offset, offsets[row] + 1)
            owned.last_came_ms = max(owned.last_came_ms, times_ms[row])
            if self._kind.most is not None:
                self._owned[partition][entity] = self._owned[partition].pop(entity)  # the last of them
            if owned.entity.put(update, times_ms[row]):
                if owned.came_ms is None:
                    owned.came_ms = times_ms[row]
                self._dirty[partition, entity] = None
        return errors

    # --- between batches -----------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Between batches: handle changed attributes, entities that are due, and pending writes."""
        now_s, now_ms = self._clock.monotonic_s(), self._clock.now_ms()
        for partition, entity in self._attributes.poll() if self._attributes is not None else ():
            holders = self._holders(entity)
            self._dirty.update(dict.fromkeys((holder, entity) for holder in holders))
            if not holders and partition in self._owned:
                self._dirty[partition, entity] = None
        while self._due and self._due[0][0] <= now_ms:
            self._is_due(*heapq.heappop(self._due), now_ms)
        try:
            if now_s - self._checked_s >= CHECK_EVERY_S:
                self._checked_s = now_s
                self._look_for_loss()
            self._begin_round(now_ms)
            if self._left:
                self._write(now_ms)
            self._leave_to_the_store()
            self._failing = False
        except RetryLater as error:
            if not self._failing:
                self._log.warning("features wait for the online store", cause=str(error), waiting=len(self._dirty))
            self._failing = True
        self._metrics.set("blobs_waiting", len(self._dirty))

    def _all_of(self, partition: int) -> list[Who]:
        known = self._attributes.known(partition) if self._attributes is not None else ()
        return [(partition, entity) for entity in (*self._owned[partition], *known)]

    def _holders(self, entity: str) -> list[int]:
        """The partitions of ours in which the entity has tiles."""
        return [partition for partition, held in self._owned.items() if entity in held and held[entity].offset]

    def _look_for_loss(self) -> None:
        """If the store lacks our mark, it was emptied or replaced: it gets everything again."""
        if self._store.marked(self._mark):
            return
        self._epoch = None
        for partition in self._owned:
            self._dirty.update(dict.fromkeys(self._all_of(partition)))

    # --- when -------------------------------------------------------------------------------------------------------

    def _schedule(self, who: Who, owned: _Owned, due_ms: int) -> None:
        owned.due_ms = due_ms
        if owned.queued_ms is None or due_ms < owned.queued_ms:
            owned.queued_ms = due_ms
            heapq.heappush(self._due, (due_ms, *who))

    def _is_due(self, queued_ms: int, partition: int, entity: str, now_ms: int) -> None:
        owned = self._owned.get(partition, {}).get(entity)
        if owned is None or owned.queued_ms != queued_ms:
            return
        owned.queued_ms = None
        if self._view.kept_ms is not None and owned.came_ms is None and owned.last_came_ms + self._view.kept_ms < now_ms:
            del self._owned[partition][entity]
        elif owned.due_ms <= now_ms:
            self._dirty[partition, entity] = None
            change_ms = owned.entity.next_change_ms()
            self._has_moved |= change_ms is not None and change_ms <= now_ms
        else:
            self._schedule((partition, entity), owned, owned.due_ms)

    def _leave_to_the_store(self, read_back: Collection[int] = ()) -> None:
        """Where there are more entities than may be held. read_back: partitions whose last owner wrote their entities, as far as can be
        known; of others, only what is written goes."""
        while self._kind.most is not None and self.entities > self._kind.most:
            oldest = [(len(held), partition, next(iter(held))) for partition, held in self._owned.items() if held]
            may_go = [one for one in oldest if one[1] in read_back or one[1:] not in self._dirty]
            if not may_go:
                return
            _, partition, entity = max(may_go)
            self._dirty.pop((partition, entity), None)
            del self._owned[partition][entity]

    def _look_again_ms(self, entity: str, now_ms: int) -> int:
        """A time between a quarter and half of the ttl from now, spread over the entities."""
        return now_ms + self._view.ttl_ms // 4 + zlib.crc32(entity.encode()) % (self._view.ttl_ms // 4)

    # --- writing ----------------------------------------------------------------------------------------------------

    def _begin_round(self, now_ms: int) -> None:
        """A round writes what is pending when it begins."""
        self._left = min(self._left, len(self._dirty))
        delay_ms, self._delay_ms = self._delay_ms, None
        held_ms = 0 if delay_ms is None or delay_ms <= LATE_MS else min(delay_ms // 4, HELD_AT_MOST_MS)
        may_wait = not self._has_moved and len(self._dirty) < HELD_ENTITIES and 0 <= now_ms - self._round_ms < held_ms
        if self._dirty and not self._left and not may_wait:
            self._left, self._round_ms, self._has_moved = len(self._dirty), now_ms, False

    def _write(self, now_ms: int) -> None:
        if self._epoch is None:
            self._epoch = self._store.epoch(self._view, self._source)
        chosen = list(islice(self._dirty, min(self._left, BLOBS_AT_ONCE)))
        self._take_stored(chosen)
        blobs: dict[str, bytes] = {}
        written: dict[Who, _Owned] = {}
        for partition, entity in chosen:
            owned = self._owned[partition].get(entity)
            if owned is None:
                owned = self._owned[partition][entity] = _Owned(self._kind.new())
            if not owned.offset and self._holders(entity):
                del self._owned[partition][entity]  # its tiles are in another partition of ours, which writes it
                continue
            try:
                blobs[entity] = self._blob((partition, entity), owned, self._epoch, now_ms)
                written[partition, entity] = owned
            except (ValueError, KeyError) as error:
                self._metrics.add("blobs_impossible", 1)
                self._log.error("values that cannot be stored; the entity stays as it was", entity=entity, cause=str(error))
        refused = set(self._store.write(self._view, blobs))
        for who in chosen:
            del self._dirty[who]
        self._left -= len(chosen)
        self._done(written, refused, now_ms)

    def _take_stored(self, chosen: list[Who]) -> None:
        """Before the first write of an entity."""
        if self._kind.take_stored is None:
            return
        held = {entity: self._owned[partition].get(entity) for partition, entity in chosen}
        new = [(entity, owned) for entity, owned in held.items() if owned is not None and not owned.written_ms]
        names = [feature.name for feature in self._view.features]
        stored = self._store.read(self._view, [entity for entity, _ in new])
        served = unpack(self._view, stored, names, self._clock.now_ms(), GRACE_MS)
        for row, (_, owned) in enumerate(new):
            if served.state[row] != Freshness.MISSING:
                self._kind.take_stored(owned.entity, {name: served.values[name][row] for name in names})

    def _done(self, written: Mapping[Who, _Owned], refused: set[str], now_ms: int) -> None:
        done_ms, waits_s, against = self._clock.now_ms(), list[float](), 0
        for who, owned in written.items():
            if who[1] not in refused:
                if owned.came_ms is not None:
                    waits_s.append(max(0, done_ms - owned.came_ms) / 1000)
                    owned.came_ms = None
            elif owned.offset:  # otherwise another sink holds its tiles: the blob with them stays
                against += 1
                self._schedule(who, owned, now_ms + REFUSED_AGAIN_MS)
        self._metrics.add("blobs_written", len(written) - len(refused))
        self._metrics.add("blobs_refused", against)
        self._metrics.observe_all("freshness_seconds", waits_s)
        if against and not self._refusing:
            self._log.warning(
                "the online store refuses older versions than it holds: another sink writes, or a clock went back", blobs=against
            )
        self._refusing = bool(against)

    def _blob(self, who: Who, owned: _Owned, epoch: int, now_ms: int) -> bytes:
        owned.entity.advance(now_ms)
        until_ms, again_ms = owned.entity.next_change_ms(), self._look_again_ms(who[1], now_ms)
        self._schedule(who, owned, again_ms if until_ms is None else min(until_ms, again_ms))
        owned.written_ms = max(now_ms, owned.written_ms + 1)  # rises even if the clock does not
        attributes = self._attributes.of(who[1]) if self._attributes is not None else None
        values = owned.entity.values(self._view, attributes)
        version = owned.offset, owned.written_ms
        return pack(self._view, EntityValues(version, now_ms, until_ms, owned.entity.last_ms, values, epoch))
