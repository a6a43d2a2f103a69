"""The archive: writes validated events to Parquet files by date, each event in exactly one committed file.

A flush writes one file per date and then one manifest, which names the files and the offsets they hold: only files that a
manifest names count. Manifests are created, never replaced, under a name made of partition and first offset, so of two writers
one wins. A writer that restarts after a crash continues after the last manifest, whatever offsets the group has committed. Files
and manifests are on disk before they are named, and small ones are merged (`feature_jobs/offline/manifests.py`).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import structlog

from feature_jobs.offline.manifests import MANIFESTS, SCHEMA, link, manifest_ends, merge, newest_offset, write_parquet
from processors.features.validate import replay_offset_ms
from schemas.codec import Decoder, SchemaIds
from schemas.durations import DAY_MS
from schemas.errors import ImpossibleEvent, TransactionAborted
from schemas.topics import USER_EVENTS_VALID
from streams.broker import Commit
from streams.clock import Clock
from streams.loop.outcome import Emit, Outcome, Reject, rejects
from streams.loop.step import Step
from streams.rows import Place, Rows

EVENTS = "events"  # folder of the events in the lake
MERGE_EVERY = 16  # flushes
LATE_S = 10.0  # a flush may be so late before its partitions count as standing still
_FIELDS = SCHEMA.names[:9]
_ANY_MS = 2**62
MOST_MS = 2**42  # the year 2109: each date is a folder


class Archive(Step):
    """The step of one loop: rows wait in it for a file. rows, age_s: a flush is due when this many rows wait, or when the oldest
    row has waited this long."""

    def __init__(self, folder: Path, ids: SchemaIds, clock: Clock, age_s: float, rows: int = 40_000) -> None:
        self._folder, self._clock, self._rows, self._age_s = folder, clock, rows, age_s
        self._writer = secrets.token_hex(4)  # distinguishes our files from those of another writer of the same offsets
        self._decoder = Decoder.of(USER_EVENTS_VALID, ids)
        self._ends: dict[int, int] = {}  # the offset after the last archived one, for each partition of ours
        self._waiting: list[tuple[Rows, dict[str, Any]]] = []
        self._waiting_places: set[Place] = set()
        self._n = self._flushes = 0
        self._since_s = 0.0
        self._done: list[Outcome] = []
        self._log = structlog.get_logger()
        (folder / MANIFESTS).mkdir(parents=True, exist_ok=True)

    # --- state beside the offsets --------------------------------------------------------------------------------------

    def restore(self, positions: Mapping[Place, Commit]) -> None:
        """Called also when the loop went back after an abort: rows that waited are read again."""
        self._waiting, self._n, self._done = [], 0, []
        self._waiting_places.clear()
        ends = manifest_ends(self._folder)
        for _, partition in positions:
            self._ends[partition] = ends.get(partition, 0)

    def forget(self, places: Iterable[Place]) -> None:
        for _, partition in places:
            self._ends.pop(partition, None)

    # --- batches -------------------------------------------------------------------------------------------------------

    def submit(self, batch: Rows) -> None:
        known = [row for row, (place, at) in enumerate(zip(batch.places, batch.offsets, strict=True)) if at < self._end(place)]
        if known:  # archived before a crash, which came before the commit of their offsets
            self._done.append(Emit(batch.take(known)))
            gone = set(known)
            batch = batch.without(gone)
        columns, errors = self._decoder.decode(batch.values)
        self._done += rejects(batch, errors, "decode")
        rows = batch.without(errors)
        times_ms = columns.numbers("event_ms") if columns.n else []
        good = [row for row, event_ms in enumerate(times_ms) if 0 <= event_ms < MOST_MS]
        if len(good) < len(rows):
            error = ImpossibleEvent("it happened at a time that no date stands for: validate lets none such pass")
            self._done.append(Reject(rows.without(set(good)), error, "archive"))
            rows, columns = rows.take(good), columns.take(good)
        if not len(rows):
            return
        if not self._waiting:
            self._since_s = self._clock.monotonic_s()
        self._waiting.append((rows, _columns(columns.records())))
        self._waiting_places.update(rows.places)
        self._n += len(rows)

    def completed(self, wait_s: float) -> list[Outcome]:
        if self._n >= self._rows or (self._n and self._clock.monotonic_s() - self._since_s >= self._age_s):
            self.flush()
        done, self._done = self._done, []
        return done

    def busy(self) -> bool:
        """Always False: rows that wait for a flush do not stop the loop from reading."""
        return False

    def keeps(self, place: Place) -> bool:
        """A flush may take a while after it is due, but not for ever: then the partition does stand still."""
        recent = self._clock.monotonic_s() - self._since_s < self._age_s + LATE_S
        return recent and place in self._waiting_places

    def takes_long(self, batch: Rows) -> bool:
        return False

    def working_since_s(self) -> float | None:
        return None

    def close(self) -> None:
        return  # rows that wait were not committed, and are read again

    def _end(self, place: Place) -> int:
        return self._ends.get(place[1], 0)

    # --- writing ------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write the waiting rows, with one manifest per partition. Raises TransactionAborted if another writer archived them
        first."""
        waiting, self._waiting, self._n = self._waiting, [], 0
        self._waiting_places.clear()
        table = pa.concat_tables([_table(rows, columns) for rows, columns in waiting])
        for partition in sorted(set(table["partition"].to_pylist())):
            mine = table.filter(pc.equal(table["partition"], partition))
            self._commit(partition, mine)
        self._done += [Emit(rows) for rows, _ in waiting]
        self._flushes += 1
        if self._flushes % MERGE_EVERY == 0:
            self._merge()

    def _merge(self) -> None:
        for partition in self._ends:
            n = merge(self._folder, partition, self._clock.now_ms() / 1000)
            if n:
                self._log.info("archive merged", partition=partition, manifests=n)

    def _commit(self, partition: int, table: pa.Table) -> None:
        offsets = table["offset"].to_numpy()
        first, last = int(offsets.min()), int(offsets.max())
        days = table["event_ms"].to_numpy() // DAY_MS
        if newest_offset(self._folder, partition) >= first:
            raise TransactionAborted(f"partition {partition} from offset {first} was archived by another writer")
        files = []
        for day in np.unique(days).tolist():
            file = self._folder / f"dt={np.datetime64(int(day), 'D')}" / f"p{partition}-{first:020d}-{self._writer}.parquet"
            write_parquet(file, table.filter(pa.array(days == day)))
            files.append(str(file.relative_to(self._folder)))
        whole = {"partition": partition, "first": first, "end": last + 1, "rows": len(offsets), "files": files}
        try:
            link(self._folder, whole, f"p{partition}-{first:020d}.json")
        except FileExistsError as error:
            for name in files:
                (self._folder / name).unlink()
            raise TransactionAborted(f"partition {partition} from offset {first} was archived by another writer") from error
        self._ends[partition] = last + 1


def _columns(records: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: [record[name] for record in records] for name in _FIELDS}


def _table(rows: Rows, columns: dict[str, Any]) -> pa.Table:
    places = {"partition": [partition for _, partition in rows.places], "offset": rows.offsets}
    behind = {"replay_offset_ms": list(map(_behind_ms, rows.headers))}
    return pa.table({**columns, "appended_ms": rows.timestamps_ms, **places, **behind}, schema=SCHEMA)


def _behind_ms(headers: Mapping[str, bytes]) -> int:
    """The replay offset as validate read it; an invalid one counts as absent."""
    try:
        return replay_offset_ms(headers, _ANY_MS)
    except ImpossibleEvent:
        return 0
