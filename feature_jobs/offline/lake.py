"""The offline store: tiles and feature values from the archived events, by the same aggregate views and the same roll-up as the
stream. DuckDB runs the views' SQL over the Parquet files.

An event counts from its arrival on: the time when the broker took it, minus, for a replayed event, the time by which its clock
was behind. That is what the online store could have known, also for late events and events ahead of their time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from feature_jobs.flink.aggregates import item_tiles, user_tiles
from feature_jobs.offline.archive import EVENTS, SCHEMA
from feature_jobs.online.rollup import Entity, Key, Tile
from schemas.durations import DAY_MS
from schemas.errors import BadSettings
from schemas.features import AHEAD_MS, Kind, Value, View
from streams.archived.manifests import committed_files

_ARROW = {Kind.INT: pa.int64(), Kind.FLOAT: pa.float64(), Kind.TEXT: pa.string()}
_VIEWS = {"user": user_tiles, "item": item_tiles}
_COVERS = b"covers_until_ms"
Attributes = Mapping[str, Mapping[str, Any]]  # by entity: values that the online store received besides events
Row = tuple[int, dict[str, Value]]  # the time from which on the values were valid, and the values


@contextmanager
def _events(lake: Path, key: str, until_ms: int, entities: Sequence[str] | None) -> Iterator[Any]:
    """A DuckDB connection with the view `events` of the events that had arrived by a time, read from the files on demand. Events
    that an earlier version archived and validate would reject today are left out. Raises BadSettings if nothing is archived."""
    import duckdb

    files = committed_files(lake / EVENTS)
    if not files:
        raise BadSettings(f"no events are archived under {lake}: `./millrace up --with features` archives what flows")
    with duckdb.connect() as connection:
        connection.register("archived", ds.dataset(files, schema=SCHEMA, format="parquet", partitioning=None))
        chosen = "TRUE"
        if entities is not None:
            connection.register("chosen", pa.table({"id": pa.array(list(entities), pa.string())}))
            chosen = f"{key} IN (SELECT id FROM chosen)"
        connection.execute(
            f"CREATE VIEW events AS SELECT *, appended_ms - COALESCE(replay_offset_ms, 0) AS arrived_ms FROM archived "
            f"WHERE event_ms BETWEEN 1 AND appended_ms + {2 * AHEAD_MS} AND arrived_ms <= {int(until_ms)} AND {chosen}"
        )
        yield connection


def entities_of(lake: Path, view: View) -> list[str]:
    """All entities with events in the archive, sorted. Raises BadSettings if nothing is archived."""
    key = f"{view.entity}_id"
    with _events(lake, key, 2**62, None) as connection:
        found = connection.execute(f"SELECT DISTINCT {key} FROM events WHERE {key} IS NOT NULL ORDER BY {key}")
        return [entity for (entity,) in found.fetchall()]


def tiles(lake: Path, view: View, until_ms: int, entities: Sequence[str] | None = None) -> Iterator[tuple[str, list[Tile]]]:
    """Each entity with the versions of its tiles that had arrived by a time, ordered by arrival: events that arrived within the
    same five minutes form one version. Raises BadSettings if nothing is archived."""
    key = f"{view.entity}_id"
    with _events(lake, key, until_ms, entities) as connection:
        found = connection.execute(f"SELECT * FROM ({_VIEWS[view.entity]('events', by_arrival=True)}) ORDER BY {key}, arrived_ms")
        yield from _by_entity(found, key)


def _by_entity(found: Any, key: str) -> Iterator[tuple[str, list[Tile]]]:
    names = [column[0] for column in found.description]
    entity, held, newest = "", list[Tile](), dict[Key, Tile]()
    while rows := found.fetchmany(10_000):
        for row in rows:
            record = dict(zip(names, row, strict=True))
            if record[key] != entity:
                if held:
                    yield entity, held
                entity, held, newest = record[key], [], {}
            tile = Tile.of(record)
            if tile.key in newest:
                tile = tile.after(newest[tile.key])
            newest[tile.key] = tile
            held.append(tile)
    if held:
        yield entity, held


def values_at(
    lake: Path, view: View, at_ms: int, attributes: Attributes, entities: Sequence[str] | None = None
) -> dict[str, dict[str, Value]]:
    """The values of each entity at a time: those that the online store held then."""
    return {name: values_of(held, at_ms, view, attributes.get(name)) for name, held in tiles(lake, view, at_ms, entities)}


def values_of(held: Sequence[Tile], at_ms: int, view: View, attributes: Mapping[str, Any] | None) -> dict[str, Value]:
    """The values at a time of an entity with these tiles, ordered by arrival."""
    entity = Entity()
    for tile in held:
        entity.put(tile, tile.arrived_ms)
    entity.advance(at_ms)
    return entity.values(view, attributes)


def history(view: View, held: Sequence[Tile], until_ms: int, attributes: Mapping[str, Any] | None) -> Iterator[Row]:
    """The values of one entity at each time when they changed: when a version of a tile arrives, and when a tile leaves a window.
    A row is valid from its time until the next row. held: ordered by arrival."""
    entity = Entity()
    for at, tile in enumerate(held):
        yield from _until(entity, tile.arrived_ms - 1, view, attributes)
        entity.put(tile, tile.arrived_ms)
        entity.advance(tile.arrived_ms)
        if at + 1 == len(held) or held[at + 1].arrived_ms > tile.arrived_ms:
            yield tile.arrived_ms, entity.values(view, attributes)
    yield from _until(entity, until_ms, view, attributes)


def _until(entity: Entity, until_ms: int, view: View, attributes: Mapping[str, Any] | None) -> Iterator[Row]:
    while (due_ms := entity.next_change_ms()) is not None and due_ms <= until_ms:
        entity.advance(due_ms)
        yield due_ms, entity.values(view, attributes)


def with_days(rows: Iterable[Row], days_ms: Sequence[int]) -> Iterator[Row]:
    """The rows of a history, and one row at each of these times that repeats the current values: an entity without events keeps
    its values in each day's file, as the sink keeps them fresh online."""
    held: dict[str, Value] | None = None
    waiting = iter(days_ms)
    due_ms = next(waiting, None)
    for at_ms, values in rows:
        while due_ms is not None and due_ms <= at_ms:
            if held is not None and due_ms < at_ms:
                yield due_ms, held
            due_ms = next(waiting, None)
        yield at_ms, values
        held = values
    while due_ms is not None and held is not None:
        yield due_ms, held
        due_ms = next(waiting, None)


