"""The feature sink: tiles in, one blob an entity in the online store, right again when a tile leaves a window.

It keeps the tiles of the entities whose partitions it owns in memory, rebuilt from the topic when partitions come, and
writes each entity whose values changed. Writing is repeated until the store takes it, guarded by a version that rises, so
that a restart, a second sink or a store that lost everything ends in the same values. At least once throughout.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import structlog

from feature_jobs.attributes import Attributes
from feature_jobs.rollup import Entity, Tile
from processors.blobs import Written, pack
from processors.online_features import OnlineStore
from schemas.codec import Decoder, SchemaIds
from schemas.errors import RetryLater, UndecodableRecord
from schemas.features import View
from streams.broker import Commit
from streams.clock import Clock
from streams.ids import uuid7
from streams.metrics import Metrics
from streams.outcome import Emit, Outcome, Reject
from streams.rows import OutRecords, Place, Polled, Rows

BLOBS_A_ROUND = 2_000  # then the group is served again
CHECK_EVERY_S = 1.0

ReadBack = Callable[[Mapping[Place, int]], Iterator[Polled]]  # committed tiles of some places up to these offsets


@dataclass(slots=True)
class _Owned:
    """One entity of ours. offset: behind its last tile. came_ms: when the oldest tile came that is not written yet."""

    entity: Entity = field(default_factory=Entity)
    offset: int = 0
    came_ms: int | None = None
    due_ms: int | None = None


class FeatureSink:
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
    ) -> None:
        self._view, self._store, self._attributes, self._read_back = view, store, attributes, read_back
        self._clock, self._metrics = clock, metrics
        self._key = f"{view.entity}_id"
        self._decoder = Decoder(getattr(view.tiles.record, "RECORD", ""), ids)
        self._owned: dict[int, dict[str, _Owned]] = {}
        self._dirty: dict[tuple[int, str], None] = {}  # in the order in which they changed
        self._due: list[tuple[int, int, str]] = []
        self._mark = f"{view.name}:{uuid7(clock.now_ms())}"
        self._checked_s = float("-inf")
        self._failing = False
        self._log = structlog.get_logger().bind(view=view.name)

    # --- streams.state.State ------------------------------------------------------------------------------------

    def restore(self, positions: Mapping[Place, Commit]) -> None:
        """Read the tiles of partitions that are new to us, up to what is committed; then write all of them once, as nobody
        knows what their last owner still wrote. Partitions that we hold already need nothing: tiles only rise."""
        wanted = {place: commit.offset for place, commit in positions.items() if place[1] not in self._owned}
        for _, partition in wanted:
            self._owned[partition] = {}
        for part in self._read_back(wanted):
            self._take(part.places, part.offsets, part.values, part.timestamps_ms)
        for _, partition in wanted:
            for entity in (*self._owned[partition], *self._attributes.known(partition)):
                self._dirty[partition, entity] = None
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
        outcomes: list[Outcome] = [Reject(rows.take([row]), error, "decode") for row, error in errors.items()]
        done = rows.take([row for row in range(len(rows)) if row not in errors])
        return [*outcomes, Emit(done)] if len(done) else outcomes

    def answer(self, rows: Rows, status: str, code: str, message: str) -> list[OutRecords]:
        return []

    def _take(
        self, places: list[Place], offsets: list[int], values: list[bytes | None], times_ms: list[int]
    ) -> dict[int, UndecodableRecord]:
        columns, errors = self._decoder.decode(values)
        good = [row for row in range(len(values)) if row not in errors]
        for row, record in zip(good, columns.records(), strict=True):
            partition, entity = places[row][1], record[self._key]
            owned = self._owned.setdefault(partition, {}).get(entity)
            if owned is None:
                owned = self._owned[partition][entity] = _Owned()
            owned.offset = max(owned.offset, offsets[row] + 1)
            if owned.entity.put(Tile.of(record), times_ms[row]):
                if owned.came_ms is None:
                    owned.came_ms = times_ms[row]
                self._dirty[partition, entity] = None
        return errors

    # --- streams.loop.Follower ----------------------------------------------------------------------------------

    def follow(self) -> None:
        """Between batches: what changed besides tiles, what is due, what waits to be written."""
        now_s, now_ms = self._clock.monotonic_s(), self._clock.now_ms()
        for partition, entity in self._attributes.poll():
            if partition in self._owned:
                self._dirty[partition, entity] = None
        while self._due and self._due[0][0] <= now_ms:
            due_ms, partition, entity = heapq.heappop(self._due)
            owned = self._owned.get(partition, {}).get(entity)
            if owned is not None and owned.due_ms == due_ms:
                self._dirty[partition, entity] = None
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

    def _look_for_loss(self) -> None:
        """A store that does not have our mark was emptied, or is another: it gets everything."""
        if self._store.marked(self._mark):
            return
        everything = [(partition, entity) for partition, held in self._owned.items() for entity in held]
        everything += [(partition, entity) for partition in self._owned for entity in self._attributes.known(partition)]
        self._dirty.update(dict.fromkeys(everything))

    def _write(self, now_ms: int) -> None:
        chosen = list(self._dirty)[:BLOBS_A_ROUND]
        blobs = {entity: self._blob(partition, entity, now_ms) for partition, entity in chosen}
        refused = self._store.write(self._view, blobs)
        self._metrics.add("blobs_written", len(blobs))
        self._metrics.add("blobs_refused", refused)
        done_ms = self._clock.now_ms()
        waits_s = []
        for who in chosen:
            del self._dirty[who]
            owned = self._owned.get(who[0], {}).get(who[1])
            if owned is not None and owned.came_ms is not None:
                waits_s.append(max(0, done_ms - owned.came_ms) / 1000)
                owned.came_ms = None
        self._metrics.observe_all("freshness_seconds", waits_s)

    def _blob(self, partition: int, entity: str, now_ms: int) -> bytes:
        owned = self._owned[partition].get(entity)
        if owned is None:
            owned = self._owned[partition][entity] = _Owned()
        owned.entity.advance(now_ms)
        owned.due_ms = owned.entity.next_change_ms()
        if owned.due_ms is not None:
            heapq.heappush(self._due, (owned.due_ms, partition, entity))
        values = owned.entity.values(self._view, self._attributes.of(partition, entity))
        return pack(self._view, Written((owned.offset, now_ms), now_ms, owned.due_ms, owned.entity.last_ms, values))
