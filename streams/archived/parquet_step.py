"""Writes the records of a topic to Parquet files, each record in exactly one committed file.

A flush writes one file per folder and then one manifest, which names the files and the offsets they hold: only files that a
manifest names count. Manifests are created, never replaced, under a name made of partition and first offset, so of two writers
one wins. A writer that restarts after a crash continues after the last manifest, whatever offsets the group has committed. Files
and manifests are on disk before they are named, and small ones are merged (`streams/archived/manifests.py`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import structlog

from schemas.errors import TransactionAborted
from streams.archived.manifests import MANIFESTS, bytes_of, link, manifest_ends, merge, newest_offset, write_parquet
from streams.broker import Commit
from streams.clock import Clock
from streams.loop.outcome import Emit, Outcome
from streams.loop.processor import Hooks, Report
from streams.loop.step import Step
from streams.rows import Place, Rows

MERGE_EVERY = 16  # flushes
LATE_S = 10.0  # a flush may be so late before its partitions count as standing still
WAITING_BYTES = 64 * 1024 * 1024
MOST_FILES = 500  # that a flush writes, and those of one more batch: each waits for the disk


@dataclass(frozen=True, slots=True)
class Read:
    """What a reader makes of a batch. ended: outcomes of rows that go to no file. rows: the others. columns: of the schema, without
    those of the place. folders: of each row, KEY=VALUE."""

    ended: list[Outcome]
    rows: Rows
    columns: Mapping[str, Sequence[object]]
    folders: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Waiting:
    rows: Rows
    table: pa.Table
    folders: Sequence[str]


class ParquetStep(Step):
    """The step of one loop: rows wait in it for a file. schema: of the files, with the columns appended_ms, partition and offset, which
    are added here. rows, age_s: a flush is due when this many rows wait, or when the oldest row has waited this long."""

    def __init__(
        self,
        folder: Path,
        schema: pa.Schema,
        read: Callable[[Rows], Read],
        clock: Clock,
        age_s: float,
        rows: int = 40_000,
        beside: Hooks | None = None,
    ) -> None:
        """beside: work on the files, with a tick between batches and a part in the status."""
        self._folder, self._schema, self._read, self._beside = folder, schema, read, beside
        self._clock, self._rows, self._age_s = clock, rows, age_s
        self._writer = secrets.token_hex(4)  # distinguishes our files from those of another writer of the same offsets
        self._ends: dict[int, int] = {}  # the offset after the last archived one, for each partition of ours
        self._waiting: list[_Waiting] = []
        self._waiting_places: set[Place] = set()
        self._waiting_files: set[tuple[Place, str]] = set()
        self._n = self._n_bytes = self._flushes = 0
        self._since_s = 0.0
        self._done: list[Outcome] = []
        self._log = structlog.get_logger()
        (folder / MANIFESTS).mkdir(parents=True, exist_ok=True)

    # --- state beside the offsets --------------------------------------------------------------------------------------

    def restore(self, positions: Mapping[Place, Commit]) -> None:
        """Called also when the loop went back after an abort: rows that waited are read again."""
        self._take_waiting()
        self._done = []
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
            batch = batch.without(set(known))
        if not len(batch):
            return
        read = self._read(batch)
        self._done += read.ended
        if not len(read.rows):
            return
        if not self._waiting:
            self._since_s = self._clock.monotonic_s()
        self._waiting.append(_Waiting(read.rows, self._table(read), read.folders))
        self._waiting_places.update(read.rows.places)
        self._waiting_files.update(zip(read.rows.places, read.folders, strict=True))
        self._n += len(read.rows)
        self._n_bytes += read.rows.bytes()

    def _table(self, read: Read) -> pa.Table:
        places = {"partition": [partition for _, partition in read.rows.places], "offset": read.rows.offsets}
        return pa.table({**read.columns, "appended_ms": read.rows.timestamps_ms, **places}, schema=self._schema)

    def completed(self, wait_s: float) -> list[Outcome]:
        full = self._n >= self._rows or self._n_bytes >= WAITING_BYTES or len(self._waiting_files) >= MOST_FILES
        if full or (self._n and self._clock.monotonic_s() - self._since_s >= self._age_s):
            self.flush()
        done, self._done = self._done, []
        return done

    def keeps(self, place: Place) -> bool:
        """A flush may take a while after it is due, but not for ever: then the partition does stand still."""
        recent = self._clock.monotonic_s() - self._since_s < self._age_s + LATE_S
        return recent and place in self._waiting_places

    def tick(self) -> None:
        if self._beside is not None:
            self._beside.tick()

    def report(self) -> Report:
        return Report() if self._beside is None else self._beside.report()

    def close(self) -> None:
        """Rows that wait were not committed, and are read again."""
        if self._beside is not None:
            self._beside.close()

    def _end(self, place: Place) -> int:
        return self._ends.get(place[1], 0)

    # --- writing ------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write the waiting rows, with one manifest per partition. Raises TransactionAborted if another writer archived them
        first."""
        waiting = self._take_waiting()
        table = pa.concat_tables([part.table for part in waiting]).combine_chunks()  # rows of it are taken once a file
        rows_of: dict[int, dict[str, list[int]]] = {}  # by partition and folder
        folders = (folder for part in waiting for folder in part.folders)
        for row, (partition, folder) in enumerate(zip(table["partition"].to_pylist(), folders, strict=True)):
            rows_of.setdefault(partition, {}).setdefault(folder, []).append(row)
        for partition, by_folder in sorted(rows_of.items()):
            self._commit(partition, table, by_folder)
        self._done += [Emit(part.rows) for part in waiting]
        self._flushes += 1
        if self._flushes % MERGE_EVERY == 0:
            self._merge()

    def _take_waiting(self) -> list[_Waiting]:
        waiting, self._waiting, self._n, self._n_bytes = self._waiting, [], 0, 0
        self._waiting_places.clear()
        self._waiting_files.clear()
        return waiting

    def _merge(self) -> None:
        for partition in self._ends:
            n = merge(self._folder, self._schema, partition, self._clock.now_ms() / 1000)
            if n:
                self._log.info("archive merged", partition=partition, manifests=n)

    def _commit(self, partition: int, table: pa.Table, by_folder: Mapping[str, list[int]]) -> None:
        offsets = table["offset"].take([row for rows in by_folder.values() for row in rows]).to_numpy()
        first, last = int(offsets.min()), int(offsets.max())
        if newest_offset(self._folder, partition) >= first:
            raise TransactionAborted(f"partition {partition} from offset {first} was archived by another writer")
        files = []
        for folder, rows in sorted(by_folder.items()):
            file = self._folder / folder / f"p{partition}-{first:020d}-{self._writer}.parquet"
            write_parquet(file, table.take(rows))
            files.append(str(file.relative_to(self._folder)))
        n_bytes = bytes_of(self._folder, files)
        whole = {"partition": partition, "first": first, "end": last + 1, "rows": len(offsets), "bytes": n_bytes, "files": files}
        try:
            link(self._folder, whole, f"p{partition}-{first:020d}.json")
        except FileExistsError as error:
            for name in files:
                (self._folder / name).unlink()
            raise TransactionAborted(f"partition {partition} from offset {first} was archived by another writer") from error
        self._ends[partition] = last + 1
