"""The feature sink: reads tiles and writes one blob per entity to the online store, corrected when a tile leaves a window.

It keeps the tiles of the entities whose partitions it owns in memory, rebuilt from the topic when partitions are assigned. It
writes each entity whose values changed, and every other entity before its view's ttl has passed: unchanged values stay fresh as
long as a sink renews them. A write is repeated until the store accepts it, guarded by a rising version, so that a restart, a
second sink or a store that lost everything leads to the same values. At least once throughout.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import structlog

from feature_jobs.online.attributes import Attributes
from feature_jobs.online.rollup import Entity, Tile
from processors.features.feature_blob import EntityValues, pack
from processors.features.online_store import OnlineStore
from schemas.codec import Decoder, SchemaIds
from schemas.errors import ImpossibleEvent, RecordError, RetryLater
from schemas.features import View
from streams.broker import Commit
from streams.clock import Clock
from streams.ids import uuid7
from streams.loop.outcome import Emit, Outcome, rejects
from streams.loop.processor import Processor
from streams.metrics import Metrics
from streams.rows import Place, Polled, Rows

BLOBS_A_ROUND = 2_000  # per round; then the group is served again
CHECK_EVERY_S = 1.0
# When to repeat a refused write. The store then holds a newer version: from another sink, which will leave, or from a clock
# that was ahead, which will pass.
REFUSED_AGAIN_MS = 5_000

ReadBack = Callable[[Mapping[Place, int]], Iterator[Polled]]  # committed tiles of some places up to these offsets


@dataclass(slots=True)
class _Owned:
    """One entity of ours. offset: the one after its last tile; 0 if it has attributes only. came_ms: when the oldest unwritten
    tile arrived. written_ms: the second part of its last version. due_ms: when it must be written next. queued_ms: its entry in
    the queue, never later than due_ms."""

    entity: Entity = field(default_factory=Entity)
    offset: int = 0
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
        attributes: Attributes,
        read_back: ReadBack,
        clock: Clock,
        metrics: Metrics,
        source: str = "",
    ) -> None:
        """source: id of the tiles' topic, which distinguishes it from an earlier topic of the same name."""
        self._view, self._store, self._attributes, self._read_back = view, store, attributes, read_back
        self._clock, self._metrics, self._source = clock, metrics, source
        self._key = f"{view.entity}_id"
        self._decoder = Decoder.of(view.tiles, ids)
        self._owned: dict[int, dict[str, _Owned]] = {}
        self._dirty: dict[Who, None] = {}  # in the order in which they changed
        self._due: list[tuple[int, int, str]] = []
        self._mark = f"{view.name}:{uuid7(clock.now_ms())}"
        self._checked_s = float("-inf")
        self._epoch: int | None = None
        self._failing = self._refusing = False
        self._log = structlog.get_logger().bind(view=view.name)

    # --- state beside the offsets --------------------------------------------------------------------------------------

    def restore(self, positions: Mapping[Place, Commit]) -> None:
        """Read the tiles of newly assigned partitions, up to the committed offsets; then write all of them once, because the last
        owner's final writes are unknown. Partitions that this sink already holds need nothing: tiles only rise."""
        wanted = {place: commit.offset for place, commit in positions.items() if place[1] not in self._owned}
        for _, partition in wanted:
            self._owned[partition] = {}
        for part in self._read_back(wanted):
            for row, error in self._take(part.places, part.offsets, part.values, part.timestamps_ms).items():
                self._log.warning("tile not read", place=part.places[row], offset=part.offsets[row], cause=str(error))
        for _, partition in wanted:
            self._dirty.update(dict.fromkeys(self._all_of(partition)))
        if wanted:
            self._log.info("tiles restored", partitions=sorted(p for _, p in wanted), entities=self.entities)

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
        outcomes = rejects(rows, errors, "decode")
        done = rows.without(errors)
        return [*outcomes, Emit(done)] if len(done) else outcomes

    def _take(
        self, places: list[Place], offsets: list[int], values: list[bytes | None], times_ms: list[int]
    ) -> dict[int, RecordError]:
        """Take rows of tiles; the error of each row that was not taken."""
        columns, undecodable = self._decoder.decode(values)
        errors: dict[int, RecordError] = {**undecodable}
        good = [row for row in range(len(values)) if row not in errors]
        for row, record in zip(good, columns.records(), strict=True):
            tile, partition, entity = Tile.of(record), places[row][1], record[self._key]
            cause = tile.impossible(times_ms[row])
            if cause is not None:
                errors[row] = ImpossibleEvent(cause)
                continue
            owned = self._owned.setdefault(partition, {}).get(entity)
            if owned is None:
                owned = self._owned[partition][entity] = _Owned()
            owned.offset = max(owned.offset, offsets[row] + 1)
            if owned.entity.put(tile, times_ms[row]):
                if owned.came_ms is None:
                    owned.came_ms = times_ms[row]
                self._dirty[partition, entity] = None
        return errors

    # --- between batches -----------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Between batches: handle changed attributes, entities that are due, and pending writes."""
        now_s, now_ms = self._clock.monotonic_s(), self._clock.now_ms()
        for partition, entity in self._attributes.poll():
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
            if self._dirty:
                self._write(now_ms)
            self._failing = False
        except RetryLater as error:
            if not self._failing:
                self._log.warning("features wait for the online store", cause=str(error), waiting=len(self._dirty))
            self._failing = True
        self._metrics.set("blobs_waiting", len(self._dirty))

    def _all_of(self, partition: int) -> list[Who]:
        return [(partition, entity) for entity in (*self._owned[partition], *self._attributes.known(partition))]

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
        if owned.due_ms <= now_ms:
            self._dirty[partition, entity] = None
        else:
            self._schedule((partition, entity), owned, owned.due_ms)

    def _look_again_ms(self, entity: str, now_ms: int) -> int:
        """A time between a quarter and half of the ttl from now, spread over the entities."""
        return now_ms + self._view.ttl_ms // 4 + zlib.crc32(entity.encode()) % (self._view.ttl_ms // 4)

    # --- writing ----------------------------------------------------------------------------------------------------

    def _write(self, now_ms: int) -> None:
        if self._epoch is None:
            self._epoch = self._store.epoch(self._view, self._source)
        chosen = list(self._dirty)[:BLOBS_A_ROUND]
        blobs: dict[str, bytes] = {}
        written: dict[Who, _Owned] = {}
        for partition, entity in chosen:
            owned = self._owned[partition].setdefault(entity, _Owned())
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
        self._done(written, refused, now_ms)

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
        values = owned.entity.values(self._view, self._attributes.of(who[1]))
        version = owned.offset, owned.written_ms
        return pack(self._view, EntityValues(version, now_ms, until_ms, owned.entity.last_ms, values, epoch))
