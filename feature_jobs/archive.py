"""The archive: validated events to Parquet files by date, each event in exactly one committed file.

A flush writes one file a date and then one manifest, which names them and the offsets they hold: only what a manifest names
exists. Manifests are created, never replaced, under a name made of partition and first offset, so of two writers one wins;
and a writer that comes again after a crash goes on behind the last manifest, whatever offsets the group has committed.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import structlog

from schemas.codec import Decoder, SchemaIds
from schemas.errors import TransactionAborted
from schemas.features import DAY_MS
from streams.broker import Commit
from streams.clock import Clock
from streams.outcome import Emit, Outcome, Reject
from streams.rows import OutRecords, Place, Rows

EVENTS = "events"  # its folder in the lake
MANIFESTS = "_manifests"
SCHEMA = pa.schema([
    ("event_id", pa.string()), ("user_id", pa.string()), ("kind", pa.string()), ("item_id", pa.string()),
    ("session_id", pa.string()), ("quantity", pa.int32()), ("amount_cents", pa.int64()), ("rating", pa.int32()),
    ("event_ms", pa.int64()), ("appended_ms", pa.int64()), ("partition", pa.int32()), ("offset", pa.int64()),
])  # fmt: skip
_FIELDS = SCHEMA.names[:9]


class Archive:
    """Step and state of one loop. rows, age_s: a flush comes when so many rows wait, or the oldest waits so long."""

    def __init__(self, folder: Path, ids: SchemaIds, clock: Clock, age_s: float, rows: int = 40_000) -> None:
        self._folder, self._clock, self._rows, self._age_s = folder, clock, rows, age_s
        self._writer = secrets.token_hex(4)  # tells its files from those of another writer of the same offsets
        self._decoder = Decoder("user-event", ids)
        self._ends: dict[int, int] = {}  # behind the last archived offset of each partition of ours
        self._waiting: list[tuple[Rows, dict[str, Any]]] = []
        self._n = 0
        self._since_s = 0.0
        self._done: list[Outcome] = []
        self._log = structlog.get_logger()
        (folder / MANIFESTS).mkdir(parents=True, exist_ok=True)

    # --- streams.state.State ------------------------------------------------------------------------------------

    def restore(self, positions: Mapping[Place, Commit]) -> None:
        """Also where the loop went back after an abort: what waited is read again."""
        self._waiting, self._n, self._done = [], 0, []
        ends = manifest_ends(self._folder)
        for _, partition in positions:
            self._ends[partition] = ends.get(partition, 0)

    def forget(self, places: Iterable[Place]) -> None:
        for _, partition in places:
            self._ends.pop(partition, None)

    # --- streams.step.Step --------------------------------------------------------------------------------------

    def submit(self, batch: Rows) -> None:
        known = [row for row, (place, at) in enumerate(zip(batch.places, batch.offsets, strict=True)) if at < self._end(place)]
        if known:  # archived before a crash that came before the commit of their offsets
            self._done.append(Emit(batch.take(known)))
            gone = set(known)
            batch = batch.take([row for row in range(len(batch)) if row not in gone])
        columns, errors = self._decoder.decode(batch.values)
        self._done += [Reject(batch.take([row]), error, "decode") for row, error in errors.items()]
        rows = batch.take([row for row in range(len(batch)) if row not in errors])
        if not len(rows):
            return
        if not self._waiting:
            self._since_s = self._clock.monotonic_s()
        self._waiting.append((rows, _columns(columns.records())))
        self._n += len(rows)

    def completed(self, wait_s: float) -> list[Outcome]:
        if self._n >= self._rows or (self._n and self._clock.monotonic_s() - self._since_s >= self._age_s):
            self.flush()
        done, self._done = self._done, []
        return done

    def busy(self) -> bool:
        """Never: rows that wait for a flush do not keep the loop from reading on."""
        return False

    def answer(self, rows: Rows, status: str, code: str, message: str) -> list[OutRecords]:
        return []

    def close(self) -> None:
        return  # what waits was not committed, and is read again

    def _end(self, place: Place) -> int:
        return self._ends.get(place[1], 0)

    # --- writing ------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write what waits, a manifest a partition. Raises TransactionAborted where another writer was there first."""
        waiting, self._waiting, self._n = self._waiting, [], 0
        table = pa.concat_tables([_table(rows, columns) for rows, columns in waiting])
        for partition in sorted(set(table["partition"].to_pylist())):
            mine = table.filter(pc.equal(table["partition"], partition))
            self._commit(partition, mine)
        self._done += [Emit(rows) for rows, _ in waiting]

    def _commit(self, partition: int, table: pa.Table) -> None:
        offsets = table["offset"].to_numpy()
        first, last = int(offsets.min()), int(offsets.max())
        days = table["event_ms"].to_numpy() // DAY_MS
        files = []
        for day in np.unique(days).tolist():
            folder = self._folder / f"dt={np.datetime64(int(day), 'D')}"
            folder.mkdir(exist_ok=True)
            file = folder / f"p{partition}-{first:020d}-{self._writer}.parquet"
            _write_whole(file, table.filter(pa.array(days == day)))
            files.append(str(file.relative_to(self._folder)))
        said = {"partition": partition, "first": first, "end": last + 1, "rows": len(offsets), "files": files}
        target = self._folder / MANIFESTS / f"p{partition}-{first:020d}.json"
        draft = target.with_suffix(f".{self._writer}")
        draft.write_text(json.dumps(said))
        try:
            os.link(draft, target)  # fails where it is there: a rename would replace it
        except FileExistsError as error:
            for name in files:
                (self._folder / name).unlink()
            raise TransactionAborted(f"partition {partition} from offset {first} was archived by another writer") from error
        finally:
            draft.unlink()
        self._ends[partition] = last + 1


def _columns(records: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: [record[name] for record in records] for name in _FIELDS}


def _table(rows: Rows, columns: dict[str, Any]) -> pa.Table:
    places = {"partition": [partition for _, partition in rows.places], "offset": rows.offsets}
    return pa.table({**columns, "appended_ms": rows.timestamps_ms, **places}, schema=SCHEMA)


def _write_whole(file: Path, table: pa.Table) -> None:
    draft = file.with_suffix(".part")
    pq.write_table(table, draft, compression="zstd")
    with draft.open("rb") as written:
        os.fsync(written.fileno())
    draft.rename(file)


# --- reading ----------------------------------------------------------------------------------------------------------


def manifests(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted((folder / MANIFESTS).glob("*.json"))]


def manifest_ends(folder: Path) -> dict[int, int]:
    ends: dict[int, int] = {}
    for manifest in manifests(folder):
        ends[manifest["partition"]] = max(ends.get(manifest["partition"], 0), manifest["end"])
    return ends


def event_files(folder: Path) -> list[str]:
    """Files of events that are committed."""
    return [str(folder / name) for manifest in manifests(folder) for name in manifest["files"]]