def backfill(lake: Path, view: View, from_ms: int, to_ms: int, attributes: Attributes, now_ms: int) -> int:
    """Write the rows of `history` between two times, in whole days; each day's file is replaced atomically. Returns the number of
    rows. No row is later than now: before a tile leaves a window tomorrow, other events may still arrive today."""
    first, last = from_ms // DAY_MS, min(to_ms - 1, now_ms) // DAY_MS
    until_ms = min((last + 1) * DAY_MS - 1, now_ms)
    starts_ms = [day * DAY_MS for day in range(first, last + 1)]
    columns: dict[int, dict[str, list[Any]]] = {}
    for name, held in tiles(lake, view, until_ms):
        for at_ms, values in with_days(history(view, held, until_ms, attributes.get(name)), starts_ms):
            if at_ms < from_ms // DAY_MS * DAY_MS:
                continue
            rows = columns.setdefault(at_ms // DAY_MS, {column: [] for column in schema(view).names})
            rows[f"{view.entity}_id"].append(name)
            rows["event_timestamp"].append(at_ms * 1000)
            for feature in view.features:
                rows[feature.name].append(values[feature.name])
    folder = lake / view.name
    folder.mkdir(parents=True, exist_ok=True)
    for day in range(first, last + 1):
        covers = {_COVERS: str(min((day + 1) * DAY_MS - 1, now_ms)).encode()}
        table = pa.table(
            columns.get(day, {column: [] for column in schema(view).names}), schema=schema(view).with_metadata(covers)
        )
        file = folder / f"{np.datetime64(day, 'D')}.parquet"
        draft = file.with_suffix(f".{os.getpid()}")
        pq.write_table(table, draft, compression="zstd")
        draft.rename(file)
    return sum(len(rows["event_timestamp"]) for rows in columns.values())


def covered(lake: Path, view: View) -> dict[int, int]:
    """The days (since the epoch) that were backfilled, each with the time up to which its file is complete."""
    found = {}
    for file in (lake / view.name).glob("????-??-??.parquet"):
        day = int(np.datetime64(file.stem, "D").astype(np.int64))
        said = (pq.read_schema(file).metadata or {}).get(_COVERS)
        found[day] = (day + 1) * DAY_MS - 1 if said is None else int(said)
    return found


def schema(view: View) -> pa.Schema:
    return pa.schema(
        [
            (f"{view.entity}_id", pa.string()),
            ("event_timestamp", pa.timestamp("us", tz="UTC")),
            *((feature.name, _ARROW[feature.kind]) for feature in view.features),
        ]
    )
